//! rolesmith init

use std::path::Path;

use include_dir::{Dir, include_dir};
use rolesmith_host::{atomic, secrets::Secrets};
use rolesmith_model::{
    ids::{FleetName, Suite},
    schema, template,
    validate::syntax,
};

use crate::{
    app::App,
    args::Init,
    project::SECRETS_DIR,
    report::{Failure, Outcome},
};

const EXAMPLE: &str = include_str!("../../templates/example.toml.tera");
const EMPTY: &str = include_str!("../../templates/fleet.toml.tera");
/// The example's service and site, as they are written.
static APPLICATION: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates/example");
const GITIGNORE: &str =
    "# Secrets stay with the operator; dist/ is made from what stands here.\n/secrets/\n/dist/\n";

/// Makes a fleet's directory. A file that is there already is never touched.
pub fn run(app: &App, args: &Init) -> Outcome {
    let dir = if args.target == Path::new(".") {
        app.dir.clone()
    } else {
        app.dir.join(&args.target)
    };
    if dir.join("fleet.toml").exists() {
        return Err(Failure::new(
            format!("{} holds a fleet already", dir.display()),
            "choose another directory, or edit its fleet.toml",
        ));
    }
    let name = name(args, &dir)?;
    let suite: Suite = args
        .suite
        .parse()
        .map_err(|e: String| Failure::new(e, "write --suite trixie or --suite bookworm"))?;
    let maintainer = maintainer(args)?;
    if let Err(why) = syntax::domain(&args.domain) {
        return Err(Failure::new(
            format!("the domain {why}"),
            "write a name such as --domain example.com",
        ));
    }
    let mut context = tera_context(&name, suite, &maintainer, &args.domain);
    if args.example {
        context.insert("example", &true);
    }
    let text = if args.example { EXAMPLE } else { EMPTY };
    let fleet = template::render(text, &context)
        .map_err(|e| Failure::new(e.message, "a mistake in rolesmith itself"))?;
    std::fs::create_dir_all(&dir)?;
    Secrets::init(&dir.join(SECRETS_DIR), &name, &maintainer, app.now)?;
    if args.example {
        application(&dir, &APPLICATION)?;
    }
    for (path, bytes) in [
        (".gitignore", GITIGNORE.to_owned()),
        (".rolesmith/fleet.schema.json", schema::fleet()),
        (".rolesmith/role.schema.json", schema::role()),
        (".rolesmith/image.schema.json", schema::image()),
        // Last: a directory with a fleet.toml is a whole fleet.
        ("fleet.toml", fleet),
    ] {
        write_new(&dir.join(path), bytes.as_bytes())?;
    }
    app.say(format_args!(
        "The fleet {name} is in {}. Commit what .gitignore does not name, the locks too: rolesmith.lock, mirror.lock, identities.lock.",
        dir.display()
    ));
    app.say(format_args!(
        "Its keys are in {}: keep a copy where only you can read it. Next: rolesmith -C {} check",
        dir.join(SECRETS_DIR).display(),
        dir.display()
    ));
    Ok(())
}

/// Writes every file of the example's application that is not there yet.
fn application(dir: &Path, embedded: &Dir<'_>) -> std::io::Result<()> {
    for file in embedded.files() {
        write_new(&dir.join(file.path()), file.contents())?;
    }
    embedded.dirs().try_for_each(|sub| application(dir, sub))
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    atomic::write(path, bytes)
}

fn tera_context(
    name: &FleetName,
    suite: Suite,
    maintainer: &str,
    domain: &str,
) -> template::Context {
    let mut context = template::Context::new();
    context.insert("name", name.as_str());
    context.insert("suite", suite.codename());
    context.insert("maintainer", maintainer);
    context.insert("domain", domain);
    context
}

fn name(args: &Init, dir: &Path) -> Outcome<FleetName> {
    let text = match &args.name {
        Some(name) => name.clone(),
        None if args.example => "acme".into(),
        None => std::path::absolute(dir)?
            .file_name()
            .map(|n| n.to_string_lossy().to_lowercase())
            .unwrap_or_default(),
    };
    FleetName::new(text.as_str()).map_err(|why| {
        Failure::new(
            format!("the fleet's name {text:?} {why}"),
            "choose one with --name: up to 20 lower-case letters, digits and hyphens",
        )
    })
}

fn maintainer(args: &Init) -> Outcome<String> {
    let text = match &args.maintainer {
        Some(text) => text.clone(),
        // The variables that Debian's tools read (debchange(1)).
        None => match (std::env::var("DEBFULLNAME"), std::env::var("DEBEMAIL")) {
            (Ok(name), Ok(mail)) => format!("{name} <{mail}>"),
            _ => format!("Operations <ops@{}>", args.domain),
        },
    };
    syntax::maintainer(&text).map_err(|why| {
        Failure::new(
            format!("the maintainer {text:?} {why}"),
            "write --maintainer \"Operations <ops@example.com>\"",
        )
    })?;
    Ok(text)
}
