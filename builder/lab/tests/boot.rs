//! Real nodes: booted, looked at, killed, taken up again and ended without a trace. Needs root and what `preflight` asks for:
//! `cargo test -p rolesmith-lab --test boot -- --ignored`.

mod support;

use std::{fs, path::Path, time::Duration};

use rolesmith_lab::{Lab, RunState, Start, UpOptions, down, tree, up};
use support::{Fleet, prefix};

const NEEDS_ROOT: &str = "the machine can run a lab";

/// Boots nodes of a suite with a seed that does a little of everything, and holds them to a clean boot.
fn boots_cleanly(suite: &str, names: &[&str], number: u8) {
    let fleet = Fleet::new(suite, names, number);
    let spec = fleet.spec();
    let report = up(&spec, &UpOptions::default(), &support::Words).expect(NEEDS_ROOT);
    for node in &report.nodes {
        assert_eq!(node.complaints(), [""; 0], "{suite} {}", node.name);
        let cloud_init = node.cloud_init.as_ref();
        assert_eq!(
            (
                node.start,
                node.system.as_str(),
                cloud_init.map(|said| said.extended_status.as_str())
            ),
            (Start::New, "running", Some("done"))
        );
        for phase in [
            "launch",
            "boot",
            "cloud-init init-local",
            "cloud-init modules-final",
        ] {
            assert!(
                node.phases.iter().any(|p| p.name == phase),
                "{phase} is in {:?}",
                node.phases
            );
        }
    }
    assert!(report.is_clean());
    support::tell_times(&report);

    let lab = Lab::open(&spec.state_dir).expect("it is up");
    let say = |node: &str, script: &str| {
        let output = lab
            .output(node, &["sh", "-c", script])
            .expect("the node runs");
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (0, ""),
            "{script}: {}",
            output.stdout
        );
        output.stdout.trim().to_owned()
    };
    for (at, name) in names.iter().enumerate() {
        assert_eq!(
            say(
                name,
                "hostname; cat /etc/written; cat /run/ran; cat /usr/share/lab-test/installed"
            ),
            format!("{name}\nwritten\nran by root\ninstalled")
        );
        assert_eq!(
            say(
                name,
                "wc -c < /etc/machine-id; ls /etc/ssh/ssh_host_ed25519_key"
            ),
            "33\n/etc/ssh/ssh_host_ed25519_key"
        );
        assert!(say(name, ". /etc/os-release; echo $VERSION_CODENAME").contains(suite));
        assert_eq!(
            say(name, "ip -brief address show eth1 | awk '{print $3}'"),
            format!("{}.{}/24", prefix(number, 7), 11 + at)
        );
        assert_eq!(
            say(name, "ip route show default"),
            format!("default via {}.1 dev eth0 proto static", prefix(number, 8))
        );
        // Settings of the network are the node's own.
        assert_eq!(
            say(
                name,
                "sysctl -qw net.ipv4.ip_nonlocal_bind=1; cat /proc/sys/net/ipv4/ip_nonlocal_bind"
            ),
            "1"
        );
        // Nobody is out there, and the answer comes at once.
        assert_eq!(
            say(name, "timeout 5 getent ahosts example.org || echo $?"),
            "2"
        );
        say(name, "ping -c1 -W5 192.0.2.1 | grep -q Unreachable");
        let other = names[(at + 1) % names.len()];
        let address = spec
            .nodes
            .iter()
            .find(|node| node.name == other)
            .expect("a node")
            .address;
        say(name, &format!("ping -c1 -W2 {address} > /dev/null"));
        // The repository by its name, through the node's own apt method.
        let fetch = "exec 3<>/dev/tcp/packages.test/8080; printf 'GET /hello HTTP/1.0\\r\\n\\r\\n' >&3; tail -n1 <&3";
        let output = lab
            .output(name, &["bash", "-c", fetch])
            .expect("the node runs");
        assert_eq!(output.stdout, "served");
    }
    let status = lab.status().expect("readable");
    assert!(
        status
            .nodes
            .iter()
            .all(|node| node.state == RunState::Running
                && node.memory.is_some_and(|memory| memory.in_use > 0))
    );
    assert_eq!(
        status.repository,
        Some(format!("{}.1:8080", prefix(number, 8)))
    );
    assert_eq!(
        lab.output(names[0], &["sh", "-c", "kill -TERM $$"])
            .expect("run")
            .code,
        143
    );
    let journal = lab
        .journal(names[0], &["--unit=ssh".into()])
        .expect("a node")
        .output()
        .expect("journalctl runs");
    assert!(String::from_utf8_lossy(&journal.stdout).contains("Started"));

    assert!(down(&spec.state_dir, &support::Words).expect("ended"));
    assert!(!spec.state_dir.exists());
    assert_eq!(fleet.traces(), [""; 0]);
}

