//! rolesmith mirror

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use rolesmith_host::{
    atomic,
    lock::DirectoryLock,
    mirror::{self, Closure, MirrorRequest, Sources},
    publish::Component,
};
use rolesmith_model::{fleet_file::Upstream, image::Image, plan::Plan};

use crate::{
    app::App,
    args::Mirror,
    progress::Steps,
    project,
    report::{Failure, Outcome, plural},
};

/// The mirror's lock, in the fleet's directory; committed by its user.
pub const MIRROR_LOCK: &str = "mirror.lock";

/// What every node needs beside the packages that its roles name: the agent's own dependencies.
const ALWAYS: [&str; 3] = ["systemd", "iptables", "ipset"];

/// Asks apt what the roles need, fetches it and pins it.
pub fn run(app: &App, args: &Mirror) -> Outcome {
    let plan = project::plan(app)?;
    if plan.fleet.repository.upstream == Upstream::Debian {
        return Err(Failure::new(
            "this fleet takes Debian's packages from the sources that its machines have",
            "to pin them in the fleet's repository set upstream = \"mirror\" under [repository]",
        ));
    }
    let sources = match &args.sources {
        Some(path) => given_sources(path)?,
        None => Sources::of_host(Path::new("/etc/apt")).map_err(|e| {
            Failure::because(
                &e,
                "this machine's apt has no Debian sources to learn the mirror from; name a file with them: --sources FILE",
            )
        })?,
    };
    let steps = Steps::new(app);
    let cache = cache(app);
    std::fs::create_dir_all(&cache).map_err(|e| {
        Failure::new(
            format!("{}: {e}", cache.display()),
            "the mirror's cache has to be a directory that you may write to",
        )
    })?;
    let _cache = DirectoryLock::take(&cache, || {
        steps.say("", "waiting for another mirror run with this cache");
    });
    let lock_path = app.dir.join(MIRROR_LOCK);
    let closure = if args.locked {
        read_lock(&lock_path)?
    } else {
        steps.say("", "asking apt what the roles need");
        resolve(app, &plan, &sources)?
    };
    let mut told = 0;
    mirror::fetch(&closure, &sources, &cache, |progress| {
        // A line for each tenth where there is no bar to move.
        let tenth = progress.packages * 10 / progress.of_packages.max(1);
        if app.terminal || tenth > told {
            told = tenth;
            steps.say(
                "",
                &format!(
                    "{} of {} packages, {} of {} MB",
                    progress.packages,
                    progress.of_packages,
                    progress.bytes / 1_000_000,
                    progress.of_bytes / 1_000_000
                ),
            );
        }
    })
    .map_err(failure)?;
    // Last: a lock names only what is there.
    atomic::write(&lock_path, closure.to_toml().as_bytes())?;
    steps.finish();
    app.say(format_args!(
        "{} of Debian {} ({} MB) {} pinned in {MIRROR_LOCK}; commit it. `rolesmith publish` publishes what it names.",
        plural(closure.packages.len(), "package", "packages"),
        closure.suite,
        closure.size() / 1_000_000,
        if closure.packages.len() == 1 { "is" } else { "are" },
    ));
    Ok(())
}

fn failure(error: mirror::MirrorError) -> Failure {
    Failure::because(
        &error,
        "what was pinned before is still pinned; see whether this machine's apt can reach Debian's mirror",
    )
}

fn cache(app: &App) -> PathBuf {
    app.cache.join("mirror")
}

fn resolve(app: &App, plan: &Plan, sources: &Sources) -> Outcome<Closure> {
    let mut packages: BTreeSet<String> = plan
        .roles
        .iter()
        .flat_map(|r| r.debian.iter().cloned())
        .collect();
    packages.extend(ALWAYS.map(str::to_owned));
    // Those that this fleet can bake: their nodes upgrade the kernel and the boot loader from here.
    let suite = plan.fleet.suite;
    let images = plan.images.iter();
    let baked = images.filter(|image| image.unbuilt.is_empty() && image.suite == suite);
    packages.extend(baked.flat_map(Image::debian_packages));
    mirror::resolve(&MirrorRequest {
        suite: plan.fleet.suite.codename().into(),
        architecture: "amd64".into(),
        packages: packages.into_iter().collect(),
        cache_directory: cache(app),
        sources: sources.clone(),
        epoch: app.now,
    })
    .map_err(failure)
}

fn given_sources(path: &Path) -> Outcome<Sources> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(format!("{}: {e}", path.display()), "name a readable file"))?;
    let deb822 = path.extension().is_some_and(|e| e == "sources");
    let parsed = mirror::parse_sources(&text, deb822);
    let uri = |security: bool| {
        parsed
            .iter()
            .find(|s| s.suites.iter().any(|suite| suite.contains("-security")) == security)
            .and_then(|s| s.uris.first().cloned())
    };
    match (uri(false), uri(true)) {
        (Some(archive), Some(security)) => Ok(Sources::given(archive, security)),
        _ => Err(Failure::new(
            format!(
                "{} does not name Debian's archive and its security archive",
                path.display()
            ),
            "write both in the syntax of sources.list(5)",
        )),
    }
}

fn read_lock(path: &Path) -> Outcome<Closure> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Failure::new(
            format!("{}: {e}", path.display()),
            "pin Debian's packages first: `rolesmith mirror`",
        )
    })?;
    Ok(Closure::from_toml(&text)?)
}

/// The mirrored components of a fleet, for publishing.
pub fn components(app: &App, plan: &Plan) -> Outcome<Vec<Component>> {
    let closure = read_lock(&app.dir.join(MIRROR_LOCK))?;
    if closure.suite != plan.fleet.suite.codename() {
        return Err(Failure::new(
            format!(
                "{MIRROR_LOCK} is for Debian {}, the fleet runs {}",
                closure.suite, plan.fleet.suite
            ),
            "run `rolesmith mirror` again",
        ));
    }
    let age = closure.age(app.now);
    let days = usize::try_from(age / 86_400).unwrap_or(usize::MAX);
    if age > mirror::STALE_AFTER_SECONDS {
        app.say(format_args!(
            "warning: the mirror is {} old; security updates are missing. Run `rolesmith mirror`.",
            plural(days, "day", "days")
        ));
    }
    let asked: BTreeSet<&str> = closure.packages.iter().map(|p| p.name.as_str()).collect();
    let missing: Vec<&str> = plan
        .roles
        .iter()
        .flat_map(|r| r.debian.iter().map(String::as_str))
        .filter(|name| !asked.contains(name) && !closure.requested.iter().any(|r| r == name))
        .collect();
    if !missing.is_empty() {
        return Err(Failure::new(
            format!(
                "the mirror lacks {}, which a role needs now",
                missing.join(", ")
            ),
            "run `rolesmith mirror` again",
        ));
    }
    mirror::components(&closure, &cache(app)).map_err(|e| {
        Failure::because(
            &e,
            "run `rolesmith mirror --locked` to fetch what mirror.lock names",
        )
    })
}
