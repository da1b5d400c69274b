//! Packages as they come from the plan: their maintainer scripts, run by sh with stand-ins for what they call, and their layout.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run real tools"
)]

mod layout;
mod package;
mod stage;

use package::{everything, nothing, scripts};
use stage::Stage;

/// What dpkg calls the scripts with (Policy 6.5); the first is the one that is looked at closely.
const CALLS: [(&str, &[&[&str]]); 4] = [
    (
        "preinst",
        &[
            &["install"],
            &["install", "1"],
            &["upgrade", "1"],
            &["abort-upgrade", "2"],
        ],
    ),
    (
        "postinst",
        &[
            &["configure", ""],
            &["configure", "1"],
            &["abort-upgrade", "2"],
            &["abort-remove", "in-favour", "other", "1"],
            &["abort-deconfigure", "in-favour", "other", "1"],
        ],
    ),
    (
        "prerm",
        &[
            &["remove"],
            &["upgrade", "2"],
            &["failed-upgrade", "1"],
            &["deconfigure", "in-favour", "other", "1"],
        ],
    ),
    (
        "postrm",
        &[
            &["remove"],
            &["purge"],
            &["upgrade", "2"],
            &["failed-upgrade", "1"],
            &["abort-install"],
            &["abort-upgrade", "1"],
            &["disappear", "other", "1"],
        ],
    ),
];

#[test]
fn every_call_of_dpkg_is_answered_twice_and_no_other() {
    let stage = Stage::new(&scripts(&everything()));
    for (script, calls) in CALLS {
        for call in calls {
            stage.must(script, call);
            stage.must(script, call);
        }
        let (code, said) = stage.run(script, &["frobnicate"]);
        assert_eq!(code, 1, "{script}: {said}");
        assert!(
            said.contains("unknown argument 'frobnicate'"),
            "{script}: {said}"
        );
    }
}

#[test]
fn in_another_root_a_package_is_configured_and_nothing_starts() {
    let stage = Stage::new(&scripts(&everything()));
    stage.must("preinst", &["install"]);
    stage.must("postinst", &["configure", ""]);
    let root = stage.root().display().to_string();
    assert_eq!(
        stage.calls(),
        [
            "fragment preinst".to_owned(),
            format!("systemd-sysusers --root={root} acme-test.conf"),
            format!("systemd-tmpfiles --root={root} --create acme-test.conf"),
            "deb-systemd-helper unmask rolesmith-test.service".into(),
            "deb-systemd-helper --quiet was-enabled rolesmith-test.service".into(),
            "deb-systemd-helper enable rolesmith-test.service".into(),
            "deb-systemd-helper unmask rolesmith-later.service".into(),
            "fragment postinst".into(),
        ]
    );
    assert_eq!(stage.read("var/lib/rolesmith/roles/test"), "7\n");

    let first = stage.files();
    stage.must("postinst", &["configure", "7"]);
    assert_eq!(first, stage.files(), "a second run changes nothing");
}

#[test]
fn a_unit_that_an_administrator_disabled_stays_disabled() {
    let stage = Stage::new(&scripts(&everything()));
    stage.write("disabled", "");
    stage.must("postinst", &["configure", "6"]);
    let calls = stage.calls().join("\n");
    assert!(
        calls.contains("deb-systemd-helper update-state rolesmith-test.service"),
        "{calls}"
    );
    assert!(!calls.contains("deb-systemd-helper enable"), "{calls}");
}

#[test]
fn a_purge_leaves_what_belongs_to_others() {
    let stage = Stage::new(&scripts(&everything()));
    stage.must("postinst", &["configure", ""]);
    stage.write("var/lib/rolesmith/conf/test/made-on-the-node", "secret");
    stage.write("var/lib/rolesmith/conf/other/file", "");
    stage.must("prerm", &["remove"]);
    stage.must("postrm", &["remove"]);
    assert_eq!(
        stage.files(),
        [
            "var/lib/rolesmith/conf/other/file",
            "var/lib/rolesmith/conf/test/made-on-the-node"
        ],
        "the agent sees at once that the role is gone; its files stay for a return"
    );
    stage.must("postrm", &["purge"]);
    assert_eq!(stage.files(), ["var/lib/rolesmith/conf/other/file"]);
    let calls = stage.calls().join("\n");
    assert!(
        calls.contains("deb-systemd-helper purge rolesmith-test.service"),
        "{calls}"
    );
    assert!(calls.ends_with("fragment purge"), "{calls}");
    assert!(
        !calls.contains("systemctl") && !calls.contains("deb-systemd-invoke"),
        "{calls}"
    );

    std::fs::remove_dir_all(stage.root().join("var/lib/rolesmith/conf/other")).unwrap();
    stage.must("postrm", &["purge"]);
    assert!(
        !stage.root().join("var/lib/rolesmith").exists(),
        "the last one takes the directories"
    );
}

/// A postrm may rely on essential packages alone (Policy 7.2); what is missing is not asked for.
#[test]
fn a_purge_needs_no_service_manager() {
    let stage = Stage::new(&scripts(&everything()));
    stage.must("postinst", &["configure", ""]);
    stage.take_stand_ins_away();
    stage.must("postrm", &["remove"]);
    stage.must("postrm", &["purge"]);
    assert!(stage.files().is_empty(), "{:?}", stage.files());
}

#[test]
fn a_package_of_files_alone_has_no_scripts() {
    assert!(scripts(&nothing()).iter().next().is_none());
}
