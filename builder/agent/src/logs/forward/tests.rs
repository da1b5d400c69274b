use std::fs;
use std::io::Write as _;

use super::*;

fn text(sequence: u64) -> String {
    format!(
        "<30>1 t app-3 x 1 - [rolesmith@0 inc=\"1\" ses=\"1\" seq=\"{sequence}\"] line {sequence}\n"
    )
}

struct Own {
    dir: tempfile::TempDir,
    next: u64,
}

impl Own {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            next: 1,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("own.log")
    }

    fn write(&mut self, lines: u64) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.path())
            .expect("opened");
        for _ in 0..lines {
            file.write_all(text(self.next).as_bytes()).expect("written");
            self.next += 1;
        }
    }

    /// As the role's rotate-spool does, with three files kept.
    fn rotate(&self) {
        let at = |n: u32| self.dir.path().join(format!("own.log.{n}"));
        let _ = fs::remove_file(at(3));
        let _ = fs::rename(at(2), at(3));
        let _ = fs::rename(at(1), at(2));
        fs::rename(self.path(), at(1)).expect("renamed");
    }
}

fn numbers(reader: &mut Reader) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let batch = reader.batch().expect("read");
        if batch.is_empty() {
            return numbers;
        }
        numbers.extend(batch.iter().map(|line| {
            let text = String::from_utf8_lossy(line);
            line::parse(&text)
                .and_then(|line| line.stamp)
                .expect("a stamp")
                .sequence
        }));
    }
}

#[test]
fn all_is_read_once_across_rotations() {
    let mut own = Own::new();
    let mut reader = Reader::new(own.path(), None);
    assert!(numbers(&mut reader).is_empty());
    own.write(300);
    assert_eq!(numbers(&mut reader), (1..=300).collect::<Vec<_>>());
    own.write(10);
    own.rotate();
    own.write(10);
    own.rotate();
    own.write(10);
    assert_eq!(numbers(&mut reader), (301..=330).collect::<Vec<_>>());
    // Rotated, and nothing follows yet.
    own.rotate();
    assert!(numbers(&mut reader).is_empty());
    own.write(1);
    assert_eq!(numbers(&mut reader), [331]);
}

#[test]
fn a_position_is_found_in_whatever_file_it_is() {
    let mut own = Own::new();
    own.write(10);
    own.rotate();
    own.write(10);
    own.rotate();
    own.write(10);
    for confirmed in 0..=30 {
        let after = (confirmed > 0).then_some(Stamp {
            incarnation: 1,
            session: 1,
            sequence: confirmed,
        });
        let mut reader = Reader::new(own.path(), after);
        assert_eq!(
            numbers(&mut reader),
            (confirmed + 1..=30).collect::<Vec<_>>(),
            "after {confirmed}"
        );
    }
}

#[test]
fn half_a_line_waits_for_its_other_half() {
    let own = Own::new();
    let whole = text(1);
    let (one, two) = whole.split_at(30);
    fs::write(own.path(), one).expect("written");
    let mut reader = Reader::new(own.path(), None);
    assert!(numbers(&mut reader).is_empty());
    let mut file = File::options()
        .append(true)
        .open(own.path())
        .expect("opened");
    file.write_all(two.as_bytes()).expect("written");
    assert_eq!(numbers(&mut reader), [1]);
}

/// What was deleted before it was read is beyond the cap; the rest still comes.
#[test]
fn a_reader_that_was_overtaken_goes_on_with_the_oldest() {
    let mut own = Own::new();
    own.write(200);
    let mut reader = Reader::new(own.path(), None);
    assert_eq!(reader.batch().expect("read").len(), TOGETHER);
    for _ in 0..4 {
        own.rotate();
        own.write(10);
    }
    let rest = numbers(&mut reader);
    // The open file is read to its end although it has no name any more.
    assert_eq!(rest, (TOGETHER as u64 + 1..=240).collect::<Vec<_>>());
}
