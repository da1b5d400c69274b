//! `rolesmith-agent logs grep` next to zgrep, over an aggregate of 100 MB: `cargo bench --package rolesmith-agent --bench search`.
//!
//! Three machines, a week each: two days plain and five packed, as logrotate leaves them. Files are in the page cache. `--mebibytes N` and
//! `--rounds N` after `--`.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark runs real tools and prints"
)]

#[allow(dead_code, reason = "this benchmark needs less of it")]
#[path = "../../host/benches/peers/measure.rs"]
mod measure;

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use measure::{Contestant, alternate};

type Outcome<T> = Result<T, Box<dyn Error>>;

const AGENT: &str = env!("CARGO_BIN_EXE_rolesmith-agent");
const NODES: [&str; 3] = ["app-1", "app-2", "app-3"];
/// Days of a week that are packed; the other two are plain.
const PACKED: u64 = 5;
/// What is looked for: a status that one line in a thousand has.
const RARE: &str = " 503 ";
/// The hour that is looked at, in the middle of the fourth day.
const HOUR: &str = "2026-03-04T12";

fn main() -> Outcome<()> {
    let (mut mebibytes, mut rounds) = (100, 7);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            words
                .next()
                .ok_or("a number is missing")?
                .parse::<u64>()
                .map_err(Box::<dyn Error>::from)
        };
        match word.as_str() {
            "--mebibytes" => mebibytes = number()?,
            "--rounds" => rounds = usize::try_from(number()?)?,
            _ => {}
        }
    }
    let place = tempfile::tempdir()?;
    let files = write(place.path(), mebibytes << 20)?;
    println!("{} files, {mebibytes} MiB unpacked", files.len());
    let dir = place.path();
    let agent = |more: &[&str]| {
        let mut command = Command::new(AGENT);
        command.args(["logs", "grep", "--from"]).arg(dir).args(more);
        command
    };
    let zgrep = |pattern: &str| {
        let mut command = Command::new("zgrep");
        command.args(["-h", pattern]).args(&files);
        command
    };
    let sorted = |pattern: &str| {
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "pattern=$1; shift; zgrep -h \"$pattern\" \"$@\" | LC_ALL=C sort -s -k2,2",
                "sh",
                pattern,
            ])
            .args(&files);
        command
    };
    let found = count(agent(&["--raw", RARE]))?;
    assert_eq!(found, count(zgrep(RARE))?, "both find the same lines");
    println!("{found} lines have {RARE:?}");
    type Named<'a> = (&'static str, Box<dyn Fn() -> Command + 'a>);
    let contest = |title: &str, commands: Vec<Named<'_>>| {
        let contestants = commands
            .into_iter()
            .map(|(name, command)| Contestant::new(name, |_| Ok(()), move |_| run(command())))
            .collect();
        alternate(title, dir, rounds, contestants)
    };
    contest(
        "A rare text in all files",
        vec![
            ("rolesmith-agent logs grep", Box::new(|| agent(&[RARE]))),
            ("zgrep", Box::new(|| zgrep(RARE))),
            ("zgrep | sort, by time", Box::new(|| sorted(RARE))),
        ],
    )?;
    contest(
        "Every line, by time",
        vec![
            (
                "rolesmith-agent logs grep --raw",
                Box::new(|| agent(&["--raw"])),
            ),
            ("zgrep | sort", Box::new(|| sorted("<"))),
        ],
    )?;
    let day = files
        .iter()
        .filter(|file| file.to_string_lossy().ends_with(".3.gz"));
    let day: Vec<PathBuf> = day.cloned().collect();
    contest(
        "An hour of one day, where zgrep is told which file",
        vec![
            (
                "rolesmith-agent logs grep --since --until",
                Box::new(|| {
                    agent(&[
                        "--since=2026-03-04T12:00:00Z",
                        "--until=2026-03-04T12:59:59.999999Z",
                        RARE,
                    ])
                }),
            ),
            (
                "zgrep of three files",
                Box::new(|| {
                    let mut command = Command::new("zgrep");
                    command.args(["-h", &format!("{HOUR}.*{RARE}")]).args(&day);
                    command
                }),
            ),
        ],
    )
}

fn run(mut command: Command) -> Outcome<()> {
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}").into())
    }
}

fn count(mut command: Command) -> Outcome<usize> {
    let output = command.output()?;
    Ok(output.stdout.iter().filter(|byte| **byte == b'\n').count())
}

/// A week of three machines, so many bytes in all. The files' times are those of their last lines.
fn write(dir: &Path, bytes: u64) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut random = 1_u64;
    for node in NODES {
        let mut sequence = 0_u64;
        for day in 0..=PACKED + 1 {
            let age = PACKED + 1 - day;
            let name = match age {
                0 => format!("{node}.log"),
                1 => format!("{node}.log.1"),
                _ => format!("{node}.log.{age}.gz"),
            };
            let path = dir.join(name);
            let file = File::create(&path)?;
            let share = bytes / (NODES.len() as u64 * (PACKED + 2));
            if age > 1 {
                let mut packed =
                    flate2::write::GzEncoder::new(file, flate2::Compression::default());
                day_of(&mut packed, node, day, share, &mut sequence, &mut random)?;
                packed.finish()?;
            } else {
                let mut plain = BufWriter::new(file);
                day_of(&mut plain, node, day, share, &mut sequence, &mut random)?;
                plain.flush()?;
            }
            // 2026-03-01 began 1,772,323,200 s after 1970.
            let end = std::time::Duration::from_secs(1_772_323_200 + 86_400 * (day + 1));
            File::options()
                .append(true)
                .open(&path)?
                .set_modified(std::time::UNIX_EPOCH + end)?;
            files.push(path);
        }
    }
    Ok(files)
}

/// Lines as nginx and others write them, spread over a day.
fn day_of(
    out: &mut impl Write,
    node: &str,
    day: u64,
    bytes: u64,
    sequence: &mut u64,
    random: &mut u64,
) -> Outcome<()> {
    const PATHS: [&str; 6] = [
        "/api/orders",
        "/api/users",
        "/",
        "/assets/app.js",
        "/api/search?q=",
        "/health",
    ];
    let lines = bytes / 220;
    for number in 0..lines {
        // xorshift: the same lines in every run.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let micros = 86_400_000_000 * number / lines;
        let (second, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        *sequence += 1;
        let status = if (*random).is_multiple_of(1000) {
            503
        } else {
            200
        };
        let path = PATHS[usize::try_from(*random % 6)?];
        writeln!(
            out,
            "<30>1 2026-03-{:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}+00:00 {node} nginx 812 - \
             [rolesmith@0 inc=\"1\" ses=\"7\" seq=\"{sequence}\"] 203.0.113.{} - - \"GET {path}{:x} HTTP/2.0\" {status} {} \"-\" \"Mozilla/5.0\"",
            day + 1,
            *random >> 20 & 255,
            *random >> 40,
            *random >> 30 & 0xffff,
        )?;
    }
    Ok(())
}
