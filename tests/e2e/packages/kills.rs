//! apt and dpkg ended by SIGKILL in the middle, as by a power cut.

use rolesmith_tests::Fleet;

use super::{NODE, ROLES, apt, healthy};

/// Moments, in seconds after apt began. An installation of the roles alone takes a few seconds, so they fall all over it.
const MOMENTS: [&str; 8] = ["0.3", "0.6", "1.0", "1.3", "1.7", "2.2", "2.8", "3.5"];

/// Starts apt, ends it and everything below it after the given time; then what a person would do. Returns how many were still at
/// work.
fn cut_short(fleet: &Fleet, arguments: &str) -> usize {
    let mut cut = 0;
    for moment in MOMENTS {
        // A unit of its own: its control group holds whatever dpkg starts, in sessions of their own or not.
        let script = format!(
            "systemd-run --quiet --collect --unit=cut -p KillSignal=SIGKILL -p StandardInput=null -p StandardOutput=null -p StandardError=null \\
                apt-get -q -y {arguments}
            sleep {moment}
            systemctl kill --signal=KILL cut.service 2>/dev/null && echo cut
            until [ \"$(systemctl show -P ActiveState cut.service)\" = inactive ]; do :; done"
        );
        let (_, told) = fleet.shell(NODE, &script);
        cut += usize::from(told.contains("cut"));
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
        assert_eq!(fleet.must(NODE, "dpkg --audit"), "", "after {moment} s");
    }
    cut
}

/// The installation after the purge, over the database that was kept.
pub fn install(fleet: &Fleet) {
    // The keyring and the source went with their package; the operator brings them again, as enrolment does.
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
    apt(fleet, "update");
    let cut = cut_short(fleet, &format!("install {ROLES}"));
    assert!(cut >= 3, "only {cut} installations were cut short");
    apt(fleet, &format!("install {ROLES}"));
    fleet.give_identity(NODE);
    healthy(fleet);
    let answer = fleet.must(
        NODE,
        "runuser -u postgres -- psql -qAtc 'SELECT answer FROM kept'",
    );
    assert_eq!(answer, "42\n", "the database is the one that was kept");
}

/// The same while services run.
pub fn upgrade(fleet: &Fleet) {
    let cut = cut_short(
        fleet,
        &format!("install --reinstall {ROLES} pkg-facts rolesmith-agent"),
    );
    assert!(cut >= 3, "only {cut} upgrades were cut short");
    healthy(fleet);
    let answer = fleet.must(
        NODE,
        "runuser -u postgres -- psql -qAtc 'SELECT answer FROM kept'",
    );
    assert_eq!(answer, "42\n");
}
