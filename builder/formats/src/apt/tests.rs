use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn entry(control: &str, files: &str) -> Result<PackageEntry, EntryError> {
    let deb = DebDescription {
        control: control.into(),
        files: files.into(),
        size: 7,
        sha256: Sha256::of(b"deb"),
    };
    PackageEntry::new(&deb, "main")
}

fn package(name: &str, architecture: &str, files: &str) -> PackageEntry {
    entry(
        &format!("Package: {name}\nVersion: 1\nArchitecture: {architecture}\nSection: misc\n"),
        files,
    )
    .unwrap()
}

fn fields() -> ReleaseFields {
    ReleaseFields {
        origin: "acme".to_owned(),
        label: "acme".to_owned(),
        suite: "fleet".to_owned(),
        codename: "fleet".to_owned(),
        date: 1_800_000_000,
        valid_until: 1_800_600_000,
        architectures: vec!["amd64".to_owned()],
        components: vec!["main".to_owned()],
        description: "Packages of acme".to_owned(),
        signed_by: vec!["A".repeat(40), "B".repeat(40)],
    }
}

fn repository(packages: &[PackageEntry]) -> Repository {
    let texts = index("main", &["amd64"], packages);
    Repository::new(
        fields(),
        texts
            .iter()
            .flat_map(|text| [text.plain(), text.gzip()])
            .collect(),
    )
}

