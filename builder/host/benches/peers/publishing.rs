//! Publishing small packages, and one more.

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

    fn reprepro(&self) -> Option<Reprepro<'a>> {
        let gpg = self
            .gpg
            .filter(|_| self.slow && installed(Reprepro::PROGRAM))?;
        Some(Reprepro::new(self.place("reprepro"), gpg))
    }

    fn aptly(&self) -> Option<Aptly<'a>> {
        let gpg = self
            .gpg
            .filter(|_| self.slow && installed(Aptly::PROGRAM))?;
        Some(Aptly::new(self.place("aptly"), gpg))
    }

    /// The packages stand in the pool, and nothing else is there: no index, no cache.
    fn indexing(&self) -> Outcome<()> {
        let ours = std::cell::RefCell::new(Ours::new(&self.place("indexing"), self.key));
        let root = ours.borrow().root().to_owned();
        debs::copy_into_pool(self.cold, &root)?;
        let archive = self.archive("indexing-archive")?;
        let mut contestants = vec![Contestant::new(
            "rolesmith",
            |_| ours.borrow().forget(),
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
        self.found(archive.map(|archive| archive.count()))?;
        self.remove(&["indexing", "indexing-archive"])
    }

    /// From package files to a new repository.
    fn whole(&self) -> Outcome<()> {
        let ours = std::cell::RefCell::new(Ours::new(&self.place("whole"), self.key));
        let archive = self.archive("whole-archive")?;
        let handle = File::open(self.directory)?;
        let reprepro = self.reprepro();
        let aptly = self.aptly();
        let mut contestants = vec![Contestant::new(
            "rolesmith",
            |_| ours.borrow().remove(),
            |_| {
                let files = self.cold.iter().map(|deb| deb.file.clone());
                ours.borrow_mut().publish(files.collect(), self.cold.len())
            },
        )];
        if let Some(archive) = &archive {
            let empty = |_| -> Outcome<()> {
                let pool = archive.root().join("pool");
                if pool.exists() {
                    fs::remove_dir_all(pool)?;
                }
                archive.forget()
            };
            contestants.push(Contestant::new(
                "copy into a pool; apt-ftparchive generate …; sync",
                empty,
                |_| {
                    debs::copy_into_pool(self.cold, archive.root())?;
                    archive.generate()?;
                    Ok(rustix::fs::syncfs(&handle)?)
                },
            ));
            contestants.push(Contestant::new(
                "copy into a pool; apt-ftparchive generate … (not on disk yet)",
                empty,
                |_| {
                    debs::copy_into_pool(self.cold, archive.root())?;
                    archive.generate()
                },
            ));
        }
        if let Some(reprepro) = &reprepro {
            let run = |_| reprepro.include(self.cold.iter().map(|deb| deb.file.as_path()));
            contestants.push(
                Contestant::new("reprepro includedeb", |_| reprepro.reset(), run)
                    .at_most(SLOW_ROUNDS),
            );
        }
        if let Some(aptly) = &aptly {
            // Its own directory holds the packages of later tables as well.
            let exactly = self.place("aptly-input");
            fs::create_dir_all(&exactly)?;
            for deb in self.cold {
                fs::hard_link(
                    &deb.file,
                    exactly.join(deb.file.file_name().unwrap_or_default()),
                )?;
            }
            let run = move |_| {
                aptly.add(&exactly)?;
                aptly.publish(&["repo", "bench"])
            };
            contestants.push(
                Contestant::new("aptly repo add, publish repo", |_| aptly.reset(), run)
                    .at_most(SLOW_ROUNDS),
            );
        }
        self.alternate("From package files to a new signed repository", contestants)?;
        self.found(archive.map(|archive| archive.count()))?;
        self.found(reprepro.map(|reprepro| reprepro.count()))?;
        self.found(aptly.map(|aptly| aptly.count()))?;
        self.remove(&["whole", "whole-archive"])
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
        self.alternate("Publishing again, caches filled", contestants)?;
        self.remove(&["unchanged", "unchanged-archive"])
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
        let reprepro = self.reprepro();
        let aptly = self.aptly();
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
        for counted in [
            archive.map(|archive| archive.count()),
            reprepro.map(|reprepro| reprepro.count()),
            aptly.map(|aptly| aptly.count()),
        ] {
            let counted = counted.transpose()?;
            if counted.is_some_and(|counted| counted != self.all.len()) {
                return Err(format!("a peer lists {counted:?} packages").into());
            }
        }
        Ok(())
    }

    /// A peer that lists fewer packages than it was given would have been timed at less work.
    fn found(&self, counted: Option<Outcome<usize>>) -> Outcome<()> {
        match counted.transpose()? {
            Some(counted) if counted != self.cold.len() => {
                Err(format!("a peer lists {counted} packages").into())
            }
            _ => Ok(()),
        }
    }

    fn remove(&self, names: &[&str]) -> Outcome<()> {
        for name in names {
            let path = self.place(name);
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}
