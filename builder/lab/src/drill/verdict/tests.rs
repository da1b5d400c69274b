use proptest::prelude::*;

use super::*;
use crate::drill::{Moment, parse_entries, parse_events, parse_rows};

const MS: u64 = 1_000_000;

fn at(ms: u64) -> Moment {
    Moment {
        monotonic: ms * MS,
        realtime: 1_700_000_000_000_000_000 + ms * MS,
    }
}

fn event(event: EventKind, ms: u64, nodes: &[&str]) -> Event {
    Event {
        event,
        at: at(ms),
        what: String::new(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
    }
}

/// A control of 2 s, a fault that takes node n1, and an end after 12 s.
fn events() -> Vec<Event> {
    vec![
        event(EventKind::Control, 0, &[]),
        event(EventKind::Fault, 2000, &["n1"]),
        event(EventKind::Heal, 8000, &[]),
        event(EventKind::End, 12_000, &[]),
    ]
}

/// Every writer writes each 50 ms, and nobody is served between 2 s and `back` ms; n1 was the primary, n2 is then.
fn entries(back: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (index, node) in ["n1", "n2", "n3"].into_iter().enumerate() {
        for step in 0..240 {
            let sent = step * 50;
            let down = (2000..back).contains(&sent);
            let (server, timeline) = if sent < 2000 { ("n1", 1) } else { ("n2", 2) };
            entries.push(Entry {
                writer: format!("{node}-pooler"),
                node: node.to_owned(),
                via: Via::Pooler,
                number: index as u64 * 1000 + step,
                sent: at(sent),
                returned: Some(at(sent + 3)),
                result: if down { Outcome::Failed } else { Outcome::Ok },
                error: down.then(|| "57P03 it starts".to_owned()),
                server: (!down).then(|| server.to_owned()),
                timeline: (!down).then_some(timeline),
            });
        }
    }
    entries
}

fn rows(entries: &[Entry]) -> Vec<u64> {
    let ok = entries.iter().filter(|entry| entry.result == Outcome::Ok);
    ok.map(|entry| entry.number).collect()
}

fn verdict(entries: &[Entry], rows: &[u64]) -> Verdict {
    judge(&Question {
        entries,
        events: &events(),
        rows,
    })
}

#[test]
fn a_clean_run_passes_and_its_interruption_is_measured() {
    let entries = entries(5000);
    let verdict = verdict(&entries, &rows(&entries));
    assert_eq!(verdict.case(), Case::Passed, "{verdict:?}");
    assert_eq!(verdict.control.max, 50 * MS);
    // From the last one before the fault to the first one after it; the writer on the node that was taken does not count.
    assert_eq!(verdict.interruption.max, 3050 * MS);
    assert_eq!(verdict.interruption.median, 3050 * MS);
    let writers: Vec<_> = verdict.interruption.writers.keys().collect();
    assert_eq!(writers, ["n2-pooler", "n3-pooler"]);
    assert_eq!(verdict.reigns.len(), 2);
    assert_eq!(verdict.ok + verdict.failed, verdict.attempts);
}

#[test]
fn a_row_that_is_there_although_its_outcome_is_unknown_is_no_fault() {
    let mut entries = entries(5000);
    entries[41].result = Outcome::Unknown;
    entries[42].result = Outcome::Sent;
    let number = entries[41].number;
    let with: Vec<u64> = rows(&entries).into_iter().chain([number]).collect();
    assert_eq!(verdict(&entries, &with).case(), Case::Passed);
    assert_eq!(verdict(&entries, &rows(&entries)).case(), Case::Passed);
    assert_eq!(verdict(&entries, &with).unknown, 2);
}

#[test]
fn a_writer_that_is_never_served_again_is_interrupted_to_the_end() {
    let entries = entries(20_000);
    let verdict = verdict(&entries, &rows(&entries));
    assert_eq!(verdict.interruption.max, (12_000 - 1953) * MS);
}

#[test]
fn a_machine_that_is_taken_later_counts_until_then_and_its_successor_when_it_serves() {
    let mut events = events();
    events.insert(2, event(EventKind::Fault, 6000, &["n2"]));
    let mut entries = entries(5000);
    // Machines that boot again at 9 s, and whose poolers serve at 10 s.
    let reborn: Vec<Entry> = entries
        .iter()
        .filter(|entry| entry.node != "n3" && entry.sent.monotonic >= 9000 * MS)
        .map(|entry| Entry {
            writer: format!("{} again", entry.writer),
            number: entry.number + 500,
            result: match entry.sent.monotonic < 10_000 * MS {
                true => Outcome::Failed,
                false => Outcome::Ok,
            },
            ..entry.clone()
        })
        .collect();
    entries.retain(|entry| entry.node != "n2" || entry.sent.monotonic < 6000 * MS);
    entries.extend(reborn);
    let rows = rows(&entries);
    let verdict = judge(&Question {
        entries: &entries,
        events: &events,
        rows: &rows,
    });
    let seen = &verdict.interruption.writers;
    let expected = [
        ("n1-pooler again", 50 * MS),
        ("n2-pooler", 3050 * MS),
        ("n2-pooler again", 50 * MS),
        ("n3-pooler", 3050 * MS),
    ];
    assert_eq!(
        *seen,
        expected
            .map(|(writer, gap)| (writer.to_owned(), gap))
            .into()
    );
}

#[test]
fn a_writer_that_is_started_later_waits_from_then_on() {
    let mut entries = entries(5000);
    // Those of a machine that booted again, behind a pooler that no fault took away.
    let later: Vec<Entry> = entries
        .iter()
        .filter(|entry| entry.node == "n2" && entry.sent.monotonic >= 9000 * MS)
        .map(|entry| Entry {
            writer: "later".to_owned(),
            number: entry.number + 500,
            ..entry.clone()
        })
        .collect();
    entries.extend(later);
    let verdict = verdict(&entries, &rows(&entries));
    assert_eq!(verdict.case(), Case::Passed, "{verdict:?}");
    assert_eq!(verdict.control.writers.len(), 3);
    assert_eq!(verdict.interruption.writers["later"], 50 * MS);
    // Not served at all, it waits from its start on.
    let mut never = entries.clone();
    for entry in never.iter_mut().filter(|entry| entry.writer == "later") {
        entry.result = Outcome::Failed;
    }
    let verdict = self::verdict(&never, &rows(&never));
    assert_eq!(verdict.interruption.writers["later"], 3000 * MS);
}

#[test]
fn writers_on_the_servers_themselves_do_not_measure_the_service() {
    let mut entries = entries(5000);
    for entry in entries.iter_mut().filter(|entry| entry.node == "n3") {
        entry.via = Via::Direct;
    }
    let verdict = verdict(&entries, &rows(&entries));
    assert_eq!(verdict.interruption.writers.len(), 1);
}

#[test]
fn a_slow_control_makes_the_run_invalid_never_passed() {
    let mut slow = entries(5000);
    // n2's writer is not served for 600 ms, on a machine to which nothing was done.
    slow.retain(|entry| entry.node != "n2" || !(500..1100).contains(&(entry.sent.monotonic / MS)));
    let verdict = verdict(&slow, &rows(&slow));
    assert_eq!(verdict.control.max, 650 * MS);
    assert_eq!(verdict.case(), Case::Invalid, "{verdict:?}");
    assert!(verdict.invalid[0].contains("650 ms"));
}

#[test]
fn a_run_without_control_fault_or_writers_is_invalid() {
    let entries = entries(5000);
    let rows = rows(&entries);
    let with = |entries: &[Entry], events: &[Event], rows: &[u64]| {
        judge(&Question {
            entries,
            events,
            rows,
        })
        .case()
    };
    assert_eq!(with(&entries, &events()[1..], &rows), Case::Invalid);
    assert_eq!(with(&entries, &events()[..1], &rows), Case::Invalid);
    assert_eq!(with(&[], &events(), &[]), Case::Invalid);
}

#[test]
fn what_is_lost_counts_in_an_invalid_run_too() {
    let entries = entries(5000);
    let verdict = judge(&Question {
        entries: &entries,
        events: &[],
        rows: &rows(&entries)[1..],
    });
    assert_eq!(verdict.case(), Case::Failed);
    assert_eq!(verdict.lost, [0]);
}

#[test]
fn what_was_in_the_air_when_the_new_primary_began_is_no_proof_of_two() {
    let mut entries = entries(5000);
    let late = entries
        .iter_mut()
        .find(|entry| entry.node == "n1" && entry.sent.monotonic == 1950 * MS)
        .expect("an entry");
    late.returned = Some(at(9000));
    let verdict = verdict(&entries, &rows(&entries));
    assert_eq!(verdict.double, []);
}

#[test]
fn a_primary_that_comes_back_later_is_no_double_one() {
    let mut entries = entries(5000);
    for entry in &mut entries {
        if entry.sent.monotonic >= 9000 * MS {
            entry.server = Some("n1".to_owned());
            entry.timeline = Some(3);
        }
    }
    let verdict = verdict(&entries, &rows(&entries));
    assert_eq!(verdict.double, []);
    assert_eq!(verdict.reigns.len(), 3);
}

#[test]
fn ledgers_are_read_back_and_the_last_line_about_an_attempt_counts() {
    let entries = entries(5000);
    let mut text = String::new();
    for entry in &entries {
        let sent = Entry {
            returned: None,
            result: Outcome::Sent,
            server: None,
            timeline: None,
            error: None,
            ..entry.clone()
        };
        for line in [&sent, entry] {
            text += &serde_json::to_string(line).expect("JSON");
            text.push('\n');
        }
    }
    assert_eq!(parse_entries(&text).expect("a ledger"), entries);
    // A killed writer leaves a line without an end; the attempt's first line stays.
    let cut = &text[..text.len() - 20];
    let read = parse_entries(cut).expect("a ledger");
    assert_eq!(read.len(), entries.len());
    assert_eq!(read[read.len() - 1].result, Outcome::Sent);
    assert_eq!(parse_entries("{}\n").expect_err("no entry").line, 1);
}

#[test]
fn rows_and_events_are_read() {
    assert_eq!(parse_rows("3\n\n5\n3\n"), Ok(vec![3, 5, 3]));
    assert_eq!(parse_rows("3\nx\n").expect_err("no number").line, 2);
    let text: String = events()
        .iter()
        .map(|event| serde_json::to_string(event).expect("JSON") + "\n")
        .collect();
    assert_eq!(parse_events(&text), Ok(events()));
}

proptest! {
    #[test]
    fn every_acknowledged_row_that_is_missing_is_seen(back in 2100u64..11_000, lost in prop::collection::btree_set(0usize..400, 1..20)) {
        let entries = entries(back);
        let all = rows(&entries);
        let lost: BTreeSet<u64> = lost.into_iter().map(|at| all[at % all.len()]).collect();
        let left: Vec<u64> = all.into_iter().filter(|row| !lost.contains(row)).collect();
        let verdict = verdict(&entries, &left);
        prop_assert_eq!(verdict.case(), Case::Failed);
        prop_assert_eq!(verdict.lost.into_iter().collect::<BTreeSet<_>>(), lost);
    }

    #[test]
    fn every_row_too_many_is_seen(back in 2100u64..11_000, at in 0usize..720, times in 1usize..3) {
        let entries = entries(back);
        let number = entries[at].number;
        let result = entries[at].result;
        let rows: Vec<u64> = rows(&entries).into_iter().chain(vec![number; times]).collect();
        let verdict = verdict(&entries, &rows);
        prop_assert_eq!(verdict.case(), Case::Failed);
        if result == Outcome::Failed {
            prop_assert_eq!(verdict.ghosts, vec![number]);
        } else {
            prop_assert_eq!(verdict.duplicate, vec![number]);
        }
    }

    #[test]
    fn a_row_that_nobody_wrote_is_seen(number in 10_000u64..) {
        let entries = entries(5000);
        let rows: Vec<u64> = rows(&entries).into_iter().chain([number]).collect();
        prop_assert_eq!(verdict(&entries, &rows).foreign, vec![number]);
    }

    /// The old primary acknowledges something after the new one's first acknowledgement was back: on its own timeline, or on one
    /// that it was not asked for.
    #[test]
    fn every_acknowledgement_of_an_old_primary_is_seen(late in 1u64..6900, known in any::<bool>()) {
        let mut entries = entries(5000);
        for entry in &mut entries {
            if !known {
                entry.timeline = None;
            }
        }
        let first = 5003;
        let mut old = entries[0].clone();
        old.number = 99_999;
        old.sent = at(first + late);
        old.returned = Some(at(first + late + 1));
        entries.push(old);
        let verdict = verdict(&entries, &rows(&entries));
        prop_assert_eq!(verdict.double.len(), 1);
        prop_assert_eq!(verdict.double[0].number, 99_999);
        prop_assert_eq!(verdict.double[0].old.server.as_str(), "n1");
        prop_assert_eq!(verdict.case(), Case::Failed);
    }

    /// Ledgers come in any order; only within one writer's the order counts.
    #[test]
    fn the_order_of_ledgers_does_not_matter(turn in 0usize..3) {
        let mut entries = entries(5000);
        let whole = verdict(&entries, &rows(&entries));
        entries.rotate_left(turn * 240);
        prop_assert_eq!(verdict(&entries, &rows(&entries)), whole);
    }
}
