//! rolesmith build

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use rolesmith_formats::compress::Compression;
use rolesmith_host::{
    build::{self, BuildRequest},
    lock::DirectoryLock,
};
use rolesmith_model::plan::Plan;

use crate::{
    app::App,
    args, clusters,
    project::{self, Keys},
    report::{Failure, Outcome, plural},
};

impl From<args::Compression> for Compression {
    fn from(choice: args::Compression) -> Self {
        match choice {
            args::Compression::Gzip => Self::Gzip,
            args::Compression::Xz => Self::Xz,
            args::Compression::Zstd => Self::Zstd,
        }
    }
}

/// Keeps other builds out of the fleet's directory, and says so when that means to wait.
pub fn lock(app: &App) -> DirectoryLock {
    DirectoryLock::take(&app.dir, || {
        app.say(format_args!(
            "Another rolesmith is building in {}; waiting until it is done.",
            app.dir.display()
        ));
    })
}

/// The armored public keys that nodes shall trust beside the signer's.
pub fn also_trusted(app: &App, plan: &Plan) -> Outcome<Vec<String>> {
    let read = |name: &String| {
        let path = app.dir.join(name);
        let help = "put an armored public key there (`gpg --armor --export FINGERPRINT`), or take it out of also_trusted under [repository]";
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Failure::new(format!("{}: {e}", path.display()), help))?;
        build::public_forms(&text)
            .map_err(|e| Failure::new(format!("{}: {e}", path.display()), help))?;
        Ok(text)
    };
    plan.fleet
        .repository
        .also_trusted
        .iter()
        .map(read)
        .collect()
}

/// Builds what changed and says what that was.
pub fn run(app: &App, args: &args::Build) -> Outcome {
    let started = Instant::now();
    let _lock = lock(app);
    let plan = project::built_plan(app)?;
    let keys = project::keys(app, &plan)?;
    let outcome = packages(app, &plan, &keys, args)?;
    if app.json {
        let json = serde_json::to_string_pretty(&outcome.manifest)?;
        anstream::println!("{json}");
        return Ok(());
    }
    tell(app, &outcome);
    let fresh = outcome.packages.iter().filter(|p| p.fresh).count();
    app.say(format_args!(
        "{} in {}, {fresh} of them built now ({:.2} s)",
        plural(outcome.packages.len(), "package", "packages"),
        app.dir.join(build::PACKAGES_DIR).display(),
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Lists what was built.
pub fn tell(app: &App, outcome: &build::Outcome) {
    for package in &outcome.packages {
        let entry = &package.manifest;
        let state = if package.fresh { "built" } else { "as before" };
        app.say(format_args!(
            "  {:<36} {:>4}  {:>8} bytes  {state}",
            entry.name, entry.version, entry.size
        ));
    }
}

/// Finds the package of the agent.
fn agent_package(given: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(path) = given {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            Err(Failure::new(
                format!("{} does not exist", path.display()),
                "name the rolesmith-agent package with --agent FILE",
            ))
        };
    }
    let mut places = vec![PathBuf::from("/usr/share/rolesmith")];
    // Built from source: target/debug/rolesmith or target/release/rolesmith beside target/debian.
    if let Some(target) = std::env::current_exe()
        .ok()
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent)
    {
        places.insert(0, target.join("debian"));
    }
    let newest = places.iter().find_map(|dir| newest_agent(dir));
    newest.ok_or_else(|| {
        Failure::new(
            "the package of rolesmith-agent was not found; every node needs it",
            "make it with `make agent-deb`, name it with --agent FILE, or leave it out: --without-agent",
        )
    })
}

fn newest_agent(dir: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .ok()?
        .filter_map(Result::ok)
        .filter(|e| {
            let name = e.file_name();
            let name = name.to_string_lossy();
            name.starts_with("rolesmith-agent_") && name.ends_with("_amd64.deb")
        })
        .map(|e| e.path())
        .collect();
    // By what the file says, not by when it came here: an older version may have been built or copied last.
    found.sort_by(|a, b| build::compare_versions(&version_in(a), &version_in(b)));
    found.pop()
}

/// The version in a package's file name.
fn version_in(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('_').nth(1).unwrap_or_default().to_owned()
}

/// Builds the packages of a plan.
pub fn packages(
    app: &App,
    plan: &Plan,
    keys: &Keys,
    args: &args::Build,
) -> Outcome<build::Outcome> {
    let agent = if args.without_agent {
        None
    } else {
        Some(agent_package(args.agent.as_deref())?)
    };
    let adopted: Vec<PathBuf> = agent.into_iter().collect();
    let also_trusted = also_trusted(app, plan)?;
    let clusters = clusters::lock(app)?;
    let request = BuildRequest {
        dir: &app.dir,
        plan,
        ca_pem: &keys.ca_pem,
        certificates: &keys.certificates,
        clusters: &clusters,
        signer: keys.signer.as_ref(),
        also_trusted: &also_trusted,
        scan: &keys.scan,
        now: app.now,
        compression: args.compression.into(),
        adopted: &adopted,
    };
    build::build(&request).map_err(|error| match &error {
        build::BuildError::Leak(_) => Failure::because(
            &error,
            "secrets reach nodes in their seeds alone: take it out of the file, declare it under [[secrets]] and use it in a template of scope \"node\"",
        ),
        build::BuildError::Lock(_) => Failure::because(
            &error,
            "take the last good rolesmith.lock from version control; without it all versions would begin again at 1",
        ),
        _ => Failure::because(&error, "nothing was written to dist/"),
    })
}
