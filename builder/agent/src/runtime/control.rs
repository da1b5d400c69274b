//! The operator of this very machine: a Unix socket that root alone may open.
//!
//! What is asked here is never accepted over the network: handing over on purpose, and the way out of a lost majority.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Blocking;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cluster::{Reply, Request};
use crate::files::Root;
use crate::net::frame::{Frame, FrameReader, Kind};

/// The socket.
pub const SOCKET: &str = "/run/rolesmith-cluster/control";
/// How long one question and its answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A question.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
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
    let request = serde_json::from_slice(&frame.body).ok()?;
    let (reply, answer) = oneshot::channel();
    sender.send(Asked { request, reply }).await.ok()?;
    let frame = Frame {
        kind: Kind::Response,
        number: frame.number,
        body: serde_json::to_vec(&answer.await.ok()?).ok()?,
    };
    write.write_all(&frame.encode().ok()?).await.ok()
}

/// Asks the service on this machine.
///
/// # Errors
/// It does not run, or the caller is not root.
pub fn ask(root: &Root, request: &Request) -> io::Result<Reply> {
    use io::{Read as _, Write as _};
    let mut stream = Blocking::connect(root.join(SOCKET))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let frame = Frame {
        kind: Kind::Request,
        number: 1,
        body: serde_json::to_vec(request)?,
    };
    stream.write_all(&frame.encode().map_err(io::Error::other)?)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let frame = Frame::decode(&mut bytes)
        .map_err(io::Error::other)?
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_slice(&frame.body)?)
}
