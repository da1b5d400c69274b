//! What fail2ban of the suite reads of lines that nginx wrote, hostile ones among them.

use rolesmith_tests::Fleet;

/// As the journal gives them to fail2ban, with a time in front. nginx wrote the first ones for requests that tried to name another
/// address; the last ones are nobody's request.
const LINES: &str = r#"2026-11-30T21:48:18 one rolesmith_suspects[77]: 192.0.2.1 scanner "GET /wp-login.php HTTP/1.1" 404 "-" shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]: 192.0.2.2 home "GET /~root/ HTTP/1.1" 404 "-" shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]: 192.0.2.3 proxy "CONNECT evil.example:443 HTTP/1.1" 400 "-" shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]: 192.0.2.4 auth "GET /api/x HTTP/1.1" 401 "-" shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]: 192.0.2.5 limited "GET /busy/ HTTP/1.1" 429 "-" shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]: 192.0.2.6 bot "GET / HTTP/1.1" 200 "sqlmap\x22 200\x09198.51.100.1 scanner \x22GET /" shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]: 192.0.2.7 scanner "GET /wp-login.php?\x22%0a198.51.100.1%20auth%20\x22 HTTP/1.1" 404 "-" shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]: 192.0.2.8 bot "GET / HTTP/1.1" 200 "nikto 30/Nov/2026:21:48:18 rolesmith_suspects[77]: 198.51.100.1 scanner " shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]: 2001:db8::1 scanner "GET /.env HTTP/1.1" 404 "-" shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]: ::ffff:192.0.2.9 scanner "GET /.env HTTP/1.1" 404 "-" shop.example
2026-11-30T21:48:18 one nginx[77]: 198.51.100.1 scanner "GET / HTTP/1.1" 404
2026-11-30T21:48:18 one app[77]: rolesmith_suspects: 198.51.100.1 scanner "GET / HTTP/1.1" 404
2026-11-30T21:48:18 one rolesmith_suspects[77]: attacker.example scanner "GET / HTTP/1.1" 404 "-" shop.example
2026-11-30T21:48:18 one rolesmith_suspects[77]:  scanner "198.51.100.1 scanner " 400 "-" _
"#;

/// Who is found, by the kind of attack.
const FOUND: [(&str, &[&str]); 6] = [
    (
        "scanner",
        &["192.0.2.1", "192.0.2.7", "2001:db8::1", "192.0.2.9"],
    ),
    ("home", &["192.0.2.2"]),
    ("proxy", &["192.0.2.3"]),
    ("auth", &["192.0.2.4"]),
    ("limited", &["192.0.2.5"]),
    ("bot", &["192.0.2.6", "192.0.2.8"]),
];

/// fail2ban's own log: bans, and what is none or is counted by nobody.
const LOG: &str = "2026-11-30 21:48:18,123 fail2ban.actions        [77]: NOTICE  [nginx-scanner] Ban 192.0.2.1
2026-11-30 21:48:18,123 fail2ban.actions        [77]: NOTICE  [sshd] Ban 192.0.2.2
2026-11-30 21:48:18,123 fail2ban.actions        [77]: NOTICE  [own-jail] Ban 2001:db8::1
2026-11-30 21:48:18,123 fail2ban.actions        [77]: NOTICE  [nginx-recidive] Ban 198.51.100.1
2026-11-30 21:48:18,123 fail2ban.actions        [77]: NOTICE  [recidive] Ban 198.51.100.1
2026-11-30 21:48:18,123 fail2ban.actions        [77]: NOTICE  [sshd] Restore Ban 198.51.100.1
2026-11-30 21:48:18,123 fail2ban.actions        [77]: NOTICE  [sshd] Unban 198.51.100.1
2026-11-30 21:48:18,123 fail2ban.actions        [77]: WARNING [sshd] 198.51.100.1 already banned
2026-11-30 21:48:18,123 fail2ban.filter         [77]: INFO    [sshd] Found 198.51.100.1 - 2026-11-30 21:48:18
";

/// Whose bans are counted, by the jail that does it.
const BANNED: [(&str, &[&str]); 2] = [
    ("edge", &["192.0.2.1"]),
    ("others", &["192.0.2.2", "2001:db8::1"]),
];

pub fn are_read(fleet: &Fleet, node: &str) {
    fleet.must(node, &format!("cat >/run/lines <<'END'\n{LINES}END\n"));
    for (kind, expected) in FOUND {
        found(
            fleet,
            node,
            "lines",
            &format!("nginx.conf[kind={kind}]"),
            expected,
        );
    }
    fleet.must(node, &format!("cat >/run/log <<'END'\n{LOG}END\n"));
    for (jails, expected) in BANNED {
        found(
            fleet,
            node,
            "log",
            &format!("recidive.conf[jails={jails}]"),
            expected,
        );
    }
}

/// In these lines a filter finds these addresses.
fn found(fleet: &Fleet, node: &str, lines: &str, filter: &str, expected: &[&str]) {
    let told = fleet.must(
        node,
        &format!(
            "fail2ban-regex --usedns no --out ip /run/{lines} '/etc/fail2ban/filter.d/rolesmith-{filter}'"
        ),
    );
    let found: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(found, expected, "{filter}");
}
