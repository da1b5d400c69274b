use std::fmt::Write as _;

use super::most_copies;
use crate::{
    finding::{Findings, Severity},
    role::Roles,
    source::{RoleDir, Sources},
    validate,
};

const HEAD: &str = r#"
[fleet]
name = "acme"
maintainer = "Operations <ops@example.com>"
domain = "example.com"
[repository]
url = "https://apt.example.com"
[network]
private = "10.77.0.0/24"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ ops"]
"#;

/// Roles in a few words: one that forms the database, one that requires it, one on top of it, a witness, a database that
/// stands alone.
const ROLES: [(&str, &str); 6] = [
    ("base", ""),
    ("database", "[cluster]\nkind = \"postgresql\"\n"),
    ("shop", "requires = [\"database\"]\n"),
    ("busy", "extends = \"database\"\n"),
    ("db-witness", "requires = [\"base\"]\n"),
    (
        "alone",
        "[cluster]\njoin = \"/usr/lib/rolesmith/alone/join\"\n",
    ),
];

/// What is said of a fleet with these roles on its nodes, as code and severity, and how many copies it comes to.
fn said(nodes: &[&str], more: &str) -> (Vec<(&'static str, Severity)>, Option<u32>) {
    let mut text = format!("{HEAD}{more}\n");
    for (number, role) in nodes.iter().enumerate() {
        let roles = role.replace(' ', "\", \"");
        writeln!(
            text,
            "[nodes.n{number}]\nroles = [\"{roles}\"]\naddress = \"10.77.0.{}\"",
            11 + number
        )
        .unwrap();
    }
    let mut sources = Sources::new();
    sources.fleet = Some(sources.add("fleet.toml", text.as_bytes()));
    for (name, rest) in ROLES {
        let head = "[role]\nsummary = \"a role\"\ndescription = \"Does something.\"\n";
        let manifest = sources.add(
            format!("builtin:{name}"),
            format!("{head}{rest}").as_bytes(),
        );
        sources.roles.push(RoleDir {
            name: name.into(),
            builtin: true,
            manifest,
            files: [].into(),
        });
    }
    let mut findings = Findings::new();
    let roles = Roles::load(&sources, &mut findings);
    assert!(!findings.has_errors(), "{:?}", findings.as_slice());
    let fleet = validate::fleet::load(&sources, &roles, &mut findings);
    let found = findings.as_slice().iter().map(|f| (f.code, f.severity));
    (
        found.collect(),
        fleet.map(|fleet| fleet.services.database.synchronous),
    )
}

#[test]
fn what_a_shape_promises_is_told_and_three_nodes_need_no_word() {
    use Severity::{Advice, Error, Warning};
    type Case = (&'static [&'static str], &'static [(&'static str, Severity)]);
    const ONE: (&str, Severity) = ("fleet::one-data-node", Advice);
    const SURPLUS: (&str, Severity) = ("fleet::witness-surplus", Advice);
    let cases: [Case; 20] = [
        (&["base"], &[]),
        (&["database"], &[ONE]),
        (&["database", "base"], &[ONE]),
        (
            &["database", "db-witness"],
            &[ONE, ("fleet::witness-of-one", Warning)],
        ),
        (
            &["database", "database"],
            &[("fleet::two-data-nodes", Warning)],
        ),
        (&["shop", "busy"], &[("fleet::two-data-nodes", Warning)]),
        (
            &["database", "shop", "db-witness"],
            &[("fleet::two-and-witness", Advice)],
        ),
        (
            &["database", "database", "db-witness", "db-witness"],
            &[SURPLUS],
        ),
        (&["database", "busy", "shop"], &[]),
        (
            &["database", "database", "database", "db-witness"],
            &[SURPLUS],
        ),
        (&["database"; 4], &[("fleet::even-voters", Advice)]),
        (
            &["database", "database", "database", "database", "db-witness"],
            &[],
        ),
        (&["database"; 5], &[("fleet::more-copies", Advice)]),
        (&["alone", "alone"], &[]),
        (&["alone", "database", "base"], &[ONE]),
        (
            &["db-witness"],
            &[("fleet::witness-without-database", Error)],
        ),
        (
            &["alone", "db-witness", "db-witness"],
            &[("fleet::witness-without-database", Error)],
        ),
        (
            &["database db-witness", "database", "database"],
            &[("fleet::witness-with-data", Error)],
        ),
        (
            &["shop db-witness", "database"],
            &[("fleet::witness-with-data", Error)],
        ),
        (&["db-witness busy"], &[("fleet::witness-with-data", Error)]),
    ];
    for (nodes, wanted) in cases {
        assert_eq!(said(nodes, "").0, wanted, "{nodes:?}");
    }
}

#[test]
fn commits_wait_for_as_many_copies_as_the_nodes_allow() {
    let copies =
        |nodes: &[&str], text: &str| said(nodes, &format!("[database]\nsynchronous = {text:?}"));
    let three = ["database"; 3];
    assert_eq!(said(&three, "").1, Some(1));
    for (nodes, text, wanted) in [
        (3, "any-1", Some(1)),
        (1, "any-1", Some(1)),
        (3, "any-2", None),
        (4, "any-2", None),
        (5, "any-2", Some(2)),
        (5, "any-1", Some(1)),
        (6, "any-3", None),
        (7, "any-3", Some(3)),
        (3, "any-0", None),
        (3, "any-01", None),
        (3, "any-+1", None),
        (3, "any-", None),
        (3, "1", None),
        (3, "first-1", None),
        (3, "any-99999999999999999999", None),
        (3, "any-4294967295", None),
    ] {
        let (said, found) = copies(&vec!["database"; nodes], text);
        assert_eq!(found, wanted, "{text} of {nodes}: {said:?}");
    }
    // Who wrote it knows it.
    assert_eq!(copies(&["database"; 5], "any-1").0, []);
}

#[test]
fn no_more_copies_than_the_core_would_ask_for() {
    for (data, most) in [
        (0, 1),
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 1),
        (5, 2),
        (6, 2),
        (7, 3),
    ] {
        assert_eq!(most_copies(data), most, "{data}");
    }
}
