//! Secrets are in /etc/rolesmith and in the files of the services that use them; nowhere else.

use std::collections::BTreeSet;

use rolesmith_tests::Fleet;

use super::NODES;

/// Looks for every secret of the fleet on every node.
pub fn stay_secret(fleet: &Fleet) {
    let mut values: BTreeSet<String> = NODES
        .iter()
        .flat_map(|node| fleet.seed(node).secret_values())
        .collect();
    // What the seeds did not bring and nodes worked out of it.
    values.extend(NODES.map(|node| {
        let line = fleet.must(node, "sed -n 2p /etc/rolesmith/application.key");
        line.trim().to_owned()
    }));
    assert!(
        values.len() > 5 && values.iter().all(|value| value.len() > 15),
        "{} values worth looking for",
        values.len()
    );
    let plain: String = values.iter().map(|value| format!("{value}\n")).collect();
    for node in NODES {
        // The search finds what is there: a search that finds nothing anywhere would prove nothing.
        look(
            fleet,
            node,
            &plain,
            "grep -rqFf /root/patterns /etc/rolesmith/secrets && echo as expected >&2",
            true,
        );
        look(
            fleet,
            node,
            &plain,
            "grep -rlFf /root/patterns /var/log >&2",
            false,
        );
        look(
            fleet,
            node,
            &plain,
            "journalctl --no-pager -o export | grep -aFf /root/patterns >&2",
            false,
        );
        look(
            fleet,
            node,
            &plain,
            "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -aFf /root/patterns >&2",
            false,
        );
        // As somebody who may log in and nothing else.
        look(
            fleet,
            node,
            &plain,
            "runuser -u nobody -- grep -rlFf - / --exclude-dir=proc --exclude-dir=sys </root/patterns 2>/dev/null >&2",
            false,
        );
        look(
            fleet,
            node,
            &plain,
            "runuser -u nobody -- cat /proc/[0-9]*/environ 2>/dev/null | grep -aFf /root/patterns >&2",
            false,
        );
        // cloud-init's copies of the user-data, in whatever form.
        look(
            fleet,
            node,
            &plain,
            "grep -rlFf /root/patterns /var/lib/cloud /run/cloud-init >&2",
            false,
        );
        fleet.must(node, "for f in $(find /var/lib/cloud -name 'user-data*'); do test ! -s $f || { echo $f; exit 1; }; done");
    }
}

/// Runs a search in a node, whose patterns come by standard input, so that the search itself is not what it finds. `grep` succeeds where
/// it finds something.
fn look(fleet: &Fleet, node: &str, patterns: &str, search: &str, expected: bool) {
    let verdict = if expected {
        "[ $found = 0 ]"
    } else {
        "[ $found != 0 ]"
    };
    let script =
        format!("umask 077; cat >/root/patterns; {search}; found=$?; rm /root/patterns; {verdict}");
    fleet.feed(node, &script, patterns);
}
