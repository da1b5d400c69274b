//! A client for simple queries and nothing else, over the server's Unix socket or a stream that was made elsewhere.
//!
//! PostgreSQL's frontend/backend protocol 3.0 (manual, chapter "Frontend/Backend Protocol"), as far as an administrator
//! needs it: a startup message, authentication by who holds the other end, one query at a time, everything as text. The usual
//! client library cannot ask for a replication connection, and only that tells which timeline a standby has replayed
//! (`IDENTIFY_SYSTEM`); it also hides notices, and a notice is all that tells a cancelled synchronous commit from a
//! good one. pgbouncer's console speaks the same protocol.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

#[cfg(test)]
mod tests;

/// Bytes of a message that is believed. Answers to the agent's own questions are far shorter.
const LONGEST_MESSAGE: usize = 4 << 20;
/// Protocol 3.0.
const PROTOCOL: u32 = 3 << 16;

/// An error or a notice of the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notice {
    /// ERROR, FATAL, WARNING, NOTICE... never translated.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// The primary message.
    pub message: String,
}

/// What a query came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// Names of the last statement's columns.
    pub columns: Vec<String>,
    /// Rows of all its statements in order; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Tag of the last statement that was completed, such as `COMMIT` or `UPDATE 1`.
    pub tag: String,
    /// Warnings and notices that came with it.
    pub notices: Vec<Notice>,
}

impl Reply {
    /// The values of a column by its name in all rows; NULL, and a column that is not there, is "".
    pub fn column(&self, name: &str) -> impl Iterator<Item = &str> {
        let place = self.columns.iter().position(|column| column == name);
        self.rows.iter().map(move |row| {
            let value = place.and_then(|place| row.get(place)?.as_deref());
            value.unwrap_or_default()
        })
    }

    /// The value in the first row's column; `None` for NULL and for what is not there.
    #[must_use]
    pub fn value(&self, column: usize) -> Option<&str> {
        self.rows.first()?.get(column)?.as_deref()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The server is not there, or went away.
    #[error("{server}: {error}")]
    Connection {
        /// Where it is looked for: a socket's path, or a name and a port.
        server: String,
        /// What the system calls said.
        error: std::io::Error,
    },
    /// It did not answer in time. What was asked may still happen.
    #[error("the server did not answer within {} ms", limit.as_millis())]
    TooLong {
        /// The limit.
        limit: Duration,
    },
    /// It answered with an error.
    #[error("{} {}: {}", notice.severity, notice.code, notice.message)]
    Server {
        /// The error.
        notice: Notice,
        /// Whether the connection is over.
        over: bool,
    },
    /// Something that this client does not speak, or a query on a connection whose last one was not answered.
    #[error("the server said what this client does not understand: {0}")]
    Protocol(String),
}

impl WireError {
    /// SQLSTATE 57P03: it starts, stops or recovers and takes no connections yet.
    #[must_use]
    pub fn is_not_yet(&self) -> bool {
        matches!(self, Self::Server { notice, .. } if notice.code == "57P03")
    }
}

/// One message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    kind: u8,
    body: Vec<u8>,
}

/// Takes the first whole message off the buffer; `None` when there is none yet.
pub(super) fn take_message(buffer: &mut Vec<u8>) -> Result<Option<Message>, WireError> {
    let Some((&kind, rest)) = buffer.split_first() else {
        return Ok(None);
    };
    let Some(length) = rest.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if !(4..=LONGEST_MESSAGE).contains(&length) {
        return Err(WireError::Protocol(format!("a message of {length} bytes")));
    }
    if buffer.len() <= length {
        return Ok(None);
    }
    let body = buffer[5..=length].to_vec();
    buffer.drain(..=length);
    Ok(Some(Message { kind, body }))
}

/// The fields of an ErrorResponse or NoticeResponse.
pub(super) fn notice(body: &[u8]) -> Notice {
    let mut notice = Notice::default();
    for field in body.split(|&byte| byte == 0) {
        let Some((kind, text)) = field.split_first() else {
            continue;
        };
        let text = String::from_utf8_lossy(text).into_owned();
        match kind {
            b'V' => notice.severity = text,
            b'C' => notice.code = text,
            b'M' => notice.message = text,
            _ => {}
        }
    }
    notice
}

/// The columns of a DataRow.
pub(super) fn row(body: &[u8]) -> Result<Vec<Option<String>>, WireError> {
    let short = || WireError::Protocol("a row that ends too early".into());
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(short)?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        rest = after;
        let length = i32::from_be_bytes(*length);
        columns.push(match usize::try_from(length) {
            Err(_) => None,
            Ok(length) => {
                let text = rest.get(..length).ok_or_else(short)?;
                rest = &rest[length..];
                Some(String::from_utf8_lossy(text).into_owned())
            }
        });
    }
    Ok(columns)
}

/// The names in a RowDescription: each is followed by 18 bytes about its type.
pub(super) fn columns(body: &[u8]) -> Result<Vec<String>, WireError> {
    let short = || WireError::Protocol("a row description that ends too early".into());
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(short)?;
    let mut names = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = rest.iter().position(|&byte| byte == 0).ok_or_else(short)?;
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = rest.get(end + 19..).ok_or_else(short)?;
    }
    Ok(names)
}

