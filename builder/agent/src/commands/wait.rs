use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::cli::{End, now};
use crate::files::{DAEMON_DIR, RUN_DIR, Root};
use crate::status::Status;

/// Looks anyway after this time: a directory that did not exist yet cannot be watched.
const AT_LEAST_EVERY: Duration = Duration::from_secs(2);

/// Wait until this node is converged and healthy
///
/// Exits with 1 after the time-out, and says what was missing.
#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    /// Seconds to wait at most
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

impl Wait {
    pub(crate) fn run(self) -> End {
        let root = Root::machine();
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        loop {
            // Watched before it is read, so that no change falls in between.
            let changes = watch(&root);
            let status = Status::read(&root, now());
            let missing = status.missing();
            if missing.is_empty() {
                let alarms = status.alarms.iter();
                return End::Good(alarms.map(|alarm| format!("alarm: {alarm}\n")).collect());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return End::Error(format!(
                    "not ready after {} s: {}",
                    self.timeout,
                    missing.join("; ")
                ));
            }
            let waited = changes.and_then(|changes| {
                let limit =
                    Timespec::try_from(left.min(AT_LEAST_EVERY)).map_err(io::Error::other)?;
                match poll(&mut [PollFd::new(&changes, PollFlags::IN)], Some(&limit)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            });
            if let Err(error) = waited {
                return End::Error(format!("cannot watch {RUN_DIR}: {error}"));
            }
        }
    }
}

/// A descriptor that becomes readable when a file is renamed into one of the directories.
fn watch(root: &Root) -> io::Result<rustix::fd::OwnedFd> {
    let changes = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    for dir in [RUN_DIR, DAEMON_DIR] {
        match inotify::add_watch(&changes, root.join(dir), inotify::WatchFlags::MOVED_TO) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(changes)
}
