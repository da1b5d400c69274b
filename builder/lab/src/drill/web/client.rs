//! One HTTPS connection of a visitor.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    super::ledger::Moment,
    response::{Head, head},
};

/// For how long the other side may take to hear that a connection is over; nobody depends on it.
const FAREWELL: Duration = Duration::from_millis(200);

/// A connection.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    /// This end of it.
    pub(super) client: SocketAddrV4,
    /// When it was begun.
    pub(super) opened: Moment,
}

/// Where connections come from and lead to.
#[derive(Clone)]
pub(super) struct Dialler {
    tls: TlsConnector,
    to: SocketAddrV4,
    host: ServerName<'static>,
}

impl Dialler {
    /// Connections to this address, for this site.
    ///
    /// # Errors
    /// The site's name is none.
    pub(super) fn new(to: SocketAddrV4, host: &str) -> Result<Dialler, String> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        Ok(Dialler {
            tls: TlsConnector::from(Arc::new(config)),
            to,
            host: ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?,
        })
    }

    /// Connects, and shakes hands. This end's address comes with the error too, where there was one.
    ///
    /// # Errors
    /// What came in between.
    pub(super) async fn dial(
        &self,
        source: Ipv4Addr,
        opened: Moment,
        limit: Duration,
    ) -> Result<Connection, (Option<SocketAddrV4>, String)> {
        let mut client = None;
        let dial = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddrV4::new(source, 0).into())?;
            let stream = socket.connect(self.to.into()).await?;
            if let std::net::SocketAddr::V4(address) = stream.local_addr()? {
                client = Some(address);
            }
            stream.set_nodelay(true)?;
            // A connection that is given up is reset, so that the load balancer knows at once, and logs whose it was.
            set_socket_linger(&stream, Some(Duration::ZERO))?;
            self.tls.connect(self.host.clone(), stream).await
        };
        let dialled: Result<io::Result<_>, _> = timeout(limit, dial).await;
        match (dialled, client) {
            (Ok(Ok(stream)), Some(client)) => Ok(Connection {
                stream,
                client,
                opened,
            }),
            (Ok(Err(error)), client) => Err((client, format!("no connection: {error}"))),
            (_, client) => Err((client, "no connection within the limit".into())),
        }
    }
}

impl Connection {
    /// Whether nobody has closed it and nothing was said on it: what clients look at before they use a connection again.
    pub(super) async fn is_idle(&mut self) -> bool {
        let mut byte = [0];
        // One look, without waiting.
        timeout(Duration::ZERO, self.stream.read(&mut byte))
            .await
            .is_err()
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Errors
    /// The connection ended, or what came is no answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Head, String> {
        let told = |error: io::Error| format!("the connection ended: {error}");
        self.stream.write_all(request).await.map_err(told)?;
        self.stream.flush().await.map_err(told)?;
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        let mut known = None;
        loop {
            if known.is_none() {
                known = head(&bytes)?;
            }
            if let Some(head) = known {
                let whole = head.size + head.length.unwrap_or(0);
                if bytes.len() >= whole {
                    return Ok(head);
                }
            }
            match self.stream.read(&mut part).await.map_err(told)? {
                0 => return Err("the connection ended".into()),
                read => bytes.extend_from_slice(&part[..read]),
            }
        }
    }

    /// Ends it as clients do that have what they wanted.
    pub(super) async fn close(mut self) {
        // Whoever does not listen hears nothing; there is nothing more to be done about it.
        let _ = set_socket_linger(self.stream.get_ref().0, None);
        let _ = timeout(FAREWELL, self.stream.shutdown()).await;
    }
}

/// Takes any certificate: whose the site has is asked by others, and before an authority gave one it is signed by itself.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    /// Never asked: TLS 1.3 alone is spoken.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
