//! What both directions have in common: a TLS stream with a task that writes to it.

use std::io;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::frame::{Frame, FrameReader, Kind};
use super::identity::Refusal;
use super::{Farewell, Hello, PROTOCOL};

/// How long bytes may wait for the other side to take them.
const WRITE: Duration = Duration::from_secs(5);
/// Frames that wait to be written.
const WAITING: usize = 32;

/// Set on every connection: small messages go at once, and a peer that vanished is noticed by the kernel too.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let milliseconds = u32::try_from(WRITE.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    Ok(())
}

/// Frames in, frames out.
pub(super) struct Stream<S> {
    pub(super) reader: FrameReader<ReadHalf<S>>,
    pub(super) writer: Writer,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// The sending side. When it is dropped what waits is still written, and then the connection is closed.
pub(super) struct Writer {
    frames: mpsc::Sender<Frame>,
    /// Ends with this value, however many answers are still to come.
    _open: oneshot::Sender<()>,
}

impl Writer {
    /// Puts a frame in line. It fails when the connection is broken, or the other side does not read.
    pub(super) fn send(&self, frame: Frame) -> io::Result<()> {
        self.frames
            .try_send(frame)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// Another handle to the same line.
    pub(super) fn line(&self) -> mpsc::Sender<Frame> {
        self.frames.clone()
    }

    /// Says why the connection is closed.
    pub(super) fn farewell(&self, refusal: &Refusal) {
        let farewell = Farewell {
            why: refusal.to_string(),
        };
        let frame = Frame {
            kind: Kind::Farewell,
            number: 0,
            body: serde_json::to_vec(&farewell).unwrap_or_default(),
        };
        // Who does not read learns nothing.
        let _ = self.send(frame);
    }

    pub(super) fn hello(&self, hello: &Hello) -> io::Result<()> {
        self.send(Frame {
            kind: Kind::Hello,
            number: 0,
            body: serde_json::to_vec(hello)?,
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream<S> {
    pub(super) fn new(stream: S, chain: &[CertificateDer<'_>]) -> Self {
        let chain = chain
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        let (read, mut write) = tokio::io::split(stream);
        let (frames, mut line) = mpsc::channel::<Frame>(WAITING);
        let (open, mut closed) = oneshot::channel::<()>();
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    biased;
                    next = line.recv() => next,
                    _ = &mut closed, if !line.is_closed() => {
                        // What was put in line before is still written.
                        line.close();
                        continue;
                    }
                };
                let Some(frame) = next else { break };
                let Ok(bytes) = frame.encode() else {
                    // Bodies are measured before they get here.
                    break;
                };
                let written = timeout(WRITE, async {
                    write.write_all(&bytes).await?;
                    write.flush().await
                });
                if !matches!(written.await, Ok(Ok(()))) {
                    break;
                }
            }
            let _ = timeout(WRITE, write.shutdown()).await;
        });
        Self {
            reader: FrameReader::new(read),
            writer: Writer {
                frames,
                _open: open,
            },
            chain,
        }
    }

    /// The other side's introduction, or what it said instead.
    pub(super) async fn hello(&mut self) -> Result<Hello, Greeting> {
        let frame = self
            .reader
            .next()
            .await
            .map_err(|error| Greeting::from_frame(error, "no introduction"))?
            .ok_or(Greeting::Lost("it closed the connection".to_owned()))?;
        match frame.kind {
            Kind::Hello => {}
            Kind::Farewell => return Err(Greeting::Refused(farewell(&frame))),
            _ => {
                let why = "it did not introduce itself".to_owned();
                return Err(Greeting::Bad(Refusal::Malformed(why)));
            }
        }
        // The version first: another one may say all the rest in another way.
        #[derive(serde::Deserialize)]
        struct Version {
            protocol: u32,
        }
        let malformed =
            |error: serde_json::Error| Greeting::Bad(Refusal::Malformed(error.to_string()));
        let Version { protocol } = serde_json::from_slice(&frame.body).map_err(malformed)?;
        if protocol != PROTOCOL {
            return Err(Greeting::Bad(Refusal::Protocol(protocol)));
        }
        serde_json::from_slice(&frame.body).map_err(malformed)
    }
}

/// Why there was no introduction.
#[derive(Debug)]
pub(super) enum Greeting {
    /// The connection ended.
    Lost(String),
    /// The other side refuses us.
    Refused(String),
    /// The other side is to be refused.
    Bad(Refusal),
}

impl Greeting {
    /// The alert of a certificate that the other side refused comes with the first bytes that are read (RFC 8446).
    fn from_frame(error: super::frame::FrameError, what: &str) -> Self {
        use super::frame::FrameError;
        match error {
            FrameError::Io(error) => match error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                Some(rustls::Error::AlertReceived(alert)) => {
                    Self::Refused(format!("TLS alert {alert:?}"))
                }
                _ => Self::Lost(format!("{what}: {error}")),
            },
            malformed => Self::Bad(Refusal::Malformed(malformed.to_string())),
        }
    }
}

/// What a peer said before it closed the connection.
pub(super) fn farewell(frame: &Frame) -> String {
    let text = serde_json::from_slice::<Farewell>(&frame.body)
        .map_or_else(|_| "no reason given".to_owned(), |farewell| farewell.why);
    // It goes to the log and the terminal of people.
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
