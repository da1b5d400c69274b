//! apt and dpkg ended by SIGKILL in the middle, as by a power cut.
//!
//! The moments are dpkg's own events, so they are the same on every machine: dpkg pipes a line to `--status-logger` whenever the
//! state of a package changes, and the logger is what kills.

use rolesmith_tests::Fleet;

use super::{NODE, OURS, ROLES, apt, healthy};

/// A moment in dpkg's work: the package, the state that dpkg says it has come to, and the how manieth time.
type Moment = (&'static str, &'static str, u32);

/// While it is unpacked (`half-installed`), between two packages (`unpacked`, `installed`), and in its postinst
/// (`half-configured`).
const OF_INSTALLATION: [Moment; 8] = [
    ("pkg-archive-keyring", "half-installed", 1),
    ("rolesmith-agent", "half-installed", 1),
    ("pkg-base", "unpacked", 1),
    ("pkg-redis", "half-installed", 1),
    ("rolesmith-agent", "half-configured", 1),
    ("pkg-base", "half-configured", 1),
    ("pkg-base", "installed", 1),
    ("pkg-db-primary-capable", "half-configured", 1),
];

/// What is installed is `half-configured` twice: in the prerm of the old version and in the postinst of the new one. `unpacked` it is
/// in between, too: before its files are replaced and after.
const OF_UPGRADE: [Moment; 8] = [
    ("rolesmith-agent", "half-configured", 1),
    ("rolesmith-agent", "half-installed", 1),
    ("pkg-facts", "unpacked", 2),
    ("pkg-db-primary-capable", "half-configured", 1),
    ("pkg-redis", "half-installed", 1),
    ("rolesmith-agent", "half-configured", 2),
    ("pkg-base", "half-configured", 2),
    ("pkg-app", "half-configured", 2),
];

/// Reads dpkg's events; `$1` is the one at which everything ends, `$2` how many times it comes, which may be in several runs of dpkg.
/// dpkg is its parent, and is stopped before it is killed: it gets no further while systemd is told. In a `half-` state it is first
/// given the time to start what that state is about, a maintainer script or the unpacking of the archive.
const LOGGER: &str = r#"#!/bin/sh
while read -r event; do
    echo "$event" >>/root/events
    [ "$event" = "$1" ] && [ "$(grep -cxF "$1" /root/events)" = "$2" ] || continue
    case $event in
    *": half-"*)
        while read -r children </proc/$PPID/task/$PPID/children && [ "$children" = $$ ]; do :; done
        ;;
    esac
    kill -STOP $PPID && systemctl kill --signal=KILL cut.service
done
"#;

/// Starts apt, ends it and everything below it at that moment; then what a person would do.
fn cut_short(fleet: &Fleet, arguments: &str, (package, state, times): Moment) {
    fleet.feed(
        NODE,
        "cat >/root/logger; chmod 0755 /root/logger; rm -f /root/events",
        LOGGER,
    );
    // A unit of its own: its control group holds whatever dpkg starts, in sessions of their own or not. dpkg
    // leaves files in `updates` only where it was not let finish.
    let script = format!(
        "systemd-run --wait --collect --unit=cut -p KillSignal=SIGKILL -p RuntimeMaxSec=200 \\
            -p StandardInput=null -p StandardOutput=null -p StandardError=null \\
            apt-get -q -y -o 'DPkg::Options::=--status-logger=exec /root/logger \"status: {package}: {state}\" {times}' {arguments}
        [ -n \"$(ls /var/lib/dpkg/updates)\" ] && echo 'dpkg was at work'"
    );
    let (_, told) = fleet.shell(NODE, &script);
    if !told.contains("Finished with result: signal") || !told.contains("dpkg was at work") {
        let (_, events) = fleet.shell(NODE, "cat /root/events; tail -n 40 /var/log/apt/term.log");
        panic!(
            "{package} was to be cut short when {state} ({times}), and was not:\n{told}\nevents:\n{events}"
        );
    }
    // A package that was cut off while its files were being replaced is one that dpkg will not configure, whatever it is: it
    // asks for it to be installed again.
    let told = fleet.must(
        NODE,
        "exec </dev/null
        timeout 200 dpkg --configure -a || true
        half=$(dpkg-query -W -f '${Package} ${Status}\\n' | awk '/ reinstreq / { print $1 }')
        [ -z \"$half\" ] || timeout 200 apt-get -q -y install --reinstall $half || exit 1
        timeout 200 apt-get -q -y -f install && dpkg --configure -a",
    );
    assert!(!told.contains("What would you like to do"), "{told}");
    assert_eq!(
        fleet.must(NODE, "dpkg --audit"),
        "",
        "{package} when {state} ({times})"
    );
}

/// The keyring and the source went with their package; the operator brings them again, as enrolment does.
fn bring_source(fleet: &Fleet) {
    let seed = fleet.seed(NODE);
    for file in seed.files.iter().filter(|file| {
        file.path.starts_with("/etc/apt/") || file.path.starts_with("/usr/share/keyrings/")
    }) {
        fleet.feed(
            NODE,
            &format!("cat >{0}; chmod {1} {0}", file.path, file.mode),
            &file.text,
        );
    }
}

/// The installation after the purge, over the database that was kept.
pub fn install(fleet: &Fleet) {
    bring_source(fleet);
    apt(fleet, "update");
    for moment in OF_INSTALLATION {
        cut_short(fleet, &format!("install {ROLES}"), moment);
        // Installed or mended, it is nothing that a purge cannot take: the next one begins where this one did.
        apt(fleet, &format!("purge {OURS}"));
        bring_source(fleet);
    }
    apt(fleet, &format!("install {ROLES}"));
    fleet.give_identity(NODE);
    healthy(fleet);
    kept(fleet);
}

/// The same while services run.
pub fn upgrade(fleet: &Fleet) {
    for moment in OF_UPGRADE {
        cut_short(
            fleet,
            &format!("install --reinstall {ROLES} pkg-facts rolesmith-agent"),
            moment,
        );
    }
    healthy(fleet);
    kept(fleet);
}

/// The database is the one that was kept, and written to while no package of ours was there.
fn kept(fleet: &Fleet) {
    let answer = fleet.must(
        NODE,
        "runuser -u postgres -- psql -qAtc 'SELECT answer FROM kept'",
    );
    assert_eq!(answer, "43\n");
}
