use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60;

fn alarms(names: &[&str]) -> BTreeMap<String, String> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), format!("{name} is wrong")))
        .collect()
}

/// A look a minute: what each mail said was new and had ended, with its minute.
fn run(looks: &[&[&str]]) -> Vec<(u64, Vec<String>, Vec<String>)> {
    let mut memory = Memory::default();
    let mut mails = Vec::new();
    for (minute, names) in (0..).zip(looks) {
        let now = 1_000_000 + minute * MINUTE;
        memory.observe(&alarms(names), now);
        if let Some(news) = memory.news(now) {
            memory.tell(&news, now);
            let names = |alarms: BTreeMap<String, Known>| alarms.into_keys().collect();
            mails.push((minute, names(news.new), names(news.ended)));
        }
    }
    mails
}

fn mail(minute: u64, new: &[&str], ended: &[&str]) -> (u64, Vec<String>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    (minute, owned(new), owned(ended))
}

#[test]
fn an_alarm_and_its_end_are_told_once() {
    let mut looks: Vec<&[&str]> = vec![&["a"]; 30];
    looks.extend([&[] as &[&str]; 30]);
    // It stands for two minutes before it is told; its end is told when it is gone for five.
    assert_eq!(run(&looks), [mail(2, &["a"], &[]), mail(34, &[], &["a"])]);
}

#[test]
fn what_is_over_in_a_minute_is_told_to_nobody() {
    let looks: Vec<&[&str]> = vec![&[], &["a"], &["a"], &[], &[], &[], &[], &[], &[], &[]];
    assert_eq!(run(&looks), []);
}

#[test]
fn what_comes_and_goes_is_one_alarm() {
    let mut looks: Vec<&[&str]> = Vec::new();
    for minute in 0..60 {
        looks.push(if minute % 2 == 0 { &["a"] } else { &[] });
    }
    looks.extend([&[] as &[&str]; 20]);
    assert_eq!(run(&looks), [mail(2, &["a"], &[]), mail(63, &[], &["a"])]);
}

#[test]
fn what_comes_after_a_mail_waits_for_the_next() {
    let mut looks: Vec<&[&str]> = vec![&["a"], &["a", "b"], &["a", "b"]];
    looks.extend([&["a", "b", "c"] as &[&str]; 20]);
    assert_eq!(
        run(&looks),
        [mail(2, &["a"], &[]), mail(7, &["b", "c"], &[])]
    );
}

#[test]
fn a_mail_that_could_not_be_handed_over_is_tried_again() {
    let mut memory = Memory::default();
    let now = 1_000_000;
    for minute in 0..4 {
        memory.observe(&alarms(&["a"]), now + minute * MINUTE);
    }
    let later = now + 3 * MINUTE;
    let first = memory.news(later).expect("it stands");
    // Nobody said that it was told.
    memory.observe(&alarms(&["a"]), later + MINUTE);
    let second = memory.news(later + MINUTE).expect("it still stands");
    assert!(first.new.keys().eq(second.new.keys()));
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up() {
    let mut memory = Memory::default();
    for minute in 0..4 {
        memory.observe(&alarms(&["a"]), 1_000_000 + minute * MINUTE);
    }
    let news = memory.news(1_000_180).expect("news");
    memory.tell(&news, 1_000_180);
    for minute in 0..4 {
        memory.observe(&alarms(&["b"]), 1_000 + minute * MINUTE);
    }
    let news = memory
        .news(1_180)
        .expect("the mail of the future does not count");
    assert!(news.new.contains_key("b"));
}

#[test]
fn memory_is_kept_as_it_is() {
    let mut memory = Memory::default();
    memory.observe(&alarms(&["a", "b"]), 5);
    memory.sent.push(5);
    let text = serde_json::to_string(&memory).unwrap();
    assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), memory);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever happens on a machine in three days, nobody gets more than that; each alarm is told at most once before its end is,
    /// and ends only if it was told.
    #[test]
    fn mails_are_bounded_and_in_order(
        looks in proptest::collection::vec(proptest::collection::vec(0..20_usize, 0..6), 4320..4321)
    ) {
        let names: Vec<String> = (0..20).map(|n| format!("alarm {n}")).collect();
        let looks: Vec<Vec<&str>> = looks
            .iter()
            .map(|look| look.iter().map(|n| names[*n].as_str()).collect())
            .collect();
        let looks: Vec<&[&str]> = looks.iter().map(Vec::as_slice).collect();
        let mails = run(&looks);
        for day in mails.chunk_by(|a, b| a.0 / 1440 == b.0 / 1440) {
            // Twelve five minutes apart, the others an hour.
            prop_assert!(day.len() <= MANY + 24, "{} mails", day.len());
        }
        for pair in mails.windows(2) {
            prop_assert!((pair[1].0 - pair[0].0) * MINUTE >= PAUSE);
        }
        let mut told = std::collections::BTreeSet::new();
        for (_, new, ended) in mails {
            for name in ended {
                prop_assert!(told.remove(&name), "{name} ended and was never told");
            }
            for name in new {
                prop_assert!(told.insert(name.clone()), "{name} was told twice");
            }
        }
    }
}
