//! The daemon's look at the fleet's repository: asks whether it has changed, and wakes rolesmith-facts.service by a file.

use std::thread::sleep;

use crate::fetch::{WANTED, sources};
use crate::files::{self, Access, DAEMON_DIR, Root, Seen};
use crate::net::http::AUTHORITIES;
use crate::net::limits::Jitter;
use crate::net::repository::{Answer, Memory, PERIOD, Place};
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    #[test]
    fn the_other_unit_is_woken_once_for_each_change() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let write = |path: &str, text: &str| {
            files::write(&root.join(path), text.as_bytes(), Access::PUBLIC).unwrap();
        };
        assert!(
            !look(&root, 1000).unwrap(),
            "a machine that is not enrolled asks nobody"
        );
        write(
            "/etc/rolesmith/node.json",
            r#"{"fleet":"acme","node":"n1","incarnation":1,"origin":"seed"}"#,
        );
        write(
            &sources("acme"),
            &format!("URIs: http://{address}\nSuites: trixie\n"),
        );
        let server = std::thread::spawn(move || {
            for body in ["first", "first", "second"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                assert!(stream.read(&mut request).unwrap() > 0);
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
            }
        });
        let wanted = root.join(DAEMON_DIR).join(WANTED);
        let mut woken = Vec::new();
        for now in 1000..1003 {
            assert_eq!(look(&root, now).unwrap(), wanted.exists());
            woken.push(files::remove(&wanted).is_ok() && look_was(&root) == now);
        }
        assert_eq!(woken, [true, false, true]);
        server.join().unwrap();
        // Nobody answers any more: apt is told to look after a while, and not at each look.
        assert!(!look(&root, 1003).unwrap());
    }

    /// When apt was last told to look.
    fn look_was(root: &Root) -> u64 {
        let path = root.join(DAEMON_DIR).join(MEMORY);
        let Seen::Is(memory) = files::read_json::<serde_json::Value>(&path) else {
            return 0;
        };
        memory["wanted"].as_u64().unwrap_or_default()
    }
}
