//! One at a time in a directory: builds in a fleet's, mirror runs in a cache.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held while dist/ and rolesmith.lock are changed, since two builds would decide versions apart from each other; and while a
/// mirror's cache is, since apt refuses a second run and half of its lists would be another fleet's. It is a flock(2) of the
/// directory itself, so that nothing has to be made in one where nothing can be built, and the kernel releases it however
/// the holder ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _directory: Option<File>,
}

impl DirectoryLock {
    /// Takes the lock of `dir`; calls `waiting` when another one has it, and waits.
    ///
    /// A directory that cannot be read, and a file system without locks, as NFS may be, are no errors: whoever reads the
    /// directory says what is wrong with the first, and the second cannot tell of another holder.
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_second_holder_says_that_it_waits_and_goes_on_when_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let first = DirectoryLock::take(&path, || panic!("nobody has it"));
        let (said, waits) = mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || DirectoryLock::take(&path, || said.send(()).unwrap())
        });
        waits.recv().unwrap();
        assert!(!second.is_finished());
        drop(first);
        drop(second.join().unwrap());
        DirectoryLock::take(&path, || panic!("it was left"));
    }
}
