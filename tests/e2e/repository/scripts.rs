//! Maintainer scripts in a chroot, where nothing runs: nothing starts, a second run changes nothing, a purge leaves nothing.

use crate::{SUITES, example_without_mirror, suite::Suite};

/// Everything but what dpkg and ldconfig keep for themselves, and the system users, which outlive the package that made them: a
/// number must not come to mean somebody else.
const LIST: &str = "find / -xdev -newer /tmp/start ! -type d \
     ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' ! -path '/var/cache/*' ! -path '/tmp/*' \
     ! -path '/etc/passwd*' ! -path '/etc/group*' ! -path '/etc/shadow*' ! -path '/etc/gshadow*' \
     -printf '%p %m %U:%G %s\\n' | sort";

/// --force-depends: what the packages need of Debian's is not what is tried here.
const SCRIPT: &str = r#"
set -e
: >/tmp/start
list() { LIST; }
list >/tmp/before
dpkg --force-depends --install /packages/*.deb >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
list >/tmp/installed
test -e /var/lib/rolesmith/roles/base
test ! -e /run/rolesmith/poke
for script in /var/lib/dpkg/info/acme-*.postinst; do
    version=$(dpkg-query -W -f '${Version}' "$(basename "$script" .postinst)")
    DPKG_MAINTSCRIPT_PACKAGE=x "$script" configure "$version"
done
list >/tmp/again
diff -u /tmp/installed /tmp/again
for action in remove purge; do
    dpkg --force-depends --$action $(dpkg-query -W -f '${Package}\n' 'acme-*') >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
done
list >/tmp/after
diff -u /tmp/before /tmp/after
test ! -e /var/lib/rolesmith
grep -c . /tmp/installed
"#;

#[test]
#[ignore = "needs root: installs packages in root trees"]
fn in_a_chroot_scripts_start_nothing_repeat_and_leave_nothing() {
    for name in SUITES {
        let suite = Suite::tools(name);
        let fleet = example_without_mirror(&format!("scripts-{name}"), name);
        fleet.run(&["build", "--without-agent"]);
        let script = SCRIPT.replace("LIST", LIST);
        let said = suite.must(&[(&fleet.dir.join("dist/packages"), "/packages")], &script);
        println!("{name}: {} files were there in between", said.trim());
    }
}
