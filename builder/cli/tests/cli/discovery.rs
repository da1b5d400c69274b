//! Peers that are looked for: who gets the token for it, and what the nodes are told.

use rolesmith_testkit::{TestFleet, deb};

use crate::ROLESMITH;

const TOKEN: &str = "dop_v1_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const RULES: &str = "./usr/lib/rolesmith/facts/nodes/node-1/files/base/firewall.v4";
const MEMBERS_ONLY: &str = "--match-set rolesmith-fleet4 src -p tcp -m tcp --dport 7432";

fn facts(fleet: &TestFleet) -> serde_json::Value {
    let text = deb::file(&package(fleet), "./usr/lib/rolesmith/facts/facts.json");
    serde_json::from_str(&text).unwrap()
}

fn package(fleet: &TestFleet) -> std::path::PathBuf {
    let packages = fleet.path("dist/packages");
    let mut found: Vec<_> = std::fs::read_dir(packages)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("acme-facts_"))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn only_a_fleet_that_opts_in_has_a_token_and_it_is_in_seeds_alone() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    fleet.edit("fleet.toml", "\"db-primary-capable\"", "\"base\"");
    fleet.run(&["build", "--without-agent"]).succeeded();
    assert_eq!(
        facts(&fleet)["discovery"],
        serde_json::json!({"dns": false})
    );
    assert!(deb::file(&package(&fleet), RULES).contains(MEMBERS_ONLY));
    let seed = fleet.run(&["user-data", "node-1"]);
    assert!(!seed.succeeded().stdout.contains("digitalocean"));

    let text = fleet.read("fleet.toml");
    let wish = "\n[discovery]\ndns = true\ndigitalocean = { tag = \"acme:prod\" }\n";
    fleet.write("fleet.toml", format!("{text}{wish}"));
    let refused = fleet.run(&["build", "--without-agent"]);
    refused.failed();
    assert!(
        refused
            .stderr
            .contains("the secret digitalocean-token has no value")
            && refused.stderr.contains("secrets/fleet/digitalocean-token"),
        "{}",
        refused.stderr
    );
    fleet.write("secrets/fleet/digitalocean-token", TOKEN);
    fleet.chmod("secrets/fleet/digitalocean-token", 0o600);
    fleet.run(&["build", "--without-agent"]).succeeded();
    assert_eq!(
        facts(&fleet)["discovery"],
        serde_json::json!({"dns": true, "digitalocean": {"tag": "acme:prod"}})
    );
    // Who is not known yet comes from an address that is not known yet; no other port is open to it.
    let rules = deb::file(&package(&fleet), RULES);
    assert!(!rules.contains(MEMBERS_ONLY), "{rules}");
    assert!(
        rules.contains("-i eth1 -s 10.77.0.0/24 -p tcp -m tcp --dport 7432"),
        "{rules}"
    );
    let seed = fleet.run(&["user-data", "node-1"]);
    let seed = &seed.succeeded().stdout;
    let at = seed.find("/etc/rolesmith/secrets/digitalocean-token");
    let entry = &seed[at.expect("the seed holds the token")..];
    assert!(entry[..400].contains("0600"), "{entry}");
    // It was made by nobody here, so nothing is remembered of it.
    assert!(!fleet.read("identities.lock").contains("digitalocean"));
}
