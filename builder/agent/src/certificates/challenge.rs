//! The authority's questions (RFC 8555, 8.3). They come by way of nginx, to any edge; the answer is at the one that issues.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::lease::{self, Promise};
use super::peers::{Answer, Peers, Request};
use super::store::Store;
use crate::files::{self, Root};
use crate::net::limits::{Bucket, Rate};

/// Where nginx connects.
pub const SOCKET: &str = "/run/rolesmith-certificates/http.sock";

/// Where the hook of uacme(1) writes answers: a file each, called by its token.
pub const DIR: &str = "/run/rolesmith-certificates/challenges";

/// What the path of a challenge begins with.
const PATH: &str = "/.well-known/acme-challenge/";
/// Longest token that is looked at. Let's Encrypt's have 43 characters.
const TOKEN: usize = 128;
/// Longest answer: a token, a dot and a digest.
const ANSWER: usize = 512;
/// Longest head of a request.
const HEAD: usize = 8 << 10;
/// Connections at once.
const CONNECTIONS: usize = 32;
/// How long nginx may take to send a request.
const LIMIT: Duration = Duration::from_secs(2);
/// How often others are asked: an authority asks a few times a certificate, and everybody may ask for anything.
const RATE: Rate = Rate {
    each_second: 5,
    burst: 20,
};
/// How often the edge that issues is asked, while one does: so much that questions of others leave room for the authority's, and less than
/// edges take of each other ([`crate::net::limits::Limits::requests`]).
const ISSUER: Rate = Rate {
    each_second: 50,
    burst: 100,
};
/// How long nobody is asked again for a token that nobody knew, and how many are remembered.
const UNKNOWN: (Duration, usize) = (Duration::from_secs(2), 256);

/// Whether it may be a token: base64url without padding (RFC 8555, 8.3). Anything else is no file name, and not passed on.
#[must_use]
pub fn is_token(text: &str) -> bool {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=TOKEN).contains(&text.len()) && text.bytes().all(sound)
}

/// This edge's own answer.
#[must_use]
pub fn own(root: &Root, token: &str) -> Option<String> {
    if !is_token(token) {
        return None;
    }
    let text = files::read(&root.join(DIR).join(token)).ok()??;
    let text = String::from_utf8(text).ok()?;
    // The key authorization begins with the token.
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (text.len() <= ANSWER && text.starts_with(token) && text.bytes().all(sound)).then_some(text)
}

/// Answers for this edge and for the others.
pub struct Challenges {
    root: Root,
    peers: Arc<Peers>,
    /// Whom this edge has promised that nobody else issues.
    store: Arc<Mutex<Store>>,
    clock: fn() -> u64,
    begin: Instant,
    asked: Mutex<Asked>,
}

/// What was asked of others.
struct Asked {
    all: Bucket,
    issuer: Bucket,
    /// What nobody knew, and when that was.
    unknown: VecDeque<(String, Instant)>,
}

/// The one that issues now, if it is another one than this edge.
#[must_use]
pub fn issuer(promise: Option<Promise>, me: &str, now: u64) -> Option<String> {
    let promise = lease::in_force(promise, now)?;
    (promise.holder != me).then_some(promise.holder)
}

impl Challenges {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(
        root: Root,
        peers: Arc<Peers>,
        store: Arc<Mutex<Store>>,
        clock: fn() -> u64,
    ) -> Self {
        Self {
            root,
            peers,
            store,
            clock,
            begin: Instant::now(),
            asked: Mutex::new(Asked {
                all: Bucket::new(RATE, 0),
                issuer: Bucket::new(ISSUER, 0),
                unknown: VecDeque::new(),
            }),
        }
    }

