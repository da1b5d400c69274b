//! The way from this machine into the lab: a process that listens on loopback out here and connects in there.
//!
//! A socket belongs to the network namespace in which it was made, wherever its process goes afterwards. So the process listens
//! first, then enters the lab's namespace, and whatever it connects to from then on is in the lab.

use std::{
    fmt,
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::fd::AsFd,
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, sync::Semaphore};

use crate::{
    error::{LabError, Result},
    launch::notify,
};

/// Connections at a time; each has two descriptors, of the 1024 that a process may have.
const CONNECTIONS: usize = 400;

/// What the message with the ports that were taken begins with.
pub(crate) const PORTS: &str = "X_LAB_PORTS=";

/// A port of this machine's loopback address that leads into the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The port at 127.0.0.1.
    pub port: u16,
    /// Where it leads.
    pub to: SocketAddrV4,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.port, self.to)
    }
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let read = || {
            let (port, to) = text.split_once('=')?;
            Some(Forward {
                port: port.parse().ok()?,
                to: to.parse().ok()?,
            })
        };
        read().ok_or_else(|| format!("{text:?} is not PORT=ADDRESS:PORT"))
    }
}

/// Forwards until the process ends. A port that is taken is replaced by one that is free; which ones it became is reported to
/// `NOTIFY_SOCKET`, in the order of `forwards`, when all of them listen (sd_notify(3)).
///
/// # Errors
/// [`LabError::File`] when the namespace cannot be entered, or no port can be listened on.
pub fn forward(namespace: &Path, forwards: &[Forward]) -> Result<()> {
    let mut listening = Vec::new();
    for forward in forwards {
        listening.push((listen(forward.port)?, forward.to));
    }
    let inside = File::open(namespace).map_err(LabError::file("open", namespace))?;
    move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| LabError::file("enter", namespace)(error.into()))?;
    // One thread, the one that has moved.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::file("poll in", namespace))?;
    runtime.block_on(async {
        let seats = Arc::new(Semaphore::new(CONNECTIONS));
        let mut ports = Vec::new();
        let mut tasks = Vec::new();
        for (listener, to) in listening {
            let port = listener.local_addr().and_then(|address| {
                listener.set_nonblocking(true)?;
                Ok(address.port())
            });
            ports.push(
                port.map_err(LabError::file("listen on", "127.0.0.1"))?
                    .to_string(),
            );
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(LabError::file("listen on", "127.0.0.1"))?;
            tasks.push(tokio::spawn(accept(listener, to, Arc::clone(&seats))));
        }
        notify(&format!("{PORTS}{}\nREADY=1", ports.join(",")));
        for task in tasks {
            // It has no end, and a panic is this process's.
            let _ = task.await;
        }
        Ok(())
    })
}

/// Listens on the port, or on another one where that is taken.
fn listen(port: u16) -> Result<TcpListener> {
    let at = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    at(port)
        .or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => at(0),
            _ => Err(error),
        })
        .map_err(LabError::file("listen on", format!("127.0.0.1:{port}")))
}

async fn accept(listener: tokio::net::TcpListener, to: SocketAddrV4, seats: Arc<Semaphore>) {
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(async move {
                    // Either side's end is the other's too; there is nobody to tell more.
                    let _ = pass(client, to).await;
                    drop(seat);
                });
            }
            // The client gave up before it was accepted, or there is no descriptor left until another connection ends.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn pass(mut client: TcpStream, to: SocketAddrV4) -> io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_written_as_it_is_read() {
        let forward = Forward {
            port: 8443,
            to: SocketAddrV4::new([203, 0, 113, 2].into(), 443),
        };
        assert_eq!(forward.to_string(), "8443=203.0.113.2:443");
        assert_eq!(forward.to_string().parse(), Ok(forward));
        for text in [
            "8443",
            "8443=203.0.113.2",
            "x=203.0.113.2:443",
            "70000=203.0.113.2:443",
        ] {
            text.parse::<Forward>().expect_err(text);
        }
    }

    #[test]
    fn a_port_that_is_taken_is_replaced_by_a_free_one() {
        let first = listen(0).expect("a port");
        let taken = first.local_addr().expect("an address").port();
        let second = listen(taken).expect("another port");
        let other = second.local_addr().expect("an address");
        assert!(other.port() != taken && other.ip().is_loopback());
    }
}
