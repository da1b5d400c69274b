//! Which packages, by asking apt.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rolesmith_formats::apt::field;

use super::apt::{AptRoot, successful};
use super::error::io_error;
use super::{Archive, Closure, MirrorError, MirrorPackage, MirrorRequest};

/// A `Packages` file that apt has fetched and verified.
struct Index {
    text: String,
    /// URI that the paths in the file are relative to; ends in `/`.
    base: String,
    archive: Archive,
}

/// Finds the closure of a request in the current state of Debian's archive.
///
/// # Errors
/// When the archive cannot be reached or is not trusted, or apt finds no solution; see [`MirrorError`].
pub fn resolve(request: &MirrorRequest) -> Result<Closure, MirrorError> {
    let root = AptRoot::prepare(request)?;
    let text = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    // Without --error-on apt would go on with an older state of an archive that it cannot verify.
    successful(root.run("apt-get", &text(&["update", "--error-on=any", "-q"]))?)
        .map_err(MirrorError::Update)?;
    let indexes = read_indexes(&root)?;

    let mut wanted = base_system(&indexes);
    for name in &request.packages {
        if name.starts_with('-')
            || name.contains(char::is_whitespace)
            || name.contains(['/', '=', '*', '?', '^', '~'])
        {
            return Err(MirrorError::BadValue {
                what: "package name",
                value: name.clone(),
            });
        }
        wanted.insert(name.clone());
    }
    let mut arguments = text(&[
        "install",
        "--print-uris",
        "-q",
        "-y",
        "--no-install-recommends",
    ]);
    arguments.extend(wanted);
    let answer = successful(root.run("apt-get", &arguments)?).map_err(MirrorError::Unresolvable)?;
    let packages = chosen(&indexes, &answer)?;
    Ok(Closure::new(
        &request.suite,
        &request.architecture,
        request.epoch,
        &request.packages,
        packages,
    ))
}

fn read_indexes(root: &AptRoot) -> Result<Vec<Index>, MirrorError> {
    let format = "$(FILENAME)\t$(REPO_URI)\t$(RELEASE)";
    let arguments = ["indextargets", "--format", format, "Created-By: Packages"].map(str::to_owned);
    let listed = successful(root.run("apt-get", &arguments)?).map_err(MirrorError::Update)?;
    let mut indexes = Vec::new();
    for line in listed.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let [path, base, release] = words[..] else {
            return Err(MirrorError::Inconsistent(line.to_owned()));
        };
        let path = std::path::Path::new(path);
        let text = fs::read_to_string(path).map_err(io_error("read", path))?;
        let archive = if release.ends_with("-security") {
            Archive::Security
        } else {
            Archive::Main
        };
        indexes.push(Index {
            text,
            base: base.to_owned(),
            archive,
        });
    }
    Ok(indexes)
}

/// Packages of a file, one paragraph each. Debian's indexes are large: no copy is made of them.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n")
        .filter(|paragraph| !paragraph.trim().is_empty())
}

/// Names of all packages that every Debian system has.
fn base_system(indexes: &[Index]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for paragraph in indexes.iter().flat_map(|index| paragraphs(&index.text)) {
        let priority = field(paragraph, "Priority");
        if (matches!(priority, Some("required" | "important"))
            || field(paragraph, "Essential") == Some("yes"))
            && let Some(name) = field(paragraph, "Package")
        {
            names.insert(name.to_owned());
        }
    }
    names
}

/// The packages of `apt-get --print-uris`, described by the indexes. A line is `'URI' name_version_arch.deb size digest`,
/// percent-encoded in its first two parts.
fn chosen(indexes: &[Index], answer: &str) -> Result<Vec<MirrorPackage>, MirrorError> {
    let inconsistent = |what: &str| MirrorError::Inconsistent(what.to_owned());
    let mut by_path: Vec<BTreeSet<String>> = vec![BTreeSet::new(); indexes.len()];
    let mut count = 0;
    for line in answer.lines().filter(|line| line.starts_with('\'')) {
        let uri = line[1..]
            .split('\'')
            .next()
            .and_then(percent_decoded)
            .ok_or_else(|| inconsistent(line))?;
        let mut found = false;
        for (index, paths) in indexes.iter().zip(&mut by_path) {
            if let Some(path) = uri.strip_prefix(index.base.as_str()) {
                paths.insert(path.to_owned());
                found = true;
            }
        }
        if !found {
            return Err(inconsistent(&uri));
        }
        count += 1;
    }
    // The release and its updates have one base, so a path may be described twice, in the same words.
    let mut packages: BTreeMap<(Archive, String), MirrorPackage> = BTreeMap::new();
    for (index, paths) in indexes.iter().zip(&by_path) {
        for paragraph in paragraphs(&index.text) {
            let Some(path) = field(paragraph, "Filename").filter(|path| paths.contains(*path))
            else {
                continue;
            };
            let value = |name: &str| field(paragraph, name).ok_or_else(|| inconsistent(path));
            let package = MirrorPackage {
                name: value("Package")?.to_owned(),
                version: value("Version")?.to_owned(),
                architecture: value("Architecture")?.to_owned(),
                archive: index.archive,
                path: path.to_owned(),
                size: value("Size")?.parse().map_err(|_| inconsistent(path))?,
                sha256: value("SHA256")?.parse().map_err(|_| inconsistent(path))?,
            };
            packages.insert((index.archive, path.to_owned()), package);
        }
    }
    if packages.len() == count {
        Ok(packages.into_values().collect())
    } else {
        Err(inconsistent(&format!(
            "{count} packages named, {} described",
            packages.len()
        )))
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}
