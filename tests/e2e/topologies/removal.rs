//! Roles that are taken from machines that run.

use std::fs;

use rolesmith_tests::Fleet;

use super::page::Page;

/// web-2 is an edge no more, log-2 keeps no logs: the fleet is healthy, and nothing of the roles runs there.
pub fn of_edge_and_log_server(fleet: &Fleet, name: &str, page: &Page<'_>) {
    let path = fleet.dir.join("fleet.toml");
    let text = fs::read_to_string(&path).expect("a fleet");
    let (before, after) = text.split_once("[nodes.web-2]").expect("web-2");
    let after = after
        .replacen(r#"roles = ["app", "edge"]"#, r#"roles = ["app"]"#, 1)
        .replacen(
            "[nodes.log-2]\nroles = [\"log-server\"]",
            "[nodes.log-2]\nroles = [\"base\"]",
            1,
        );
    fs::write(&path, format!("{before}[nodes.web-2]{after}")).expect("written");
    fleet.run(&["publish"]);
    for (node, packages) in [
        ("web-2", format!("{name}-site-shop {name}-edge")),
        ("log-2", format!("{name}-log-server")),
    ] {
        // The new facts come by themselves, within a minute and a half; until then the role would be missing.
        fleet.must(
            node,
            "timeout 180 sh -c 'until rolesmith-agent status | grep -q \"do not give it to this node\"; do sleep 1; done'",
        );
        fleet.must(
            node,
            &format!("DEBIAN_FRONTEND=noninteractive apt-get -q -y purge --autoremove {packages}"),
        );
        fleet.must(node, "rolesmith-agent wait --timeout 120");
    }
    let listening = |node: &str| fleet.must(node, "ss --no-header --listening --numeric --tcp");
    let web = listening("web-2");
    for port in [":80 ", ":443 ", ":8443 "] {
        assert!(!web.contains(port), "{port}: {web}");
    }
    // The service is another role's.
    assert!(web.contains("127.0.0.1:3000 "), "{web}");
    let log = listening("log-2");
    assert!(!log.contains(":2514 "), "{log}");
    for (node, traces) in [("web-2", "rolesmith-edge|nginx"), ("log-2", "log-server")] {
        let units = fleet.must(
            node,
            "systemctl list-units --state=active,activating,failed --no-legend --plain --type=service,timer,path",
        );
        let found: Vec<&str> = units
            .lines()
            .filter(|line| traces.split('|').any(|trace| line.contains(trace)))
            .collect();
        assert_eq!(found, Vec::<&str>::new(), "{node}");
        let rules = fleet.must(node, "iptables-save; ip6tables-save");
        for port in ["--dport 443 ", "--dport 2514 "] {
            assert!(!rules.contains(port), "{node}: {rules}");
        }
    }
    // The load balancer is told, as a provider's has to be.
    fleet.run(&["lab", "up"]);
    for node in ["db-1", "db-2", "db-3", "web-1", "web-2", "log-1", "log-2"] {
        fleet.must(node, "rolesmith-agent wait --timeout 120");
    }
    page.is_served();
    page.order(3);
}
