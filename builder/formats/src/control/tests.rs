use proptest::prelude::*;

use super::*;

#[test]
fn description_is_folded_as_policy_says() {
    let mut p = Paragraph::new();
    p.push("Package", "a").unwrap();
    p.push(
        "Description",
        description("short", "one\n\n  verbatim\nlast\n"),
    )
    .unwrap();
    let text = p.to_string();
    assert_eq!(
        text,
        "Package: a\nDescription: short\n one\n .\n   verbatim\n last\n"
    );
    assert_eq!(Paragraph::parse(&text).unwrap(), p);
}

#[test]
fn list_fields_start_on_their_own_line() {
    let text = "Origin: acme\nSHA256:\n 00 1 main/a\n 11 2 main/b\n";
    let p = Paragraph::parse(text).unwrap();
    assert_eq!(p.get("sha256"), Some("\n00 1 main/a\n11 2 main/b"));
    assert_eq!(p.to_string(), text);
}

#[test]
fn what_dpkg_rejects_is_rejected() {
    let syntax = |text: &str| matches!(Paragraph::parse(text), Err(ControlError::Syntax { .. }));
    assert!(syntax("Package: a\r\n"), "CRLF");
    assert!(syntax("Package: a"), "no final newline");
    assert!(syntax("Package: a\n\n"), "blank line at the end");
    assert!(syntax("\nPackage: a\n"), "blank line before");
    assert!(
        syntax("Package: a\n \t\nVersion: 1\n"),
        "line of white space"
    );
    assert!(syntax(" a\n"), "continuation first");
    assert!(syntax("Package\n"), "no colon");
    assert_eq!(
        Paragraph::parse("Package: a\npackage: b\n"),
        Err(ControlError::DuplicateField("package".to_owned()))
    );
    assert_eq!(
        Paragraph::parse("A: 1\n\nB: 2\n"),
        Err(ControlError::NotOneParagraph(2))
    );
    assert_eq!(Paragraph::parse(""), Err(ControlError::NotOneParagraph(0)));
    assert!(matches!(
        Paragraph::parse("# A: 1\n"),
        Err(ControlError::FieldName(_))
    ));
}

#[test]
fn values_that_would_not_survive_are_refused() {
    let mut p = Paragraph::new();
    assert!(matches!(
        p.push("A", " \n "),
        Err(ControlError::EmptyValue(_))
    ));
    assert!(matches!(
        p.push("A", "x\r\ny"),
        Err(ControlError::ControlCharacter(_))
    ));
    assert!(matches!(
        p.push("A", "x\n."),
        Err(ControlError::LoneFullStop(_))
    ));
    assert!(matches!(
        p.push("A", "x\n"),
        Err(ControlError::TrailingBlankLine(_))
    ));
    assert!(matches!(
        p.push("A b", "x"),
        Err(ControlError::FieldName(_))
    ));
    assert!(matches!(p.push("", "x"), Err(ControlError::FieldName(_))));
    p.push("A", "x").unwrap();
    assert!(matches!(
        p.push("a", "y"),
        Err(ControlError::DuplicateField(_))
    ));
    p.set("a", "y").unwrap();
    assert_eq!(p.to_string(), "A: y\n");
}

#[test]
fn set_after_moves() {
    let mut p = Paragraph::parse("A: 1\nB: 2\nC: 3\n").unwrap();
    p.set_after("A", "C", "4")
        .unwrap()
        .set_after("nowhere", "D", "5")
        .unwrap();
    assert_eq!(p.to_string(), "A: 1\nC: 4\nB: 2\nD: 5\n");
}

#[test]
fn many_paragraphs_are_read_until_the_first_error() {
    let read: Vec<_> = parse_many("\n\nA: 1\n\n\nB: 2\n\nbroken\n\nC: 3\n").collect();
    assert_eq!(read.len(), 3);
    assert!(read[0].is_ok() && read[1].is_ok());
    assert_eq!(
        read[2],
        Err(ControlError::Syntax {
            line: 8,
            reason: "no colon after a field name"
        })
    );
}

fn any_paragraph() -> impl Strategy<Value = Paragraph> {
    proptest::collection::vec(
        (
            "[A-Za-z][A-Za-z0-9-]{0,12}",
            "\\PC{0,20}(\n\\PC{0,20}){0,4}",
        ),
        1..8,
    )
    .prop_map(|fields| {
        let mut paragraph = Paragraph::new();
        paragraph.push("Package", "seed").unwrap();
        for (name, value) in fields {
            // What cannot be represented is refused by push; the others must survive.
            let _ = paragraph.push(name, value);
        }
        paragraph
    })
}

proptest! {
    #[test]
    fn written_paragraphs_read_back(paragraph in any_paragraph()) {
        prop_assert_eq!(Paragraph::parse(&paragraph.to_string()), Ok(paragraph));
    }

    #[test]
    fn many_read_back(paragraphs in proptest::collection::vec(any_paragraph(), 0..5)) {
        let text = paragraphs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        prop_assert_eq!(parse_many(&text).collect::<Result<Vec<_>, _>>(), Ok(paragraphs));
    }

    #[test]
    fn the_reader_never_panics_and_what_it_accepts_is_stable(text in "[A-C: .\r\n\t-]{0,60}") {
        if let Ok(paragraph) = Paragraph::parse(&text) {
            prop_assert_eq!(Paragraph::parse(&paragraph.to_string()), Ok(paragraph));
        }
    }
}
