use std::fs;
use std::io::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::files::{of_directory, of_file};
use super::filter::Filter;
use super::*;

fn line(node: &str, at: u64, sequence: u64, message: &str) -> String {
    let (hour, minute, second) = (at / 3600, at / 60 % 60, at % 60);
    format!(
        "<30>1 2026-03-01T{hour:02}:{minute:02}:{second:02}.000000+00:00 {node} s 1 - \
         [rolesmith@0 inc=\"1\" ses=\"1\" seq=\"{sequence}\"] {message}\n"
    )
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    if name.ends_with(".gz") {
        let file = fs::File::create(path).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap();
    } else {
        fs::write(path, text).unwrap();
    }
}

fn found(dir: &Path, filter: &Filter) -> (Vec<String>, Outcome) {
    let mut lines = Vec::new();
    let outcome = search(of_directory(dir, true).unwrap(), filter, |line| {
        let entry = entry::Entry::parse(line).unwrap();
        let text = String::from_utf8_lossy;
        lines.push(format!("{} {}", text(entry.node()), text(entry.message())));
        Ok(())
    });
    (lines, outcome.unwrap())
}

#[test]
fn lines_of_all_files_come_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(
        dir,
        "a.log.2.gz",
        &(line("a", 1, 1, "one") + &line("a", 4, 2, "four")),
    );
    write(dir, "a.log.1", &line("a", 6, 3, "six"));
    write(dir, "a.log", &line("a", 9, 4, "nine"));
    write(
        dir,
        "b.log.1",
        &(line("b", 2, 1, "two") + &line("b", 7, 2, "seven")),
    );
    // Without its end it is being written; without its beginning it was cut off by a power failure.
    write(
        dir,
        "b.log",
        &format!("cut off\n{}<30>1 2026", line("b", 8, 3, "eight")),
    );
    let (lines, outcome) = found(dir, &Filter::default());
    assert_eq!(
        lines,
        [
            "a one", "b two", "a four", "a six", "b seven", "b eight", "a nine"
        ]
    );
    assert_eq!((outcome.found, outcome.strange), (7, 1));
    let filter = Filter {
        pattern: Some(regex::bytes::Regex::new("^.{4,5}$").unwrap()),
        nodes: vec!["a".parse().unwrap()],
        ..Filter::default()
    };
    assert_eq!(found(dir, &filter).0, ["a four", "a nine"]);
    let inverted = Filter {
        invert: true,
        ..filter
    };
    assert_eq!(found(dir, &inverted).0, ["a one", "a six"]);
}

#[test]
fn a_line_that_came_again_is_found_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text: String = [1, 2, 3, 2, 3, 4]
        .map(|n| line("a", n, n, &n.to_string()))
        .concat();
    write(dir, "a.log", &text);
    // Another machine's, and one without a stamp, are lines of their own.
    let bare = "<30>1 2026-03-01T00:00:09Z b s - - - same\n";
    write(dir, "b.log", &(line("b", 8, 3, "3") + bare + bare));
    assert_eq!(
        found(dir, &Filter::default()).0,
        ["a 1", "a 2", "a 3", "a 4", "b 3", "b same", "b same"]
    );
}

#[test]
fn a_log_that_is_gone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "a.log", &line("a", 1, 1, "one"));
    write(dir, "b.log", &line("b", 1, 1, "one"));
    let logs = of_directory(dir, true).unwrap();
    fs::remove_file(dir.join("b.log")).unwrap();
    let outcome = search(logs, &Filter::default(), |_| Ok(())).unwrap();
    assert_eq!(outcome.found, 1);
    assert_eq!(outcome.missed, [dir.join("b.log").display().to_string()]);
}

