//! What is built is accepted by dpkg-deb and unpacks to what was put in.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use proptest::prelude::*;
use rolesmith_formats::{
    compress::Compression,
    deb::{Deb, read_deb, read_entries, read_md5sums},
    tarball::{Entry, EntryKind, Tree},
};

use crate::{
    EPOCH, input,
    tools::{have, ok},
};

/// What a path holds: kind and content, mode, time.
type Found = (EntryKind, u32, i64);

fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, Found>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let kind = if meta.is_dir() {
            walk(root, &path, found);
            EntryKind::Directory
        } else if meta.is_symlink() {
            EntryKind::Symlink(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
        } else {
            // Files without read permission are put in too; the mode is restored below.
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            EntryKind::File(fs::read(&path).unwrap().into())
        };
        let name = format!("/{}", path.strip_prefix(root).unwrap().to_str().unwrap());
        found.insert(
            name,
            (kind, meta.permissions().mode() & 0o7777, meta.mtime()),
        );
    }
}

/// Unpacks with dpkg-deb and compares; returns nothing when all is as it was put in.
fn assert_unpacks_to(bytes: &[u8], entries: &[Entry]) {
    let dir = tempfile::tempdir().unwrap();
    let (deb, root) = (dir.path().join("x.deb"), dir.path().join("root"));
    fs::write(&deb, bytes).unwrap();
    ok(
        "dpkg-deb",
        ["--extract".as_ref(), deb.as_os_str(), root.as_os_str()],
    );
    let mut found = BTreeMap::new();
    walk(&root, &root, &mut found);
    for entry in entries {
        let (kind, mode, mtime) = found
            .remove(&entry.path)
            .unwrap_or_else(|| panic!("{} is missing", entry.path));
        assert_eq!(kind, entry.kind, "{}", entry.path);
        let mode_of_link = matches!(kind, EntryKind::Symlink(_));
        assert!(
            mode_of_link || mode == entry.mode,
            "{}: {mode:o}",
            entry.path
        );
        assert_eq!(mtime, EPOCH as i64, "{}", entry.path);
    }
    assert!(
        found
            .values()
            .all(|(kind, mode, _)| *kind == EntryKind::Directory && *mode == 0o755),
        "{found:?}"
    );
}

#[test]
fn every_compression_is_accepted_and_unpacks_to_what_was_put_in() {
    if !have("dpkg-deb") {
        return;
    }
    for compression in Compression::ALL {
        let deb = Deb::build(&input(), compression).unwrap();
        assert_unpacks_to(deb.bytes(), &input().entries);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(deb.file_name());
        fs::write(&path, deb.bytes()).unwrap();
        let field = |name: &str| {
            let out = ok(
                "dpkg-deb",
                ["--field".as_ref(), path.as_os_str(), name.as_ref()],
            );
            String::from_utf8(out).unwrap().trim_end().to_owned()
        };
        assert_eq!(deb.file_name(), "acme-app_2.0~rc1-3_all.deb");
        for (name, value) in deb
            .control()
            .iter()
            .filter(|(name, _)| *name != "Description")
        {
            assert_eq!(field(name), value, "{name}");
        }
        assert_eq!(
            field("Description"),
            "application\n First.\n .\n   verbatim\n Last."
        );

        ok(
            "dpkg-deb",
            [
                "--control".as_ref(),
                path.as_os_str(),
                dir.path().join("DEBIAN").as_os_str(),
            ],
        );
        let control =
            |name: &str| fs::read_to_string(dir.path().join("DEBIAN").join(name)).unwrap();
        assert_eq!(
            control("conffiles"),
            "/etc/acme/app.conf\nremove-on-upgrade /etc/acme/old.conf\n"
        );
        for (name, text) in input().scripts.iter() {
            assert_eq!(control(name), text);
            let mode = dir
                .path()
                .join("DEBIAN")
                .join(name)
                .metadata()
                .unwrap()
                .mode();
            assert_eq!(mode & 0o7777, 0o755, "{name}");
        }
        assert_eq!(control("triggers"), input().triggers.unwrap());
        assert_eq!(control("control"), deb.control().to_string());
        assert_eq!(control("md5sums"), read_md5sums(deb.bytes()).unwrap());
    }
}

