//! What cloud-init keeps of the user-data after the seed's script, which runs here on a directory that stands for the machine.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run real tools"
)]

use std::{fs, path::Path, process::Command};

const SCRIPT: &str = include_str!("../../../cloud-init/forget-seed");
const SECRET: &str = "c2VjcmV0LXZhbHVl";
const SEED: &str = "#cloud-config\nhostname: n1\nwrite_files:\n- path: /etc/rolesmith/secrets/a\n  encoding: b64\n  content: c2VjcmV0LXZhbHVl\n";

/// Stands for cloud-init's own class: any that pickle(3) finds again will do.
const PICKLE: &str = "import argparse, pickle, sys\n\
    raw = open(sys.argv[1] + '/user-data').read()\n\
    source = argparse.Namespace(userdata_raw=raw, userdata=raw, metadata={'instance-id': 'i', 'user_data': raw})\n\
    open(sys.argv[1] + '/instances/i/obj.pkl', 'wb').write(pickle.dumps(source))\n";

fn python(arguments: &[&str]) -> String {
    let output = Command::new("python3")
        .args(arguments)
        .output()
        .expect("python3 starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).expect("text")
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn nothing_of_the_files_is_left_and_the_rest_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let (cloud, run) = (dir.path().join("cloud"), dir.path().join("run"));
    const DRIVE: &str = "cloud/seed/config_drive/openstack/latest";
    for sub in ["cloud/instances/i", "cloud/seed/nocloud", DRIVE, "run"] {
        fs::create_dir_all(dir.path().join(sub)).expect("a directory");
    }
    let cached = format!("#cloud-config\n\n# from 1 files\n# part-001\n\n---\n{SEED}...\n");
    let json = format!(r#"{{"write_files": [{{"content": "{SECRET}"}}], "hostname": "n1"}}"#);
    for (path, text) in [
        ("cloud/user-data", SEED),
        ("cloud/seed/nocloud/user-data", SEED),
        ("cloud/seed/config_drive/openstack/latest/user_data", SEED),
        ("cloud/instances/i/user-data.txt", SEED),
        ("cloud/instances/i/user-data.txt.i", SEED),
        ("cloud/instances/i/cloud-config.txt", &cached),
        ("run/combined-cloud-config.json", &json),
        ("run/instance-data.json", "{\"ds\":1}"),
    ] {
        fs::write(dir.path().join(path), text).expect("a file");
    }
    let cloud_path = cloud.to_str().expect("text");
    python(&["-c", PICKLE, cloud_path]);
    fs::remove_file(cloud.join("user-data")).expect("it was there");

    let script = SCRIPT
        .replace("\"/var/lib/cloud\"", &format!("{cloud:?}"))
        .replace("\"/run/cloud-init\"", &format!("{run:?}"));
    // Again at each boot: the second time there is nothing left to do.
    for _ in 0..2 {
        python(&["-c", &script]);
        for path in files(dir.path()) {
            let bytes = fs::read(&path).expect("a file");
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(SECRET), "{}: {text}", path.display());
        }
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).expect("a file");
        assert!(read("cloud/instances/i/cloud-config.txt").contains("hostname: n1"));
        assert_eq!(read("run/instance-data.json"), "{\"ds\":1}");
        assert_eq!(read("cloud/seed/nocloud/user-data"), "");
        let told = python(&[
            "-c",
            "import pickle, sys; s = pickle.load(open(sys.argv[1], 'rb')); print(s.userdata_raw, s.userdata, s.metadata)",
            &format!("{cloud_path}/instances/i/obj.pkl"),
        ]);
        assert_eq!(
            told,
            "#cloud-config\nhostname: n1\n None {'instance-id': 'i'}\n"
        );
    }
}
