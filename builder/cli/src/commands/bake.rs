//! rolesmith bake

pub mod boot;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use rolesmith_bake::{
    BakeError, Baked, Inputs, Progress, bake,
    boot::Report,
    cache::{Key, Layer},
    disk::Ids,
    lint::{self, Expected},
    tree::Origin,
};
use rolesmith_formats::{apt::field, compress::Compression, keyring, openpgp::sign_armored};
use rolesmith_host::{
    build::{MANIFEST_FILE, Manifest},
    mirror::{Closure, Sources},
};
use rolesmith_model::{
    fleet_file::Upstream,
    image::Image,
    plan::{NodePlan, Plan},
};

use super::{mirror::MIRROR_LOCK, publish::REPO_DIR};
use crate::{
    app::{App, line},
    args::Bake,
    progress::Steps,
    project::{self, Keys},
    report::{Failure, Outcome},
};

/// Below the fleet's directory: a directory for each image.
const IMAGES_DIR: &str = "dist/images";

/// Bakes an image, and boots it where that is asked for.
pub fn run(app: &App, args: &Bake) -> Outcome {
    let Some(image_name) = &args.image else {
        return list_lints(app);
    };
    let plan = project::plan(app)?;
    let image = image(&plan, image_name)?;
    let keys = project::kept(app, &plan)?;
    let steps = Steps::new(app);
    let baked = with_inputs(app, &plan, &keys, image, |inputs| {
        Ok(bake(inputs, &Shown(&steps)))
    })?;
    steps.finish();
    let baked = baked.map_err(failure)?;
    if !app.json {
        tell(app, &baked)?;
    }
    let boots = boot::run(app, &plan, &keys, image, &args.boot)?;
    if app.json {
        tell_json(&baked, &boots)
    } else {
        Ok(())
    }
}

/// Calls `with` with everything that an image is made from. The repository is served meanwhile.
fn with_inputs<T>(
    app: &App,
    plan: &Plan,
    keys: &Keys,
    image: &Image,
    with: impl FnOnce(&Inputs<'_>) -> Outcome<T>,
) -> Outcome<T> {
    let repo = app.dir.join(REPO_DIR);
    let debian = debian(app, plan)?;
    let fleet = fleet(app, plan, image, &repo)?;
    let url = serve(&repo)?;
    let signed_by = keys.signer.public_key_armored().map_err(|e| {
        Failure::because(
            &e,
            "bring the signing key's public half from your copy of the secrets",
        )
    })?;
    let own = own_sources(plan, &url, &signed_by);
    let (debian_origin, origin) = match &debian.sources {
        None => (Origin::Sources(own.clone()), Origin::Sources(own)),
        Some(host) => (
            Origin::Sources(host.clone()),
            Origin::Sources(format!("{host}\n{own}")),
        ),
    };
    let to = app.dir.join(IMAGES_DIR).join(image.name.as_str());
    let epoch = fleet.epoch.max(debian.epoch);
    let name = plan.fleet.name.as_str();
    let ids = Ids::of(name, image.name.as_str());
    let expected = Expected::of(image, name, ids, debian.sources.is_some(), epoch);
    let inputs = Inputs {
        image,
        fleet: plan.fleet.name.as_str(),
        debian: debian_origin,
        debian_pin: debian.pin,
        debian_epoch: debian.epoch,
        origin,
        fleet_pin: fleet.pin,
        epoch,
        sources: debian.sources,
        sign: &|bytes| sign(app, keys, bytes),
        judge: &|layer: &Layer| lint::judge(&layer.path, &expected, &keys.scan),
        cache: &app.cache.join("images"),
        to: &to,
    };
    with(&inputs)
}

/// The tree of the image, made if it is not there.
pub fn tree_of(
    app: &App,
    plan: &Plan,
    keys: &Keys,
    image: &Image,
    progress: &dyn rolesmith_lab::Progress,
) -> Outcome<Layer> {
    with_inputs(app, plan, keys, image, |inputs| {
        rolesmith_bake::tree(inputs, &Beside(progress)).map_err(failure)
    })
}

/// The tree of the image that has most of the node's packages, where it was made already.
pub fn known_tree_of(app: &App, plan: &Plan, keys: &Keys, node: &NodePlan) -> Option<Layer> {
    let image = boot::image_of(plan, node).ok()?;
    // What is not published was not baked.
    let known = with_inputs(app, plan, keys, image, |inputs| {
        rolesmith_bake::known_tree(inputs).map_err(failure)
    });
    known.ok().flatten()
}

/// Steps of a bake that is a part of something else.
struct Beside<'a>(&'a dyn rolesmith_lab::Progress);

