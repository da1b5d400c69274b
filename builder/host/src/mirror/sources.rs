//! Where this machine gets Debian from, out of apt's own configuration (sources.list(5)). No mirror is built in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What verifies Debian's archives; the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Releases of Debian by any of their names, for telling its suites from other archives'.
const RELEASES: [&str; 13] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "experimental",
];

/// The archives to mirror from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// URI of Debian's main archive.
    pub archive: String,
    /// URI of Debian's security archive.
    pub security: String,
    /// Keyring that both are verified with.
    pub keyring: PathBuf,
}

impl Sources {
    /// Archives that the fleet file names.
    pub fn given(archive: impl Into<String>, security: impl Into<String>) -> Self {
        Self {
            archive: archive.into(),
            security: security.into(),
            keyring: PathBuf::from(KEYRING),
        }
    }
}

/// Why the machine's configuration tells no archive.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no source of Debian, or only one of the two.
    #[error(
        "apt on this machine has no source of Debian's {0} archive: name both in [repository] mirror_sources"
    )]
    None(&'static str),
}

/// A source as sources.list(5) describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// In the order of their preference.
    pub uris: Vec<String>,
    /// Suites or code names.
    pub suites: Vec<String>,
    /// Components.
    pub components: Vec<String>,
    /// Signed-By; empty when any key in apt's trust will do.
    pub signed_by: String,
}

impl Sources {
    /// The archives that apt uses in `directory`, normally `/etc/apt`: `sources.list` and `sources.list.d`.
    ///
    /// # Errors
    /// [`SourcesError`].
    pub fn of_host(directory: &Path) -> Result<Self, SourcesError> {
        let mut files = vec![directory.join("sources.list")];
        let parts = directory.join("sources.list.d");
        match fs::read_dir(&parts) {
            Ok(entries) => {
                let mut found = Vec::new();
                for entry in entries {
                    found.push(
                        entry
                            .map_err(|source| SourcesError::Io {
                                path: parts.clone(),
                                source,
                            })?
                            .path(),
                    );
                }
                found.sort();
                files.extend(found);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(SourcesError::Io {
                    path: parts,
                    source,
                });
            }
        }
        let mut sources = Vec::new();
        for path in files {
            let deb822 = path
                .extension()
                .is_some_and(|extension| extension == "sources");
            if !deb822 && path.extension().is_none_or(|extension| extension != "list") {
                continue;
            }
            match fs::read_to_string(&path) {
                Ok(text) => sources.extend(parse_sources(&text, deb822)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(SourcesError::Io { path, source }),
            }
        }
        Self::choose(&sources)
    }

    /// The first source of each archive.
    fn choose(sources: &[Source]) -> Result<Self, SourcesError> {
        let mut archive = None;
        let mut security = None;
        for source in sources {
            // Other archives have suites of these names too; Debian's have a component `main` and its own keyring, if any.
            let own_key = source.signed_by.is_empty()
                || source.signed_by.contains("debian-archive")
                || source.signed_by.starts_with("-----BEGIN");
            let uri = source.uris.iter().find(|uri| !uri.starts_with("cdrom:"));
            let (Some(uri), true, true) = (
                uri,
                own_key,
                source.components.iter().any(|name| name == "main"),
            ) else {
                continue;
            };
            for suite in &source.suites {
                let (release, part) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
                if !RELEASES.contains(&release) {
                    continue;
                }
                match part {
                    "" => archive.get_or_insert_with(|| uri.clone()),
                    // `buster/updates` was the name up to Debian 10.
                    "security" | "updates" if part == "security" || suite.contains('/') => {
                        security.get_or_insert_with(|| uri.clone())
                    }
                    _ => continue,
                };
            }
        }
        Ok(Self::given(
            archive.ok_or(SourcesError::None("main"))?,
            security.ok_or(SourcesError::None("security"))?,
        ))
    }
}

/// Reads the binary sources of a `.list` file, or of a `.sources` file when `deb822`. Disabled ones, sources of source
/// packages and lines that cannot be understood are left out: apt itself judges the files.
pub fn parse_sources(text: &str, deb822: bool) -> Vec<Source> {
    if deb822 {
        // Comment lines may stand inside a field; a blank line ends a paragraph.
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        lines
            .split(|line| line.trim().is_empty())
            .filter_map(paragraph)
            .collect()
    } else {
        text.lines().filter_map(line).collect()
    }
}

fn paragraph(lines: &[&str]) -> Option<Source> {
    let field = |name: &str| -> Option<String> {
        let start = lines.iter().position(|line| {
            line.split_once(':').is_some_and(|(key, _)| {
                !key.starts_with([' ', '\t']) && key.eq_ignore_ascii_case(name)
            })
        })?;
        let mut value = lines[start].split_once(':')?.1.to_owned();
        for more in lines[start + 1..]
            .iter()
            .take_while(|line| line.starts_with([' ', '\t']))
        {
            value.push('\n');
            value.push_str(more);
        }
        Some(value.trim().to_owned())
    };
    let words = |name: &str| {
        field(name).map(|value| {
            value
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
    };
    let enabled = field("Enabled").is_none_or(|value| {
        !["no", "false", "0", "off", "without", "disable"].contains(&value.as_str())
    });
    if !enabled || !words("Types")?.iter().any(|word| word == "deb") {
        return None;
    }
    Some(Source {
        uris: words("URIs")?,
        suites: words("Suites")?,
        components: words("Components").unwrap_or_default(),
        signed_by: field("Signed-By").unwrap_or_default(),
    })
}

fn line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line
        .strip_prefix("deb")?
        .strip_prefix([' ', '\t'])?
        .trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .unwrap_or_default();
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.to_owned(),
    })
}

#[cfg(test)]
mod tests;
