//! One publisher at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::PublishError;

/// What to do when another publisher is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBusy {
    /// Wait until it is done.
    Wait,
    /// Give up with [`PublishError::Busy`].
    Fail,
}

/// Held while the repository is changed. It is a flock(2): the kernel releases it however the holder ends, so there is
/// no such thing as a stale lock.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock file at `path`, which is made when missing and never removed (removing it would let two hold it).
    pub(super) fn take(path: &Path, when_busy: WhenBusy) -> Result<Self, PublishError> {
        let failed = |source| PublishError::Io {
            action: "take the lock",
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) if when_busy == WhenBusy::Wait => loop {
                match flock(&file, FlockOperation::LockExclusive) {
                    Ok(()) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(failed(error.into())),
                }
            },
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Only for the message; the holder may not have written it yet.
                let _ = file.read_to_string(&mut holder);
                return Err(PublishError::Busy {
                    lock: path.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let note = |file: &mut File| -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "process {}", std::process::id())
        };
        note(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
