//! A node that its operator took out of service: a mark that outlives the boot.

use std::io;

use serde::{Deserialize, Serialize};

use crate::files::{self, Access, Root, Seen};

/// The mark. Everybody may see that it is there, a health endpoint too.
pub const FILE: &str = "/var/lib/rolesmith/drained.json";

/// What stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Since when (Unix seconds).
    since: u64,
}

/// Since when the node is drained (Unix seconds), if it is. A mark that cannot be read is one: its time is not known.
#[must_use]
pub fn since(root: &Root) -> Option<u64> {
    match files::read_json::<Mark>(&root.join(FILE)) {
        Seen::Is(mark) => Some(mark.since),
        Seen::Broken(_) => Some(0),
        Seen::Absent => None,
    }
}

/// Takes the node out of service; says whether it was in it.
///
/// # Errors
/// What the system calls return.
pub fn mark(root: &Root, now: u64) -> io::Result<bool> {
    if since(root).is_some() {
        return Ok(false);
    }
    files::write_json(&root.join(FILE), &Mark { since: now }, Access::PUBLIC)?;
    Ok(true)
}

/// Puts the node into service again; says whether it was out of it.
///
/// # Errors
/// What the system calls return.
pub fn unmark(root: &Root) -> io::Result<bool> {
    let was = since(root).is_some();
    files::remove(&root.join(FILE))?;
    Ok(was)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_the_one_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        assert_eq!(since(&root), None);
        assert!(mark(&root, 5).unwrap());
        assert!(!mark(&root, 9).unwrap());
        assert_eq!(since(&root), Some(5));
        std::fs::write(root.join(FILE), "{").unwrap();
        assert_eq!(since(&root), Some(0), "in doubt it is drained");
        assert!(unmark(&root).unwrap());
        assert_eq!(since(&root), None);
    }
}
