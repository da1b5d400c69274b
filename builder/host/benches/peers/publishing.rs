//! Publishing small packages, and one more.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rand::SeedableRng as _;
use rolesmith_formats::openpgp::SecretKey;

use crate::Outcome;
use crate::debs::{self, EPOCH, SmallDeb};
use crate::measure::{Contestant, alternate};
use crate::ours::Ours;
use crate::peers::{Aptly, FtpArchive, Gpg, Reprepro, installed};

/// Rounds of what takes many seconds.
const SLOW_ROUNDS: usize = 3;

/// Prints the four tables for one place.
pub(crate) fn run(
    directory: &Path,
    kind: &str,
    rounds: usize,
    packages: usize,
    slow: bool,
) -> Outcome<()> {
    let rng = rand::rngs::StdRng::seed_from_u64(1);
    let key = SecretKey::generate("Bench <bench@example.org>", EPOCH, rng)?;
    // One more for each round.
    let all = debs::make(&directory.join("packages"), packages + rounds, &key)?;
    let gpg = installed("gpg")
        .then(|| Gpg::new(directory.join("gnupg")))
        .transpose()?;
    let bench = Bench {
        directory,
        kind,
        rounds,
        slow,
        key: &key,
        gpg: gpg.as_ref(),
        cold: &all[..packages],
        all: &all,
    };
    bench.indexing()?;
    bench.whole()?;
    bench.unchanged()?;
    bench.one_more()
}

struct Bench<'a> {
    directory: &'a Path,
    kind: &'a str,
    rounds: usize,
    slow: bool,
    key: &'a SecretKey,
    gpg: Option<&'a Gpg>,
    /// What is published at once.
    cold: &'a [SmallDeb],
    /// These and those that are added one by one.
    all: &'a [SmallDeb],
}

impl<'a> Bench<'a> {
    fn place(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn alternate(&self, what: &str, contestants: Vec<Contestant<'_>>) -> Outcome<()> {
        let title = format!("{what}, {} packages, on {}", self.cold.len(), self.kind);
        alternate(&title, self.directory, self.rounds, contestants)
    }

    fn archive(&self, name: &str) -> Outcome<Option<FtpArchive<'a>>> {
        let gpg = self.gpg.filter(|_| installed(FtpArchive::PROGRAM));
        gpg.map(|gpg| FtpArchive::new(self.place(name), gpg))
            .transpose()
    }

    /// An archive for each round; none where the program is missing.
    fn archives(&self, name: &str) -> Outcome<Vec<FtpArchive<'a>>> {
        let archives = (0..self.rounds).map(|round| self.archive(&format!("{name}-{round}")));
        Ok(archives
            .collect::<Outcome<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    }

