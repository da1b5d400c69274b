//! One question to the server of another member: over TLS, both sides' certificates checked, within seconds.
//!
//! What `psql` would do too. It takes 0.2 s to start on a small machine, though, and every pgbouncer of the fleet waits for
//! this answer while the primary moves.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use rolesmith_model::ids::NodeName;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::{Client, Reply, WireError};
use super::{ANSWER, CONNECT, Problem};
use crate::net::credentials::credentials;

#[cfg(test)]
mod tests;

/// SSLRequest: its length, and a number in the place of a protocol's version (manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Who asks, and what it shows for it.
pub(super) struct Proof<'a> {
    /// The PostgreSQL role. It logs in with a member's certificate and no password.
    pub user: &'a str,
    /// This node's certificate (PEM).
    pub certificate: &'a Path,
    /// The fleet's CA (PEM); the server's certificate has to come from it and show the node's name.
    pub ca: &'a Path,
    /// The key (PEM).
    pub key: &'a Path,
}

/// Asks a node's server, at this address and port, in database postgres.
///
/// # Errors
/// No server there, one that is not that node's, no answer in time, or an error as answer.
pub(super) async fn ask(
    node: &NodeName,
    place: (&str, u16),
    proof: &Proof<'_>,
    question: &str,
) -> Result<Reply, Problem> {
    let opened = timeout(CONNECT, open(node, place, proof)).await;
    let mut client = opened.map_err(|_| WireError::TooLong { limit: CONNECT })??;
    Ok(client.query(question, ANSWER).await?)
}

async fn open(
    node: &NodeName,
    (address, port): (&str, u16),
    proof: &Proof<'_>,
) -> Result<Client<TlsStream<TcpStream>>, Problem> {
    let tls = credentials(proof.key, proof.certificate, proof.ca)
        .map_err(|error| Problem::Later(error.to_string()))?;
    let name = ServerName::try_from(node.to_string())
        .map_err(|_| Problem::Refused(format!("{node} cannot be the name of a server")))?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| Problem::Later(format!("{address:?} is no address of {node}")))?;
    let server = format!("{node} ({address}:{port})");
    let lost = |error| WireError::Connection {
        server: server.clone(),
        error,
    };
    let mut stream = TcpStream::connect(SocketAddr::new(address, port))
        .await
        .map_err(lost)?;
    stream.set_nodelay(true).map_err(lost)?;
    stream.write_all(&SSL_REQUEST).await.map_err(lost)?;
    // One byte, and none that came with it: what is sent before the handshake could be anybody's.
    if stream.read_u8().await.map_err(lost)? != b'S' {
        return Err(WireError::Protocol("it speaks no TLS".into()).into());
    }
    let stream = TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .map_err(lost)?;
    let parameters = [
        ("user", proof.user),
        ("database", "postgres"),
        ("application_name", "rolesmith-agent pooler"),
        ("statement_timeout", "2s"),
    ];
    Ok(Client::over(stream, server, &parameters).await?)
}
