//! What Sentinel of the role redis is started with, after it has learnt something and after addresses have changed.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run real tools"
)]

use std::{fs, path::Path, process::Command};

const SCRIPT: &str = include_str!("../../../roles/redis/files/prepare-sentinel");

const STATE: &str = "port 0\n\
    sentinel myid 0123\n\
    sentinel monitor acme 10.77.0.12 6380 1\n\
    sentinel down-after-milliseconds acme 1\n\
    sentinel config-epoch acme 7\n\
    sentinel known-replica acme 10.77.0.11 6380\n\
    sentinel known-sentinel acme 10.77.0.13 26380 4567\n\
    sentinel current-epoch 7\n";

fn prepare(dir: &Path, members: &[&str]) -> Vec<String> {
    let own = members[0];
    let mut conf: String = members
        .iter()
        .map(|member| format!("# member {member}\n"))
        .collect();
    conf.push_str(&format!(
        "port 0\nsentinel monitor acme {own} 6380 1\nsentinel down-after-milliseconds acme 4000\n"
    ));
    fs::write(dir.join("conf/sentinel.conf"), conf).expect("a file");
    let status = Command::new("sh")
        .args(["-c", SCRIPT, "prepare-sentinel"])
        .env("ROLESMITH_CONF", dir.join("conf"))
        .env("STATE_DIRECTORY", dir.join("state"))
        .status()
        .expect("sh starts");
    assert!(status.success());
    fs::read_to_string(dir.join("state/sentinel.conf"))
        .expect("it was written")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_was_learnt_is_kept_where_it_speaks_of_members() {
    let dir = tempfile::tempdir().expect("a directory");
    for sub in ["conf", "state"] {
        fs::create_dir(dir.path().join(sub)).expect("a directory");
    }
    let settings = |master: &str| {
        vec![
            "port 0".to_owned(),
            format!("sentinel monitor acme {master} 6380 1"),
            "sentinel down-after-milliseconds acme 4000".to_owned(),
        ]
    };
    let all = ["10.77.0.11", "10.77.0.12", "10.77.0.13"];
    assert_eq!(prepare(dir.path(), &all), settings("10.77.0.11"));

    let state = dir.path().join("state/sentinel.conf");
    let learnt = |lines: &[&str]| {
        lines
            .iter()
            .map(|&line| line.to_owned())
            .collect::<Vec<_>>()
    };
    fs::write(&state, STATE).expect("a file");
    let kept = learnt(&[
        "sentinel myid 0123",
        "sentinel config-epoch acme 7",
        "sentinel known-replica acme 10.77.0.11 6380",
        "sentinel known-sentinel acme 10.77.0.13 26380 4567",
        "sentinel current-epoch 7",
    ]);
    assert_eq!(
        prepare(dir.path(), &all),
        [settings("10.77.0.12"), kept].concat()
    );

    // The master and a peer moved.
    fs::write(&state, STATE).expect("a file");
    let moved = ["10.77.0.11", "10.77.0.22", "10.77.0.23"];
    let kept = learnt(&[
        "sentinel myid 0123",
        "sentinel config-epoch acme 7",
        "sentinel known-replica acme 10.77.0.11 6380",
        "sentinel current-epoch 7",
    ]);
    assert_eq!(
        prepare(dir.path(), &moved),
        [settings("10.77.0.11"), kept].concat()
    );
}
