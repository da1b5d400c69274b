//! How far the units of a node are shut in, as systemd-analyze(1) judges them: at most 2.5, but for those that docs/hardening.md names
//! with their reasons.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

use rolesmith_tests::{Fleet, checkout};

/// The most that a unit may be exposed to (0 to 10).
const LIMIT: f64 = 2.5;

/// What is asked of a node: all units of the fleet's own, and nginx, which is Debian's and shut in by a drop-in.
const ASK: &str = "\
    for unit in $(systemctl list-unit-files --no-legend --type=service 'rolesmith-*' | cut -d ' ' -f 1) nginx.service; do
        systemd-analyze security --no-pager \"$unit\" | sed -n 's/.*Overall exposure level for \\(.*\\): \\([0-9.]*\\) .*/\\1 \\2/p'
    done";

/// No unit is more exposed than it may be, none of the exceptions is out of date, and no unit was left out.
pub fn are_shut_in(fleet: &Fleet, nodes: &[&str]) {
    let exceptions = exceptions();
    let mut exposed: BTreeMap<String, f64> = BTreeMap::new();
    for node in nodes {
        let units = fleet.must(
            node,
            "systemctl list-unit-files --no-legend --type=service 'rolesmith-*' | cut -d ' ' -f 1",
        );
        let told = fleet.must(node, ASK);
        let judged: BTreeMap<String, f64> = told.lines().map(row).collect();
        let names: BTreeSet<&str> = judged.keys().map(String::as_str).collect();
        let expected: BTreeSet<&str> = units.lines().chain(["nginx.service"]).collect();
        assert_eq!(names, expected, "{node}: {told}");
        for (unit, exposure) in judged {
            let most = exposed.entry(unit).or_default();
            *most = most.max(exposure);
        }
    }
    let mut error = std::io::stderr();
    for (unit, exposure) in &exposed {
        let _ = writeln!(error, "    {exposure:>4.1}  {unit}");
    }
    for (unit, exposure) in &exposed {
        let allowed = exceptions.get(unit).copied().unwrap_or(LIMIT);
        assert!(*exposure <= allowed, "{unit}: {exposure}, not {allowed}");
    }
    for (unit, allowed) in &exceptions {
        let exposure = exposed.get(unit).copied().unwrap_or_default();
        assert!(
            exposure > LIMIT,
            "{unit}: {exposure} needs no exception ({allowed}) any more"
        );
    }
}

/// In its sandbox nginx takes a new configuration, begins new logs when they are rotated, hands over to a new program, and starts
/// again; what systemd thinks of it stays the same.
pub fn nginx_works(fleet: &Fleet, node: &str) {
    fleet.must(
        node,
        "set -e
         log=/var/log/nginx/rolesmith-access.log
         main() { systemctl show --property=MainPID --value nginx.service; }
         first=$(main)
         systemctl reload nginx.service
         [ \"$(main)\" = \"$first\" ]
         test -e \"$log\"
         logrotate --force /etc/logrotate.d/nginx
         timeout 10 sh -c \"until [ -e $log ]; do sleep 0.1; done\"
         stat -c '%U %a' \"$log\" | grep -x 'www-data 640'
         # As the package's postinst does (nginx.org/en/docs/control.html, Upgrading Executable on the Fly).
         kill -USR2 \"$first\"
         timeout 20 sh -c 'until [ -s /run/nginx.pid.oldbin ] && [ -s /run/nginx.pid ]; do sleep 0.1; done'
         kill -QUIT \"$(cat /run/nginx.pid.oldbin)\"
         timeout 20 sh -c 'while [ -e /run/nginx.pid.oldbin ]; do sleep 0.1; done'
         timeout 10 sh -c \"until [ \\$(systemctl show --property=MainPID --value nginx.service) != $first ]; do sleep 0.1; done\"
         systemctl is-active nginx.service
         systemctl restart nginx.service
         systemctl is-active nginx.service
         ! journalctl --no-pager --boot --unit=nginx.service --grep='denied|not permitted|Read-only'
         ! grep -E 'Permission denied|not permitted|Read-only' /var/log/nginx/error.log",
    );
}

fn row(line: &str) -> (String, f64) {
    let (unit, exposure) = line.split_once(' ').expect("a unit and its exposure");
    (unit.to_owned(), exposure.parse().expect("a number"))
}

/// The table of docs/hardening.md: unit, exposure, reason.
fn exceptions() -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(checkout().join("docs/hardening.md")).expect("it is there");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [unit, exposure, reason] = cells[..] else {
            return None;
        };
        let unit = unit.strip_prefix('`')?.strip_suffix('`')?;
        assert!(!reason.is_empty(), "{unit}: no reason");
        Some((unit.to_owned(), exposure.parse().expect("a number")))
    });
    let rows: BTreeMap<String, f64> = rows.collect();
    assert!(!rows.is_empty(), "a table");
    rows
}