#[test]
fn dates() {
    assert_eq!(format_date(0), "Thu, 01 Jan 1970 00:00:00 UTC");
    assert_eq!(format_date(1_754_731_099), "Sat, 09 Aug 2025 09:18:19 UTC");
    assert_eq!(format_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 UTC");
    assert_eq!(
        parse_date("Sat, 09 Aug 2025 09:18:19 UTC"),
        Some(1_754_731_099)
    );
    for bad in [
        "",
        "Sat, 31 Feb 2025 09:18:19 UTC",
        "Sat, 09 Aug 2025 24:18:19 UTC",
        "Sat, 09 Aug 2025 09:18:19 CET",
    ] {
        assert_eq!(parse_date(bad), None, "{bad}");
    }
}

#[test]
fn a_stanza_has_the_index_fields_once_and_at_its_end() {
    let control = "Package: tool\nSource: tools (2)\nVersion: 1:2.0-1\nArchitecture: all\nSHA256: forged\n continued\n\
                   sIzE: 1\nDescription: a tool\n .\n  SHA256: not a field";
    let entry = entry(control, "").unwrap();
    assert_eq!(entry.filename, "pool/main/t/tools/tool_2.0-1_all.deb");
    let expected = format!(
        "Package: tool\nSource: tools (2)\nVersion: 1:2.0-1\nArchitecture: all\nDescription: a tool\n .\n  SHA256: not a field\n\
         Filename: {}\nSize: 7\nSHA256: {}\n",
        entry.filename,
        Sha256::of(b"deb")
    );
    assert_eq!(entry.stanza, expected);
}

#[test]
fn what_would_break_an_index_is_refused() {
    let good = "Package: tool\nVersion: 1\nArchitecture: all\n";
    assert!(entry(good, "").is_ok());
    assert_eq!(
        entry("Version: 1\nArchitecture: all\n", ""),
        Err(EntryError::Missing("Package"))
    );
    assert!(matches!(
        entry(&good.replace("tool", "../tool"), ""),
        Err(EntryError::BadValue {
            field: "Package",
            ..
        })
    ));
    assert!(matches!(
        entry(&good.replace("1", "1/2"), ""),
        Err(EntryError::BadValue {
            field: "Version",
            ..
        })
    ));
    assert!(matches!(
        entry(&format!("{good}Source: a/b\n"), ""),
        Err(EntryError::BadValue {
            field: "Source",
            ..
        })
    ));
    assert!(matches!(
        entry(&format!("{good}\nFilename: other\n"), ""),
        Err(EntryError::BlankLine(_))
    ));
}

#[test]
fn pool_paths_follow_the_archive() {
    assert_eq!(
        pool_path("main", "acme", "acme-base", "1.0", "all"),
        "pool/main/a/acme/acme-base_1.0_all.deb"
    );
    assert_eq!(
        pool_path("debian", "libxyz", "libxyz1", "1:2-3", "amd64"),
        "pool/debian/libx/libxyz/libxyz1_2-3_amd64.deb"
    );
}

#[test]
fn packages_for_all_stand_in_each_architecture() {
    let packages = [
        package("native", "amd64", "usr/bin/native"),
        package("portable", "all", "usr/share/doc/a\nusr/x"),
    ];
    let texts = index("main", &["amd64"], &packages);
    let text = |path: &str| &texts.iter().find(|text| text.path == path).unwrap().text;
    assert_eq!(
        text("main/binary-amd64/Packages")
            .matches("Package: ")
            .count(),
        2
    );
    assert_eq!(
        text("main/Contents-amd64")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["usr/bin/native", "misc/native"]
    );
    assert_eq!(text("main/Contents-all").lines().count(), 2);
    assert_eq!(texts.len(), 3);
}

#[test]
fn a_file_of_two_packages_has_one_line() {
    let packages = [
        package("bb", "all", "etc/x y"),
        package("aa", "all", "etc/x y"),
    ];
    let texts = index("main", &["amd64"], &packages);
    let contents = &texts
        .iter()
        .find(|text| text.path == "main/Contents-all")
        .unwrap()
        .text;
    assert_eq!(
        contents.trim_end(),
        format!("{:<59} misc/aa,misc/bb", "etc/x y")
    );
}

#[test]
fn release_reads_back() {
    let repository = repository(&[package("tool", "all", "usr/bin/tool")]);
    let release = repository.release();
    assert!(
        release.contains(&format!(
            "Signed-By: {},{}\n",
            "A".repeat(40),
            "B".repeat(40)
        )),
        "{release}"
    );
    assert!(release.contains("Architectures: amd64 all\n"));
    let parsed = parse_release(&release).unwrap();
    assert_eq!(
        (parsed.codename.as_str(), parsed.date, parsed.valid_until),
        ("fleet", 1_800_000_000, 1_800_600_000)
    );
    assert_eq!(parsed.files.len(), repository.files().len());
    for file in repository.files() {
        let listed = &parsed.files[&file.path];
        assert_eq!(
            (listed.size, listed.sha256, listed.sha512),
            (file.size, file.sha256, file.sha512)
        );
        assert_eq!(
            matches!(file.body, Body::Bytes(_)),
            file.path.ends_with(".gz")
        );
    }
    let damaged = release.replacen(&Sha512::of(b"").to_string(), "0", 1);
    assert!(parse_release(&damaged).is_err());
    assert!(parse_release(&release.replace("Date:", "Data:")).is_err());
}

#[test]
fn a_field_cannot_bring_another() {
    let mut fields = fields();
    fields.description = "harmless\nValid-Until: Fri, 31 Dec 2100 00:00:00 UTC".to_owned();
    let release = Repository::new(fields, Vec::new()).release();
    assert_eq!(
        release
            .lines()
            .filter(|line| line.starts_with("Valid-Until:"))
            .count(),
        1
    );
}

proptest! {
    #[test]
    fn every_date_reads_back(epoch in 0_u64..253_402_300_800) {
        prop_assert_eq!(parse_date(&format_date(epoch)), Some(epoch));
    }

    #[test]
    fn digests_read_back(bytes: Vec<u8>) {
        let digest = Sha512::of(&bytes);
        prop_assert_eq!(digest.to_string().parse::<Sha512>().unwrap(), digest);
    }

    /// The order of the input does not show.
    #[test]
    fn indexes_do_not_depend_on_the_order(names in prop::collection::btree_set("[a-z]{2,5}", 1..8), turn in 0_usize..8) {
        let packages: Vec<PackageEntry> = names.iter().map(|name| package(name, "all", &format!("usr/{name}\nusr/same"))).collect();
        let mut turned = packages.clone();
        let places = turn % turned.len();
        turned.rotate_left(places);
        prop_assert_eq!(index("main", &["amd64"], &packages), index("main", &["amd64"], &turned));
    }
}

#[test]
fn descriptions_share_their_text() {
    let deb = DebDescription {
        control: "Package: a\nVersion: 1\nArchitecture: all\n".into(),
        files: "x".into(),
        size: 1,
        sha256: Sha256::of(b""),
    };
    let entry = PackageEntry::new(&deb, "main").unwrap();
    assert!(Arc::ptr_eq(&entry.files, &deb.files));
}