/// A connection, authenticated by what the kernel says about this process, or by the certificate shown on the way.
#[derive(Debug)]
pub struct Client<S = UnixStream> {
    server: String,
    stream: S,
    buffer: Vec<u8>,
    /// A query was sent and not answered to its end: the connection can be used no more.
    busy: bool,
}

impl Client {
    /// Connects with these startup parameters (`user`, `database`, `application_name`, `replication`...).
    ///
    /// # Errors
    /// No server there, no answer within `limit`, or a refusal. A server that wants a password is a refusal.
    pub async fn connect(
        socket: &Path,
        parameters: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Self, WireError> {
        let server = socket.display().to_string();
        let begin = async {
            match UnixStream::connect(socket).await {
                Ok(stream) => Self::over(stream, server, parameters).await,
                Err(error) => Err(WireError::Connection { server, error }),
            }
        };
        timeout(limit, begin)
            .await
            .map_err(|_| WireError::TooLong { limit })?
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Begins on a stream that leads to the server, which `server` names in errors.
    ///
    /// # Errors
    /// A refusal, or a stream that breaks. A server that wants a password is a refusal.
    pub async fn over(
        stream: S,
        server: String,
        parameters: &[(&str, &str)],
    ) -> Result<Self, WireError> {
        let mut client = Self {
            server,
            stream,
            buffer: Vec::new(),
            busy: true,
        };
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for (key, value) in parameters {
            for text in [key, value] {
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        client.send(None, &body).await?;
        loop {
            let message = client.receive().await?;
            match message.kind {
                b'R' if message.body == [0; 4] => {}
                b'R' => {
                    return Err(WireError::Protocol(
                        "it asks for a password where the socket's peer, or the certificate, should do"
                            .into(),
                    ));
                }
                b'E' => {
                    return Err(WireError::Server {
                        notice: notice(&message.body),
                        over: true,
                    });
                }
                b'Z' => break,
                // ParameterStatus, BackendKeyData, NoticeResponse, NegotiateProtocolVersion.
                b'S' | b'K' | b'N' | b'v' => {}
                other => return Err(unknown(other)),
            }
        }
        client.busy = false;
        Ok(client)
    }

    /// Runs one query string, of one or several statements, to its end.
    ///
    /// When this future is dropped before its end, or takes too long, the connection is of no more use; what was asked
    /// may still happen.
    ///
    /// # Errors
    /// No answer, or an error as answer.
    pub async fn query(&mut self, sql: &str, limit: Duration) -> Result<Reply, WireError> {
        timeout(limit, self.query_unbounded(sql))
            .await
            .map_err(|_| WireError::TooLong { limit })?
    }

    /// As [`Client::query`], without a limit: for what must never be given up, such as a synchronous commit.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn query_unbounded(&mut self, sql: &str) -> Result<Reply, WireError> {
        if self.busy {
            return Err(WireError::Protocol(
                "the last query was not answered to its end".into(),
            ));
        }
        self.busy = true;
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(Some(b'Q'), &body).await?;
        let mut reply = Reply::default();
        let mut failed = None;
        loop {
            let message = self.receive().await?;
            match message.kind {
                b'D' => reply.rows.push(row(&message.body)?),
                b'C' => {
                    reply.tag = String::from_utf8_lossy(&message.body)
                        .trim_end_matches('\0')
                        .to_owned();
                }
                b'N' => reply.notices.push(notice(&message.body)),
                b'E' => failed = Some(notice(&message.body)),
                b'Z' => break,
                b'T' => reply.columns = columns(&message.body)?,
                b'I' | b'S' | b'A' => {}
                other => return Err(unknown(other)),
            }
            // The server hangs up after FATAL and PANIC, without another word.
            if let Some(notice) = &failed
                && notice.severity != "ERROR"
            {
                return Err(WireError::Server {
                    notice: notice.clone(),
                    over: true,
                });
            }
        }
        self.busy = false;
        match failed {
            None => Ok(reply),
            Some(notice) => Err(WireError::Server {
                notice,
                over: false,
            }),
        }
    }

    /// Whether another query can be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.busy
    }

    async fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<(), WireError> {
        let length = u32::try_from(body.len() + 4)
            .map_err(|_| WireError::Protocol("a query that is too long".into()))?;
        let mut message = Vec::with_capacity(body.len() + 5);
        message.extend(kind);
        message.extend(length.to_be_bytes());
        message.extend(body);
        let sent = self.stream.write_all(&message).await;
        sent.map_err(|error| self.lost(error))
    }

    async fn receive(&mut self) -> Result<Message, WireError> {
        loop {
            if let Some(message) = take_message(&mut self.buffer)? {
                return Ok(message);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(self.lost(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    fn lost(&self, error: std::io::Error) -> WireError {
        WireError::Connection {
            server: self.server.clone(),
            error,
        }
    }
}

fn unknown(kind: u8) -> WireError {
    WireError::Protocol(format!("a message of type {:?}", char::from(kind)))
}

/// A text as an SQL literal.
#[must_use]
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A name as an SQL identifier.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
