//! Logs arrive (rule 16): 20,000 lines a node, log servers killed twice and away together, senders stopped and killed with a
//! backlog. `rolesmith-agent logs verify` says that nothing is missing on any log server, and says so where something is.

use std::{fs, path::PathBuf, process::Command, thread};

use rolesmith_tests::{Fleet, LabGuard, bare::step, checkout, need_root, work_dir};

const NODES: [&str; 3] = ["app-1", "app-2", "app-3"];
const SERVERS: [&str; 2] = ["app-1", "app-2"];
const LINES: u32 = 20_000;
const FLEET: &str = r#"
[fleet]
name = "logs"
suite = "trixie"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "logs.internal"

[repository]
url = "http://apt.logs.internal"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@logs.internal"]

[nodes.app-1]
roles = ["log-server"]
address = "10.77.0.11"

[nodes.app-2]
roles = ["log-server"]
address = "10.77.0.12"

[nodes.app-3]
roles = ["base"]
address = "10.77.0.13"
"#;

/// Lines by the way that most programs take; it blocks where journald is behind, so none is lost before the journal.
const WRITER: &str = r#"
import socket, sys, time
count, mark, rate = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("/run/systemd/journal/dev-log")
begin = time.monotonic()
for i in range(1, count + 1):
    s.send(f"<13>writer: {mark} {i} of {count}, as long as a usual line of a service\twith a tab".encode())
    while time.monotonic() - begin < i / rate:
        time.sleep(0.001)
"#;

#[test]
#[ignore = "needs root: boots real machines"]
fn no_line_is_lost() {
    need_root();
    let fleet = Fleet::create("logs", FLEET);
    let _guard = LabGuard(&fleet);
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    step("lab up", || fleet.run(&["lab", "up"]));
    let test = Test { fleet: &fleet };
    step("a server is killed twice while all write", || {
        test.while_all_write("killed", 4000, || {
            for line in [4_000, 12_000] {
                test.is_at("app-3", "killed", line);
                fleet.must("app-1", KILL_RSYSLOG);
            }
        });
        test.all_arrived("killed");
    });
    step(
        "both servers are away, senders restart with a backlog",
        || {
            for server in SERVERS {
                fleet.must(server, "systemctl mask --runtime --now --quiet rsyslog");
            }
            test.write("app-3", "away", 1_000_000);
            test.kept("app-3", "away");
            fleet.must("app-3", "systemctl restart rsyslog rolesmith-logs");
            for server in SERVERS {
                fleet.must(
                    server,
                    "systemctl unmask --runtime --quiet rsyslog; systemctl start rsyslog",
                );
            }
            test.arrived_from("app-3", "away");
        },
    );
    step("what sends is killed three times while it writes", || {
        test.while_all_write("shot", 4000, || {
            for line in [3_000, 8_000, 15_000] {
                test.is_at("app-3", "shot", line);
                fleet.must("app-3", "systemctl kill --signal=KILL rolesmith-logs");
                fleet.must("app-3", KILL_RSYSLOG);
            }
        });
        test.all_arrived("shot");
    });
    let said = step("verify: nothing is missing anywhere", || test.verify(0));
    let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
    step("verify: a line that is taken away is missed", || {
        fleet.must(
            "app-2",
            "f=/var/log/rolesmith/hosts/app-3.log; grep -v 'writer.* away 777 of ' $f >/run/without; cat /run/without >$f",
        );
        let said = test.verify(1);
        assert!(said.contains("app-2: app-3: NOT WHOLE:"), "{said}");
        assert!(said.contains(" 1 missing"), "{said}");
    });
}

/// Only while rsyslogd runs: what counts its starts is not to be killed in its stead.
const KILL_RSYSLOG: &str = "until [ \"$(systemctl is-active rsyslog)\" = active ]; do sleep 0.05; done; \
    systemctl kill --signal=KILL --kill-whom=main rsyslog";

