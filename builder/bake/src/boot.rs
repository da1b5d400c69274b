//! Boots an image under qemu, with a seed, and reads its serial console.
//!
//! The image is never written to: each machine has a qcow2 file on top of it, in a directory that goes with the test. What is waited
//! for is what the machine says (cloud-init's last line, the agent's word that it has joined); then it is asked over ssh whether all
//! is as it should be. Nothing needs root. Where the processor cannot help, qemu translates: about ten times slower.
//!
//! A guest reaches nothing but the fleet's repository, which is served to it by a program on a socket: no port is opened for it. ssh
//! comes in by a port of the loopback address. The private network of several machines is a datagram socket each, see [`Fleet`].

mod check;
mod console;
mod error;
mod fleet;
mod guest;
mod machine;
mod running;
mod ssh;
mod wire;

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use console::{Mark, Seen};
pub use error::BootError;
pub use fleet::{Fleet, FleetSpec, Member};
pub use guest::{DataSource, Guest, Repository};
pub use machine::{Accelerator, Durability, Firmware};
pub use running::{Forward, Running};
pub use ssh::Key;

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use check::{Answers, QUESTIONS, Wanted};
use running::Start;

/// How long one visit to a guest may take.
const VISIT: Duration = Duration::from_secs(120);

/// A baked image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its file.
    pub path: PathBuf,
    /// What is in it.
    pub format: DiskFormat,
}

/// A format of disks that qemu reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's own, compressed or not.
    Qcow2,
}

impl DiskFormat {
    /// What qemu calls it.
    fn name(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        }
    }
}

/// A directory for the files of one test, below another; it and its secrets go with this value, and what a killed test left goes with
/// the next one.
#[derive(Debug)]
pub struct Workshop {
    directory: tempfile::TempDir,
    key: Key,
    // Held as long as the directory is in use.
    _lock: std::fs::File,
}

/// How directories of tests begin.
const PREFIX: &str = ".boot-";

impl Workshop {
    /// Makes it, with a key for the way in.
    ///
    /// # Errors
    /// [`BootError::File`], or [`BootError::Tool`] with ssh-keygen's words.
    pub fn open(below: &Path) -> Result<Workshop, BootError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(below)
            .map_err(BootError::file("make", below))?;
        // One process at a time: a directory is locked only after it was made.
        let turn = std::fs::File::open(below).map_err(BootError::file("open", below))?;
        flock(&turn, FlockOperation::LockExclusive)
            .map_err(|error| BootError::file("lock", below)(error.into()))?;
        sweep(below)?;
        // Mode 0700: seeds and keys are in it.
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(below)
            .map_err(BootError::file("make a directory in", below))?;
        let lock = lock(directory.path())?;
        Ok(Workshop {
            key: Key::make(directory.path())?,
            directory,
            _lock: lock.ok_or_else(|| {
                BootError::file("lock", below)(std::io::ErrorKind::ResourceBusy.into())
            })?,
        })
    }

    /// The key that a seed has to let in.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A new directory for one machine.
    fn room(&self, name: &str) -> Result<PathBuf, BootError> {
        let room = self.directory.path().join(name);
        std::fs::create_dir(&room).map_err(BootError::file("make", &room))?;
        Ok(room)
    }
}

/// The lock of a test's directory; nothing where another process has it.
fn lock(directory: &Path) -> Result<Option<std::fs::File>, BootError> {
    let path = directory.join("lock");
    let file = std::fs::File::create(&path).map_err(BootError::file("write", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(BootError::file("lock", path)(error.into())),
    }
}

/// Removes what tests left that were killed.
fn sweep(below: &Path) -> Result<(), BootError> {
    let entries = std::fs::read_dir(below).map_err(BootError::file("read", below))?;
    for entry in entries.filter_map(Result::ok) {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if ours && let Ok(Some(_lock)) = lock(&entry.path()) {
            let path = entry.path();
            std::fs::remove_dir_all(&path).map_err(BootError::file("remove", path))?;
        }
    }
    Ok(())
}

/// One boot to be tried.
#[derive(Debug, Clone, Copy)]
pub struct Test<'a> {
    /// Of what.
    pub image: &'a Image,
    /// As which node.
    pub guest: &'a Guest,
    /// With what it starts.
    pub firmware: Firmware,
    /// Where it finds its seed.
    pub source: DataSource,
    /// Where it finds packages; nothing: it has to come up with what is installed.
    pub repository: Option<&'a Repository>,
    /// How long all of it may take.
    pub limit: Duration,
}

/// What came of a boot.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// The node.
    pub node: String,
    /// What it started with.
    pub firmware: Firmware,
    /// Where it found its seed.
    pub source: DataSource,
    /// How its instructions were carried out.
    pub accelerator: Accelerator,
    /// Seconds from the switch to the kernel's first line.
    pub kernel: f64,
    /// To cloud-init's last line.
    pub cloud_init: f64,
    /// To the agent's word that the machine has joined its fleet.
    pub joined: f64,
    /// To the answer that all is well inside.
    pub checked: f64,
}

/// Boots the image once and looks whether it becomes the node that its seed says. `say` is told what is being waited for.
///
/// The machine is switched off in every case before this returns. The calling thread must live as long as this runs, which it does
/// unless it is made to end otherwise: qemu ends with it.
///
/// # Errors
/// [`BootError`]; those about the machine carry the end of its console.
pub fn test(test: &Test<'_>, workshop: &Workshop, say: &dyn Fn(&str)) -> Result<Report, BootError> {
    let missing = machine::missing(test.firmware);
    if !missing.is_empty() {
        return Err(BootError::Missing(missing));
    }
    let begun = Instant::now();
    let until = begun + test.limit;
    let accelerator = Accelerator::detect();
    let room = workshop.room(&format!("{}-{}", test.guest.node, test.firmware))?;
    let start = Start {
        image: test.image,
        guest: test.guest,
        source: test.source,
        firmware: test.firmware,
        accelerator,
        durability: Durability::None,
        processors: 2,
        repository: test.repository,
        number: 0,
        wire: None,
        directory: &room,
        key: workshop.key(),
    };
    say("waiting for the kernel");
    let mut machine = start.switch_on()?;
    let kernel = machine.wait(Mark::Kernel, 1, until)?;
    say("waiting for the end of cloud-init");
    let cloud_init = machine.wait(Mark::CloudInit, 1, until)?;
    say("waiting until it has joined");
    let joined = machine.wait(Mark::Joined, 1, until)?;
    say("looking at it from inside");
    let wanted = Wanted {
        guest: test.guest,
        source: test.source,
        firmware: test.firmware,
        repository: test.repository.is_some(),
    };
    let left = until.saturating_duration_since(Instant::now()).min(VISIT);
    let answers = machine.shell(QUESTIONS, left.max(Duration::from_secs(1)))?;
    let answers = Answers::parse(&answers);
    let complaints = answers.complaints(&wanted);
    if !complaints.is_empty() {
        return Err(BootError::Wrong {
            node: test.guest.node.clone(),
            complaints,
            why: answers.why().to_owned(),
        });
    }
    let report = Report {
        node: test.guest.node.clone(),
        firmware: test.firmware,
        source: test.source,
        accelerator,
        kernel: seconds(kernel.after),
        cloud_init: seconds(cloud_init.after),
        joined: seconds(joined.after),
        checked: seconds(machine.up()),
    };
    machine.kill()?;
    Ok(report)
}

/// To the tenth.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests;
