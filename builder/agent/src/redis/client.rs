//! A connection to Redis or Sentinel over TLS: one request at a time, every wait bounded.
//!
//! Blocking, since whoever uses it waits for the answers and does nothing else; several peers are asked by a thread each.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::resp::{self, MAX_REPLY, RespError, Value};

/// Why nothing was learnt.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither address nor name.
    #[error("{0:?} is not an address")]
    Address(String),
    /// The connection.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came over it.
    #[error(transparent)]
    Resp(#[from] RespError),
    /// It refused the password or the command.
    #[error("{0}")]
    Refused(String),
}

/// An open connection, logged in.
pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    deadline: Instant,
    received: Vec<u8>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Connects to the member `name` and logs in; all that is done with the connection has to end within `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(
        tls: &Arc<ClientConfig>,
        name: &str,
        address: &str,
        port: u16,
        login: (&str, &str),
        limit: Duration,
    ) -> Result<Self, ClientError> {
        let deadline = Instant::now() + limit;
        let ip = address
            .parse()
            .map_err(|_| ClientError::Address(address.to_owned()))?;
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| ClientError::Address(name.to_owned()))?;
        let socket = TcpStream::connect_timeout(&SocketAddr::new(ip, port), limit)?;
        socket.set_nodelay(true)?;
        let connection =
            ClientConnection::new(Arc::clone(tls), server).map_err(io::Error::other)?;
        let mut client = Self {
            stream: StreamOwned::new(connection, socket),
            deadline,
            received: Vec::new(),
        };
        match client.ask(&["AUTH", login.0, login.1])? {
            Value::Text(_) => Ok(client),
            Value::Error(error) => Err(ClientError::Refused(error)),
            _ => Err(RespError::Malformed.into()),
        }
    }

    /// Gives the connection more time, counted from now.
    pub fn extend(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
    }

    /// Sends a command and waits for its reply; an error of Redis is a reply.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Resp`].
    pub fn ask(&mut self, words: &[&str]) -> Result<Value, ClientError> {
        self.limit()?;
        self.stream.write_all(&resp::command(words))?;
        self.stream.flush()?;
        let mut buffer = [0; 8192];
        loop {
            if let Some((value, length)) = resp::decode(&self.received)? {
                self.received.drain(..length);
                return Ok(value);
            }
            if self.received.len() > MAX_REPLY {
                return Err(RespError::TooLarge.into());
            }
            self.limit()?;
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                length => self.received.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// Each system call may take what is left of the time.
    fn limit(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let socket = &self.stream.sock;
        socket.set_read_timeout(Some(left))?;
        socket.set_write_timeout(Some(left))
    }
}
