//! The operator's secrets in what is about to be shipped.

use std::path::Path;

use rolesmith_formats::{
    deb::{read_deb, read_entries},
    tarball::EntryKind,
};
use rolesmith_model::plan::{Content, Package};

use super::BuildError;
use crate::scan::{Leak, SecretScan};

/// Every byte that is about to be shipped, before compression hides it.
pub(super) fn scan(scan: &SecretScan, package: &Package) -> Result<(), Leak> {
    for file in &package.files {
        let what = format!("{} of the package {}", file.path, package.name);
        match &file.content {
            Content::File(bytes) => scan.check(bytes, &what)?,
            Content::Symlink(target) => scan.check(target.as_bytes(), &what)?,
        }
    }
    let scripts = &package.scripts;
    for (name, fragments) in [
        ("preinst", &scripts.preinst),
        ("postinst", &scripts.postinst),
        ("prerm", &scripts.prerm),
        ("postrm", &scripts.purge),
    ] {
        let what = format!("the {name} of the package {}", package.name);
        fragments
            .iter()
            .try_for_each(|text| scan.check(text.as_bytes(), &what))?;
    }
    let relations: Vec<&str> = package
        .relations
        .values()
        .flatten()
        .map(String::as_str)
        .collect();
    let fields = [&package.summary, &package.description, &relations.join(" ")]
        .map(String::as_str)
        .join(" ");
    scan.check(
        fields.as_bytes(),
        &format!("the control file of the package {}", package.name),
    )
}

/// As [`scan`], for a package that is compressed already: what it unpacks to.
pub(super) fn scan_deb(scan: &SecretScan, path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let failed = |source| BuildError::Adopt {
        path: path.to_owned(),
        source,
    };
    let place = |what: &str| format!("{what} of {}", path.display());
    let contents = read_deb(bytes).map_err(failed)?;
    let mut control = String::new();
    contents.control.write_to(&mut control);
    scan.check(control.as_bytes(), &place("the control file"))?;
    let scripts = &contents.scripts;
    for (name, text) in [
        ("the preinst", &scripts.preinst),
        ("the postinst", &scripts.postinst),
        ("the prerm", &scripts.prerm),
        ("the postrm", &scripts.postrm),
    ] {
        if let Some(text) = text {
            scan.check(text.as_bytes(), &place(name))?;
        }
    }
    for entry in read_entries(bytes).map_err(failed)? {
        let what = place(&entry.path);
        match &entry.kind {
            EntryKind::File(content) => scan.check(content, &what)?,
            EntryKind::Symlink(target) => scan.check(target.as_bytes(), &what)?,
            EntryKind::Directory => {}
        }
    }
    Ok(())
}
