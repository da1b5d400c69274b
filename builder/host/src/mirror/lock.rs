//! One mirror run at a time in a cache: apt refuses a second one, and half of its lists would be another fleet's.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::MirrorError;
use super::error::io_error;

/// Held while a cache is changed. It is a flock(2): the kernel releases it however the holder ends.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

impl CacheLock {
    /// Takes the cache, which is made when missing. `waits` is called once where another run has it; then its end is waited for.
    ///
    /// # Errors
    /// [`MirrorError::Io`].
    pub fn take(cache_directory: &Path, waits: impl FnOnce()) -> Result<Self, MirrorError> {
        fs::create_dir_all(cache_directory)
            .map_err(io_error("make the directory", cache_directory))?;
        let path = cache_directory.join("lock");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let mut operation = FlockOperation::NonBlockingLockExclusive;
        let mut waits = Some(waits);
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK) => {
                    if let Some(waits) = waits.take() {
                        waits();
                    }
                    operation = FlockOperation::LockExclusive;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(io_error("lock", &path)(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_second_run_says_that_it_waits_and_goes_on_when_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let first = CacheLock::take(&cache, || panic!("nobody has it")).unwrap();
        let (said, waits) = mpsc::channel();
        let second = std::thread::spawn({
            let cache = cache.clone();
            move || CacheLock::take(&cache, || said.send(()).unwrap()).unwrap()
        });
        waits.recv().unwrap();
        assert!(!second.is_finished());
        drop(first);
        drop(second.join().unwrap());
        CacheLock::take(&cache, || panic!("it was left")).unwrap();
    }
}
