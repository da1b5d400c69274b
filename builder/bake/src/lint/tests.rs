//! Each lint has trees that fail it, and one tree passes them all.

mod archives;
mod failing;
mod sample;

use std::collections::BTreeSet;

use rolesmith_host::scan::{Known, SecretScan};

use super::{lints, look, tree::Tree};
use failing::FAILING;
use sample::{Sample, expected};

/// A secret of the fleet.
const SECRET: &str = "4f1c2d7a90be55e3";

fn secrets() -> SecretScan {
    SecretScan::new([Known::new("redis-password", SECRET)]).unwrap()
}

fn read(sample: &Sample) -> Tree {
    Tree::read(sample.archive().as_slice(), &secrets()).unwrap()
}

#[test]
fn a_good_tree_passes_all() {
    let findings = look(&read(&Sample::good()), &expected());
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn each_failing_tree_fails_its_lint_alone() {
    for (lint, place, spoil) in FAILING {
        let (mut sample, mut expected) = (Sample::good(), expected());
        spoil(&mut sample, &mut expected);
        let findings = look(&read(&sample), &expected);
        assert!(
            findings
                .iter()
                .any(|finding| finding.lint == *lint && finding.path.starts_with(place)),
            "{lint} says nothing of {place}: {findings:#?}"
        );
        let others = findings.iter().find(|finding| finding.lint != *lint);
        assert_eq!(others, None, "{lint} at {place}");
    }
}

#[test]
fn no_lint_is_without_a_failing_tree() {
    let failing: BTreeSet<&str> = FAILING.iter().map(|(lint, ..)| *lint).collect();
    let all: BTreeSet<&str> = lints().iter().map(|lint| lint.name).collect();
    assert_eq!(failing, all);
    assert_eq!(all.len(), lints().len(), "two lints have one name");
}

#[test]
fn a_lint_does_not_say_a_thing_a_thousand_times() {
    let mut sample = Sample::good();
    for number in 0..1000 {
        sample.file(&format!("var/log/{number}.log"), "");
    }
    let findings = look(&read(&sample), &expected());
    assert_eq!(findings.len(), 10);
    assert!(
        findings[9].reason.ends_with("(and 990 more)"),
        "{}",
        findings[9]
    );
}

#[test]
fn a_finding_shows_no_secret() {
    let mut sample = Sample::good();
    sample.file("etc/motd", &format!("password {SECRET}\n"));
    let text = format!("{:?}", look(&read(&sample), &expected()));
    assert!(
        text.contains("redis-password") && !text.contains(SECRET),
        "{text}"
    );
}

/// docs/image-lints.md has a row for each lint, in their order, and no other.
#[test]
fn the_documentation_has_every_lint() {
    let text = include_str!("../../../../docs/image-lints.md");
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let wanted: Vec<String> = lints()
        .iter()
        .map(|lint| format!("| `{}` | {} | {} |", lint.name, lint.rule, lint.why))
        .collect();
    assert!(
        rows == wanted,
        "the table of lints in docs/image-lints.md should be\n{}",
        wanted.join("\n")
    );
}
