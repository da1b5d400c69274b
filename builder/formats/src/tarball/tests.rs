use proptest::prelude::*;

use super::*;

fn tar(entries: &[Entry], epoch: u64) -> Vec<u8> {
    let tree = Tree::new(entries).unwrap();
    let mut out = Vec::new();
    tree.write_to(&mut out, epoch).unwrap();
    assert_eq!(out.len() as u64, tree.tar_len());
    out
}

#[test]
fn parents_are_added_and_everything_is_sorted() {
    let entries = [
        Entry::file("/usr/bin/b", "#!/bin/sh\n", 0o755),
        Entry::symlink("/usr/bin/a", "b"),
        Entry::directory("/usr", 0o1777),
    ];
    let listed = list(&tar(&entries, 0)[..]).unwrap();
    let paths: Vec<_> = listed.iter().map(|l| (l.path.as_str(), l.mode)).collect();
    assert_eq!(
        paths,
        [
            ("/", 0o755),
            ("/usr", 0o1777),
            ("/usr/bin", 0o755),
            ("/usr/bin/a", 0o777),
            ("/usr/bin/b", 0o755)
        ]
    );
    assert!(
        listed
            .iter()
            .all(|l| (l.uid, l.gid, l.mtime) == (0, 0, 1) && l.user == "root" && l.group == "root")
    );
    assert_eq!(listed[3].kind, ListedKind::Symlink("b".to_owned()));
}

#[test]
fn what_is_no_tree_is_refused() {
    for path in [
        "", "/", "etc/x", "/etc/", "/etc//x", "/./x", "/a/../x", "/a\nb", "/a\0b",
    ] {
        assert_eq!(
            Tree::new(&[Entry::file(path, "", 0o644)]).unwrap_err(),
            TreeError::Path(path.to_owned())
        );
    }
    let twice = [Entry::directory("/a", 0o755), Entry::directory("/a", 0o755)];
    assert_eq!(
        Tree::new(&twice).unwrap_err(),
        TreeError::Duplicate("/a".to_owned())
    );
    for parent in [
        Entry::file("/a/b", "", 0o644),
        Entry::symlink("/a/b", "/tmp"),
    ] {
        let below = [Entry::file("/a/b/c/d", "", 0o644), parent];
        assert!(matches!(
            Tree::new(&below).unwrap_err(),
            TreeError::ParentNotDirectory { .. }
        ));
    }
    assert!(matches!(
        Tree::new(&[Entry::file("/a", "", 0o10_644)]).unwrap_err(),
        TreeError::Mode { .. }
    ));
    assert!(matches!(
        Tree::new(&[Entry::symlink("/a", "")]).unwrap_err(),
        TreeError::Target { .. }
    ));
}

#[test]
fn installed_size_rounds_every_object_up() {
    let entries = [
        Entry::file("/a/empty", "", 0o644),
        Entry::file("/a/one", vec![0; 1], 0o644),
        Entry::file("/a/two", vec![0; 1025], 0o644),
        Entry::symlink("/a/link", "one"),
    ];
    // 0 + 1 + 2 + 1, and the directories / and /a.
    assert_eq!(Tree::new(&entries).unwrap().installed_size(), 6);
}

#[test]
fn long_and_foreign_names_need_no_pax_header() {
    let entries = [
        Entry::file(
            format!("/{}/é{}", "d".repeat(120), "x".repeat(150)),
            "content",
            0o600,
        ),
        Entry::symlink("/link", format!("/{}", "ü".repeat(200))),
    ];
    let bytes = tar(&entries, 7);
    let types: Vec<u8> = bytes
        .chunks(512)
        .filter(|b| b.get(257..262) == Some(b"ustar"))
        .map(|b| b[156])
        .collect();
    assert!(types.contains(&b'L') && types.contains(&b'K'));
    assert!(
        types.iter().all(|kind| b"05LK2".contains(kind)),
        "{types:?}"
    );
    let read = read_entries(&bytes[..]).unwrap();
    assert!(entries.iter().all(|entry| read.contains(entry)));
}

pub(crate) fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    let part = prop_oneof![4 => "[a-zA-Z0-9._+-]{1,12}", 1 => "\\PC{1,8}", 1 => "[a-zé]{90,130}"];
    let path =
        proptest::collection::vec(part, 1..4).prop_map(|parts| format!("/{}", parts.join("/")));
    let kind = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..1500).prop_map(|bytes| EntryKind::File(bytes.into())),
        1 => Just(EntryKind::Directory),
        1 => "[a-zé/]{1,130}".prop_map(EntryKind::Symlink),
    ];
    let entry = (path, kind, 0u32..0o10_000).prop_map(|(path, kind, mode)| {
        let mode = if matches!(kind, EntryKind::Symlink(_)) {
            0o777
        } else {
            mode
        };
        Entry { path, kind, mode }
    });
    proptest::collection::vec(entry, 0..8).prop_map(|entries| {
        let mut kept: Vec<Entry> = Vec::new();
        for entry in entries {
            kept.push(entry);
            if Tree::new(&kept).is_err() {
                kept.pop();
            }
        }
        kept
    })
}

proptest! {
    #[test]
    fn trees_read_back_and_order_does_not_matter(entries in any_entries(), epoch in 0u64..1 << 33) {
        let bytes = tar(&entries, epoch);
        let read = read_entries(&bytes[..]).unwrap();
        for entry in &entries {
            prop_assert!(read.contains(entry), "{} is missing", entry.path);
        }
        let added = read.iter().filter(|entry| !entries.contains(entry));
        for entry in added {
            prop_assert_eq!((&entry.kind, entry.mode), (&EntryKind::Directory, 0o755));
        }
        prop_assert_eq!(tar(&read, epoch), bytes.clone());
        let reversed: Vec<_> = entries.into_iter().rev().collect();
        prop_assert_eq!(tar(&reversed, epoch), bytes);
    }

    #[test]
    fn the_reader_never_panics(mut noise in proptest::collection::vec((0usize..4096, any::<u8>()), 0..20)) {
        let mut bytes = tar(&[Entry::file("/a/b", "text", 0o644), Entry::symlink("/c", "b")], 1);
        for (at, byte) in noise.drain(..) {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        let _ = list(&bytes[..]);
    }
}
