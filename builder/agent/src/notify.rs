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
        let address =
            env::var("NOTIFY_SOCKET")
                .ok()
                .and_then(|name| match name.strip_prefix('@') {
                    Some(name) => SocketAddr::from_abstract_name(name).ok(),
                    None => SocketAddr::from_pathname(&name).ok(),
                });
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
