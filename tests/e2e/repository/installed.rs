//! The builder's own package: installed with dpkg alone, it builds a whole fleet, the agent's package included.

use crate::{SUITES, own_package, suite::Suite};

const SCRIPT: &str = r"
set -e
: >/tmp/start
dpkg --install /own/rolesmith_*.deb >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
cd /tmp
rolesmith --version
rolesmith init fleet --example --suite SUITE
rolesmith -C fleet check
rolesmith -C fleet build
test -e fleet/dist/packages/rolesmith-agent_*.deb
for schema in fleet role; do
    rolesmith schema $schema | cmp - /usr/share/rolesmith/$schema.schema.json
done
rolesmith completions bash | cmp - /usr/share/bash-completion/completions/rolesmith
dpkg --purge rolesmith >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
find / -xdev -name '*rolesmith*' ! -path '/tmp/*' ! -path '/var/lib/dpkg/*' ! -path '/own/*' | { ! grep .; }
";

#[test]
#[ignore = "needs root: installs the builder in root trees"]
fn an_installed_builder_makes_a_whole_fleet_by_itself() {
    let package = own_package("rolesmith_");
    for name in SUITES {
        let suite = Suite::tools(name);
        let own = package.parent().expect("a package lies in a directory");
        suite.must(&[(own, "/own")], &SCRIPT.replace("SUITE", name));
    }
}