impl Progress for Beside<'_> {
    fn step(&self, _number: usize, _of: usize, what: &str) {
        self.0.step(None, &format!("baking: {what}"));
    }
}

/// Says what a finished tree is judged by.
fn list_lints(app: &App) -> Outcome {
    let lints = lint::lints();
    if app.json {
        let told: Vec<_> = lints
            .iter()
            .map(|lint| {
                serde_json::json!({
                    "name": lint.name, "rule": lint.rule, "why": lint.why, "help": lint.help,
                })
            })
            .collect();
        return line(format_args!("{}", serde_json::to_string_pretty(&told)?));
    }
    for lint in lints {
        line(format_args!("{:<20} {}", lint.name, lint.rule))?;
    }
    Ok(())
}

struct Shown<'a>(&'a Steps);

impl Progress for Shown<'_> {
    fn step(&self, number: usize, of: usize, what: &str) {
        self.0.say("", &format!("{number}/{of} {what}"));
    }
}

/// What to do about what a bake says.
pub fn failure(error: BakeError) -> Failure {
    let help = error.help();
    Failure::because(&error, help)
}

fn image<'p>(plan: &'p Plan, name: &str) -> Outcome<&'p Image> {
    let image = plan.image(name).ok_or_else(|| {
        let names: Vec<&str> = plan.images.iter().map(|i| i.name.as_str()).collect();
        Failure::new(
            format!("there is no image {name:?}"),
            format!(
                "images are {}; one of your own is a file images/NAME/image.toml",
                names.join(", ")
            ),
        )
    })?;
    if let Some(role) = image.unbuilt.first() {
        return Err(Failure::new(
            format!("the image {name} has the role {role}, which no node of this fleet has"),
            "an image is made of the fleet's packages; write an image with the roles of your nodes into images/NAME/image.toml",
        ));
    }
    if image.suite != plan.fleet.suite && !image.roles.is_empty() {
        return Err(Failure::new(
            format!(
                "the image {name} is of {}, and the fleet's packages are for {}",
                image.suite, plan.fleet.suite
            ),
            "leave `suite` out of its image.toml",
        ));
    }
    Ok(image)
}

/// Where Debian's packages come from, and which.
struct Debian {
    /// apt's sources for the building and for the image; nothing where the fleet's repository has them.
    sources: Option<String>,
    pin: String,
    epoch: u64,
}

fn debian(app: &App, plan: &Plan) -> Outcome<Debian> {
    if plan.fleet.repository.upstream == Upstream::Mirror {
        let path = app.dir.join(MIRROR_LOCK);
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Failure::new(
                format!("{}: {e}", path.display()),
                "pin Debian's packages first: `rolesmith mirror`, then `rolesmith publish`",
            )
        })?;
        let closure = Closure::from_toml(&text)?;
        let mut key = Key::new("mirror", 1);
        key.add(&text);
        return Ok(Debian {
            sources: None,
            pin: key.finish(),
            epoch: closure.resolved,
        });
    }
    let sources = Sources::of_host(Path::new("/etc/apt")).map_err(|e| {
        Failure::because(
            &e,
            "this machine's apt has no Debian sources; with upstream = \"mirror\" images come from the fleet's repository alone",
        )
    })?;
    let suite = plan.fleet.suite.codename();
    let stanza = |uri: &str, suites: &str| {
        format!(
            "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {}\n",
            sources.keyring.display()
        )
    };
    let text = format!(
        "{}\n{}",
        stanza(&sources.archive, &format!("{suite} {suite}-updates")),
        stanza(&sources.security, &format!("{suite}-security"))
    );
    Ok(Debian {
        sources: Some(text),
        // Nothing says which packages the archive has tomorrow: a tree stays until it is removed from the cache.
        pin: String::new(),
        epoch: 0,
    })
}

/// The fleet's packages of an image, as they are published.
struct Published {
    pin: String,
    epoch: u64,
}

