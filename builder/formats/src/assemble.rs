//! From a package of the plan to a .deb: control, maintainer scripts, documentation.
//!
//! The texts come from the templates in debian/; everything that changes from package to package is an argument of them.

mod overrides;
mod wrap;

use std::io::Write as _;

use rolesmith_model::{
    fleet::Fleet,
    ids::Suite,
    lock::Locked,
    plan::{Content, Maintainer, Package},
    template,
};
use serde_json::json;
use tera::Context;

use crate::{
    compress::Compression,
    control::{Paragraph, description},
    date::Utc,
    deb::{Deb, DebError, DebInput, Scripts},
    tarball::Entry,
};

const CONTROL: &str = include_str!("../../../debian/control.tera");
const PREINST: &str = include_str!("../../../debian/preinst.sh.tera");
const POSTINST: &str = include_str!("../../../debian/postinst.sh.tera");
const PRERM: &str = include_str!("../../../debian/prerm.sh.tera");
const POSTRM: &str = include_str!("../../../debian/postrm.sh.tera");
const COPYRIGHT: &str = include_str!("../../../debian/copyright.tera");
const CHANGELOG: &str = include_str!("../../../debian/changelog.tera");

/// Why a package could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A template of debian/ does not render with these values.
    #[error("debian/{name}: {message}")]
    Template {
        /// Which one.
        name: &'static str,
        /// Why.
        message: String,
    },
    /// The control file is not a paragraph.
    #[error("control: {0}")]
    Control(#[from] crate::control::ControlError),
    /// dpkg would not take the package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// Compressing the changelog failed.
    #[error("changelog: {0}")]
    Changelog(std::io::Error),
}

fn render(name: &'static str, text: &str, context: &Context) -> Result<String, AssembleError> {
    template::render(text, context).map_err(|e| AssembleError::Template {
        name,
        message: e.message,
    })
}

/// Makes the .deb of a package at the version that the lock gives.
///
/// # Errors
/// Only where the plan holds something that its checks should have refused, or a template in debian/ is wrong.
pub fn assemble(
    fleet: &Fleet,
    package: &Package,
    locked: &Locked,
    compression: Compression,
) -> Result<Deb, AssembleError> {
    let context = context(fleet, package, locked);
    let mut control = Paragraph::parse(&render("control.tera", CONTROL, &context)?)?;
    control.push(
        "Description",
        description(&package.summary, &wrap::wrap(&package.description)),
    )?;
    let mut entries: Vec<Entry> = package
        .files
        .iter()
        .map(|file| match &file.content {
            Content::File(bytes) => Entry::file(file.path.as_str(), bytes.to_vec(), file.mode),
            Content::Symlink(target) => Entry::symlink(file.path.as_str(), target.as_str()),
        })
        .collect();
    documentation(package, &context, fleet.suite, compression, &mut entries)?;
    Ok(Deb::build(
        &DebInput {
            control,
            conffiles: package
                .files
                .iter()
                .filter(|f| f.conffile)
                .map(|f| f.path.clone())
                .collect(),
            removed_conffiles: Vec::new(),
            scripts: scripts(&package.scripts, &context)?,
            triggers: None,
            entries,
            epoch: locked.epoch,
        },
        compression,
    )?)
}

fn context(fleet: &Fleet, package: &Package, locked: &Locked) -> Context {
    let date = Utc::from_epoch(locked.epoch);
    let relations: Vec<_> = package
        .relations
        .iter()
        .map(|(field, values)| json!({ "field": field, "value": values.join(", ") }))
        .collect();
    let scripts = &package.scripts;
    let units: Vec<_> = scripts
        .units
        .iter()
        .map(|u| json!({ "name": u.name, "enable": u.enable, "start": u.start }))
        .collect();
    let reload = package
        .files
        .iter()
        .any(|f| f.path.starts_with("/usr/lib/systemd/system/"));
    let mut context = Context::new();
    context.insert("package", package.name.as_str());
    context.insert("version", &locked.version.to_string());
    context.insert("inputs", &locked.inputs[..locked.inputs.len().min(32)]);
    context.insert("section", package.section);
    context.insert("maintainer", &package.maintainer);
    context.insert("relations", &relations);
    context.insert("fleet", fleet.name.as_str());
    context.insert("suite", fleet.suite.codename());
    context.insert("date", &date.rfc5322());
    context.insert("year", &date.year);
    context.insert("role", &scripts.role.as_ref().map(|r| r.as_str()));
    context.insert("units", &units);
    context.insert("reload", &reload);
    // The facts package has no role, and the agent has to look at new facts too.
    context.insert(
        "poke",
        &(scripts.role.is_some() || package.name.as_str().ends_with("-facts")),
    );
    context.insert("sysusers", &scripts.sysusers);
    context.insert("tmpfiles", &scripts.tmpfiles);
    context.insert("sysctl", &scripts.sysctl);
    let trimmed = |list: &[String]| {
        list.iter()
            .map(|t| t.trim_end().to_owned())
            .collect::<Vec<_>>()
    };
    context.insert("preinst", &trimmed(&scripts.preinst));
    context.insert("postinst", &trimmed(&scripts.postinst));
    context.insert("prerm", &trimmed(&scripts.prerm));
    context.insert("purge", &trimmed(&scripts.purge));
    context
}

/// A script that would do nothing is left out, as debhelper does.
fn scripts(parts: &Maintainer, context: &Context) -> Result<Scripts, AssembleError> {
    let flag = |name: &str| context.get(name).is_some_and(tera::Value::is_truthy);
    let acts = flag("poke") || flag("reload") || parts.sysusers || parts.tmpfiles || parts.sysctl;
    let script = |wanted: bool, name, text| -> Result<Option<String>, AssembleError> {
        wanted.then(|| render(name, text, context)).transpose()
    };
    let stops = !parts.units.is_empty();
    Ok(Scripts {
        preinst: script(!parts.preinst.is_empty(), "preinst.sh.tera", PREINST)?,
        postinst: script(
            acts || stops || !parts.postinst.is_empty(),
            "postinst.sh.tera",
            POSTINST,
        )?,
        prerm: script(stops || !parts.prerm.is_empty(), "prerm.sh.tera", PRERM)?,
        postrm: script(
            acts || stops || !parts.purge.is_empty(),
            "postrm.sh.tera",
            POSTRM,
        )?,
    })
}

/// Changelog and copyright (Policy 12.5 and 12.7), lintian overrides.
fn documentation(
    package: &Package,
    context: &Context,
    suite: Suite,
    compression: Compression,
    entries: &mut Vec<Entry>,
) -> Result<(), AssembleError> {
    let dir = format!("/usr/share/doc/{}", package.name);
    let changelog = render("changelog.tera", CHANGELOG, context)?;
    let changelog = gzip_best(changelog.as_bytes()).map_err(AssembleError::Changelog)?;
    entries.push(Entry::file(format!("{dir}/changelog.gz"), changelog, 0o644));
    let copyright = render("copyright.tera", COPYRIGHT, context)?;
    entries.push(Entry::file(format!("{dir}/copyright"), copyright, 0o644));
    entries.push(Entry::file(
        format!("/usr/share/lintian/overrides/{}", package.name),
        overrides::file(package, suite, compression),
        0o644,
    ));
    Ok(())
}

/// gzip as Policy 12.7 wants it for changelogs: with the best compression, which its header tells.
fn gzip_best(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text)?;
    encoder.finish()
}