#[test]
#[ignore = "needs root"]
fn trixie_boots_cleanly_and_leaves_nothing() {
    boots_cleanly("trixie", &["one", "two"], 1);
}

#[test]
#[ignore = "needs root"]
fn bookworm_boots_cleanly_and_leaves_nothing() {
    boots_cleanly("bookworm", &["old"], 2);
}

#[test]
#[ignore = "needs root"]
fn up_completes_what_is_missing_and_leaves_the_rest_alone() {
    let fleet = Fleet::new("trixie", &["a", "b"], 3);
    let mut spec = fleet.spec();
    up(&spec, &UpOptions::default(), &support::Words).expect(NEEDS_ROOT);
    let lab = Lab::open(&spec.state_dir).expect("it is up");
    let pid = |name: &str| {
        lab.status()
            .expect("readable")
            .nodes
            .iter()
            .find(|node| node.name == name)
            .and_then(|node| node.pid)
    };
    let (kept, killed) = (pid("a"), pid("b").expect("it runs"));
    lab.output(
        "b",
        &["sh", "-c", "echo kept > /var/kept; sync; journalctl --sync"],
    )
    .expect("it runs");
    support::kill(killed);
    assert_eq!(
        lab.status().expect("readable").nodes[1].state,
        RunState::Stopped
    );
    assert!(
        lab.output("b", &["true"])
            .expect_err("it has stopped")
            .to_string()
            .contains("not running")
    );
    let journal = lab
        .journal("b", &["-n1".into()])
        .expect("a node")
        .output()
        .expect("journalctl runs");
    assert!(
        journal.status.success() && !journal.stdout.is_empty(),
        "a stopped node's journal can be read"
    );

    // The killed one comes back with its disk, the other is not touched, and a third joins.
    spec.nodes.push(fleet.node("c", 13));
    let report = up(&spec, &UpOptions::default(), &support::Words).expect(NEEDS_ROOT);
    assert_eq!(
        report
            .nodes
            .iter()
            .map(|node| node.start)
            .collect::<Vec<_>>(),
        [Start::Running, Start::Again, Start::New]
    );
    assert!(report.is_clean(), "{report:?}");
    let lab = Lab::open(&spec.state_dir).expect("it is up");
    assert_eq!(lab.status().expect("readable").nodes[0].pid, kept);
    assert_eq!(
        lab.output("b", &["cat", "/var/kept"])
            .expect("it runs")
            .stdout,
        "kept\n"
    );

    // Afresh: nothing of the old disks is left. A node fewer: it is gone.
    spec.nodes.truncate(2);
    let report = up(
        &spec,
        &UpOptions {
            fresh: true,
            ..UpOptions::default()
        },
        &support::Words,
    )
    .expect(NEEDS_ROOT);
    assert!(report.nodes.iter().all(|node| node.start == Start::New));
    let lab = Lab::open(&spec.state_dir).expect("it is up");
    assert_eq!(
        lab.output("b", &["test", "-e", "/var/kept"])
            .expect("it runs")
            .code,
        1
    );
    spec.nodes.truncate(1);
    up(&spec, &UpOptions::default(), &support::Words).expect(NEEDS_ROOT);
    assert!(!spec.state_dir.join("nodes/b").exists());

    assert!(down(&spec.state_dir, &support::Words).expect("ended"));
    assert!(!down(&spec.state_dir, &support::Words).expect("nothing left to end"));
    assert_eq!(fleet.traces(), [""; 0]);
}

