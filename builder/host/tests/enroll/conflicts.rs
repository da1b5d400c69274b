//! One row a conflict: what the machine says, what is concluded, and that the texts name consequence and way out.

use rolesmith_host::enroll::{
    Conflict, Expectations, Probe, UnknownCode,
    Weight::{Blocks, Impossible, Note},
    conflict::CODES,
    conflicts, stopping,
};

use super::{
    USED, plain_with,
    table::{Answer, ROWS},
    wanted,
};

#[test]
fn a_plain_machine_has_no_conflict() {
    assert_eq!(conflicts(&plain_with(&[]), &wanted()), []);
}

#[test]
fn each_conflict_is_found_with_its_consequence_and_way_out() {
    for (answer, code, weight, parts) in ROWS {
        let found = conflicts(&plain_with(answer), &wanted());
        let [conflict] = found.as_slice() else {
            panic!("{code}: {found:#?}");
        };
        assert_eq!(
            (conflict.code, conflict.weight),
            (*code, *weight),
            "{conflict:?}"
        );
        let texts = [&conflict.what, &conflict.consequence, &conflict.help];
        for (text, part) in texts.into_iter().zip(parts) {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
    // Every code that can be accepted is found in some row, or below.
    for code in CODES {
        let tested = ROWS.iter().any(|row| row.1 == code);
        assert!(tested || code == "no-ssh-key", "{code} has no row");
    }
}

#[test]
fn what_is_no_conflict_is_not_made_one() {
    for (why, answer) in [
        (
            "loopback needs no opening",
            &[(
                "tcp",
                "+LISTEN 0 100 127.0.0.1:3000 0.0.0.0:* users:((\"node\",pid=1,fd=1))",
            )][..],
        ),
        (
            "DHCP, time and name resolution work behind the firewall",
            &[(
                "udp",
                "UNCONN 0 0 0.0.0.0:68 0.0.0.0:* users:((\"dhclient\",pid=1,fd=1))\nUNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:((\"systemd-resolve\",pid=1,fd=1))\nUNCONN 0 0 0.0.0.0:123 0.0.0.0:* users:((\"ntpd\",pid=1,fd=1))",
            )],
        ),
        (
            "who has a key needs no password",
            &[("accounts", "+admin 1000 password keys")],
        ),
        (
            "who has neither cannot get in now",
            &[("accounts", "+git 1000 none none")],
        ),
        (
            "root gets the fleet's keys",
            &[
                ("accounts", "root 0 password none"),
                (
                    "sshd",
                    "port 22\npermitrootlogin yes\npasswordauthentication yes\nInclude /etc/ssh/sshd_config.d/*.conf",
                ),
            ],
        ),
        (
            "a removed package leaves its configuration",
            &[("packages", "rc  nginx")],
        ),
        (
            "a pooler elsewhere than on loopback is in nobody's way but for the firewall",
            &[("tcp", "+LISTEN 0 1 127.0.0.2:6433 0.0.0.0:*")],
        ),
    ] {
        assert_eq!(conflicts(&plain_with(answer), &wanted()), [], "{why}");
    }
}

#[test]
fn a_node_that_is_enrolled_already_does_not_collide_with_itself() {
    let probe = plain_with(&[
        (
            "identity",
            "{\"fleet\":\"acme\",\"node\":\"app-1\",\"incarnation\":2,\"origin\":\"enroll\"}",
        ),
        (
            "clusters",
            "17 acme 5432 online postgres 1 /var/lib/postgresql/17/acme",
        ),
        (
            "filters",
            "drop INPUT\nrule INPUT -m set --match-set rolesmith-ban4 src -j DROP\nrule INPUT -i lo -j ACCEPT",
        ),
        (
            "tcp",
            "+LISTEN 0 511 10.77.0.11:6380 0.0.0.0:* users:((\"redis-server\",pid=1,fd=6))",
        ),
    ]);
    let codes: Vec<_> = conflicts(&probe, &wanted())
        .iter()
        .map(|conflict| conflict.code)
        .collect();
    assert_eq!(codes, ["enrolled"]);
}

#[test]
fn what_the_fleet_does_not_ask_for_does_not_collide() {
    let bare = Expectations {
        database_port: None,
        redis_port: None,
        nginx: false,
        listens: wanted().listens[..1].to_vec(),
        masked_units: Vec::new(),
        ..wanted()
    };
    let probe = plain_with(&[
        (
            "clusters",
            "17 main 5432 online postgres 3 /var/lib/postgresql/17/main",
        ),
        ("nginx", "/etc/nginx/sites-enabled/shop 80"),
        (
            "tcp",
            "+LISTEN 0 511 127.0.0.1:6379 0.0.0.0:* users:((\"redis-server\",pid=1,fd=6))",
        ),
    ]);
    assert_eq!(conflicts(&probe, &bare), []);
}

#[test]
fn without_any_key_nobody_could_get_in() {
    let answer: Answer = &[
        ("accounts", "root 0 password none"),
        (
            "sshd",
            "port 22\npermitrootlogin yes\npasswordauthentication yes\nInclude /etc/ssh/sshd_config.d/*.conf",
        ),
    ];
    let no_keys = Expectations {
        admin_keys: 0,
        ..wanted()
    };
    let found = conflicts(&plain_with(answer), &no_keys);
    let codes: Vec<_> = found.iter().map(|conflict| conflict.code).collect();
    assert_eq!(codes, ["password-login", "no-ssh-key"]);
}

/// The machine in `probes/used.txt` has much of the above at once.
#[test]
fn a_used_machine_is_told_everything_before_anything_changes() {
    let probe = Probe::parse(USED).unwrap();
    let wanted = Expectations {
        now: probe.time,
        ..wanted()
    };
    let found = conflicts(&probe, &wanted);
    let codes: Vec<_> = found.iter().map(|conflict| conflict.code).collect();
    assert_eq!(
        codes,
        [
            "hostname",
            "ssh-port",
            "password-login",
            "ufw",
            "nginx-sites",
            "database-port",
            "redis",
            "masked-units",
        ]
    );
    let notes = found.iter().filter(|conflict| conflict.weight == Note);
    assert_eq!(notes.count(), 2);
    // What stops stands first.
    assert!(found.is_sorted_by_key(|conflict| std::cmp::Reverse(conflict.weight)));
}

#[test]
fn only_what_is_named_is_accepted_and_the_impossible_never() {
    let conflict = |code, weight| Conflict {
        code,
        weight,
        what: String::new(),
        consequence: String::new(),
        help: String::new(),
    };
    let all = [
        conflict("suite", Impossible),
        conflict("ufw", Blocks),
        conflict("hostname", Blocks),
        conflict("redis", Note),
    ];
    let left = |accepted: &[&str]| {
        let accepted: Vec<_> = accepted.iter().map(ToString::to_string).collect();
        let left = stopping(&all, &accepted)?;
        Ok::<Vec<_>, UnknownCode>(left.iter().map(|conflict| conflict.code).collect())
    };
    assert_eq!(left(&[]).unwrap(), ["suite", "ufw", "hostname"]);
    assert_eq!(left(&["ufw"]).unwrap(), ["suite", "hostname"]);
    assert_eq!(left(&["ufw", "hostname", "suite"]).unwrap(), ["suite"]);
    assert_eq!(left(&["ufv"]), Err(UnknownCode("ufv".into())));
}
