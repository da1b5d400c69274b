//! Building and publishing, timed next to the programs that Debian has for it. Run by `make bench`.
//!
//! All contestants of a table run in turn, in one run and on the same files: A B C, B C A, …, so that whatever else the
//! machine does falls on all of them. Between two runs the file system is brought to the disk, outside of the time
//! taken, so that nobody pays for what another left to write. The figures judge nothing by themselves: a busy machine
//! must not fail a test. docs/performance.md says what they mean.
//!
//! Options, after `--`: `--rounds N` (5), `--packages N` (2000), `--disk DIR` and `--memory DIR` (a tmpfs; `none` leaves
//! it out), `--only build|publish`, `--without-slow` (no reprepro, no aptly).
#![expect(
    clippy::print_stdout,
    reason = "a benchmark's result is what it prints"
)]

mod debs;
mod fleet;
mod measure;
mod ours;
mod peers;
mod publishing;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// What can go wrong here only needs to be told.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// What was asked for.
struct Options {
    rounds: usize,
    packages: usize,
    disk: PathBuf,
    memory: Option<PathBuf>,
    build: bool,
    publish: bool,
    slow: bool,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            rounds: 5,
            packages: 2_000,
            disk: env!("CARGO_TARGET_TMPDIR").into(),
            memory: Some("/dev/shm".into()).filter(|path: &PathBuf| path.is_dir()),
            build: true,
            publish: true,
            slow: true,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--packages" => options.packages = value()?.parse::<usize>()?.max(1),
                "--disk" => options.disk = value()?.into(),
                "--memory" => {
                    options.memory = Some(value()?.into()).filter(|path| path != Path::new("none"));
                }
                "--only" => match value()?.as_str() {
                    "build" => options.publish = false,
                    "publish" => options.build = false,
                    other => return Err(format!("--only build or publish, not {other}").into()),
                },
                "--without-slow" => options.slow = false,
                // cargo bench says it to every benchmark.
                "--bench" => {}
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }
}

fn main() -> Outcome<()> {
    let options = Options::read(std::env::args().skip(1))?;
    println!(
        "{} processors; load average {}; {} rounds",
        std::thread::available_parallelism()?,
        measure::load_average(),
        options.rounds
    );
    for (program, version) in peers::versions() {
        match version {
            Some(version) => println!("  {program}: {version}"),
            None => println!("  {program}: not installed, left out"),
        }
    }
    let places = [
        ("disk", Some(&options.disk)),
        ("tmpfs", options.memory.as_ref()),
    ];
    for (kind, place) in places {
        let Some(place) = place else { continue };
        fs::create_dir_all(place)?;
        let directory = tempfile::Builder::new()
            .prefix("rolesmith-bench-")
            .tempdir_in(place)?;
        if options.build {
            fleet::run(directory.path(), kind, options.rounds)?;
        }
        if options.publish {
            // Who is slower by two orders of magnitude needs no second place.
            let slow = options.slow && kind == "disk";
            publishing::run(
                directory.path(),
                kind,
                options.rounds,
                options.packages,
                slow,
            )?;
        }
    }
    println!("\nload average at the end {}", measure::load_average());
    Ok(())
}
