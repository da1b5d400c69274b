//! A server of a few bytes behind real TLS on loopback.

use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::net::testing::{Fleet, der};

/// The files of a member.
struct Files(tempfile::TempDir);

impl Files {
    fn of(fleet: &Fleet, node: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let texts = [
            ("cert.pem", fleet.certificates[node].clone()),
            ("ca.pem", fleet.authority.pem.clone()),
            ("node.key", fleet.keys[node].serialize_pem()),
        ];
        for (name, text) in texts {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self(dir)
    }

    async fn ask(&self, node: &str, port: u16) -> Result<Reply, Problem> {
        let [certificate, ca, key] =
            ["cert.pem", "ca.pem", "node.key"].map(|name| self.0.path().join(name));
        let proof = Proof {
            user: "someone",
            certificate: &certificate,
            ca: &ca,
            key: &key,
        };
        let node = NodeName::new(node).unwrap();
        ask(&node, ("127.0.0.1", port), &proof, "SELECT 1").await
    }
}

/// A message of the protocol.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// Listens as `node`, answers one SSLRequest with this byte, and one startup message and one query with what a server
/// would. Gives the port, and in the end what the client sent inside of TLS.
async fn server(
    fleet: &Fleet,
    node: &str,
    word: u8,
) -> (u16, tokio::task::JoinHandle<std::io::Result<Vec<u8>>>) {
    let mut roots = RootCertStore::empty();
    roots.add(der(&fleet.authority.pem)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let key = PrivateKeyDer::from_pem_slice(fleet.keys[node].serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![der(&fleet.certificates[node])], key)
        .unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 8];
        stream.read_exact(&mut request).await?;
        assert_eq!(request, SSL_REQUEST);
        stream.write_all(&[word]).await?;
        let mut tls = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let length = tls.read_u32().await?;
        let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
        tls.read_exact(&mut startup).await?;
        let ready = message(b'Z', b"I");
        tls.write_all(&[message(b'R', &[0; 4]), ready.clone()].concat())
            .await?;
        tls.flush().await?;
        assert_eq!(tls.read_u8().await?, b'Q');
        let length = tls.read_u32().await?;
        let mut query = vec![0; usize::try_from(length).unwrap() - 4];
        tls.read_exact(&mut query).await?;
        let row = message(b'D', &[0, 1, 0, 0, 0, 1, b't']);
        let answer = [row, message(b'C', b"SELECT 1\0"), ready].concat();
        tls.write_all(&answer).await?;
        tls.flush().await?;
        Ok([startup, query].concat())
    });
    (port, task)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn a_members_server_is_asked_over_tls_with_this_nodes_certificate() {
    run(async {
        let fleet = Fleet::new(&["n1", "n2"]);
        let (port, server) = server(&fleet, "n1", b'S').await;
        let reply = Files::of(&fleet, "n2").ask("n1", port).await.unwrap();
        assert_eq!(reply.value(0), Some("t"));
        let sent = server.await.unwrap().unwrap();
        let sent = String::from_utf8_lossy(&sent);
        assert!(
            sent.contains("user\0someone\0database\0postgres\0"),
            "{sent:?}"
        );
        assert!(sent.ends_with("SELECT 1\0"), "{sent:?}");
    });
}

#[test]
fn nobody_else_is_believed() {
    run(async {
        let fleet = Fleet::new(&["n1", "n2", "n3"]);
        let stranger = Fleet::new(&["n1", "n2"]);
        let files = Files::of(&fleet, "n2");
        // whose certificate it shows, in what fleet, its word -> what is wrong
        let table = [
            ("n3", &fleet, b'S', "not valid for name"),
            ("n1", &stranger, b'S', "invalid peer certificate"),
            ("n1", &fleet, b'N', "it speaks no TLS"),
            ("n1", &fleet, b'E', "it speaks no TLS"),
        ];
        for (shown, of, word, expected) in table {
            let (port, server) = server(of, shown, word).await;
            let why = files.ask("n1", port).await.unwrap_err().to_string();
            assert!(why.contains(expected), "{shown} {word}: {why}");
            server.abort();
        }
        // And nobody of another fleet is heard.
        let (port, server) = server(&fleet, "n1", b'S').await;
        let mut foreign = Files::of(&stranger, "n2");
        std::fs::write(foreign.0.path().join("ca.pem"), &fleet.authority.pem).unwrap();
        foreign.ask("n1", port).await.unwrap_err();
        assert!(server.await.unwrap().is_err());
        // Nor is anybody waited for in vain.
        foreign = files;
        let gone = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = gone.local_addr().unwrap().port();
        drop(gone);
        let why = foreign.ask("n1", port).await.unwrap_err().to_string();
        assert!(
            why.starts_with(&format!("n1 (127.0.0.1:{port}): ")),
            "{why}"
        );
    });
}