/// Nodes that were restarted and switched off from inside have stopped; `down` ends that lab, and also one whose directory somebody
/// deleted while it was up. `up` does not stumble over what such a one left.
#[test]
#[ignore = "needs root"]
fn a_lab_whose_nodes_or_records_are_gone_is_ended_without_a_trace() {
    let fleet = Fleet::new("trixie", &["a", "b", "c"], 7);
    let spec = fleet.spec();
    up(&spec, &UpOptions::default(), &support::Words).expect(NEEDS_ROOT);
    let lab = Lab::open(&spec.state_dir).expect("it is up");
    for (node, verb) in [("a", "reboot"), ("b", "poweroff")] {
        lab.output(node, &["systemctl", verb]).expect("it runs");
    }
    let stopped = |count| {
        let status = lab.status().expect("readable");
        let stopped = |node: &&rolesmith_lab::NodeStatus| node.state == RunState::Stopped;
        status.nodes.iter().filter(stopped).count() == count
    };
    support::wait_until("both have stopped", || stopped(2));
    assert!(down(&spec.state_dir, &support::Words).expect("ended"));
    assert!(!spec.state_dir.exists());
    assert_eq!(fleet.traces(), [""; 0]);

    for again in [true, false] {
        up(&spec, &UpOptions::default(), &support::Words).expect(NEEDS_ROOT);
        fs::remove_dir_all(&spec.state_dir).expect("deleted");
        assert!(Lab::open(&spec.state_dir).is_err());
        assert!(!fleet.traces().is_empty());
        if again {
            let report = up(&spec, &UpOptions::default(), &support::Words).expect(NEEDS_ROOT);
            assert!(report.is_clean(), "{report:?}");
            assert!(down(&spec.state_dir, &support::Words).expect("ended"));
        } else {
            assert!(down(&spec.state_dir, &support::Words).expect("ended"));
            assert!(!down(&spec.state_dir, &support::Words).expect("nothing left to end"));
        }
        assert_eq!(fleet.traces(), [""; 0]);
    }
}

/// The program is killed at many moments of `up`; afterwards `down` leaves nothing, or `up` completes the lab.
#[test]
#[ignore = "needs root"]
fn a_program_killed_at_any_moment_leaves_a_lab_that_can_be_ended_or_completed() {
    let fleet = Fleet::new("trixie", &["a"], 4);
    let spec = fleet.spec();
    tree::ensure(&spec.tree, false, &support::Words).expect(NEEDS_ROOT);
    for (round, delay) in
        (0..12).map(|round| (round, Duration::from_millis(20 + round * round * 25)))
    {
        let mut child = support::up_in_a_child(&fleet, &spec.tree.cache_dir);
        support::let_it_run(&mut child, delay);
        child.kill().expect("killed or ended");
        child.wait().expect("reaped");
        if round % 3 == 2 {
            let report = up(&spec, &UpOptions::default(), &support::Words).expect(NEEDS_ROOT);
            assert!(report.is_clean(), "killed after {delay:?}: {report:?}");
        }
        down(&spec.state_dir, &support::Words).expect("ended");
        assert!(!Path::new(&spec.state_dir).exists());
        assert_eq!(fleet.traces(), [""; 0], "killed after {delay:?}");
    }
}

