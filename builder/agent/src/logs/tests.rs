use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::line::{Stamp, parse};
use super::session::{self, Counter};
use super::verify::{Holding, Since, verify};
use crate::files::Root;

fn text(session: u64, sequence: u64, message: &str) -> String {
    format!(
        "<30>1 2026-03-01T12:00:00.123456+00:00 app-3 nginx 812 - [rolesmith@0 inc=\"1\" ses=\"{session}\" seq=\"{sequence}\"] {message}"
    )
}

fn holding<'a>(lines: impl IntoIterator<Item = &'a String>) -> Holding {
    let mut holding = Holding::default();
    for line in lines {
        holding.add(&parse(line).expect("a line"));
    }
    holding
}

#[test]
fn a_line_is_read_back() {
    let line = text(
        7,
        4711,
        "GET / [rolesmith@0 inc=\"9\" ses=\"9\" seq=\"9\"] x",
    );
    let read = parse(&line).expect("a line");
    assert_eq!(read.host, "app-3");
    let stamp = read.stamp.expect("a stamp");
    assert_eq!(stamp.to_string(), "1.7.4711");
    // The stamp alone makes no other text; anything else does.
    let again = text(8, 1, "GET / [rolesmith@0 inc=\"9\" ses=\"9\" seq=\"9\"] x");
    assert_eq!(parse(&again).expect("a line").digest, read.digest);
    assert_ne!(
        parse(&text(7, 4711, "GET")).expect("a line").digest,
        read.digest
    );
    // A stamp in the text of a line that has none is no stamp.
    let bare = "<13>1 2026-03-01T12:00:00+00:00 app-3 su - - - [rolesmith@0 inc=\"1\" ses=\"1\" seq=\"1\"] x";
    assert_eq!(parse(bare).expect("a line").stamp, None);
    for strange in [
        "",
        "app-3",
        "<30>1 t app-3 nginx 812 -",
        "<30>1 t app-3 nginx 812 - [x@1 a=\"1\"] y",
        &line[..80],
    ] {
        assert_eq!(parse(strange), None, "{strange:?}");
    }
}

#[test]
fn every_start_has_a_number_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = Root::at(dir.path());
    assert_eq!(
        session::start(&root).expect("no identity is no error"),
        None
    );
    fs::create_dir_all(dir.path().join("etc/rolesmith")).expect("made");
    fs::write(
        dir.path().join("etc/rolesmith/node.json"),
        r#"{"fleet":"acme","node":"app-3","incarnation":2,"origin":"seed"}"#,
    )
    .expect("written");
    let stamp_file = dir.path().join(session::STAMP_FILE.trim_start_matches('/'));
    for number in 1..=3 {
        assert_eq!(session::start(&root).expect("started"), Some(number));
        let stamp = fs::read_to_string(&stamp_file).expect("written");
        assert_eq!(stamp, session::stamp(2, number));
        session::end(&root).expect("ended");
    }
    // A counter that cannot be read is no reason to begin at 1 again, nor to keep the last number.
    let counter = dir
        .path()
        .join(session::COUNTER_FILE.trim_start_matches('/'));
    fs::write(counter, "{").expect("written");
    assert!(session::start(&root).is_err());
    assert!(!stamp_file.exists());
}

#[test]
fn after_a_kill_and_only_then_lines_are_read_again() {
    let first = session::begin(Counter::default());
    assert!(!first.again && first.counter.open);
    assert!(session::begin(first.counter).again);
    let closed = Counter {
        open: false,
        ..first.counter
    };
    assert!(!session::begin(closed).again);
}

#[test]
fn what_came_under_a_later_stamp_is_not_missing_once_for_each_copy() {
    let own: Vec<_> = [
        text(1, 1, "a"),
        text(1, 2, "b"),
        text(1, 3, "c"),
        text(2, 1, "b"),
        text(2, 2, "d"),
    ]
    .into();
    let without = |gone: &[usize]| {
        holding(
            own.iter()
                .enumerate()
                .filter(|(i, _)| !gone.contains(i))
                .map(|(_, line)| line),
        )
    };
    let verdict = verify(&holding(&own), &without(&[1]), Since::Always);
    assert!(verdict.is_whole());
    assert_eq!(
        (verdict.sessions[0].held, verdict.sessions[0].again),
        (2, 1)
    );
    // The other way round it is: a later line is not stood for by an earlier one.
    let verdict = verify(&holding(&own), &without(&[3]), Since::Always);
    assert_eq!(verdict.sessions[1].missing, [(1, 1)]);
    assert_eq!(
        verify(&holding(&own), &holding(&own), Since::Always).read_again,
        1
    );
}

