//! Which TLS the fleet speaks, as openssl(1) finds out: to the world through the load balancer, and between edges.

use std::collections::BTreeSet;

use rolesmith_lab::OUTSIDE;
use rolesmith_tests::Fleet;

use super::HOST;

const SUITES: &str = include_str!("suites.sh");

/// What TLS 1.2 and 1.3 have with forward secrecy and authenticated encryption, and nothing else.
const MODERN: [&str; 6] = [
    "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLSv1.3 TLS_AES_128_GCM_SHA256",
    "TLSv1.3 TLS_AES_256_GCM_SHA384",
    "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256",
];

/// Where the load balancer is for whoever is outside.
const BALANCER: &str = "10.77.0.2:443";

/// The node that is asked, and its port for other edges.
const EDGE: &str = "10.77.0.11:8443";
/// A member that may ask it.
const MEMBER: &str = "app-2";
const FACTS: &str = "/usr/lib/rolesmith/facts";

/// What the server at this address takes.
fn accepted(fleet: &Fleet, from: &str, at: &str, more: &str) -> BTreeSet<String> {
    let told = fleet.must(from, &format!("at='{at}' more='{more}'\n{SUITES}"));
    let lines = told.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

fn set(suites: &[&str]) -> BTreeSet<String> {
    suites.iter().map(|suite| (*suite).to_owned()).collect()
}

/// What is offered would be taken by a server that takes everything: of that the client can do all the others refuse.
pub fn client_can_do_worse(fleet: &Fleet) {
    fleet.must(
        OUTSIDE,
        "cd /run && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj /CN=worse -keyout worse.key -out worse.pem && \
         systemd-run --quiet --unit=worse openssl s_server -accept 127.0.0.1:9443 -cert /run/worse.pem -key /run/worse.key \
         -cipher ALL:COMPLEMENTOFALL:@SECLEVEL=0 -quiet && \
         timeout 10 sh -c 'until : | openssl s_client -connect 127.0.0.1:9443 -brief; do sleep 0.1; done'",
    );
    let taken = accepted(fleet, OUTSIDE, "127.0.0.1:9443", "");
    fleet.must(OUTSIDE, "systemctl stop worse.service");
    let worse = [
        "TLSv1 ECDHE-ECDSA-AES256-SHA",
        "TLSv1.1 ECDHE-ECDSA-AES256-SHA",
        "TLSv1.2 ECDHE-ECDSA-AES128-SHA",
        "TLSv1.2 ECDHE-ECDSA-NULL-SHA",
        "TLSv1.2 AECDH-AES128-SHA",
    ];
    assert!(taken.is_superset(&set(&worse)), "{taken:#?}");
    assert!(taken.is_superset(&set(&MODERN)), "{taken:#?}");
}

/// Through the load balancer: for the site, and for a name that no site has.
pub fn of_the_world(fleet: &Fleet) {
    for name in [HOST, "nobody.example"] {
        let taken = accepted(fleet, OUTSIDE, BALANCER, &format!("-servername {name}"));
        assert_eq!(taken, set(&MODERN), "{name}");
        let client = |more: &str| {
            let client = format!("openssl s_client -connect {BALANCER} -servername {name} {more}");
            fleet
                .shell(OUTSIDE, &format!("timeout 10 {client} </dev/null"))
                .1
        };
        // A ticket's key would have to be changed on all nodes at once to keep forward secrecy; sessions are resumed by their id.
        let session = client("-tls1_2");
        assert!(!session.contains("TLS session ticket"), "{session}");
        let id = session.split_once("Session-ID: ").map(|(_, id)| &id[..64]);
        let is_hex = |id: &str| id.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(id.is_some_and(is_hex), "{session}");
        assert!(session.contains("Compression: NONE"), "{session}");
        assert!(
            session.contains("Secure Renegotiation IS supported"),
            "{session}"
        );
        for (offer, chosen) in [
            ("h2,http/1.1", "ALPN protocol: h2\n"),
            ("http/1.1", "ALPN protocol: http/1.1\n"),
            // RFC 7301, 3.2.
            ("spdy/3", "alert no application protocol"),
        ] {
            let told = client(&format!("-alpn {offer}"));
            assert!(told.contains(chosen), "{name}, {offer}: {told}");
        }
    }
    let head = fleet.must(
        OUTSIDE,
        &format!("curl --silent --insecure --head --max-time 10 --resolve {HOST}:443:10.77.0.2 https://{HOST}/"),
    );
    let policy = "strict-transport-security: max-age=31536000\r\n";
    assert!(head.contains(policy), "{head}");
}

/// Between edges: TLS 1.3 with certificates on both sides, and members alone.
pub fn of_members(fleet: &Fleet) {
    let own = |cert: &str, key: &str| {
        format!(
            "-CAfile {FACTS}/ca.pem -verify_return_error -verify_hostname app-1.web.internal \
             -cert {FACTS}/nodes/{MEMBER}/{cert} -key /etc/rolesmith/{key}"
        )
    };
    let member = own("cert.pem", "node.key");
    let taken = accepted(fleet, MEMBER, EDGE, &member);
    assert_eq!(taken, set(&MODERN[3..]));
    let status = |certificate: &str| {
        let request = "GET /api/products HTTP/1.1\\r\\nHost: shop\\r\\nRolesmith-Service: shop\\r\\nConnection: close\\r\\n\\r\\n";
        let client = format!("openssl s_client -quiet -verify_quiet -connect {EDGE} {certificate}");
        // s_client ends with standard input, which has to stay open until the answer is there.
        let script =
            format!("{{ printf '{request}'; sleep 3; }} | timeout 10 {client} 2>/dev/null");
        let told = fleet.must(MEMBER, &script);
        told.lines().next().unwrap_or_default().trim().to_owned()
    };
    assert_eq!(status(&member), "HTTP/1.1 200 OK");
    let application = own("application.pem", "application.key");
    assert_eq!(status(&application), "HTTP/1.1 403 Forbidden");
    assert_eq!(status(""), "HTTP/1.1 400 Bad Request");
}
