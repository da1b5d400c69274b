use rolesmith_formats::seed::{Seed, SeedFile};
use rolesmith_model::ids::Suite;

use super::{
    super::{DataSource, Found},
    judge,
};

const SECRET: &str = "pa55-w0rd-of-the-cache";

fn seed() -> Seed {
    let file = |path: &str, mode, text: &str, secret| SeedFile {
        path: path.into(),
        mode,
        owner: "root:root",
        bytes: text.as_bytes().to_vec(),
        secret,
    };
    Seed {
        fleet: "acme".into(),
        node: "one".into(),
        fqdn: "one.example.org".into(),
        suite: Suite::Trixie,
        incarnation: 1,
        ssh_port: 22,
        files: vec![
            file("/etc/rolesmith/node.json", 0o644, "{}\n", false),
            file("/etc/rolesmith/secrets/a", 0o600, SECRET, true),
        ],
        masked_units: Vec::new(),
        debconf: Vec::new(),
        packages: Vec::new(),
        admin_ssh_keys: Vec::new(),
    }
}

/// What a good execution leaves; of 25.1, with warnings where they are given.
fn found(warning: &str) -> Vec<Found> {
    let stage = |warnings: &str| {
        format!(
            r#"{{"errors": [], "recoverable_errors": {{{warnings}}}, "start": 1.5, "finished": 2.0}}"#
        )
    };
    let status = format!(
        r#"{{"v1": {{"datasource": "DataSourceNoCloud [seed=/x]", "stage": null, "init-local": {0}, "init": {1}, "modules-config": {0}, "modules-final": {0}}}}}"#,
        stage(""),
        stage(warning)
    );
    let file = |path: &str, mode, text: &str| Found {
        path: path.into(),
        mode,
        owner: "root:root".into(),
        bytes: text.as_bytes().to_vec(),
    };
    vec![
        file("run/cloud-init/status.json", 0o644, &status),
        file(
            "var/log/cloud-init.log",
            0o640,
            "T - util.py[DEBUG]: fine\n",
        ),
        file("etc/rolesmith/node.json", 0o644, "{}\n"),
        file("etc/rolesmith/secrets/a", 0o600, SECRET),
    ]
}

fn complaints(found: &[Found]) -> Vec<String> {
    judge(&seed(), DataSource::NoCloud, found)
}

#[test]
fn a_seed_that_took_effect_has_none() {
    assert_eq!(complaints(&found("")), Vec::<String>::new());
}

#[test]
fn a_warning_is_told_once_and_without_secrets() {
    let mut left = found(&format!(r#""WARNING": ["cannot read {SECRET}"]"#));
    left[1].bytes = format!("T - schema.py[WARNING]: cannot read {SECRET}\n").into_bytes();
    assert_eq!(complaints(&left), ["init: cannot read (secret)"]);
    // 22.4 has it in the log alone.
    let mut left = found("");
    left[1].bytes = b"T - schema.py[WARNING]: Invalid cloud-config\n".to_vec();
    assert_eq!(complaints(&left), ["Invalid cloud-config"]);
}

#[test]
fn apt_says_why_it_failed() {
    let mut left = found("");
    left.push(Found {
        path: "var/log/cloud-init-output.log".into(),
        mode: 0o644,
        owner: "root:root".into(),
        bytes: b"Get:1 x\nE: Unable to locate package acme-app\nW: no sandbox\n".to_vec(),
    });
    let said = "apt: E: Unable to locate package acme-app";
    assert_eq!(complaints(&left), [said]);
}

#[test]
fn another_data_source_is_a_complaint() {
    let said = judge(&seed(), DataSource::ConfigDrive, &found(""));
    assert_eq!(
        said,
        ["it took its seed from DataSourceNoCloud [seed=/x], not from ConfigDrive"]
    );
}

#[test]
fn files_have_to_be_as_the_seed_says() {
    let mut left = found("");
    left[2].bytes.clear();
    left[3].mode = 0o644;
    assert_eq!(
        complaints(&left),
        [
            "/etc/rolesmith/node.json has other bytes than the seed",
            "/etc/rolesmith/secrets/a is root:root's with mode 0644, not root:root's with mode 0600"
        ]
    );
    left.truncate(3);
    assert!(complaints(&left).contains(&"/etc/rolesmith/secrets/a was not written".to_owned()));
}

#[test]
fn a_stage_that_did_not_run_is_a_complaint() {
    let mut left = found("");
    let status = String::from_utf8_lossy(&left[0].bytes).replace("modules-final", "other");
    left[0].bytes = status.into_bytes();
    assert_eq!(complaints(&left), ["the stage modules-final was not run"]);
    left.remove(0);
    assert_eq!(
        complaints(&left),
        ["cloud-init did not start: it left no status.json"]
    );
}
