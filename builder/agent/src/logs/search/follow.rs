//! Lines as they come: what `--follow` does after what is there has been searched.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::filter::Filter;
use super::stream::Stream;
use super::{files, merge};

/// Bytes for what inotify(7) tells at once.
const EVENTS: usize = 4096;

/// Gives the wanted lines of a log server's directory to `each`: those that are there by time, then those that come. `caught_up` is called
/// whenever there are no more by now. It ends with an error, which is `BrokenPipe` when whoever reads `reader` has gone.
///
/// # Errors
/// What reading gives, and what the others give.
pub fn follow(
    directory: &Path,
    filter: &Filter,
    reader: impl AsFd,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
    mut caught_up: impl FnMut() -> io::Result<()>,
) -> io::Result<std::convert::Infallible> {
    // Before anything is read, so that nothing is missed in between.
    let watch = inotify::init(CreateFlags::CLOEXEC)?;
    let kinds = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, directory, kinds)?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); EVENTS];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut known = BTreeSet::new();
    let mut streams = Vec::new();
    loop {
        // A machine that never sent anything may begin to.
        for mut log in files::of_directory(directory, true)? {
            if known.insert(log.name.clone()) {
                log.narrow(filter.since, None)?;
                streams.push(Stream::new(log, filter));
            }
        }
        loop {
            merge(&mut streams, &mut each)?;
            let mut more = false;
            for stream in &mut streams {
                more |= stream.go_on()?;
            }
            if !more {
                break;
            }
        }
        caught_up()?;
        wait(watch.as_fd(), reader.as_fd())?;
        events.next()?;
        while !events.is_buffer_empty() {
            events.next()?;
        }
    }
}

/// Until something happens in the directory. Somebody whose connection is gone would be searched for for ever where no line is wanted.
fn wait(watch: BorrowedFd<'_>, reader: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        let mut both = [
            PollFd::from_borrowed_fd(watch, PollFlags::IN),
            PollFd::from_borrowed_fd(reader, PollFlags::empty()),
        ];
        match poll(&mut both, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !both[1].revents().is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !both[0].revents().is_empty() {
            return Ok(());
        }
    }
}
