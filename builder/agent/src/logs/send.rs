//! A session with a log server: RELP over TLS. Only what the server has confirmed counts as sent.

use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::relp;

/// How long connecting, and then each answer, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection is made anew after this time, so that a rotated certificate comes into use.
const LONGEST_SESSION: Duration = Duration::from_secs(3600);

/// Where to send, and as whom.
#[derive(Debug, Clone)]
pub struct Server {
    /// Address and port.
    pub address: SocketAddr,
    /// The name that its certificate has to have.
    pub name: String,
    /// The fleet's CA (PEM).
    pub ca: PathBuf,
    /// This node's certificate (PEM).
    pub certificate: PathBuf,
    /// This node's private key (PEM).
    pub key: PathBuf,
}

/// A session with a log server.
pub struct Session {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    last: u32,
    begun: Instant,
}

impl Session {
    /// Connects; both sides show their certificates.
    ///
    /// # Errors
    /// What connecting gives, also where the server's certificate is not of the fleet's CA, has expired or has another name.
    pub fn open(server: &Server) -> io::Result<Self> {
        let config = Arc::new(config(server)?);
        let name = ServerName::try_from(server.name.clone()).map_err(io::Error::other)?;
        let tcp = TcpStream::connect_timeout(&server.address, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut session = Self {
            stream: BufReader::new(StreamOwned::new(tls, tcp)),
            last: 0,
            begun: Instant::now(),
        };
        session.exchange("open", relp::OFFER)?;
        Ok(session)
    }

    /// Whether it is time for another one.
    #[must_use]
    pub fn is_old(&self) -> bool {
        self.begun.elapsed() >= LONGEST_SESSION
    }

    /// Sends lines and waits until all of them are confirmed. After an error the session is of no use any more; any of the
    /// lines may have arrived.
    ///
    /// # Errors
    /// What writing and reading give, and what the server refuses.
    pub fn send(&mut self, lines: &[Vec<u8>]) -> io::Result<()> {
        let first = self.last;
        let mut frames = Vec::new();
        for line in lines {
            self.last = relp::next(self.last);
            frames.extend_from_slice(&relp::frame(self.last, "syslog", line));
        }
        self.write(&frames)?;
        let mut number = first;
        for _ in lines {
            number = relp::next(number);
            relp::confirmed(&mut self.stream, number)?;
        }
        Ok(())
    }

    fn exchange(&mut self, command: &str, data: &[u8]) -> io::Result<()> {
        self.last = relp::next(self.last);
        self.write(&relp::frame(self.last, command, data))?;
        relp::confirmed(&mut self.stream, self.last)
    }

    fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(frames)?;
        stream.flush()
    }
}

/// Read anew for each session: certificates are rotated, and the CA's file may hold two for a while.
fn config(server: &Server) -> io::Result<ClientConfig> {
    let certificates = |path: &PathBuf| -> io::Result<Vec<CertificateDer<'static>>> {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    };
    let mut roots = RootCertStore::empty();
    for ca in certificates(&server.ca)? {
        roots.add(ca).map_err(io::Error::other)?;
    }
    let key = PrivateKeyDer::from_pem_file(&server.key)
        .map_err(|error| io::Error::other(format!("{}: {error}", server.key.display())))?;
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&server.certificate)?, key)
        .map_err(io::Error::other)
}