#[test]
fn one_number_for_two_lines_is_a_contradiction() {
    let own = holding(&[text(1, 1, "a")]);
    let other = holding(&[text(1, 1, "b")]);
    let verdict = verify(&own, &other, Since::Always);
    assert_eq!(verdict.missing(), 0);
    assert!(!verdict.is_whole());
}

proptest! {
    /// Exactly what was taken away is reported, whatever came twice, in whatever order, in however many sessions.
    #[test]
    fn exactly_the_gaps_are_found(
        sessions in prop::collection::vec(1_u64..60, 1..4),
        gone in prop::collection::btree_set((0_usize..4, 1_u64..60), 0..20),
        order in any::<prop::sample::Index>(),
        twice in 0_usize..30,
    ) {
        let all: Vec<_> = sessions.iter().enumerate()
            .flat_map(|(index, count)| (1..=*count).map(move |sequence| (index as u64 + 1, sequence)))
            .collect();
        let line = |(session, sequence): &(u64, u64)| text(*session, *sequence, &format!("{session}/{sequence}"));
        let own = holding(&all.iter().map(line).collect::<Vec<_>>());
        let gone: BTreeSet<_> = gone.into_iter().map(|(index, sequence)| (index as u64 + 1, sequence)).collect();
        let mut sent: Vec<_> = all.iter().filter(|stamp| !gone.contains(stamp)).map(line).collect();
        let copies: Vec<_> = sent.iter().take(twice).cloned().collect();
        let duplicates = copies.len() as u64;
        sent.extend(copies);
        let middle = order.index(sent.len() + 1);
        sent.rotate_left(middle);
        let verdict = verify(&own, &holding(&sent), Since::Always);
        let found: BTreeSet<_> = verdict.sessions.iter()
            .flat_map(|s| s.missing.iter().flat_map(|(from, to)| (*from..=*to).map(|n| (s.session, n))))
            .collect();
        let expected: BTreeSet<_> = all.iter().filter(|stamp| gone.contains(stamp)).copied().collect();
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(verdict.duplicates, duplicates);
        prop_assert_eq!(verdict.is_whole(), expected.is_empty());
        prop_assert!(verdict.conflicts.is_empty());
    }

    /// The machine may have lost its last lines too: a number that the server has seen proves all below it.
    #[test]
    fn the_highest_number_known_to_anybody_counts(count in 2_u64..50, kept in 1_u64..50, lost in 1_u64..50) {
        let kept = kept.min(count);
        let lost = lost.min(count - 1);
        let lines: Vec<_> = (1..=count).map(|n| text(1, n, &n.to_string())).collect();
        let own = holding(&lines[..kept as usize]);
        let server = holding(lines.iter().enumerate().filter(|(i, _)| *i as u64 + 1 != lost).map(|(_, l)| l));
        prop_assert_eq!(verify(&own, &server, Since::Always).missing(), 1);
    }

    /// A machine that rotated the beginning away cannot prove it; a server that joined later need not have it.
    #[test]
    fn what_was_before_is_not_judged(count in 3_u64..50, from in 2_u64..50) {
        let from = from.min(count);
        let lines: Vec<_> = (1..=count).map(|n| text(1, n, &n.to_string())).collect();
        let late = holding(&lines[from as usize - 1..]);
        let verdict = verify(&late, &late, Since::Always);
        prop_assert!(verdict.is_whole());
        prop_assert_eq!(verdict.sessions[0].unproven, from - 1);
        let all = holding(&lines);
        prop_assert_eq!(verify(&all, &late, Since::Always).missing(), from - 1);
        prop_assert_eq!(verify(&all, &late, Since::ItsFirst).missing(), 0);
    }

    #[test]
    fn no_line_makes_the_reader_panic(line in ".{0,200}") {
        let _ = parse(&line);
    }
}

#[test]
fn stamps_are_in_the_order_of_writing() {
    let stamp = |incarnation, session, sequence| Stamp {
        incarnation,
        session,
        sequence,
    };
    assert!(stamp(1, 9, 9) < stamp(2, 1, 1));
    assert!(stamp(1, 1, 9) < stamp(1, 2, 1));
}
