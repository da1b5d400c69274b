//! Images read back by a strict reader of our own and by the programs and libraries that others use.
//!
//! Needs genisoimage (isoinfo), xorriso, libarchive-tools (bsdtar) and util-linux (blkid).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run real tools"
)]

mod reader;
#[path = "../deb/tools.rs"]
mod tools;
mod tools_read;

use std::collections::BTreeMap;

use proptest::prelude::*;
use reader::{Node, read};
use rolesmith_formats::iso9660::{IsoError, image, nocloud};

/// What a reader should find: the files and the directories above them.
fn expected(files: &[(&str, &[u8])]) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    for (path, data) in files {
        for (at, _) in path.match_indices('/') {
            nodes.insert(path[..at].to_owned(), Node::Directory);
        }
        nodes.insert((*path).to_owned(), Node::File(data.to_vec()));
    }
    nodes
}

#[test]
fn a_seed_has_the_names_that_cloud_init_reads() {
    let bytes = nocloud(&[
        ("user-data", b"#cloud-config\n"),
        ("meta-data", b"instance-id: acme-n1-1\n"),
    ])
    .unwrap();
    let read = read(&bytes);
    let files: [(&str, &[u8]); 2] = [
        ("user-data", b"#cloud-config\n"),
        ("meta-data", b"instance-id: acme-n1-1\n"),
    ];
    assert_eq!(read.label, "cidata");
    assert_eq!(read.rock_ridge, expected(&files));
    assert_eq!(read.joliet, expected(&files));
    let plain: Vec<_> = read.plain.keys().map(String::as_str).collect();
    assert_eq!(plain, ["META_DATA.", "USER_DATA."]);
    assert_eq!(
        bytes.len(),
        27 * 2048,
        "three descriptors, four tables, two roots, two files"
    );
}

#[test]
fn a_config_drive_has_its_directories() {
    let files: [(&str, &[u8]); 3] = [
        ("openstack/latest/user_data", b"#cloud-config\n"),
        ("openstack/latest/meta_data.json", b"{}"),
        ("openstack/content/0000", b""),
    ];
    let read = read(&image("config-2", &files).unwrap());
    assert_eq!(read.label, "config-2");
    assert_eq!(read.rock_ridge, expected(&files));
    assert_eq!(read.joliet, expected(&files));
}

#[test]
fn the_order_of_files_makes_no_difference() {
    let mut files: Vec<(&str, &[u8])> =
        vec![("b/x", b"1"), ("a", b"2"), ("b/a/c", b"3"), ("c-", b"4")];
    let first = image("l", &files).unwrap();
    files.reverse();
    assert!(first == image("l", &files).unwrap());
}

#[test]
fn names_that_are_alike_in_plain_iso_9660_are_numbered() {
    let long = "x".repeat(40);
    let longer = "x".repeat(50);
    let files: [(&str, &[u8]); 7] = [
        ("user-data", b"1"),
        ("user_data", b"2"),
        ("USER-DATA", b"3"),
        (".x", b"4"),
        ("a.conf.d/f", b"5"),
        (&long, b"6"),
        (&longer, b"7"),
    ];
    let read = read(&image("l", &files).unwrap());
    assert_eq!(read.rock_ridge, expected(&files));
    assert_eq!(read.joliet, expected(&files));
    let cut = "X".repeat(30) + ".";
    let numbered = "X".repeat(29) + "1.";
    let mut names = vec![
        "USER_DATA.",
        "USER_DATA1.",
        "USER_DATA2.",
        "_X.",
        "A_CONF_D",
        "A_CONF_D/F.",
        &cut,
        &numbered,
    ];
    names.sort_unstable();
    assert_eq!(read.plain.keys().collect::<Vec<_>>(), names);
}

#[test]
fn directories_larger_than_a_sector_and_hundreds_of_them() {
    let paths: Vec<String> = (0..700)
        .map(|n| format!("d{n:03}/{}", "n".repeat(1 + n % 64)))
        .collect();
    let files: Vec<(&str, &[u8])> = paths
        .iter()
        .map(|path| (path.as_str(), path.as_bytes()))
        .collect();
    let read = read(&image("l", &files).unwrap());
    assert_eq!(read.rock_ridge, expected(&files));
    assert_eq!(read.joliet, expected(&files));
}

#[test]
fn what_an_image_cannot_hold_is_refused() {
    let refused = |path: &str| image("l", &[(path, b"")]).unwrap_err();
    let long = "x".repeat(65);
    for path in [
        "",
        ".",
        "..",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/./b",
        "a b",
        "a;1",
        "ä",
        "a\\b",
        "a.",
        "a\0",
        "1/2/3/4/5/6/7/8/9",
        &long,
    ] {
        assert!(
            matches!(refused(path), IsoError::File { path: of, .. } if of == path),
            "{path:?}"
        );
    }
    let sixty = "x".repeat(60);
    let fits = [sixty.as_str(); 4].join("/");
    let fits = &fits[..240];
    assert!(image("l", &[(fits, b"")]).is_ok());
    assert!(matches!(
        refused(&format!("{fits}x")),
        IsoError::File { .. }
    ));
    assert!(image("l", &[("1/2/3/4/5/6/7/8", b"")]).is_ok());

    for label in ["", "a b", "12345678901234567", "ü"] {
        assert_eq!(image(label, &[]), Err(IsoError::Volume(label.to_owned())));
    }
    for files in [["a", "a"], ["a", "a/b"], ["a/b/c", "a/b"]] {
        let files = files.map(|path| (path, &b""[..]));
        assert!(
            matches!(image("l", &files), Err(IsoError::File { .. })),
            "{files:?}"
        );
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn sizes_that_do_not_fit_are_refused_before_anything_is_written() {
    // Pages that nobody touches: this takes no memory.
    let data = vec![0; 1 << 32];
    let refused = nocloud(&[("user-data", b""), ("meta-data", &data)]);
    assert!(matches!(refused, Err(IsoError::File { path, .. }) if path == "meta-data"));
    let most = &data[1..];
    let names: Vec<String> = (0..=2048).map(|n| n.to_string()).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), most)).collect();
    assert_eq!(image("l", &files), Err(IsoError::TooLarge), "8 TiB");
    let names: Vec<String> = (0..65_535).map(|n| format!("{n}/f")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert_eq!(
        image("l", &files),
        Err(IsoError::TooLarge),
        "65536 directories"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_reader_finds_what_went_in(
        files in prop::collection::btree_map(
            prop::collection::vec("[a-zA-B0-1._-]{0,40}[a-bA]", 1..5).prop_map(|names| names.join("/")),
            prop::collection::vec(any::<u8>(), 0..5000),
            0..20,
        ),
        label in "[A-Za-z0-9._-]{1,16}",
    ) {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, data)| (path.as_str(), &data[..])).collect();
        let clash = files.iter().any(|(one, _)| files.iter().any(|(other, _)| other.starts_with(&format!("{one}/"))));
        match image(&label, &files) {
            Ok(bytes) => {
                prop_assert!(!clash);
                prop_assert!(bytes == image(&label, &files).unwrap());
                let read = read(&bytes);
                prop_assert_eq!(read.label, label);
                prop_assert!(read.rock_ridge == expected(&files));
                prop_assert!(read.joliet == expected(&files));
                prop_assert_eq!(read.plain.len(), read.joliet.len());
            }
            Err(error) => prop_assert!(clash, "{}", error),
        }
    }
}
