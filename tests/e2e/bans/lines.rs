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

pub fn are_read(fleet: &Fleet, node: &str) {
    fleet.must(node, &format!("cat >/run/lines <<'END'\n{LINES}END\n"));
    for (kind, expected) in FOUND {
        let told = fleet.must(
            node,
            &format!(
                "fail2ban-regex --usedns no --out ip /run/lines '/etc/fail2ban/filter.d/rolesmith-nginx.conf[kind={kind}]'"
            ),
        );
        let found: Vec<&str> = told.split_whitespace().collect();
        assert_eq!(found, expected, "{kind}");
    }
}
