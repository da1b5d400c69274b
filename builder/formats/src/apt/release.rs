//! The `Release` file: what a suite is, until when it holds, and the digest of each of its indexes.

use std::collections::BTreeMap;

use super::date::{format_date, parse_date};
use super::digest::{Sha256, Sha512};
use super::index::IndexFile;

/// What a `Release` file says besides its list of files.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReleaseFields {
    /// Who publishes; unattended-upgrades and pins match it.
    pub origin: String,
    /// As `origin`, for people.
    pub label: String,
    /// `stable`, or the same as the code name.
    pub suite: String,
    /// Directory below `dists/`.
    pub codename: String,
    /// When the content was decided, Unix seconds. apt refuses a date in the future and, once it has seen a newer one, an older one.
    pub date: u64,
    /// Until when clients accept it, Unix seconds.
    pub valid_until: u64,
    /// Client architectures, without `all`, which is always added.
    pub architectures: Vec<String>,
    /// In the order in which they are shown.
    pub components: Vec<String>,
    /// One line for people.
    pub description: String,
    /// Fingerprints (hexadecimal, no blanks) that may sign the NEXT Release; apt remembers them for a source that has no
    /// Signed-By of its own. Empty leaves the field out. A key that will sign next must be here before it does.
    pub signed_by: Vec<String>,
}

/// An unsigned repository: the fields of its `Release` and its indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// What `Release` says.
    pub fields: ReleaseFields,
    /// Sorted by path.
    pub(super) files: Vec<IndexFile>,
}

impl Repository {
    /// Puts indexes under a `Release`; their order does not matter, a path must occur once.
    pub fn new(fields: ReleaseFields, mut files: Vec<IndexFile>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Self { fields, files }
    }

    /// The indexes, sorted by path.
    pub fn files(&self) -> &[IndexFile] {
        &self.files
    }

    /// The text of `Release`. Values lose their line breaks, so that no field can smuggle in another.
    pub fn release(&self) -> String {
        let fields = &self.fields;
        let mut architectures = fields.architectures.clone();
        architectures.push("all".to_owned());
        let mut text = String::new();
        for (name, value) in [
            ("Origin", fields.origin.as_str()),
            ("Label", &fields.label),
            ("Suite", &fields.suite),
            ("Codename", &fields.codename),
            ("Date", &format_date(fields.date)),
            ("Valid-Until", &format_date(fields.valid_until)),
            ("Acquire-By-Hash", "yes"),
            // Packages for `all` stand in each architecture's index, so apt need not ask for binary-all.
            ("No-Support-for-Architecture-all", "Packages"),
            ("Architectures", &architectures.join(" ")),
            ("Components", &fields.components.join(" ")),
            ("Description", &fields.description),
            ("Signed-By", &fields.signed_by.join(",")),
        ] {
            if !value.is_empty() {
                text.push_str(&format!(
                    "{name}: {}\n",
                    value.split_whitespace().collect::<Vec<_>>().join(" ")
                ));
            }
        }
        let width = self
            .files
            .iter()
            .map(|f| f.size.to_string().len())
            .max()
            .unwrap_or(1);
        text.push_str("SHA256:\n");
        for file in &self.files {
            text.push_str(&format!(
                " {} {:>width$} {}\n",
                file.sha256, file.size, file.path
            ));
        }
        text.push_str("SHA512:\n");
        for file in &self.files {
            text.push_str(&format!(
                " {} {:>width$} {}\n",
                file.sha512, file.size, file.path
            ));
        }
        text
    }
}

/// Size and digests of a file that a `Release` lists.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ListedFile {
    /// Length in bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Digest of the file.
    pub sha512: Sha512,
}

/// What [`parse_release`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRelease {
    /// The Codename field.
    pub codename: String,
    /// The Date field, Unix seconds.
    pub date: u64,
    /// The Valid-Until field, Unix seconds.
    pub valid_until: u64,
    /// Files listed with both digests, by path below `dists/<codename>/`.
    pub files: BTreeMap<String, ListedFile>,
}

/// A text that is not a `Release` as this crate writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a Release file of this program: {0}")]
pub struct ReleaseError(String);

/// Reads a `Release` back, or the signed text of an `InRelease`. The signature is not looked at: this serves to look at
/// one's own repository, not to trust another's.
///
/// # Errors
/// When a field that [`Repository::release`] writes is missing or has another form.
pub fn parse_release(text: &str) -> Result<ParsedRelease, ReleaseError> {
    let missing = |what: &str| ReleaseError(format!("no usable {what}"));
    let body = match text.strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----\n") {
        Some(signed) => signed
            .split_once("\n\n")
            .map(|(_, rest)| rest)
            .ok_or_else(|| missing("signed text"))?,
        None => text,
    };
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    let mut lists: BTreeMap<&str, BTreeMap<&str, (&str, u64)>> = BTreeMap::new();
    let mut section = "";
    for line in body
        .lines()
        .take_while(|line| *line != "-----BEGIN PGP SIGNATURE-----")
    {
        if let Some(entry) = line.strip_prefix(' ') {
            let words: Vec<&str> = entry.split_whitespace().collect();
            let [digest, size, path] = words[..] else {
                return Err(ReleaseError(format!("line {line:?}")));
            };
            let size = size
                .parse()
                .map_err(|_| ReleaseError(format!("size in {line:?}")))?;
            lists
                .entry(section)
                .or_default()
                .insert(path, (digest, size));
        } else if let Some((name, value)) = line.split_once(':') {
            section = name;
            fields.insert(name, value.trim());
        }
    }
    let date = |name: &str| {
        fields
            .get(name)
            .and_then(|text| parse_date(text))
            .ok_or_else(|| missing(name))
    };
    let strong = lists.remove("SHA512").unwrap_or_default();
    let mut files = BTreeMap::new();
    for (path, (digest, size)) in lists.remove("SHA256").unwrap_or_default() {
        let (other, other_size) = strong.get(path).copied().ok_or_else(|| missing(path))?;
        if size != other_size {
            return Err(ReleaseError(format!("two sizes for {path}")));
        }
        let bad = |e: super::digest::DigestError| ReleaseError(e.to_string());
        let listed = ListedFile {
            size,
            sha256: digest.parse().map_err(bad)?,
            sha512: other.parse().map_err(bad)?,
        };
        files.insert(path.to_owned(), listed);
    }
    Ok(ParsedRelease {
        codename: fields
            .get("Codename")
            .ok_or_else(|| missing("Codename"))?
            .to_string(),
        date: date("Date")?,
        valid_until: date("Valid-Until")?,
        files,
    })
}
