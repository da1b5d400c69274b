//! Looking at what the edge stands on: its services, and nginx itself.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Service, Settings};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read: its first line.
const HEAD: usize = 512;

/// What was seen: the part's name and its problem, if it has one.
pub type Looks = Vec<(String, Option<String>)>;

/// Looks at everything at the same time.
pub async fn look(settings: &Settings) -> Looks {
    let mut all = Vec::with_capacity(settings.services.len() + 1);
    let mut running = Vec::new();
    for service in settings.services.clone() {
        running.push(tokio::spawn(async move {
            let problem = of_service(&service).await.err();
            (service.name, problem)
        }));
    }
    let https = settings.https.clone();
    running.push(tokio::spawn(async move {
        let problem = connect(&https).await.map(drop).err();
        ("nginx".to_owned(), problem)
    }));
    for each in running {
        // A task that panicked has no name any more; its part keeps what was seen before, and goes stale nowhere else.
        all.extend(each.await.ok());
    }
    all
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    match timeout(ANSWER, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {} s", ANSWER.as_secs())),
    }
}

async fn of_service(service: &Service) -> Result<(), String> {
    let address = format!("127.0.0.1:{}", service.port);
    let mut stream = connect(&address).await?;
    let Some(path) = &service.health else {
        return Ok(());
    };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let ask = async {
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        let mut part = [0; HEAD];
        while head.len() < HEAD && !head.contains(&b'\n') {
            match stream.read(&mut part).await? {
                0 => break,
                read => head.extend_from_slice(&part[..read]),
            }
        }
        std::io::Result::Ok(head)
    };
    let head = match timeout(ANSWER, ask).await {
        Ok(Ok(head)) => head,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {} s", ANSWER.as_secs())),
    };
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(format!("answers {status}")),
        None => Err("does not answer in HTTP".into()),
    }
}

/// The status code of a status line (RFC 9112, 4).
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|&b| b == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let code = rest.get(..3)?;
    (version.starts_with("HTTP/1.") && code.bytes().all(|b| b.is_ascii_digit()))
        .then(|| code.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn status_lines_are_read() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        assert_eq!(status(b"HTTP/1.1 2x0 OK\r\n"), None);
        assert_eq!(status(b"220 mail ESMTP\r\n"), None);
    }

    proptest! {
        #[test]
        fn anything_may_come(head in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = status(&head);
        }
    }

    #[tokio::test]
    async fn services_are_told_apart_by_what_they_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 No\r\n\r\n", "x"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 256];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let service = Service {
            name: "shop".into(),
            port,
            health: Some("/health".into()),
        };
        assert_eq!(of_service(&service).await, Ok(()));
        assert_eq!(of_service(&service).await, Err("answers 503".into()));
        assert_eq!(
            of_service(&service).await,
            Err("does not answer in HTTP".into())
        );
        server.await.unwrap();
        let refused = of_service(&service).await.unwrap_err();
        assert!(refused.contains("refused"), "{refused}");
    }
}
