//! The daemon's look at the fleet's repository: asks whether it has changed, and wakes rolesmith-facts.service by a file.

use std::thread::sleep;

use crate::fetch::{WANTED, sources};
use crate::files::{self, Access, DAEMON_DIR, Root, Seen};
use crate::net::limits::Jitter;
use crate::net::repository::{AUTHORITIES, Answer, Memory, PERIOD, Place};
use crate::observe;

/// What is remembered until the next boot, below the daemon's directory.
const MEMORY: &str = "repository.json";

/// Looks for ever. `seed` spreads the members of a fleet over the time between two looks.
pub fn watch(root: &Root, seed: u64, clock: fn() -> u64) {
    let mut jitter = Jitter::new(seed);
    loop {
        sleep(jitter.around(PERIOD));
        // A directory that is missing or full shows elsewhere; the next look tries again.
        let _ = look(root, clock());
    }
}

/// Looks once; whether apt was told to look too.
///
/// # Errors
/// What the daemon's directory says.
pub fn look(root: &Root, now: u64) -> std::io::Result<bool> {
    let Seen::Is(identity) = observe::identity(root) else {
        return Ok(false);
    };
    let dir = root.join(DAEMON_DIR);
    let path = dir.join(MEMORY);
    let mut memory = match files::read_json::<Memory>(&path) {
        Seen::Is(memory) => memory,
        // Asked for once too often is no harm.
        Seen::Absent | Seen::Broken(_) => Memory::default(),
    };
    let before = memory.clone();
    let text = files::read(&root.join(sources(&identity.fleet)))?.unwrap_or_default();
    let place = Place::from_sources(&String::from_utf8_lossy(&text)).ok();
    let roots = files::read(&root.join(AUTHORITIES))?.unwrap_or_default();
    let answer: Option<Answer> = place
        .as_ref()
        .and_then(|place| place.ask(&memory.known(place), &roots).ok());
    let wanted = memory.take(place.as_ref(), answer, now);
    if wanted {
        // Before it is remembered: who dies in between asks once more.
        files::write(&dir.join(WANTED), b"", Access::PUBLIC)?;
    }
    if memory != before {
        files::write_json(&path, &memory, Access::PUBLIC)?;
    }
    Ok(wanted)
}