    /// What gives the repository of a round.
    fn reprepro(&self) -> Option<impl Fn(usize) -> Reprepro<'a> + Copy + use<'_, 'a>> {
        let gpg = self
            .gpg
            .filter(|_| self.slow && installed(Reprepro::PROGRAM))?;
        Some(move |round| Reprepro::new(self.place(&format!("reprepro-{round}")), gpg))
    }

    /// What gives the repository of a round.
    fn aptly(&self) -> Option<impl Fn(usize) -> Aptly<'a> + Copy + use<'_, 'a>> {
        let gpg = self
            .gpg
            .filter(|_| self.slow && installed(Aptly::PROGRAM))?;
        Some(move |round| Aptly::new(self.place(&format!("aptly-{round}")), gpg))
    }

    /// The packages stand in the pool, and nothing is known of them: no cache, no index. For us it is a new suite over
    /// the pool of another one.
    fn indexing(&self) -> Outcome<()> {
        let ours = RefCell::new(Ours::new(&self.place("indexing"), self.key));
        let root = ours.borrow().root().to_owned();
        let files = self.cold.iter().map(|deb| deb.file.clone());
        ours.borrow_mut()
            .publish(files.collect(), self.cold.len())?;
        let archive = self.archive("indexing-archive")?;
        let mut contestants = vec![Contestant::new(
            "rolesmith",
            |round| ours.borrow_mut().begin_suite(format!("suite-{round}")),
            |_| {
                let files = self.cold.iter().map(|deb| root.join(&deb.pooled));
                ours.borrow_mut().publish(files.collect(), 0)
            },
        )];
        if let Some(archive) = &archive {
            debs::copy_into_pool(self.cold, archive.root())?;
            contestants.push(Contestant::new(
                "apt-ftparchive generate, release; gpg",
                |_| archive.forget(),
                |_| archive.generate(),
            ));
            contestants.push(Contestant::new(
                "apt-ftparchive packages (no Contents), release; gzip; gpg",
                |_| archive.forget(),
                |_| archive.packages(),
            ));
        }
        self.alternate("Indexing and signing a filled pool, cold", contestants)?;
        archive.map_or(Ok(()), |archive| found(self.cold.len(), archive.count()))
    }

    /// From package files to a new repository: another one in each round, because nothing may be deleted in between. An
    /// ext4 without a journal passes over inodes that were deleted in the last minutes one by one, and then takes up to
    /// five times as long for a new file.
    fn whole(&self) -> Outcome<()> {
        let files = || self.cold.iter().map(|deb| deb.file.clone()).collect();
        let handle = File::open(self.directory)?;
        let archives = self.archives("whole-archive-synced")?;
        let unsynced = self.archives("whole-archive")?;
        let mut contestants = vec![Contestant::new(
            "rolesmith",
            |_| Ok(()),
            |round| {
                let place = self.place(&format!("whole-{round}"));
                Ours::new(&place, self.key).publish(files(), self.cold.len())
            },
        )];
        if !archives.is_empty() {
            let archives = &archives;
            contestants.push(Contestant::new(
                "copy into a pool; apt-ftparchive generate …; sync",
                |round| archives[round].forget(),
                |round| {
                    debs::copy_into_pool(self.cold, archives[round].root())?;
                    archives[round].generate()?;
                    Ok(rustix::fs::syncfs(&handle)?)
                },
            ));
        }
        if !unsynced.is_empty() {
            let archives = &unsynced;
            contestants.push(Contestant::new(
                "copy into a pool; apt-ftparchive generate … (no sync)",
                |round| archives[round].forget(),
                |round| {
                    debs::copy_into_pool(self.cold, archives[round].root())?;
                    archives[round].generate()
                },
            ));
        }
        if let Some(reprepro) = self.reprepro() {
            contestants.push(
                Contestant::new(
                    "reprepro includedeb",
                    move |round| reprepro(round).make(),
                    move |round| {
                        let reprepro = reprepro(round);
                        reprepro.include(self.cold.iter().map(|deb| deb.file.as_path()))
                    },
                )
                .at_most(SLOW_ROUNDS),
            );
        }
        if let Some(aptly) = self.aptly() {
            // The directory of all packages holds those of later tables as well.
            let exactly = self.place("aptly-input");
            fs::create_dir_all(&exactly)?;
            for deb in self.cold {
                let name = deb.file.file_name().unwrap_or_default();
                fs::hard_link(&deb.file, exactly.join(name))?;
            }
            contestants.push(
                Contestant::new(
                    "aptly repo add, publish repo",
                    move |round| aptly(round).make(),
                    move |round| {
                        aptly(round).add(&exactly)?;
                        aptly(round).publish(&["repo", "bench"])
                    },
                )
                .at_most(SLOW_ROUNDS),
            );
        }
        self.alternate("From package files to a new signed repository", contestants)?;
        let count = self.cold.len();
        for archive in archives.iter().chain(&unsynced) {
            found(count, archive.count())?;
        }
        if let Some(reprepro) = self.reprepro() {
            found(count, reprepro(0).count())?;
        }
        if let Some(aptly) = self.aptly() {
            found(count, aptly(0).count())?;
        }
        Ok(())
    }

    /// Publishing again what is published, caches filled.
    fn unchanged(&self) -> Outcome<()> {
        let mut ours = Ours::new(&self.place("unchanged"), self.key);
        let files = |from: &[SmallDeb]| from.iter().map(|deb| deb.file.clone()).collect();
        ours.publish(files(self.cold), self.cold.len())?;
        let archive = self.archive("unchanged-archive")?;
        let mut contestants = vec![Contestant::new(
            "rolesmith",
            |_| Ok(()),
            |_| ours.publish(files(self.cold), 0),
        )];
        if let Some(archive) = &archive {
            debs::copy_into_pool(self.cold, archive.root())?;
            archive.forget()?;
            archive.generate()?;
            contestants.push(Contestant::new(
                "apt-ftparchive generate, release; gpg",
                |_| Ok(()),
                |_| archive.generate(),
            ));
        }
        self.alternate("Publishing again, caches filled", contestants)
    }

    /// One package more in each round, caches filled.
    fn one_more(&self) -> Outcome<()> {
        let count = self.cold.len();
        let mut ours = Ours::new(&self.place("more"), self.key);
        let files = |count: usize| {
            self.all[..count]
                .iter()
                .map(|deb| deb.file.clone())
                .collect()
        };
        ours.publish(files(count), count)?;
        let archive = self.archive("more-archive")?;
        // The repositories of the table before last.
        let reprepro = self.reprepro().map(|made| made(0));
        let aptly = self.aptly().map(|made| made(0));
        let mut contestants = vec![Contestant::new(
            "rolesmith",
            |_| Ok(()),
            |round| ours.publish(files(count + round + 1), 1),
        )];
        if let Some(archive) = &archive {
            debs::copy_into_pool(self.cold, archive.root())?;
            archive.forget()?;
            archive.generate()?;
            contestants.push(Contestant::new(
                "link into the pool; apt-ftparchive generate, release; gpg",
                |_| Ok(()),
                |round| {
                    debs::link_into_pool(&self.all[count + round..=count + round], archive.root())?;
                    archive.generate()
                },
            ));
        }
        if let Some(reprepro) = &reprepro {
            contestants.push(Contestant::new(
                "reprepro includedeb",
                |_| Ok(()),
                |round| reprepro.include(std::iter::once(self.all[count + round].file.as_path())),
            ));
        }
        if let Some(aptly) = &aptly {
            contestants.push(Contestant::new(
                "aptly repo add, publish update",
                |_| Ok(()),
                |round| {
                    aptly.add(&self.all[count + round].file)?;
                    aptly.publish(&["update", "fleet"])
                },
            ));
        }
        self.alternate("One more package", contestants)?;
        let counts = [
            archive.map(|archive| archive.count()),
            reprepro.map(|reprepro| reprepro.count()),
            aptly.map(|aptly| aptly.count()),
        ];
        counts
            .into_iter()
            .flatten()
            .try_for_each(|counted| found(self.all.len(), counted))
    }
}

/// A peer that lists fewer packages than it was given would have been timed at less work.
fn found(expected: usize, counted: Outcome<usize>) -> Outcome<()> {
    match counted? {
        counted if counted == expected => Ok(()),
        counted => Err(format!("a peer lists {counted} packages, not {expected}").into()),
    }
}
