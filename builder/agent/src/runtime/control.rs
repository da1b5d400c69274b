//! The operator of this very machine: a Unix socket that root alone may open.
//!
//! What is asked here is never accepted over the network: handing over on purpose, and the way out of a lost majority.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Blocking;
use std::path::PathBuf;
use std::time::Duration;

use rolesmith_model::recovery::SignedOrder;
use rolesmith_model::status::FleetStatus;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cluster::{Reply, Request};
use crate::files::Root;
use crate::net::frame::{Frame, FrameReader, Kind, MAX_BODY};

/// The socket.
pub const SOCKET: &str = "/run/rolesmith-cluster/control";
/// How long one question and its answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// How all members are: answered with a [`FleetStatus`].
    Fleet,
    /// To end a lost majority by this order: answered with a [`Verdict`].
    Recovery(SignedOrder),
    /// What members ask each other, and to hand over: answered with a [`Reply`].
    #[serde(untagged)]
    Request(Request),
}

/// What became of an order.
pub type Verdict = Result<(), String>;

/// A question.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub question: Question,
    /// Where the answer goes, as JSON.
    pub reply: oneshot::Sender<Vec<u8>>,
}

/// The listening side; it ends with the value.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Control {
    /// Listens.
    ///
    /// # Errors
    /// What the system calls return.
    pub fn listen(root: &Root) -> io::Result<(Self, mpsc::Receiver<Asked>)> {
        let path = root.join(SOCKET);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        // The service's umask keeps others out until here.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let (sender, receiver) = mpsc::channel(4);
        let task = tokio::spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    // One after the other: people are patient, and root has other ways to be a nuisance.
                    let _ = timeout(LIMIT, answer(stream, &sender)).await;
                }
            }
        });
        Ok((Self { path, task }, receiver))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, sender: &mpsc::Sender<Asked>) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let frame = FrameReader::new(read).next().await.ok()??;
    let question = serde_json::from_slice(&frame.body).ok()?;
    let (reply, answer) = oneshot::channel();
    sender.send(Asked { question, reply }).await.ok()?;
    // What is said of a large fleet does not fit into one frame.
    for part in answer.await.ok()?.chunks(MAX_BODY) {
        let frame = Frame {
            kind: Kind::Response,
            number: frame.number,
            body: part.to_vec(),
        };
        write.write_all(&frame.encode().ok()?).await.ok()?;
    }
    Some(())
}

/// Asks the service on this machine what members ask each other.
///
/// # Errors
/// It does not run, or the caller is not root.
pub fn ask(root: &Root, request: &Request) -> io::Result<Reply> {
    put(root, &Question::Request(request.clone()))
}

/// Asks it how all members are.
///
/// # Errors
/// As [`ask`].
pub fn fleet(root: &Root) -> io::Result<FleetStatus> {
    put(root, &Question::Fleet)
}

/// Hands it an order.
///
/// # Errors
/// As [`ask`].
pub fn recover(root: &Root, order: &SignedOrder) -> io::Result<Verdict> {
    put(root, &Question::Recovery(order.clone()))
}

fn put<T: DeserializeOwned>(root: &Root, question: &Question) -> io::Result<T> {
    use io::{Read as _, Write as _};
    let mut stream = Blocking::connect(root.join(SOCKET))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let frame = Frame {
        kind: Kind::Request,
        number: 1,
        body: serde_json::to_vec(question)?,
    };
    stream.write_all(&frame.encode().map_err(io::Error::other)?)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let mut body = Vec::new();
    while let Some(frame) = Frame::decode(&mut bytes).map_err(io::Error::other)? {
        body.extend(frame.body);
    }
    if body.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&body)?)
}

/// Why a question was not answered, for people.
#[must_use]
pub fn silent(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{SOCKET}: only root may ask the agent; use sudo")
        }
        io::ErrorKind::NotFound => format!(
            "{SOCKET}: rolesmith-cluster.service does not run, or waits; `rolesmith-agent status` says why"
        ),
        _ => format!(
            "rolesmith-cluster.service does not answer ({error}); `systemctl status rolesmith-cluster` says more"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_told_apart_and_requests_look_as_before() {
        let json = |question: &Question| serde_json::to_string(question).unwrap();
        let fleet = json(&Question::Fleet);
        assert_eq!(fleet, "\"fleet\"");
        let status = json(&Question::Request(Request::Status));
        assert_eq!(status, serde_json::to_string(&Request::Status).unwrap());
        for text in [fleet, status] {
            let read: Question = serde_json::from_str(&text).unwrap();
            assert_eq!(json(&read), text);
        }
    }
}
