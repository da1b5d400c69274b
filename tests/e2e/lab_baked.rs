//! Nodes that boot from the trees of their images, beside nodes that install everything at their first boot.

use std::{io::Write as _, time::Instant};

use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};

/// The fleet of the example becomes whole either way, and has what it is to have; how long both took is printed.
#[test]
#[ignore = "needs root: boots real machines"]
fn a_baked_fleet_becomes_whole() {
    need_root();
    let fleet = Fleet::example("lab-baked", "trixie");
    let guard = LabGuard(&fleet);
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    // The times of what is whole begin with the power: the making of trees is none of them.
    let installing = up(&fleet, &["lab", "up"]);
    fleet.lab_down();
    let baked = up(&fleet, &["lab", "up", "--baked"]);
    let _ = writeln!(
        std::io::stderr(),
        "installing at first boot:\n{installing}\nbaked:\n{baked}"
    );
    for node in ["app-1", "app-2", "app-3"] {
        let status = fleet.must(node, "cloud-init status --long");
        assert!(status.contains("status: done"), "{node}: {status}");
        assert_eq!(
            fleet.must(node, "systemctl --failed --no-legend").trim(),
            ""
        );
        // Installed before the power went on.
        let log = fleet.must(node, "cat /var/log/apt/history.log 2>/dev/null || :");
        assert!(!log.contains("acme-db-primary-capable"), "{node}: {log}");
        // Each is a machine of its own.
        let id = fleet.must(node, "cat /etc/machine-id");
        assert_eq!(id.trim().len(), 32, "{node} has no identity");
    }
    let ids: std::collections::BTreeSet<String> = ["app-1", "app-2", "app-3"]
        .map(|node| {
            fleet.must(
                node,
                "cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub",
            )
        })
        .into();
    assert_eq!(ids.len(), 3, "nodes share an identity");
    drop(guard);
}

/// Standard output of the command, which says what became whole when.
fn up(fleet: &Fleet, arguments: &[&str]) -> String {
    let begun = Instant::now();
    let output = fleet.run(arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("whole: "), "{said}");
    format!("{said}{:.1} s in all\n", begun.elapsed().as_secs_f64())
}
