//! What a service tells systemd: sd_notify(3) without its library.

use std::env;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The socket that systemd gave to this service, if it did.
#[derive(Debug)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// Reads `NOTIFY_SOCKET`. Without it, or with one that cannot be used, nothing is sent.
    #[must_use]
    pub fn from_env() -> Self {
        env::var("NOTIFY_SOCKET").map_or(Self(None), |name| Self::to(&name))
    }

    /// Sends to a socket by its path, or by its abstract name after an `@`.
    #[must_use]
    pub fn to(name: &str) -> Self {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(name).ok(),
        };
        Self(address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address))))
    }

    /// Sends a message such as `READY=1`. A manager that does not listen is no reason to stop.
    pub fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.0 {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

/// How often systemd wants to hear `WATCHDOG=1` at the latest (`WATCHDOG_USEC`), if at all.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let microseconds = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_and_a_missing_manager_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        Notifier::to(path.to_str().unwrap()).send("READY=1");
        let mut message = [0; 16];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
        drop(manager);
        Notifier::to(path.to_str().unwrap()).send("READY=1");
    }
}
