//! One build at a time in a fleet's directory.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held while dist/ and rolesmith.lock are changed: two builds would decide versions apart from each other. It is a
/// flock(2) of the directory itself, so that nothing has to be made in one where nothing can be built, and the kernel
/// releases it however the holder ends.
#[derive(Debug)]
pub struct FleetLock {
    _directory: Option<File>,
}

impl FleetLock {
    /// Takes the lock of the fleet in `dir`; calls `waiting` when another one has it, and waits.
    ///
    /// A directory that cannot be read, and a file system without locks, as NFS may be, are no errors: whoever reads the
    /// fleet says what is wrong with the first, and the second cannot tell of another build.
    pub fn take(dir: &Path, waiting: impl FnOnce()) -> Self {
        let directory = File::open(dir).ok();
        if let Some(file) = &directory
            && flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
        {
            waiting();
            while flock(file, FlockOperation::LockExclusive) == Err(Errno::INTR) {}
        }
        Self {
            _directory: directory,
        }
    }
}
