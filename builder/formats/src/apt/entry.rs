//! One package of an index: its control paragraph and where its file stands.

use std::sync::Arc;

use super::digest::Sha256;
use crate::deb::{ReadError, SignedDeb, read_deb};

/// Fields that belong to the index, not to the package: whatever an input says in them is replaced.
const INDEX_FIELDS: [&str; 6] = ["Filename", "Size", "MD5sum", "SHA1", "SHA256", "SHA512"];

/// Why a control paragraph cannot stand in an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A field that every binary package must have (Debian Policy 5.3) is missing or empty.
    #[error("control paragraph without a {0} field")]
    Missing(&'static str),
    /// A blank line would end the paragraph early and hide the fields behind it.
    #[error("blank line inside the control paragraph of {0}")]
    BlankLine(String),
    /// A name, version or architecture that would leave the pool's directory or break the index's lines.
    #[error("the {field} field has characters that do not belong there: {value:?}")]
    BadValue {
        /// The field's name.
        field: &'static str,
        /// What it says.
        value: String,
    },
}

/// What is known of one .deb file: the part of an index entry that does not depend on where the file is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebDescription {
    /// The control paragraph, as in the file's `control` member or as another archive's index shows it.
    pub control: Arc<str>,
    /// Paths of the files and links inside, without leading `/`, one a line, sorted; empty leaves the package out of `Contents`.
    pub files: Arc<str>,
    /// Length of the .deb in bytes.
    pub size: u64,
    /// Digest of the whole .deb.
    pub sha256: Sha256,
}

impl DebDescription {
    /// Reads a .deb.
    ///
    /// # Errors
    /// When the bytes are not a Debian package; see [`read_deb`].
    pub fn read(deb: &[u8]) -> Result<Self, ReadError> {
        let contents = read_deb(deb)?;
        let mut control = String::new();
        contents.control.write_to(&mut control);
        let paths = contents.paths();
        Ok(Self {
            control: control.into(),
            files: lines(&paths),
            size: deb.len() as u64,
            sha256: Sha256::of(deb),
        })
    }
}

impl From<&SignedDeb> for DebDescription {
    fn from(deb: &SignedDeb) -> Self {
        let mut control = String::new();
        deb.control().write_to(&mut control);
        Self {
            control: control.into(),
            files: lines(deb.paths()),
            size: deb.size(),
            sha256: deb
                .digests()
                .sha256
                .parse()
                .unwrap_or_else(|_| Sha256::of(deb.bytes())),
        }
    }
}

/// One path a line, sorted; a path with a line break cannot stand in `Contents`.
fn lines(paths: &[String]) -> Arc<str> {
    let mut sorted: Vec<&str> = paths
        .iter()
        .map(String::as_str)
        .filter(|path| !path.contains('\n'))
        .collect();
    sorted.sort_unstable();
    sorted.join("\n").into()
}

/// A package as an index lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageEntry {
    /// Package name.
    pub name: String,
    /// Full version with epoch and revision.
    pub version: String,
    /// `all` or a Debian architecture.
    pub architecture: String,
    /// Path of the .deb below the repository's root: `pool/main/a/acme/acme-base_1.0_all.deb`.
    pub filename: String,
    /// Length of the .deb in bytes.
    pub size: u64,
    /// Digest of the .deb.
    pub sha256: Sha256,
    /// `section/name`, the way `Contents` names a package.
    pub location: String,
    /// As in [`DebDescription::files`].
    pub files: Arc<str>,
    /// The finished paragraph: control fields, then Filename, Size and SHA256; ends in one newline.
    pub stanza: String,
}

impl PackageEntry {
    /// The entry of a .deb published in `component`.
    pub fn new(deb: &DebDescription, component: &str) -> Result<Self, EntryError> {
        let control = deb.control.trim_matches('\n');
        let required = |name: &'static str| {
            field(control, name)
                .filter(|v| !v.is_empty())
                .ok_or(EntryError::Missing(name))
        };
        let package = required("Package")?;
        let version = required("Version")?;
        let architecture = required("Architecture")?;
        // `Source: name (version)` where the source's version differs (Policy 5.6.1).
        let source = field(control, "Source")
            .and_then(|s| s.split_whitespace().next())
            .unwrap_or(package);
        let section = field(control, "Section").unwrap_or_default();
        plain("Package", package, "+-.")?;
        plain("Version", version, "+-.~:")?;
        plain("Architecture", architecture, "-")?;
        plain("Source", source, "+-.")?;
        if control.lines().any(|line| line.trim().is_empty()) {
            return Err(EntryError::BlankLine(package.to_owned()));
        }
        let filename = pool_path(component, source, package, version, architecture);
        let mut stanza = without_fields(control, &INDEX_FIELDS);
        stanza.push_str(&format!(
            "Filename: {filename}\nSize: {}\nSHA256: {}\n",
            deb.size, deb.sha256
        ));
        Ok(Self {
            name: package.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            filename,
            size: deb.size,
            sha256: deb.sha256,
            location: if section.is_empty() {
                package.to_owned()
            } else {
                format!("{section}/{package}")
            },
            files: Arc::clone(&deb.files),
            stanza,
        })
    }
}

/// Where a package's file stands below the repository's root, in the archive's customary layout
/// (`pool/main/libx/libxyz/…` for sources called lib*). The version loses its epoch, as in every .deb's file name.
pub fn pool_path(
    component: &str,
    source: &str,
    name: &str,
    version: &str,
    architecture: &str,
) -> String {
    let letters = if source.starts_with("lib") && source.len() > 3 {
        4
    } else {
        1
    };
    let prefix: String = source.chars().take(letters).collect();
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    format!("pool/{component}/{prefix}/{source}/{name}_{version}_{architecture}.deb")
}

/// The value of a field's first line, trimmed; field names compare without case (Policy 5.1).
pub fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// `paragraph` without the named fields and their continuation lines; every line ends in a newline.
pub fn without_fields(paragraph: &str, names: &[&str]) -> String {
    let mut kept = String::with_capacity(paragraph.len() + 256);
    let mut skipping = false;
    for line in paragraph.lines() {
        if !line.starts_with([' ', '\t']) {
            let key = line.split(':').next().unwrap_or_default();
            skipping = names.iter().any(|name| name.eq_ignore_ascii_case(key));
        }
        if !skipping {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Refuses a value with anything but ASCII letters, digits and `extra`: it becomes part of a path. `..` cannot name a
/// parent there, because the value has to start with a letter or digit.
fn plain(field: &'static str, value: &str, extra: &str) -> Result<(), EntryError> {
    let good = value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
    if good {
        Ok(())
    } else {
        Err(EntryError::BadValue {
            field,
            value: value.to_owned(),
        })
    }
}