struct Test<'a> {
    fleet: &'a Fleet,
}

impl Test<'_> {
    fn write(&self, node: &str, mark: &str, rate: u32) {
        self.fleet
            .feed(node, &format!("python3 - {LINES} {mark} {rate}"), WRITER);
    }

    fn while_all_write(&self, mark: &str, rate: u32, fault: impl FnOnce()) {
        thread::scope(|scope| {
            for node in NODES {
                scope.spawn(move || self.write(node, mark, rate));
            }
            fault();
        });
    }

    /// Waits until the node has given a number to that line.
    fn is_at(&self, node: &str, mark: &str, line: u32) {
        self.fleet.must(
            node,
            &format!("timeout 60 sh -c 'until grep -qs \" {mark} {line} of \" /var/log/rolesmith/own.log*; do sleep 0.05; done'"),
        );
    }

    /// Waits until the node has given numbers to all lines with that mark.
    fn kept(&self, node: &str, mark: &str) {
        self.wait(node, "own.log*", mark);
    }

    fn arrived_from(&self, node: &str, mark: &str) {
        for server in SERVERS {
            self.wait(server, &format!("hosts/{node}.log*"), mark);
        }
    }

    fn all_arrived(&self, mark: &str) {
        for node in NODES {
            self.arrived_from(node, mark);
        }
    }

    /// Each line at least once: lines may come again, so they are counted by their text.
    fn wait(&self, node: &str, files: &str, mark: &str) {
        let (code, said) = self.fleet.shell(
            node,
            &format!(
                "cd /var/log/rolesmith
                count() {{ grep -ho ' {mark} [0-9]* of ' {files} | sort -u | wc -l; }}
                timeout=600
                until [ $(count) = {LINES} ]; do timeout=$((timeout - 1)); [ $timeout -gt 0 ] || {{ count; exit 1; }}; sleep 0.2; done"
            ),
        );
        assert_eq!(
            code, 0,
            "{node}: {files} do not have all {LINES} lines {mark}: {said}"
        );
    }

    /// Fetches what all nodes have, and compares as an engineer would.
    fn verify(&self, expected: i32) -> String {
        let dir = work_dir().join("fleets/logs/fetched");
        let _ = fs::remove_dir_all(&dir);
        let mut arguments = Vec::new();
        for node in NODES {
            let to = self.fetch(node, &dir.join("own").join(node));
            arguments.push(format!("--own={}", to.display()));
        }
        // What was fetched is on the servers when a later line is.
        for node in NODES {
            self.fleet
                .must(node, "logger -t fence \"$(hostname) is fetched\"");
        }
        for server in SERVERS {
            for node in NODES {
                self.fleet.must(
                    server,
                    &format!("timeout 60 sh -c 'until grep -q \"fence.* {node} is fetched\" /var/log/rolesmith/hosts/{node}.log; do sleep 0.1; done'"),
                );
            }
            let to = self.fetch(server, &dir.join("server").join(server));
            arguments.push(format!("--server={server}={}", to.display()));
        }
        let output = Command::new(checkout().join("target/debug/rolesmith-agent"))
            .args(["logs", "verify"])
            .args(arguments)
            .output()
            .expect("run `cargo build` first");
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{said}");
        said
    }

    fn fetch(&self, node: &str, to: &PathBuf) -> PathBuf {
        fs::create_dir_all(to).expect("made");
        let output = self
            .fleet
            .command(&[
                "lab",
                "exec",
                node,
                "--",
                "tar",
                "-C",
                "/var/log/rolesmith",
                "-cf",
                "-",
                ".",
            ])
            .output()
            .expect("the program starts");
        let archive = to.with_extension("tar");
        fs::write(&archive, &output.stdout).expect("written");
        let unpacked = Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(to)
            .status()
            .expect("tar starts");
        assert!(unpacked.success(), "{node}");
        to.clone()
    }
}