fn fleet(app: &App, plan: &Plan, image: &Image, repo: &Path) -> Outcome<Published> {
    let publish = |what: String| {
        Failure::new(
            what,
            "publish first: `rolesmith publish` (and `rolesmith mirror` before it where upstream = \"mirror\")",
        )
    };
    let path = app.dir.join(MANIFEST_FILE);
    let manifest = std::fs::read(&path).map_err(|e| publish(format!("{}: {e}", path.display())))?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|e| publish(format!("{}: {e}", path.display())))?;
    let suite = plan.fleet.suite.codename();
    // Of amd64 and of all; it is kept in this one form.
    let index = repo.join(format!("dists/{suite}/main/binary-amd64/Packages.gz"));
    let published = std::fs::read(&index)
        .and_then(|packed| Compression::Gzip.decompress(&packed))
        .map_err(|e| publish(format!("{}: {e}", index.display())))?;
    let published = String::from_utf8_lossy(&published);
    let stanzas: Vec<&str> = published.split("\n\n").collect();
    let mut wanted: BTreeSet<String> = image
        .fleet_packages
        .iter()
        .map(ToString::to_string)
        .collect();
    if !wanted.is_empty() {
        wanted.extend([
            plan.facts_package(),
            plan.keyring_package(),
            "rolesmith-agent".to_owned(),
        ]);
    }
    let mut key = Key::new("fleet", 1);
    let mut epoch = 0;
    for name in &wanted {
        let stanza = stanzas
            .iter()
            .find(|stanza| field(stanza, "Package") == Some(name))
            .ok_or_else(|| publish(format!("{name} is not in {}", repo.display())))?;
        let version = field(stanza, "Version").unwrap_or_default();
        if let Some(built) = manifest.packages.iter().find(|p| p.name == *name) {
            if built.version != version {
                return Err(publish(format!(
                    "{name} {} is built, and {version} is published",
                    built.version
                )));
            }
            epoch = epoch.max(built.epoch);
        }
        key.add(name);
        key.add(field(stanza, "SHA256").unwrap_or_default());
    }
    Ok(Published {
        pin: key.finish(),
        epoch,
    })
}

/// Serves the repository on a port of the loopback address for as long as this program runs: apt works in a user namespace, to which the
/// files of this user are somebody else's.
fn serve(repo: &Path) -> Outcome<String> {
    if !repo.join("dists").is_dir() {
        return Err(Failure::new(
            format!("{} does not exist", repo.display()),
            "publish first: `rolesmith publish` (and `rolesmith mirror` before it where upstream = \"mirror\")",
        ));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let repo = repo.to_owned();
    std::thread::Builder::new()
        .name("repository".into())
        .spawn(move || {
            // Whoever is not answered says so.
            let _ = rolesmith_lab::accept(&listener, &repo);
        })?;
    Ok(format!("http://{address}"))
}

/// apt's sources for the fleet's repository, with its key.
fn own_sources(plan: &Plan, url: &str, key: &str) -> String {
    let mut block = String::new();
    for line in key.trim_end().lines() {
        let line = if line.is_empty() { "." } else { line };
        block.push_str(&format!("\n {line}"));
    }
    format!(
        "Types: deb\nURIs: {url}\nSuites: {}\nComponents: {}\nArchitectures: amd64\nSigned-By:{block}\n",
        plan.fleet.suite,
        keyring::components(&plan.fleet).join(" ")
    )
}

fn sign(app: &App, keys: &Keys, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let time = app.now.max(keys.signer.created());
    sign_armored(&[keys.signer.as_ref()], bytes, time)
        .map(String::into_bytes)
        .map_err(|error| error.to_string())
}

fn tell_json(baked: &Baked, boots: &[Report]) -> Outcome {
    let steps: serde_json::Map<_, _> = baked
        .steps
        .iter()
        .map(|(name, time)| ((*name).to_owned(), time.as_secs_f64().into()))
        .collect();
    let told = serde_json::json!({
        "directory": baked.directory,
        "files": baked.manifest.files,
        "inputs": baked.manifest.inputs,
        "seconds": steps,
        "boots": boots,
    });
    line(format_args!("{}", serde_json::to_string_pretty(&told)?))
}

fn tell(app: &App, baked: &Baked) -> Outcome {
    for file in &baked.manifest.files {
        line(format_args!(
            "{:>8.1} MiB  {}",
            file.bytes as f64 / f64::from(1 << 20),
            baked.directory.join(&file.name).display()
        ))?;
    }
    let total: f64 = baked.steps.iter().map(|(_, time)| time.as_secs_f64()).sum();
    let steps: Vec<String> = baked
        .steps
        .iter()
        .map(|(name, time)| format!("{name} {:.1} s", time.as_secs_f64()))
        .collect();
    app.say(format_args!(
        "{} packages; {}; {total:.1} s in all",
        baked.manifest.packages.len(),
        steps.join(", ")
    ));
    Ok(())
}
