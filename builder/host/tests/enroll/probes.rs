//! What machines say about themselves, and the program that asks them.

use std::process::{Command, Stdio};

use rolesmith_host::enroll::{
    Probe, ProbeError,
    probe::{Account, Cluster, Enrolled, Listener, SCRIPT},
};

use super::{PLAIN, USED, plain_with};

#[test]
fn a_used_machine_is_read_whole() {
    let probe = Probe::parse(USED).unwrap();
    assert_eq!(
        (
            probe.distribution.as_str(),
            probe.suite.as_str(),
            probe.architecture.as_str()
        ),
        ("debian", "trixie", "amd64")
    );
    assert!(probe.systemd && probe.ufw && !probe.nftables && !probe.forwarding);
    assert_eq!(
        (probe.hostname.as_str(), probe.login.as_str(), probe.memory),
        ("web7", "root", 24_105)
    );
    assert_eq!(probe.synchronised, Some(false));
    assert_eq!(
        (
            probe.ssh.ports.as_slice(),
            probe.ssh.passwords,
            probe.ssh.root_passwords,
            probe.ssh.includes
        ),
        (&[2222][..], true, false, true)
    );
    let admin = Account {
        name: "admin".into(),
        uid: 1000,
        password: true,
        keys: false,
    };
    assert!(probe.accounts.contains(&admin), "{:?}", probe.accounts);
    assert_eq!(
        probe.clusters,
        [Cluster {
            name: "17/main".into(),
            port: 5432,
            online: true,
            databases: 1,
            directory: "/var/lib/postgresql/17/main".into(),
        }]
    );
    let listener = |address: Option<&str>, port, program: &str| Listener {
        tcp: true,
        address: address.map(|text| text.parse().unwrap()),
        port,
        program: program.into(),
    };
    for expected in [
        listener(None, 80, "nginx"),
        listener(None, 2222, "sshd"),
        listener(Some("127.0.0.1"), 6379, "redis-server"),
        listener(Some("::1"), 5432, "postgres"),
    ] {
        // IPv4 and IPv6 wildcards are one listener.
        assert_eq!(
            probe
                .listeners
                .iter()
                .filter(|found| **found == expected)
                .count(),
            1,
            "{expected:?}"
        );
    }
    assert!(!listener(Some("::1"), 5432, "postgres").is_reachable());
    assert!(listener(Some("fe80::1"), 5432, "postgres").is_reachable());
    assert!(
        probe
            .nginx
            .iter()
            .all(|(file, _)| file == "/etc/nginx/sites-enabled/shop"),
        "{:?}",
        probe.nginx
    );
    assert!(probe.is_active("redis-server.service") && probe.has("redis-server"));
    assert_eq!(
        probe.unit_files.get("nginx.service").map(String::as_str),
        Some("enabled")
    );
    assert!(
        probe
            .addresses
            .contains(&("host0".into(), "10.77.0.11".parse().unwrap()))
    );
    assert_eq!((&probe.enrolled, probe.dpkg_busy), (&Enrolled::No, None));
}

#[test]
fn lines_of_other_tools_and_versions() {
    let probe = plain_with(&[
        (
            "udp",
            "UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:((\"systemd-resolve\",pid=1,fd=1))\nUNCONN 0 0 [fe80::1%eth0]:546 [::]:*\nUNCONN 0 0 *:5353 *:*",
        ),
        ("tcp", "nonsense"),
        (
            "packages",
            "ii  a\nhi  held\nrc  removed\niU  unpacked\nii  lib:amd64",
        ),
        (
            "clusters",
            "13 old 5433 down,recovery postgres 0 /srv/with space",
        ),
        (
            "identity",
            "{\n  \"fleet\": \"acme\",\n  \"node\": \"app-1\",\n  \"incarnation\": 4,\n  \"origin\": \"seed\"\n}",
        ),
        (
            "filters",
            "ufw inactive\ndrop INPUT\nrule INPUT -j ACCEPT\nnft input",
        ),
    ]);
    let found: Vec<_> = probe
        .listeners
        .iter()
        .map(|l| (l.address.map(|a| a.to_string()), l.port, l.program.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (None, 5353, ""),
            (Some("127.0.0.53".into()), 53, "systemd-resolve"),
            (Some("fe80::1".into()), 546, ""),
        ]
    );
    assert_eq!(probe.packages, ["a", "held", "lib:amd64"]);
    assert_eq!(
        (probe.clusters[0].online, probe.clusters[0].databases),
        (false, 0)
    );
    assert!(matches!(&probe.enrolled, Enrolled::As(identity) if identity.incarnation == 4));
    assert_eq!(
        (
            probe.ufw,
            probe.nftables,
            probe.rules.len(),
            probe.drops.len()
        ),
        (false, true, 1, 1)
    );
}

#[test]
fn a_greeting_is_skipped_and_a_broken_connection_is_noticed() {
    let greeted = format!("Welcome to the machine!\n== not a section\n{PLAIN}");
    assert_eq!(Probe::parse(&greeted), Probe::parse(PLAIN));
    for end in [0, 10, PLAIN.len() / 2, PLAIN.len() - 8] {
        assert_eq!(
            Probe::parse(&PLAIN[..end]),
            Err(ProbeError::Incomplete),
            "{end}"
        );
    }
    assert_eq!(
        Probe::parse("== begin\n== not-root\n== end\n"),
        Err(ProbeError::NotRoot)
    );
    assert_eq!(
        Probe::parse("== begin\n== end\n"),
        Err(ProbeError::Missing("id"))
    );
}

/// Text that looks like a section cannot come out of a body, because bodies are indented.
#[test]
fn no_text_of_the_machine_can_pose_as_a_section() {
    let probe = plain_with(&[("managers", "== identity\n{\"fleet\":\"x\"}\n== end")]);
    assert_eq!(probe.enrolled, Enrolled::No);
}

/// Runs it on this machine, as whoever runs the tests: it has to end, and to change nothing that we could see.
#[test]
fn the_program_answers_in_every_shell() {
    for shell in ["dash", "bash"] {
        let mut child = Command::new(shell)
            .arg("-s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), SCRIPT.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let (text, said) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success() && said.is_empty(),
            "{shell}: {said}"
        );
        match Probe::parse(&text) {
            Ok(probe) => assert!(
                probe.memory > 0 && !probe.architecture.is_empty(),
                "{shell}"
            ),
            Err(error) => assert_eq!(error, ProbeError::NotRoot, "{shell}: {text}"),
        }
    }
}
