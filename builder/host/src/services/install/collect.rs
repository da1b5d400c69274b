//! What a package manager has made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use walkdir::WalkDir;

use super::super::error::{ServiceError, io_error};
use super::super::judge::is_good_name;
use super::super::source::content;
use super::super::{TreeContent, TreeEntry};

/// Notes of package managers for their next run: they name registries, and nothing reads them on a node.
const NOTES: [&str; 8] = [
    "node_modules/.package-lock.json",
    "node_modules/.yarn-integrity",
    "node_modules/.yarn-state.yml",
    "node_modules/.cache",
    ".yarn/install-state.gz",
    ".yarn/build-state.yml",
    ".yarn/cache/.gitignore",
    ".yarn/unplugged/.gitignore",
];

/// Scripts of a package that run when it is installed.
const SCRIPTS: [&str; 3] = ["preinstall", "install", "postinstall"];

/// Everything below a directory that was not given to the package manager and is of use to the program, sorted by path.
pub(super) fn made(service: &Path, given: &[TreeEntry]) -> Result<Vec<TreeEntry>, ServiceError> {
    let given: BTreeSet<&str> = given.iter().map(|entry| entry.path.as_str()).collect();
    let mut entries = Vec::new();
    let mut walk = WalkDir::new(service).min_depth(1).into_iter();
    while let Some(found) = walk.next() {
        let found = found.map_err(|error| {
            let path = error.path().unwrap_or(service).to_owned();
            io_error("read", &path)(error.into())
        })?;
        let relative = found.path().strip_prefix(service).unwrap_or(found.path());
        let Some(path) = relative.to_str().filter(|path| is_good_name(path)) else {
            return Err(ServiceError::Name(relative.to_owned()));
        };
        if is_note(path) {
            if found.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        if found.file_type().is_dir() || given.contains(path) {
            continue;
        }
        let content = content(found.path(), path)?;
        entries.push(TreeEntry {
            path: path.to_owned(),
            content,
        });
    }
    // Archives are what the program runs from with PnP, and a copy of node_modules otherwise.
    if !entries.iter().any(|entry| entry.path == ".pnp.cjs") {
        entries.retain(|entry| !entry.path.starts_with(".yarn/cache/"));
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Of the top, or of a workspace: a dependency may have files of these names, which are its own.
fn is_note(path: &str) -> bool {
    NOTES.iter().any(|note| {
        let own = path.strip_suffix(note);
        own.is_some_and(|before| {
            before.is_empty() || before.ends_with('/') && !before.contains("node_modules/")
        })
    })
}

/// Names and versions of packages that would run something when they are installed, sorted.
pub(super) fn unbuilt(entries: &[TreeEntry]) -> Vec<String> {
    let mut manifests: BTreeMap<&str, &[u8]> = BTreeMap::new();
    let mut sources: BTreeSet<&str> = BTreeSet::new();
    for entry in entries {
        let TreeContent::File { bytes, .. } = &entry.content else {
            continue;
        };
        if let Some(directory) = entry.path.strip_suffix("/package.json") {
            manifests.insert(directory, bytes);
        } else if let Some(directory) = entry.path.strip_suffix("/binding.gyp") {
            sources.insert(directory);
        }
    }
    let mut names = BTreeSet::new();
    for (directory, manifest) in manifests {
        let parent = directory.rsplit_once('/').map_or("", |(parent, _)| parent);
        let is_package = parent.ends_with("node_modules")
            || parent.rsplit_once('/').is_some_and(|(above, scope)| {
                above.ends_with("node_modules") && scope.starts_with('@')
            });
        // A package.json deeper down says something about a directory of modules, and is never installed.
        let Some(manifest) = is_package
            .then(|| serde_json::from_slice::<Value>(manifest).ok())
            .flatten()
        else {
            continue;
        };
        let runs = SCRIPTS
            .iter()
            .any(|script| manifest["scripts"][script].is_string());
        if runs || sources.contains(directory) {
            let field = |name: &str| manifest[name].as_str().unwrap_or("?").to_owned();
            names.insert(format!("{} {}", field("name"), field("version")));
        }
    }
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn what_was_made_without_notes() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("package.json", "{}"),
                ("packages/a/node_modules/.yarn-state.yml", ""),
                ("packages/a/node_modules/b/index.js", ""),
                ("node_modules/.package-lock.json", "{}"),
                ("node_modules/.cache/x", ""),
                ("node_modules/a/index.js", ""),
                ("node_modules/a/node_modules/.cache", "its own"),
                (".pnp.cjs", ""),
                (".yarn/cache/a.zip", ""),
                (".yarn/cache/.gitignore", ""),
                (".yarn/install-state.gz", ""),
            ],
        );
        fs::create_dir(dir.path().join("node_modules/.bin")).unwrap();
        symlink("../a/index.js", dir.path().join("node_modules/.bin/a")).unwrap();
        let given = TreeEntry {
            path: "package.json".into(),
            content: TreeContent::Symlink("a".into()),
        };
        let made = made(dir.path(), std::slice::from_ref(&given)).unwrap();
        let paths: Vec<&str> = made.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                ".pnp.cjs",
                ".yarn/cache/a.zip",
                "node_modules/.bin/a",
                "node_modules/a/index.js",
                "node_modules/a/node_modules/.cache",
                "packages/a/node_modules/b/index.js"
            ]
        );
    }

    #[test]
    fn a_link_out_of_the_service_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("node_modules")).unwrap();
        symlink("../../own", dir.path().join("node_modules/own")).unwrap();
        assert!(matches!(
            made(dir.path(), &[]),
            Err(ServiceError::Link { .. })
        ));
    }

    #[test]
    fn packages_that_would_have_run_something() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                (
                    "node_modules/a/package.json",
                    r#"{"name": "a", "version": "1.0", "scripts": {"test": "x"}}"#,
                ),
                (
                    "node_modules/a/node_modules/b/package.json",
                    r#"{"name": "b", "version": "2.0", "scripts": {"postinstall": "x"}}"#,
                ),
                (
                    "node_modules/@s/c/package.json",
                    r#"{"name": "@s/c", "version": "3.0"}"#,
                ),
                ("node_modules/@s/c/binding.gyp", ""),
                (
                    "node_modules/@s/c/test/package.json",
                    r#"{"name": "no", "scripts": {"install": "x"}}"#,
                ),
                ("node_modules/d/package.json", "not JSON"),
            ],
        );
        let made = made(dir.path(), &[]).unwrap();
        assert_eq!(unbuilt(&made), ["@s/c 3.0", "b 2.0"]);
    }
}
