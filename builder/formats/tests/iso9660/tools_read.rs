//! What isoinfo, xorriso, bsdtar and blkid see.

use std::{fs, path::PathBuf};

use crate::{
    image, nocloud,
    tools::{have, ok, run},
};

const USER_DATA: &[u8] = b"#cloud-config\nhostname: n1\n";
const META_DATA: &[u8] = b"instance-id: acme-n1-1\n";
const NETWORK: &[u8] = b"version: 2\n";

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("meta-data", META_DATA.to_vec()),
        ("network-config", NETWORK.to_vec()),
        ("openstack/latest/empty", Vec::new()),
        (
            "openstack/latest/user_data",
            b"0123456789abcdef".repeat(1000),
        ),
        ("user-data", USER_DATA.to_vec()),
    ]
}

fn write(dir: &tempfile::TempDir, label: &str) -> PathBuf {
    let files = files();
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, data)| (*path, &data[..]))
        .collect();
    let path = dir.path().join("image.iso");
    fs::write(&path, image(label, &files).unwrap()).unwrap();
    path
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn blkid_names_the_label_that_cloud_init_looks_for() {
    if !have("blkid") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed.iso");
    fs::write(
        &path,
        nocloud(&[("user-data", USER_DATA), ("meta-data", META_DATA)]).unwrap(),
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let seen = text(ok("blkid", ["--probe", "--output", "export", path]));
    let has = |line: &str| seen.lines().any(|seen| seen == line);
    assert!(has("LABEL=cidata") && has("TYPE=iso9660"), "{seen}");
    assert!(!seen.contains("UUID="), "made of the time: {seen}");
    let path = write(&dir, "config-2");
    let seen = text(ok(
        "blkid",
        [
            "--probe",
            "--output",
            "value",
            "--match-tag",
            "LABEL",
            path.to_str().unwrap(),
        ],
    ));
    assert_eq!(seen, "config-2\n");
}

#[test]
fn isoinfo_reads_rock_ridge_and_joliet() {
    if !have("isoinfo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "cidata");
    let path = path.to_str().unwrap();
    let about = text(ok("isoinfo", ["-d", "-i", path]));
    for line in [
        "Volume id: cidata",
        "Joliet with UCS level 3 found",
        "Rock Ridge signatures version 1 found",
    ] {
        assert!(about.contains(line), "{line}: {about}");
    }
    for extension in ["-R", "-J"] {
        let listed = text(ok("isoinfo", [extension, "-f", "-i", path]));
        let mut listed: Vec<_> = listed.lines().collect();
        listed.sort_unstable();
        let files = files().into_iter();
        let files: Vec<_> = files
            .map(|(path, data)| (format!("/{path}"), data))
            .collect();
        let mut expected: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
        expected.extend(["/openstack", "/openstack/latest"]);
        expected.sort_unstable();
        assert_eq!(listed, expected, "{extension}");
        for (name, data) in &files {
            let read = ok("isoinfo", [extension, "-x", name, "-i", path]);
            assert!(read == *data, "{extension} {name}");
        }
    }
    let long = text(ok("isoinfo", ["-R", "-l", "-i", path]));
    let user_data = long
        .lines()
        .find(|line| line.ends_with(" user-data "))
        .unwrap();
    assert!(
        user_data.starts_with("-rw-------   1    0    0"),
        "{user_data}"
    );
    assert!(user_data.contains("Jan  1 1970"), "{user_data}");
}

#[test]
fn bsdtar_extracts_either() {
    if !have("bsdtar") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "cidata");
    for options in ["iso9660:!joliet", "iso9660:!rockridge"] {
        let out = dir.path().join(options.trim_start_matches("iso9660:!"));
        fs::create_dir(&out).unwrap();
        let args = [
            "--options",
            options,
            "-xf",
            path.to_str().unwrap(),
            "-C",
            out.to_str().unwrap(),
        ];
        ok("bsdtar", args);
        for (name, data) in files() {
            assert!(
                fs::read(out.join(name)).unwrap() == data,
                "{options} {name}"
            );
        }
    }
    let listed = text(ok(
        "bsdtar",
        ["--numeric-owner", "-tvf", path.to_str().unwrap()],
    ));
    let line = |name: &str| listed.lines().find(|line| line.ends_with(name)).unwrap();
    assert!(line(" user-data").starts_with("-rw-------"), "{listed}");
    assert!(line(" openstack").starts_with("drwx------"), "{listed}");
}

#[test]
fn xorriso_extracts_it_and_has_no_complaint() {
    if !have("xorriso") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "cidata");
    let out = dir.path().join("out");
    let args = [
        "-no_rc",
        "-abort_on",
        "WARNING",
        "-indev",
        path.to_str().unwrap(),
        "-osirrox",
        "on",
        "-extract",
        "/",
        out.to_str().unwrap(),
        "-lsl",
        "/",
        "--",
    ];
    let output = run("xorriso", args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for (name, data) in files() {
        assert!(fs::read(out.join(name)).unwrap() == data, "{name}");
    }
    let listed = text(output.stdout);
    assert!(listed.contains("-rw-------    1 0        0 "), "{listed}");
    assert!(said.contains("Volume id    : 'cidata'"), "{said}");
}
