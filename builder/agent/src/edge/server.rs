//! The socket behind nginx, and the loop that looks.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{Limits, Readiness, Settings, Verdict, look};
use crate::drain;
use crate::files::Root;
use crate::notify::Notifier;

/// Where nginx connects.
pub const SOCKET: &str = "/run/rolesmith-edge/http.sock";

/// There while nginx is about to be stopped. nginx's unit removes it before it starts.
pub const LEAVING: &str = "/run/rolesmith/leaving";

/// There while an upgrade restarts what requests pass through (`upgrade.rs`).
pub const UPGRADING: &str = "/run/rolesmith/upgrading";

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long nginx may take to send a request.
const REQUEST: Duration = Duration::from_secs(2);
/// Longest head of a request.
const HEAD: usize = 8 << 10;
/// Connections at once; nginx keeps two.
const CONNECTIONS: usize = 64;

/// Answers until the end of time.
///
/// # Errors
/// The socket cannot be made.
pub async fn run(root: &Root, socket: &Path, settings: Settings) -> io::Result<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    // nginx's workers are another user.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
    let names = settings.services.iter().map(|s| s.name.clone());
    let names = names.chain(["nginx".to_owned()]);
    let readiness = Arc::new(Mutex::new(Readiness::new(names, Limits::default())));
    let notifier = Notifier::from_env();
    notifier.send("READY=1");
    tokio::spawn(serve(listener, root.clone(), readiness.clone()));
    let begin = Instant::now();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        ticks.tick().await;
        let looks = look(&settings).await;
        let verdict = {
            let mut readiness = readiness.lock().unwrap_or_else(PoisonError::into_inner);
            let now = begin.elapsed();
            for (name, problem) in looks {
                readiness.saw(&name, problem, now);
            }
            judge(root, &mut readiness)
        };
        let word = if verdict.ready {
            "ready".to_owned()
        } else {
            verdict.problems.join("; ")
        };
        if told.as_ref() != Some(&word) {
            // The journal.
            let _ = writeln!(io::stdout(), "{word}");
            told = Some(word.clone());
        }
        notifier.send(&format!("STATUS={}\nWATCHDOG=1", word.replace('\n', " ")));
    }
}

/// The verdict of this moment: whether the node is drained is looked at for each answer, since it acts at once.
fn judge(root: &Root, readiness: &mut Readiness) -> Verdict {
    let marked = |file| root.join(file).exists();
    readiness.drain(drain::since(root).is_some() || marked(LEAVING) || marked(UPGRADING));
    readiness.verdict()
}

async fn serve(listener: UnixListener, root: Root, readiness: Arc<Mutex<Readiness>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files, most likely: others have to end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (root, readiness) = (root.clone(), readiness.clone());
        tokio::spawn(async move {
            let verdict = || {
                judge(
                    &root,
                    &mut readiness.lock().unwrap_or_else(PoisonError::into_inner),
                )
            };
            let _ = converse(stream, verdict).await;
            drop(place);
        });
    }
}

/// Requests of one connection, one after the other.
async fn converse(mut stream: UnixStream, verdict: impl Fn() -> Verdict) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = find(&buffer, b"\r\n\r\n") {
                let rest = buffer.split_off(end + 4);
                break std::mem::replace(&mut buffer, rest);
            }
            if buffer.len() > HEAD {
                return stream
                    .write_all(&answer(431, "the request is too long\n"))
                    .await;
            }
            // nginx may keep a connection without a request for long, and takes no time over one.
            let limit = if buffer.is_empty() { KEEP } else { REQUEST };
            let read = timeout(limit, stream.read_buf(&mut buffer)).await;
            match read {
                Ok(Ok(1..)) => {}
                _ => return Ok(()),
            }
        };
        stream.write_all(&respond(&head, &verdict)).await?;
    }
}

/// How long nginx may keep a connection without a request.
const KEEP: Duration = Duration::from_secs(75);

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The answer to a request, by its first line. A body is not read: whoever sends one is not nginx's health check.
fn respond(head: &[u8], verdict: impl Fn() -> Verdict) -> Vec<u8> {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = path.split('?').next().unwrap_or_default();
    if !["GET", "HEAD"].contains(&method) {
        return answer(405, "only GET\n");
    }
    match path {
        "/health" => {
            let verdict = verdict();
            if verdict.ready {
                answer(200, "ok\n")
            } else {
                answer(503, &(verdict.problems.join("\n") + "\n"))
            }
        }
        _ => answer(404, "nothing is here\n"),
    }
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(ready: bool) -> impl Fn() -> Verdict {
        move || Verdict {
            ready,
            problems: if ready {
                Vec::new()
            } else {
                vec!["shop: refused".into()]
            },
        }
    }

    fn text(head: &str, ready: bool) -> String {
        String::from_utf8(respond(head.as_bytes(), verdict(ready))).unwrap()
    }

    #[test]
    fn health_is_answered_and_nothing_else() {
        assert!(text("GET /health HTTP/1.1\r\n\r\n", true).starts_with("HTTP/1.1 200 OK\r\n"));
        let out = text("GET /health?x HTTP/1.1\r\n\r\n", false);
        assert!(
            out.starts_with("HTTP/1.1 503 ") && out.ends_with("shop: refused\n"),
            "{out}"
        );
        assert!(text("GET / HTTP/1.1\r\n\r\n", true).starts_with("HTTP/1.1 404 "));
        assert!(text("POST /health HTTP/1.1\r\n\r\n", true).starts_with("HTTP/1.1 405 "));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_gets_a_whole_answer(head in prop::collection::vec(any::<u8>(), 0..200)) {
            let answer = respond(&head, verdict(true));
            prop_assert!(find(&answer, b"\r\n\r\n").is_some());
        }
    }

    #[tokio::test]
    async fn a_connection_carries_several_requests_and_a_long_one_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let served = tokio::spawn(converse(theirs, verdict(true)));
        let (mut read, mut write) = ours.into_split();
        write
            .write_all(b"GET /health HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        write.write_all(&[b'x'; HEAD + 1]).await.unwrap();
        let mut all = String::new();
        read.read_to_string(&mut all).await.unwrap();
        let statuses: Vec<&str> = all.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
        assert_eq!(statuses, ["200", "404", "431"]);
        served.await.unwrap().unwrap();
    }
}