proptest! {
    /// However the lines of machines are spread over files, those in the time that was asked for are found, and in order.
    #[test]
    fn exactly_the_wanted_lines_are_found(
        lines in prop::collection::vec((0_usize..3, 0_u64..3), 0..60),
        cuts in prop::collection::vec((0_usize..60, any::<bool>()), 0..4),
        since in 0_u64..80, length in 0_u64..80, long in 1_usize..100_000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut at = 0;
        let mut all = Vec::new();
        for (number, (node, pause)) in lines.iter().enumerate() {
            at += pause;
            // Some lines are longer than what is read at once.
            let tail = "x".repeat(if number % 7 == 3 { long } else { number });
            all.push((at, *node, number, tail));
        }
        let mut cuts: Vec<_> = cuts.into_iter().filter(|(place, _)| *place < all.len()).collect();
        cuts.sort_unstable();
        cuts.dedup_by_key(|(place, _)| *place);
        for node in 0..3 {
            let name = ["a", "b", "c"][node];
            let mut start = 0;
            let ends = cuts.iter().copied().chain([(all.len(), false)]);
            for (age, (end, packed)) in ends.enumerate() {
                let text: String = all[start..end].iter().filter(|one| one.1 == node)
                    .map(|(at, _, number, tail)| line(name, *at, *number as u64 + 1, tail)).collect();
                let suffix = match (cuts.len() - age, packed) {
                    (0, _) => String::new(),
                    (age, false) => format!(".{age}"),
                    (age, true) => format!(".{age}.gz"),
                };
                write(dir.path(), &format!("{name}.log{suffix}"), &text);
                start = end;
            }
        }
        let day = entry::Entry::parse(line("a", 0, 1, "").trim_end().as_bytes()).unwrap().time().unwrap();
        let time = |seconds: u64| day + i64::try_from(seconds).unwrap() * 1_000_000;
        let filter = Filter { since: Some(time(since)), until: Some(time(since + length)), ..Filter::default() };
        let mut expected: Vec<_> = all.iter().filter(|one| (since..=since + length).contains(&one.0))
            .map(|(at, node, _, tail)| (*at, *node, format!("{} {tail}", ["a", "b", "c"][*node]))).collect();
        expected.sort_by_key(|(at, node, _)| (*at, *node));
        let expected: Vec<_> = expected.into_iter().map(|(.., text)| text).collect();
        prop_assert_eq!(found(dir.path(), &filter).0, expected);
    }
}

#[test]
fn a_copy_of_the_whole_aggregate_is_searched_in_the_order_of_its_arrival() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.log.1.gz");
    write(
        dir.path(),
        "all.log.1.gz",
        &(line("b", 7, 1, "seven") + &line("a", 5, 1, "five")),
    );
    let mut lines = Vec::new();
    let each = |line: &[u8]| {
        lines.push(entry::Entry::parse(line).unwrap().node().to_vec());
        Ok(())
    };
    search(vec![of_file(&path).unwrap()], &Filter::default(), each).unwrap();
    assert_eq!(lines, [b"b", b"a"]);
}

/// Lines that come are found as they come: to a file that is there, after a rotation, and of a machine that was not there before.
#[test]
fn lines_that_come_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let begun = "<30>1 2026-03-01T00:00:02.000000+00:00 a";
    write(&path, "a.log", &(line("a", 1, 1, "one") + begun));
    let append = |name: &str, text: &str| {
        let mut options = fs::File::options();
        let mut file = options
            .append(true)
            .create(true)
            .open(path.join(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let (reader, writer) = std::io::pipe().unwrap();
    let filter = Filter {
        pattern: Some(regex::bytes::Regex::new("^[a-z]+$").unwrap()),
        ..Filter::default()
    };
    let found = std::cell::RefCell::new(Vec::new());
    let mut reader = Some(reader);
    let mut steps = 0;
    let each = |line: &[u8]| {
        let entry = entry::Entry::parse(line).unwrap();
        let message = String::from_utf8_lossy(entry.message()).into_owned();
        found.borrow_mut().push(message);
        Ok(())
    };
    // Each time that all has been read, something happens.
    let caught_up = || {
        let count = found.borrow().len();
        if count > steps {
            steps = count;
            match count {
                // The rest of a line that was being written.
                1 => append("a.log", " s 1 - - two\n"),
                2 => {
                    append("a.log", &line("a", 3, 3, "three"));
                    fs::rename(path.join("a.log"), path.join("a.log.1")).unwrap();
                    append("a.log.1", &line("a", 4, 4, "four"));
                    append("a.log", &line("a", 5, 5, "five"));
                }
                5 => append("b.log", &(line("b", 6, 1, "6") + &line("b", 7, 2, "seven"))),
                _ => drop(reader.take()),
            }
        }
        Ok(())
    };
    let ended = follow::follow(&path, &filter, &writer, each, caught_up).unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::BrokenPipe);
    let found = found.into_inner();
    assert_eq!(found, ["one", "two", "three", "four", "five", "seven"]);
}
