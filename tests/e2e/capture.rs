//! The example fleet, booted once, for what takes longer than `make test` has: what it says on the wire, what it uses when
//! nothing happens, how it takes another CA, and what is left of it when every machine was replaced.

#[path = "capture/authority.rs"]
mod authority;
#[path = "capture/mod.rs"]
mod capture;
#[path = "capture/idle.rs"]
mod idle;
#[path = "capture/replaced.rs"]
mod replaced;

use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};

const NAME: &str = "example";

#[test]
#[ignore = "needs root: boots real machines"]
fn wire_and_figures_and_replacements() {
    need_root();
    let fleet = Fleet::example(NAME, "trixie");
    let _guard = LabGuard(&fleet);
    step("mirror, publish, lab up", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
        fleet.run(&["lab", "up"]);
    });
    step("nothing in clear text on the private network", || {
        capture::nothing_in_clear(&fleet, NAME);
    });
    step("what an idle fleet uses", || idle::measure(&fleet, NAME));
    step("another CA", || authority::replaced(&fleet, NAME));
    step("every machine is replaced", || replaced::each(&fleet, NAME));
}