    /// Asks the edge that issues, if there is one. That comes first and has a measure of its own: anybody may ask for tokens that nobody
    /// knows, and the authority's has to find its answer meanwhile.
    async fn ask_issuer(&self, token: &str) -> Option<String> {
        let promise = self
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .promise();
        let me = self.peers.material().identity.node.clone();
        let issuer = issuer(promise, &me, (self.clock)())?;
        let now = self.now();
        let may = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.issuer.take(now).is_ok()
        };
        if !may {
            return None;
        }
        let request = Request::Challenge {
            token: token.to_owned(),
        };
        authorization(self.peers.ask(&issuer, &request).await?, token)
    }

    /// Milliseconds since it began.
    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The answer, wherever it is.
    async fn find(&self, token: &str) -> Option<String> {
        if let Some(own) = own(&self.root, token) {
            return Some(own);
        }
        if !is_token(token) {
            return None;
        }
        if let Some(text) = self.ask_issuer(token).await {
            return Some(text);
        }
        if !self.may_ask(token) {
            return None;
        }
        let token = token.to_owned();
        let mut answers = self.peers.ask_all(&Request::Challenge {
            token: token.clone(),
        });
        while let Some((_, answer)) = answers.recv().await {
            if let Some(text) = authorization(answer, &token) {
                return Some(text);
            }
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.unknown.len() >= UNKNOWN.1 {
            asked.unknown.pop_front();
        }
        asked.unknown.push_back((token, Instant::now()));
        None
    }

    /// Whether others may be asked: not too often, and not again for what nobody knew just now.
    fn may_ask(&self, token: &str) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while asked
            .unknown
            .front()
            .is_some_and(|(_, when)| when.elapsed() >= UNKNOWN.0)
        {
            asked.unknown.pop_front();
        }
        if asked.unknown.iter().any(|(unknown, _)| unknown == token) {
            return false;
        }
        asked.all.take(self.now()).is_ok()
    }

    /// Answers nginx until the end of time.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub async fn serve(self: Arc<Self>, socket: &Path) -> io::Result<()> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket)?;
        // nginx's workers are another user.
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return Ok(());
            };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of files, most likely: others have to end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let challenges = self.clone();
            tokio::spawn(async move {
                let _ = challenges.converse(stream).await;
                drop(place);
            });
        }
    }

    /// One request; the connection ends with its answer.
    async fn converse(&self, mut stream: UnixStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            let read = timeout(LIMIT, stream.read_buf(&mut head)).await;
            if head.len() > HEAD || !matches!(read, Ok(Ok(1..))) {
                return Ok(());
            }
        }
        let found = match token(&head) {
            Some(token) => self.find(token).await,
            None => None,
        };
        let (status, kind, body) = match &found {
            Some(text) => ("200 OK", "application/octet-stream", text.as_str()),
            None => ("404 Not Found", "text/plain", "nothing is here\n"),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        timeout(LIMIT, stream.write_all(answer.as_bytes())).await?
    }
}

/// What another edge has answered, if it may be an answer to this token.
fn authorization(answer: Answer, token: &str) -> Option<String> {
    let Answer::Challenge { authorization } = answer else {
        return None;
    };
    authorization.filter(|text| text.len() <= ANSWER && text.starts_with(token))
}

/// The token that a request asks for.
fn token(head: &[u8]) -> Option<&str> {
    let line = head.split(|&b| b == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let path = line.strip_prefix("GET ")?.split(' ').next()?;
    path.strip_prefix(PATH).filter(|token| is_token(token))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_no_path() {
        let token = |line: &str| token(line.as_bytes()).map(str::to_owned);
        let get = |what: &str| token(&format!("GET {PATH}{what} HTTP/1.1\r\n\r\n"));
        assert_eq!(get("abc-_1"), Some("abc-_1".into()));
        for bad in ["", "../x", "a/b", "a%2e", "a?b", &"a".repeat(TOKEN + 1)] {
            assert_eq!(get(bad), None, "{bad}");
        }
        assert_eq!(
            token("POST /.well-known/acme-challenge/a HTTP/1.1\r\n"),
            None
        );
        assert_eq!(token("GET /health HTTP/1.1\r\n"), None);
    }

    #[test]
    fn the_one_that_has_the_promise_issues() {
        let promise = |holder: &str, until| {
            Some(Promise {
                holder: holder.into(),
                until,
            })
        };
        for (promise, expected) in [
            (None, None),
            (promise("app-1", 1100), Some("app-1")),
            (promise("app-1", 1000), None),
            (promise("app-2", 1100), None),
        ] {
            let now = issuer(promise.clone(), "app-2", 1000);
            assert_eq!(now.as_deref(), expected, "{promise:?}");
        }
    }

    #[test]
    fn others_answer_for_the_token_that_was_asked() {
        let answer = |text: Option<&str>| Answer::Challenge {
            authorization: text.map(str::to_owned),
        };
        assert_eq!(
            authorization(answer(Some("abc.print")), "abc"),
            Some("abc.print".into())
        );
        assert_eq!(authorization(answer(Some("def.print")), "abc"), None);
        assert_eq!(authorization(answer(None), "abc"), None);
        assert_eq!(authorization(Answer::Done, "abc"), None);
        let long = format!("abc{}", "x".repeat(ANSWER));
        assert_eq!(authorization(answer(Some(&long)), "abc"), None);
    }

    #[test]
    fn only_what_begins_with_its_token_is_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let put = |token: &str, text: &str| {
            let path = root.join(DIR).join(token);
            files::write(&path, text.as_bytes(), files::Access::PUBLIC).unwrap();
        };
        put("abc", "abc.print_-1");
        put("def", "something else");
        put("ghi", "ghi\r\nSet-Cookie: x");
        assert_eq!(own(&root, "abc"), Some("abc.print_-1".into()));
        assert_eq!(own(&root, "def"), None);
        assert_eq!(own(&root, "ghi"), None);
        assert_eq!(own(&root, "none"), None);
        assert_eq!(own(&root, "../challenges/abc"), None);
    }

    proptest! {
        #[test]
        fn anything_may_be_asked(head in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(token) = token(&head) { prop_assert!(is_token(token)); }
        }
    }
}
