//! What a package may not hold.

use std::collections::BTreeMap;

use super::error::ServiceError;
use super::{TreeContent, TreeEntry};

/// Most bytes of a service's files. Every new version is downloaded by each node that runs the service.
pub const SIZE_LIMIT: u64 = 200_000_000;

/// Judges a whole tree; names and links were judged when they were read.
pub(super) fn entries(entries: &[TreeEntry], native: bool) -> Result<(), ServiceError> {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut code = Vec::new();
    for entry in entries {
        if let TreeContent::File { bytes, .. } = &entry.content {
            *sizes.entry(part_of(&entry.path)).or_default() += bytes.len() as u64;
            // elf(5)
            if !native && bytes.starts_with(b"\x7fELF") {
                code.push(entry.path.clone());
            }
        }
    }
    let size = sizes.values().sum();
    if size > SIZE_LIMIT {
        let mut parts: Vec<(&str, u64)> = sizes.into_iter().collect();
        parts.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let largest = parts
            .iter()
            .take(3)
            .map(|(part, size)| format!("{part} ({} MB)", size / 1_000_000))
            .collect();
        return Err(ServiceError::TooLarge { size, largest });
    }
    if code.is_empty() {
        Ok(())
    } else {
        Err(ServiceError::Native(code))
    }
}

/// The part of a tree that a file belongs to, as a person would say it: a dependency, or what stands at the top.
fn part_of(path: &str) -> &str {
    let from = path
        .rfind("node_modules/")
        .map_or(0, |at| at + "node_modules/".len());
    let scope = usize::from(path[from..].starts_with('@'));
    path[from..]
        .match_indices('/')
        .nth(scope)
        .map_or(path, |(at, _)| &path[..from + at])
}

/// Whether a Debian package can hold a path: dpkg's lists have one a line, and terminals show them.
pub(super) fn is_good_name(path: &str) -> bool {
    !path.chars().any(char::is_control)
}

/// Whether the target of a link at this path stays in the tree: some `..`, no more than the link lies deep, then plain names. Plain
/// names may be links, which stay in the tree as well; a `..` behind one could lead anywhere.
pub(super) fn stays_inside(path: &str, target: &str) -> bool {
    let depth = path.matches('/').count();
    let mut parts = target
        .trim_end_matches('/')
        .split('/')
        .skip_while(|part| *part == ".")
        .peekable();
    let mut up = 0;
    while parts.next_if_eq(&"..").is_some() {
        up += 1;
    }
    up <= depth
        && parts.all(|part| !part.is_empty() && part != "." && part != "..")
        && is_good_name(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: &[u8]) -> TreeEntry {
        TreeEntry {
            path: path.to_owned(),
            content: TreeContent::File {
                bytes: bytes.into(),
                executable: false,
            },
        }
    }

    #[test]
    fn machine_code_needs_an_architecture() {
        let tree = [
            file("node_modules/x/readme", b"ELF"),
            file("node_modules/x/a.node", b"\x7fELF\x02\x01\x01"),
        ];
        let error = entries(&tree, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "machine code in a package for all architectures: node_modules/x/a.node"
        );
        entries(&tree, true).unwrap();
        entries(&tree[..1], false).unwrap();
    }

    #[test]
    fn what_is_too_large_says_where_it_comes_from() {
        let half = vec![b'x'; usize::try_from(SIZE_LIMIT / 2).unwrap()];
        let mut tree = vec![
            file("a/node_modules/@scope/large/x/y", &half),
            file("main.js", b""),
            file("public/film", &half),
        ];
        entries(&tree, false).unwrap();
        tree[1] = file("main.js", b"1");
        let error = entries(&tree, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "200 MB, where 200 are the limit; the largest parts: a/node_modules/@scope/large (100 MB), public (100 MB), main.js (0 MB)"
        );
    }

    #[test]
    fn links_stay_inside() {
        for (path, target) in [
            ("a", "b"),
            ("a", "b/c"),
            ("a", "./b"),
            ("a", "b/"),
            ("a/b", "../c"),
            ("node_modules/.bin/x", "../x/cli.js"),
            ("node_modules/own", "../packages/own"),
            ("a/b", ".."),
        ] {
            assert!(stays_inside(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", ""),
            ("a", "/etc/passwd"),
            ("a", ".."),
            ("a", "../b"),
            ("a/b", "../../c"),
            ("a/b", "c/../../../d"),
            ("a/b", "x/.."),
            ("a", "b//c"),
            ("a", "b\nc"),
        ] {
            assert!(!stays_inside(path, target), "{path} -> {target}");
        }
    }
}
