//! The role is taken off a machine and comes back; a configuration that somebody made meanwhile is theirs.

use std::time::Duration;

use rolesmith_tests::bare::step;

use super::{NODE, Test, healthy};

const MINUTE: Duration = Duration::from_secs(60);

/// Purged, installed again, and once more beside a configuration of the machine's own.
pub fn removed_and_back(test: &Test<'_>) {
    let package = format!("{}-mail", test.name);
    let apt = |words: &str| {
        test.fleet.must(
            NODE,
            &format!("DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -q -y {words} </dev/null"),
        )
    };
    step("purge", || {
        apt(&format!("purge {package}"));
        let left = test.fleet.must(
            NODE,
            "ls -d /etc/postfix/main.cf* /var/lib/rolesmith/conf/mail /var/lib/rolesmith/alarms /run/rolesmith-alarms \
                /usr/lib/rolesmith/mail 2>/dev/null | grep -v main.cf.proto || true; ! systemctl -q is-active postfix; \
             systemctl list-units --no-legend --plain 'rolesmith-alarms*'; ss -Htln 'sport = :25'",
        );
        assert_eq!(left, "", "something of it is left");
        let (_, status) = test.fleet.shell(NODE, "rolesmith-agent status");
        assert!(status.contains("mail"), "the node misses it: {status}");
    });
    step("install again", || {
        apt(&format!("install {package}"));
        healthy(test.fleet);
        test.send("after it came back", "root");
        let _ = test.arrives("after it came back", MINUTE);
    });
    step("a configuration of the machine's own stays", || {
        apt(&format!("purge {package}"));
        test.fleet.must(
            NODE,
            "cp /usr/share/postfix/main.cf.debian /etc/postfix/main.cf && postconf -e inet_interfaces=loopback-only myhostname=own.example \
                && cp -p /etc/postfix/main.cf /root/own",
        );
        apt(&format!("install {package}"));
        healthy(test.fleet);
        test.fleet.must(NODE, "cmp /etc/postfix/main.cf /root/own");
        apt(&format!("purge {package}"));
        test.fleet.must(
            NODE,
            "cmp /etc/postfix/main.cf /root/own && systemctl is-active postfix",
        );
        test.fleet.must(
            NODE,
            "rm /etc/postfix/main.cf /root/own; systemctl stop postfix",
        );
        apt(&format!("install {package}"));
        healthy(test.fleet);
        test.send("by the fleet again", "root");
        let _ = test.arrives("by the fleet again", MINUTE);
    });
}
