//! What dpkg rejects, or accepts in silence although it is a mistake, is not built.

use proptest::prelude::*;
use rolesmith_formats::{
    compress::Compression,
    deb::{Deb, DebError, DebInput, ReadError, check_relations, read_deb},
    tarball::Entry,
};

use crate::input;

fn refused(change: impl FnOnce(&mut DebInput)) -> DebError {
    let mut input = input();
    change(&mut input);
    Deb::build(&input, Compression::Zstd).unwrap_err()
}

#[test]
fn control_fields() {
    for name in [
        "Package",
        "Version",
        "Architecture",
        "Maintainer",
        "Description",
    ] {
        let error = refused(|input| drop(input.control.remove(name)));
        assert!(
            matches!(error, DebError::MissingField(missing) if missing == name),
            "{error}"
        );
    }
    for (name, value) in [
        ("Package", "Acme"),
        ("Package", "a"),
        ("Package", "a_b"),
        ("Package", "-a"),
        ("Version", "v1"),
        ("Version", "1-"),
        ("Version", ":1"),
        ("Version", "1_2"),
        ("Version", "1 2"),
        ("Version", "1\n2"),
        ("Architecture", "amd64 arm64"),
        ("Multi-Arch", "maybe"),
        ("Essential", "true"),
        ("Depends", "a-b,"),
        ("Depends", "a-b,, c-d"),
        ("Depends", "a-b (1.0)"),
        ("Depends", "a-b (> 1.0)"),
        ("Depends", "a-b (>= 1.0"),
        ("Depends", "a-b (>= 1.0) c-d"),
        ("Depends", "Acme"),
        ("Depends", "${misc:Depends}"),
        ("Conflicts", "a-b | c-d"),
        ("Provides", "a-b (>= 1)"),
    ] {
        let error = refused(|input| {
            input.control.set(name, value).unwrap();
        });
        assert!(
            matches!(error, DebError::Field { field, .. } if field == name),
            "{name}: {value}: {error}"
        );
    }
}

#[test]
fn relations_that_debian_uses_pass() {
    for (field, value) in [
        ("Depends", "libc6 (>= 2.36), libgcc-s1 (>= 3.0)"),
        (
            "Depends",
            "default-mta | mail-transport-agent, python3:any (>= 3.11~)",
        ),
        ("Pre-Depends", "init-system-helpers (>= 1.54~)"),
        ("Provides", "libfoo (= 1:2.3-4), bar"),
        ("Breaks", "a-b(<<1.0)"),
        ("Built-Using", "gcc-12 (= 12.2.0-14)"),
    ] {
        assert_eq!(check_relations(field, value), Ok(()), "{field}: {value}");
    }
}

#[test]
fn conffiles() {
    for conffiles in [
        &["etc/acme/app.conf"][..],
        &["/etc/acme"],
        &["/usr/lib/acme/link"],
        &["/etc/acme/absent"],
        &["/etc/acme/app.conf", "/etc/acme/app.conf"],
        &["/etc/acme/app.conf\n/etc/other"],
        &["/etc/acme/old.conf"],
        &[""],
    ] {
        let error =
            refused(|input| input.conffiles = conffiles.iter().map(ToString::to_string).collect());
        assert!(
            matches!(error, DebError::Conffile { .. }),
            "{conffiles:?}: {error}"
        );
    }
    for removed in ["etc/x", "/etc/acme/app.conf", "/etc/../x", "/etc/x\n/etc/y"] {
        let error = refused(|input| input.removed_conffiles = vec![removed.to_owned()]);
        assert!(
            matches!(error, DebError::Conffile { .. }),
            "{removed:?}: {error}"
        );
    }
    let error = refused(|input| {
        input.entries.push(Entry::file("/etc/space ", "", 0o644));
        input.conffiles = vec!["/etc/space ".to_owned()];
    });
    assert!(matches!(error, DebError::Conffile { .. }), "{error}");
}

#[test]
fn scripts_and_triggers() {
    for text in ["", "set -e\n", "#!sh\n", "#!/bin/sh\r\n", "#!/bin/sh"] {
        let error = refused(|input| input.scripts.postrm = Some(text.to_owned()));
        assert!(
            matches!(
                error,
                DebError::Script {
                    script: "postrm",
                    ..
                }
            ),
            "{text:?}: {error}"
        );
    }
    for text in [
        "",
        "activate",
        "activate x",
        "run x\n",
        "interest a b\n",
        "interest-later x\n",
        "interest x\r\n",
    ] {
        let error = refused(|input| input.triggers = Some(text.to_owned()));
        assert!(matches!(error, DebError::Trigger(_)), "{text:?}: {error}");
    }
}

#[test]
fn trees() {
    for path in [
        "usr/x",
        "/usr/../x",
        "/usr/lib/acme/run/x",
        "/usr/lib/acme/link/x",
        "/usr/lib/acme/run",
    ] {
        let error = refused(|input| input.entries.push(Entry::file(path, "", 0o644)));
        assert!(matches!(error, DebError::Tree(_)), "{path}: {error}");
    }
}

#[test]
fn bytes_that_are_no_package() {
    let bytes = Deb::build(&input(), Compression::Zstd)
        .unwrap()
        .bytes()
        .to_vec();
    assert!(read_deb(&bytes).is_ok());
    for cut in [0, 8, 60, 72, 100, 500, bytes.len() - 40] {
        assert!(read_deb(&bytes[..cut]).is_err(), "cut off at {cut}");
    }
    let mut renamed = bytes.clone();
    renamed[8..10].copy_from_slice(b"xx");
    assert!(matches!(read_deb(&renamed), Err(ReadError::Layout(_))));
    let old = bytes
        .windows(15)
        .position(|window| window == b"control.tar.zst")
        .unwrap();
    let mut old_format = bytes;
    old_format[old..old + 15].copy_from_slice(b"control.tar.bz2");
    assert!(matches!(
        read_deb(&old_format),
        Err(ReadError::Compression(_))
    ));
}

proptest! {
    #[test]
    fn damaged_packages_never_panic(noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = Deb::build(&input(), Compression::Gzip).unwrap().bytes().to_vec();
        for (at, byte) in noise {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read_deb(&bytes);
    }
}
