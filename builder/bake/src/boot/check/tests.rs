use std::net::Ipv4Addr;

use super::*;

fn guest() -> Guest {
    Guest {
        node: "app-1".into(),
        fleet: "acme".into(),
        instance_id: "acme-app-1-1".into(),
        user_data: String::new(),
        ssh_port: 22,
        public_interface: "eth0".into(),
        private_interface: "eth1".into(),
        private_address: Some((Ipv4Addr::new(10, 77, 0, 11), 24)),
        memory: 1024,
    }
}

const GOOD: &str = r#"@system
running
@failed
@why
@agent
{"report": {"state": "converged", "node": "app-1"}}
@cloud-init
{"status": "done", "errors": [], "recoverable_errors": {}}
@result
{"v1": {"datasource": "DataSourceConfigDrive [net,ver=2][source=/dev/vdb]", "errors": []}}
@firmware
bios
@machine-id
0123456789abcdef0123456789abcdef
@host-keys
/etc/ssh/ssh_host_ed25519_key
@root
26843545600
26500000000
@addresses
[{"ifname":"lo","operstate":"UNKNOWN","addr_info":[]},
 {"ifname":"eth0","operstate":"UP","addr_info":[{"family":"inet","local":"10.0.2.15"}]},
 {"ifname":"eth1","operstate":"UP","addr_info":[{"family":"inet","local":"10.77.0.11"}]}]
@uptime
61.20 99.00
"#;

fn complaints(text: &str, repository: bool) -> Vec<String> {
    let guest = guest();
    let wanted = Wanted {
        guest: &guest,
        source: DataSource::ConfigDrive,
        firmware: Firmware::Bios,
        repository,
    };
    Answers::parse(text).complaints(&wanted)
}

#[test]
fn a_machine_that_is_as_it_should_be_gives_no_reason_to_complain() {
    assert_eq!(complaints(GOOD, true), Vec::<String>::new());
}

#[test]
fn everything_that_is_wrong_is_told() {
    for (from, to, told) in [
        (
            "running",
            "degraded",
            r#"systemd says that it is "degraded""#,
        ),
        (
            "@failed\n",
            "@failed\nssh.service loaded failed failed\n",
            "units failed: ssh.service",
        ),
        ("converged", "waiting", "its agent is waiting"),
        ("app-1", "app-2", "its agent takes it for app-2"),
        (
            "@agent\n{",
            "@agent\nnot found{",
            "its agent takes it for nobody",
        ),
        ("\"done\"", "\"error\"", r#"cloud-init is "error""#),
        (
            r#""errors": [], "r"#,
            r#""errors": ["apt"], "r"#,
            r#"cloud-init error: "apt""#,
        ),
        ("{}}", r#"{"WARNING": ["w"]}}"#, "cloud-init warning: w"),
        (
            "DataSourceConfigDrive",
            "DataSourceNone",
            "cloud-init's data source is DataSourceNone [net,ver=2][source=/dev/vdb]",
        ),
        ("bios", "uefi", "it did not start with BIOS"),
        (
            "0123456789abcdef0123456789abcdef",
            "uninitialized",
            r#"its machine-id is "uninitialized""#,
        ),
        (
            "/etc/ssh/ssh_host_ed25519_key",
            "",
            "its sshd has no host key in /etc/ssh",
        ),
        (
            "26500000000",
            "2500000000",
            "its root file system has 2384 MB on a disk of 25600 MB",
        ),
        (
            "26500000000",
            "",
            "the sizes of its disk and its root file system are not known",
        ),
        (
            "10.77.0.11",
            "10.77.0.12",
            "eth1 lacks its address 10.77.0.11",
        ),
        (
            r#""eth1","operstate":"UP""#,
            r#""eth1","operstate":"DOWN""#,
            "eth1 is down",
        ),
        ("eth0", "ens3", "it has no interface eth0"),
        (
            r#"{"family":"inet","local":"10.0.2.15"}"#,
            "",
            "eth0 lacks its address by DHCP",
        ),
    ] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from}");
        assert_eq!(complaints(&text, true), [told], "{from} -> {to}");
    }
}

#[test]
fn a_repository_out_of_reach_is_cloud_inits_complaint_and_not_ours() {
    let text = GOOD
        .replace("running", "degraded")
        .replace(
            "@failed\n",
            "@failed\ncloud-final.service loaded failed failed\n",
        )
        .replace("\"done\"", "\"error\"");
    assert_eq!(complaints(&text, false), Vec::<String>::new());
    assert_eq!(complaints(&text, true).len(), 2);
    let other = text.replace("cloud-final", "ssh");
    assert_eq!(complaints(&other, false), ["units failed: ssh.service"]);
}

#[test]
fn why_a_unit_failed_is_what_its_journal_says() {
    let text = GOOD.replace(
        "@why\n",
        "@why\n[   12.3] app-1 sshd[1]: no hostkeys available\n",
    );
    assert_eq!(
        Answers::parse(&text).why(),
        "[   12.3] app-1 sshd[1]: no hostkeys available"
    );
    assert_eq!(Answers::parse(GOOD).why(), "");
}

#[test]
fn silence_is_no_good_sign() {
    assert!(complaints("", true).len() > 5);
}
