//! A version of a package never stands for two files.

use rolesmith_model::lock;
use sha2::{Digest as _, Sha256};

use crate::package::{deb, everything};

/// The inputs' hash of a package that never changes, and what is made of it.
const KNOWN: (&str, &str) = (
    "dfed0633f58d7bb24066433d68881e9c44484b67244d34052a40744620db7f04",
    "30169062f60f47d44996747b4b73636669736e3ee2b7e96bdafa11f7a28dc253",
);

/// Its inputs decide about a package's version. A template in debian/ or the code that puts packages together is no input, so
/// where they change what comes out, the number of the layout has to change, too: then every package gets a new version.
#[test]
fn what_is_made_of_the_same_inputs_changes_with_the_number_of_the_layout() {
    let package = everything();
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let inputs = lock::hash(&package, "nobody");
    let made = hex(&Sha256::digest(deb(&package).bytes()));
    assert!(
        (inputs.as_str(), made.as_str()) == KNOWN,
        "packages are made in another way: raise PACKAGE_LAYOUT in builder/model/src/lock.rs, unless it was raised since \
         the last release, and write here\n(\"{inputs}\", \"{made}\")"
    );
}