/// Half a tree is never taken for one, its makers do not outlive the program, and the next build clears it away.
#[test]
#[ignore = "needs root"]
fn a_program_killed_while_a_tree_is_built_leaves_no_process_and_no_tree() {
    let fleet = Fleet::new("trixie", &["a"], 6);
    let mut spec = fleet.spec();
    spec.tree.cache_dir = fleet.directory().join("cache");
    let trees = spec.tree.cache_dir.join("trees");
    let half = trees.join(format!(".building-{}", tree::key(&spec.tree)));
    let mut child = support::up_in_a_child(&fleet, &spec.tree.cache_dir);
    support::wait_until("the build unpacks", || half.join("root/usr/bin").exists());
    child.kill().expect("killed");
    child.wait().expect("reaped");
    down(&spec.state_dir, &support::Words).expect("ended");
    support::wait_until("the makers have ended", || fleet.traces().is_empty());
    assert!(half.exists());
    let tree = tree::ensure(&spec.tree, false, &support::Words).expect(NEEDS_ROOT);
    assert!(!half.exists() && tree.root.join("usr/bin/cloud-init").exists());
    assert_eq!(
        tree::ensure(&spec.tree, false, &support::Words).expect("known"),
        tree
    );
    for identity in [
        "etc/hostname",
        "etc/apt/sources.list",
        "etc/ssh/ssh_host_ed25519_key",
    ] {
        assert!(
            !tree.root.join(identity).exists(),
            "{identity} is a machine's or the host's"
        );
    }
    assert_eq!(
        fs::read(tree.root.join("etc/machine-id")).expect("it is there"),
        b""
    );
}

#[test]
#[ignore = "needs root"]
fn a_node_that_cannot_boot_is_told_with_its_console() {
    let fleet = Fleet::new("trixie", &["a"], 5);
    let spec = fleet.spec();
    let tree = tree::ensure(&spec.tree, false, &support::Words).expect(NEEDS_ROOT);
    // A tree of this lab's own without an init.
    let empty = fleet.directory().join("cache/trees").join("trixie-broken");
    fs::create_dir_all(empty.join("root/etc/cloud/templates")).expect("made");
    fs::copy(
        tree.root.join("etc/cloud/templates/hosts.debian.tmpl"),
        empty.join("root/etc/cloud/templates/hosts.debian.tmpl"),
    )
    .expect("copied");
    let label = format!(
        "{{\"suite\":\"trixie\",\"key\":\"{}\",\"built\":1}}",
        tree::key(&spec.tree)
    );
    fs::write(empty.join("tree.json"), label).expect("written");
    let mut broken = spec.clone();
    broken.tree.cache_dir = fleet.directory().join("cache");
    let error = up(&broken, &UpOptions::default(), &support::Words)
        .expect_err("there is nothing to boot")
        .to_string();
    assert!(
        error.contains("node a stopped while booting") && error.contains("os-release"),
        "{error}"
    );
    down(&spec.state_dir, &support::Words).expect("ended");
    assert_eq!(fleet.traces(), [""; 0]);
}

/// A process to be killed by the tests above, and by hand a lab to look at:
/// `LAB_TEST_FLEET="trixie NODE NUMBER DIR" LAB_TEST_DO=up|down|"COMMAND in the node"`. DIR has to hold a directory `repo`.
#[test]
#[ignore = "helper: does what the environment says"]
fn helper() {
    let Some(fleet) = Fleet::from_environment() else {
        return;
    };
    let spec = fleet.spec();
    match std::env::var("LAB_TEST_DO").as_deref() {
        Ok("up") => support::tell_times(
            &up(&spec, &UpOptions::default(), &support::Words).expect(NEEDS_ROOT),
        ),
        Ok("down") => drop(down(&spec.state_dir, &support::Words).expect("ended")),
        Ok(command) => {
            let argv = ["sh", "-c", command].map(Into::into);
            let code = Lab::open(&spec.state_dir).expect("it is up").exec(
                &spec.nodes[0].name,
                &argv,
                true,
            );
            assert_eq!(code.expect("the node runs"), 0);
        }
        Err(_) => {}
    }
}
