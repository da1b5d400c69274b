//! Files as they are after a cat walked over the keyboard: everything is either a plan or a finding, and never a panic.

use proptest::prelude::*;
use rolesmith_model::{
    archive_names::ArchiveNames,
    finding::{Findings, Severity},
    resolve::resolve,
    role::Roles,
    source::{RoleDir, Sources, line_column},
    validate,
};

const FLEET: &str = include_str!("../../../../tests/fleets/valid/worker/fleet.toml");
const ROLE: &str = include_str!("../../../../tests/fleets/valid/worker/roles/worker/role.toml");
const APP: &str = "[role]\nsummary = \"what the others need\"\ndescription = \"Nothing of its own.\"\n[settings]\njournal_size = \"1G\"\n";
const NAMES: &str = "nginx\npython3\npython3-redis\npython3-setproctitle\npython3-tomli\n";

/// The other files of the role, short ones in the place of those that the fleet has.
const FILES: [(&str, &str); 12] = [
    ("files/worker", "#!/bin/sh\ntrue\n"),
    ("files/jail-filter.conf", "[Definition]\n"),
    ("files/cron.conf", "[Service]\nNice=5\n"),
    ("templates/defaults.toml", "jobs = {{ settings.jobs }}\n"),
    (
        "templates/node.toml",
        "{{ node.name }} {{ secret.worker_key }}\n",
    ),
    (
        "templates/peers",
        "{% for m in members %}{{ m.fqdn }}\n{% endfor %}",
    ),
    (
        "units/rolesmith-worker.service",
        "[Unit]\nDescription=d\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "units/rolesmith-worker-clean.service",
        "[Unit]\nDescription=d\n[Service]\nExecStart=/bin/true\n",
    ),
    (
        "units/rolesmith-worker-clean.timer",
        "[Unit]\nDescription=d\n[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n",
    ),
    ("scripts/postinst", "true\n"),
    ("scripts/purge", "true\n"),
    ("unused", ""),
];

/// Everything from texts to findings, as `check` does it. Panics where findings and outcome do not fit each other.
fn check(fleet: &[u8], role: &[u8], file: Option<(usize, &[u8])>) -> bool {
    let mut sources = Sources::new();
    let mut add = |name: &str, manifest: &[u8], files: &[(&str, &[u8])]| {
        let files = files
            .iter()
            .map(|(path, bytes)| {
                (
                    (*path).to_owned(),
                    sources.add(format!("roles/{name}/{path}"), *bytes),
                )
            })
            .collect();
        let manifest = sources.add(format!("roles/{name}/role.toml"), manifest);
        sources.roles.push(RoleDir {
            name: name.to_owned(),
            builtin: name != "worker",
            manifest,
            files,
        });
    };
    for name in ["app", "base", "redis"] {
        add(name, APP.as_bytes(), &[]);
    }
    let mut files: Vec<(&str, &[u8])> = FILES.iter().map(|(p, t)| (*p, t.as_bytes())).collect();
    if let Some((index, bytes)) = file {
        let index = index % files.len();
        files[index].1 = bytes;
    }
    add("worker", role, &files);
    sources.fleet = Some(sources.add("fleet.toml", fleet));

    let mut findings = Findings::new();
    let roles = Roles::load(&sources, &mut findings);
    let fleet = validate::fleet::load(&sources, &roles, &mut findings);
    let names = ArchiveNames::parse(NAMES);
    let plan = fleet.and_then(|fleet| resolve(&sources, &roles, fleet, &names, &mut findings));
    assert_eq!(
        plan.is_none(),
        findings.has_errors(),
        "{:#?}",
        findings.as_slice()
    );
    for finding in findings.into_sorted() {
        let source = sources.get(finding.place.source);
        if let Some(text) = source.text() {
            assert!(
                text.get(finding.place.span.clone()).is_some(),
                "{finding:?} in {text:?}"
            );
            let (line, column) = line_column(text, finding.place.span.start);
            assert!(line >= 1 && column >= 1);
        }
        assert!(
            !finding.message.is_empty() && !finding.message.contains('\n'),
            "{finding:?}"
        );
        assert!(
            finding.why.len() > 3 && finding.help.len() > 3,
            "{finding:?}"
        );
        assert!(finding.code.contains("::"), "{finding:?}");
        assert!(finding.severity >= Severity::Advice);
    }
    plan.is_some()
}

/// Pieces that the files are made of, and others that fit nowhere.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("\"".into()),
        Just("\"\"".into()),
        Just("\n".into()),
        Just("]".into()),
        Just("[".into()),
        Just("[[files]]\n".into()),
        Just("{{ ".into()),
        Just("{{ node.name }}".into()),
        Just("{{ secret.worker_key }}".into()),
        Just("../".into()),
        Just("-1".into()),
        Just("99999999999999999999".into()),
        Just("0".into()),
        Just("true".into()),
        Just("1979-05-27".into()),
        Just("{ a = 1 }".into()),
        Just("[]".into()),
        Just("\u{feff}".into()),
        Just("ä€😀".into()),
        Just("\\u0000".into()),
        Just("/etc/".into()),
        Just("node".into()),
        Just("worker".into()),
        ".{0,5}",
    ]
}

/// A text with some pieces put into the place of words.
fn edited(text: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec((0..text.len(), 0_usize..24, piece()), 1..4).prop_map(move |edits| {
        let mut text = text.to_owned();
        for (at, len, piece) in edits {
            let boundary = |index: usize| {
                (index.min(text.len())..=text.len())
                    .find(|i| text.is_char_boundary(*i))
                    .unwrap_or(text.len())
            };
            let (from, to) = (boundary(at), boundary(at + len));
            text.replace_range(from..to, &piece);
        }
        text
    })
}

#[test]
fn the_files_are_right_before_anybody_edits_them() {
    assert!(check(FLEET.as_bytes(), ROLE.as_bytes(), None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_edited_fleet_is_a_plan_or_a_finding(fleet in edited(FLEET)) {
        check(fleet.as_bytes(), ROLE.as_bytes(), None);
    }

    #[test]
    fn an_edited_role_is_a_plan_or_a_finding(role in edited(ROLE)) {
        check(FLEET.as_bytes(), role.as_bytes(), None);
    }

    #[test]
    fn any_bytes_may_stand_in_a_file(index in 0_usize..12, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        check(FLEET.as_bytes(), ROLE.as_bytes(), Some((index, &bytes)));
    }

    #[test]
    fn any_text_may_stand_in_a_file(index in 0_usize..12, parts in proptest::collection::vec(piece(), 0..9)) {
        check(FLEET.as_bytes(), ROLE.as_bytes(), Some((index, parts.concat().as_bytes())));
    }

    #[test]
    fn any_bytes_may_be_given_as_the_fleet_or_the_role(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,80}") {
        prop_assert!(!check(&bytes, ROLE.as_bytes(), None));
        prop_assert!(!check(FLEET.as_bytes(), &bytes, None));
        prop_assert!(!check(text.as_bytes(), text.as_bytes(), None));
    }
}
