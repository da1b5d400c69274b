//! What there is on the machine: files, units and users.

use std::collections::BTreeMap;

use rolesmith_tests::Fleet;

use super::NODE;

/// Everything, by name.
#[derive(Debug)]
pub struct Inventory {
    /// Type, mode, owner, target of a link; below /etc the sum of the contents, too.
    pub files: BTreeMap<String, String>,
    /// State of every unit file.
    pub units: BTreeMap<String, String>,
    /// Users and groups.
    pub names: BTreeMap<String, String>,
}

/// Takes it. Caches, logs of other programs, run-time state and what changes by itself are left out.
pub fn take(fleet: &Fleet) -> Inventory {
    let files = fleet.must(
        NODE,
        r#"find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/tmp -o -path /dev \
            -o -path /var/cache -o -path /var/log/journal -o -path /var/lib/apt/lists -o -path /var/lib/dpkg \) -prune \
            -o -printf '%p\t%y %m %u:%g %l\n'
        find /etc -xdev -type f -exec sha256sum {} + |
            awk '{ sum = $1; sub(/^[^ ]+  /, ""); print "content of " $0 "\t" sum }'"#,
    );
    let units = fleet.must(
        NODE,
        r#"systemctl list-unit-files --no-legend --no-pager | awk '{ print $1 "\t" $2 }'"#,
    );
    let names = fleet.must(
        NODE,
        r#"getent passwd | awk -F: '{ print "user " $1 "\t" $0 }'
        getent group | awk -F: '{ print "group " $1 "\t" $0 }'"#,
    );
    Inventory {
        files: table(&files),
        units: table(&units),
        names: table(&names),
    }
}

fn table(text: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        line.split_once('\t')
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// What came, went or changed, one line each.
pub fn difference(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in after {
        match before.get(name) {
            None => found.push(format!("+ {name} ({value})")),
            Some(was) if was != value => found.push(format!("~ {name} ({was} -> {value})")),
            Some(_) => {}
        }
    }
    found.extend(
        before
            .keys()
            .filter(|name| !after.contains_key(*name))
            .map(|name| format!("- {name}")),
    );
    found
}
