//! Seeds, executed by the cloud-init of both suites: what a good one leaves, and that broken ones are found.

use std::path::{Path, PathBuf};

use rolesmith_bake::execute::{DataSource, Execution, execute, plain_tree};
use rolesmith_formats::{
    cloud_config,
    seed::{Seed, SeedFile},
};
use rolesmith_model::ids::Suite;

const SECRET: &str = "correct-horse-battery-staple";

/// With everything that seeds of fleets have but packages: nothing is published here.
fn seed(suite: Suite) -> Seed {
    let file = |path: &str, mode, bytes: &[u8], secret| SeedFile {
        path: path.into(),
        mode,
        owner: "root:root",
        bytes: bytes.to_vec(),
        secret,
    };
    Seed {
        fleet: "acme".into(),
        node: "app-1".into(),
        fqdn: "app-1.example.internal".into(),
        suite,
        incarnation: 1,
        ssh_port: 22,
        files: vec![
            file("/etc/rolesmith/secrets/a", 0o600, SECRET.as_bytes(), true),
            file("/etc/rolesmith/lines", 0o644, b"one\n\n  two\n", false),
            file("/etc/rolesmith/bytes", 0o640, &[0, 255, 10, 13], false),
        ],
        masked_units: vec!["redis-server.service".into()],
        debconf: vec!["postfix postfix/main_mailer_type select No configuration".into()],
        packages: Vec::new(),
        admin_ssh_keys: vec![
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ \"me\" # 1".into(),
        ],
    }
}

fn complaints(tree: &Path, seed: &Seed, user_data: &str, source: DataSource) -> Vec<String> {
    let executed = execute(&Execution {
        tree,
        seed,
        user_data,
        source,
        interfaces: ["eth1", "eth0"],
        repository: None,
    });
    executed.expect("cloud-init can be run").complaints
}

/// Made once, and kept for the next run.
fn tree(suite: Suite) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seeds");
    let packages = [
        "cloud-init",
        "iproute2",
        "openssh-server",
        "procps",
        "sudo",
        "systemd-sysv",
    ];
    let packages = packages.map(str::to_owned);
    let made = plain_tree(&cache, suite.codename(), &packages, &|_| {});
    made.expect("a tree can be made").path
}

fn both_ways(suite: Suite) {
    let (tree, seed) = (tree(suite), seed(suite));
    let good = cloud_config::user_data(&seed).expect("the seed is short");
    let key = good.replace("write_files:\n- path:", "write_files:\n- pfad:");
    let header = good.replacen("#cloud-config", "# cloud-config", 1);
    let base64 = good.replace("AP8KDQ==", "AP8KD");
    for broken in [&key, &header, &base64] {
        assert_ne!(*broken, good, "the seed has what is to be broken");
    }
    for source in DataSource::ALL {
        assert_eq!(
            complaints(&tree, &seed, &good, source),
            Vec::<String>::new()
        );
        for broken in [&key, &header, &base64] {
            let said = complaints(&tree, &seed, broken, source);
            assert!(!said.is_empty(), "{suite} {source:?} takes {broken}");
            assert!(!said.iter().any(|text| text.contains(SECRET)), "{said:?}");
        }
    }
}

#[test]
#[ignore = "makes a tree of Debian, and needs root or user namespaces"]
fn trixie_takes_good_seeds_and_complains_of_broken_ones() {
    both_ways(Suite::Trixie);
}

#[test]
#[ignore = "makes a tree of Debian, and needs root or user namespaces"]
fn bookworm_takes_good_seeds_and_complains_of_broken_ones() {
    both_ways(Suite::Bookworm);
}
