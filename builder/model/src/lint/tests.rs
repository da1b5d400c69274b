use super::{description, summary};
use crate::{
    finding::{Findings, Place},
    source::Sources,
};

/// What a check says about a text, or nothing.
fn said(check: impl FnOnce(Place, &mut Findings)) -> Vec<String> {
    let mut sources = Sources::new();
    let place = Place::whole(sources.add("role.toml", &b""[..]));
    let mut findings = Findings::new();
    check(place, &mut findings);
    findings
        .as_slice()
        .iter()
        .map(|f| f.message.clone())
        .collect()
}

#[test]
fn descriptions_that_a_control_file_or_lintian_would_not_take() {
    for (text, problem) in [
        ("One.\r\nTwo.", "carriage return"),
        ("Bell\u{7}.", "control character"),
        (" Verbatim at once.", "begins with a space"),
        ("One.\n.\nTwo.", "full stop"),
        ("One.\n.hidden", "full stop"),
        ("Brings\n- this,\n- that.", "list"),
    ] {
        let said = said(|place, findings| description("summary", text, place, findings));
        assert!(
            matches!(said.as_slice(), [one] if one.contains(problem)),
            "{text:?}: {said:?}"
        );
    }
}

#[test]
fn descriptions_as_policy_has_them() {
    for text in [
        "Two paragraphs.\n\nThe second.",
        "A list:\n * this,\n * that.",
        "A thought - interrupted.\n- A line that begins with a dash alone is none.",
    ] {
        let said = said(|place, findings| description("summary", text, place, findings));
        assert!(said.is_empty(), "{text:?}: {said:?}");
    }
}

#[test]
fn a_tab_is_no_part_of_a_summary() {
    let said = said(|place, findings| summary("Redis\tand Sentinel", place, findings));
    assert!(
        matches!(said.as_slice(), [one] if one.contains("tab")),
        "{said:?}"
    );
}