#[test]
fn owner_is_root_by_name_and_number_in_both_archives() {
    if !have("dpkg-deb") {
        return;
    }
    let deb = Deb::build(&input(), Compression::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (path, tar) = (dir.path().join("x.deb"), dir.path().join("tar"));
    fs::write(&path, deb.bytes()).unwrap();
    for (part, objects) in [("--ctrl-tarfile", 9), ("--fsys-tarfile", 15)] {
        fs::write(&tar, ok("dpkg-deb", [part.as_ref(), path.as_os_str()])).unwrap();
        for (number, owner) in [(None, "root/root"), (Some("--numeric-owner"), "0/0")] {
            let args = ["--utc", "-tvf", tar.to_str().unwrap()]
                .into_iter()
                .chain(number);
            let listing = String::from_utf8(ok("tar", args)).unwrap();
            assert_eq!(listing.lines().count(), objects, "{listing}");
            let wrong = listing.lines().find(|line| {
                !line.contains(&format!(" {owner} ")) || !line.contains(" 2023-11-14 22:13 ./")
            });
            assert_eq!(wrong, None);
        }
    }
}

#[test]
fn md5sum_agrees_and_conffiles_are_left_out() {
    if !have("dpkg-deb") {
        return;
    }
    let deb = Deb::build(&input(), Compression::Zstd).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).into_os_string();
    fs::write(path("x.deb"), deb.bytes()).unwrap();
    fs::write(path("sums"), read_md5sums(deb.bytes()).unwrap()).unwrap();
    ok(
        "dpkg-deb",
        ["--extract".into(), path("x.deb"), path("root")],
    );
    let script = "cd \"$1\" && md5sum --strict --check \"$2\"";
    let checked = ok(
        "sh",
        [
            "-c".into(),
            script.into(),
            "sh".into(),
            path("root"),
            path("sums"),
        ],
    );
    assert_eq!(String::from_utf8(checked).unwrap().lines().count(), 2);
}

#[test]
fn installed_size_is_what_dpkg_gencontrol_estimates() {
    if !have("dpkg-gencontrol") || !have("dpkg-deb") {
        return;
    }
    let deb = Deb::build(&input(), Compression::Zstd).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("debian")).unwrap();
    fs::write(path("x.deb"), deb.bytes()).unwrap();
    ok("dpkg-deb", ["--extract", &path("x.deb"), &path("tree")]);
    let source = "Source: acme-app\nMaintainer: Ops <ops@example.org>\n\nPackage: acme-app\nArchitecture: all\nDescription: x\n";
    let changelog = "acme-app (1) unstable; urgency=low\n\n  * x\n\n -- Ops <ops@example.org>  Tue, 14 Nov 2023 22:13:20 +0000\n";
    fs::write(path("debian/control"), source).unwrap();
    fs::write(path("debian/changelog"), changelog).unwrap();
    let script = "cd \"$1\" && dpkg-gencontrol -pacme-app -Ptree -O";
    let estimated = String::from_utf8(ok("sh", ["-c", script, "sh", &path("")])).unwrap();
    let size = deb.control().get("Installed-Size").unwrap();
    assert!(
        estimated
            .lines()
            .any(|line| line == format!("Installed-Size: {size}")),
        "{size}, not {estimated}"
    );
}

#[test]
fn the_same_input_in_any_order_gives_the_same_bytes() {
    for compression in Compression::ALL {
        let deb = Deb::build(&input(), compression).unwrap();
        let mut shuffled = input();
        shuffled.entries.reverse();
        // A stale value is replaced, wherever it stands.
        shuffled.control.push("Installed-Size", "1").unwrap();
        assert_eq!(Deb::build(&shuffled, compression).unwrap(), deb);
    }
}

fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    let part =
        prop_oneof![4 => "[a-zA-Z0-9._+ -]{1,12}", 1 => "[^\\pC/]{1,8}", 1 => "[a-zé]{60,120}"];
    let path =
        proptest::collection::vec(part, 1..4).prop_map(|parts| format!("/{}", parts.join("/")));
    let entry = (
        path,
        proptest::collection::vec(any::<u8>(), 0..1500),
        "[a-zé/]{1,130}",
        0u8..6,
        0u32..0o1000,
    );
    let entry = entry.prop_map(|(path, content, target, kind, mode)| match kind {
        0 => Entry::symlink(path, target),
        // dpkg-deb runs without root here: it must be able to fill the directory.
        1 => Entry::directory(path, mode | 0o700),
        _ => Entry::file(path, content, mode),
    });
    proptest::collection::vec(entry, 0..8).prop_map(|entries| {
        let mut kept = Vec::new();
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
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_tree_unpacks_to_itself(entries in any_entries(), which in 0usize..3) {
        let mut input = input();
        input.conffiles.clear();
        input.entries = entries;
        let deb = Deb::build(&input, Compression::ALL[which]).unwrap();
        if have("dpkg-deb") {
            assert_unpacks_to(deb.bytes(), &input.entries);
        }
        let read = read_entries(deb.bytes()).unwrap();
        prop_assert!(input.entries.iter().all(|entry| read.contains(entry)));
        let contents = read_deb(deb.bytes()).unwrap();
        prop_assert_eq!(contents.paths(), deb.paths());
        prop_assert_eq!(&contents.control, deb.control());
        prop_assert_eq!(contents.scripts, input.scripts);
        prop_assert_eq!(contents.signature, None);
    }
}
