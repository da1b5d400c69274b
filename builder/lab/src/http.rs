//! A small web server for one directory: what apt needs of HTTP/1.1 (RFC 9110, RFC 9112), and no more.
//!
//! GET and HEAD, persistent connections with pipelined requests, validators (`ETag`, `Last-Modified`, 304), a single byte range.
//! A path never leaves the directory: the kernel resolves it with `RESOLVE_BENEATH` (openat2(2)), symbolic links included.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::AsFd as _, unix::fs::MetadataExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::{
    error::{LabError, Result},
    launch::notify,
};

mod date;
mod message;

use message::{Request, ifs::Verdict};

/// Connections served at a time; one more is told 503. apt opens one per host.
const CONNECTIONS: usize = 128;

/// A connection without a request for so long is closed, and so is one that does not take what it asked for.
const IDLE: Duration = Duration::from_secs(60);

/// Serves a directory until the process ends, and reports to `NOTIFY_SOCKET` when it listens (sd_notify(3)).
///
/// The directory is opened anew for each request, so it may be replaced while it is served.
///
/// # Errors
/// [`LabError::File`] when the address cannot be listened on.
pub fn serve(dir: &Path, listen: SocketAddr) -> Result<()> {
    let failed = || LabError::file("listen on", listen.to_string());
    let listener = TcpListener::bind(listen).map_err(failed())?;
    File::open(dir).map_err(LabError::file("open", dir))?;
    notify("READY=1");
    accept(&listener, dir).map_err(failed())
}

/// Answers one connection, which is this process's standard input, as an inetd's program does.
///
/// # Errors
/// [`LabError::File`] where standard input is no TCP socket. What the client does is no error.
pub fn answer_stdin(dir: &Path) -> Result<()> {
    let failed = || LabError::file("read", "standard input");
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(failed())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).map_err(failed())?;
    let _ = converse(&stream, dir);
    Ok(())
}

/// Serves a directory on an address that is listened on already, as long as it is accepted from.
///
/// # Errors
/// Of accept(2) and of threads that cannot be started.
pub fn accept(listener: &TcpListener, dir: &Path) -> io::Result<()> {
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            // The client gave up before it was accepted, or there is no descriptor left until another connection ends.
            Err(_) => {
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let seat = Seat::take(&busy);
        let dir = dir.to_owned();
        thread::Builder::new()
            .name("connection".to_owned())
            .spawn(move || {
                // A client that goes away in the middle is its own affair.
                let _ = match seat {
                    Some(_seat) => converse(&stream, &dir),
                    None => head(
                        &mut &stream,
                        503,
                        "Service Unavailable",
                        &[("Content-Length", "0"), ("Connection", "close")],
                    ),
                };
            })?;
    }
    Ok(())
}

/// A place among the connections, given back when dropped.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(busy: &Arc<AtomicUsize>) -> Option<Seat> {
        let seat = Seat(Arc::clone(busy));
        (busy.fetch_add(1, Ordering::Relaxed) < CONNECTIONS).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers the requests of one connection in order.
fn converse(stream: &TcpStream, dir: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        match Request::read(&mut reader)? {
            None => return Ok(()),
            Some(Err(refusal)) => return error(&mut writer, refusal.0, refusal.1, false, true),
            Some(Ok(request)) => {
                answer(&mut writer, &request, dir)?;
                if request.close {
                    return Ok(());
                }
            }
        }
    }
}

/// Answers one request.
fn answer(writer: &mut impl Write, request: &Request, dir: &Path) -> io::Result<()> {
    let Some(file) = open(dir, &request.path) else {
        return error(writer, 404, "Not Found", request.head, request.close);
    };
    let data = file.metadata()?;
    if !data.is_file() {
        return error(writer, 404, "Not Found", request.head, request.close);
    }
    let size = data.len();
    let modified = u64::try_from(data.mtime()).unwrap_or(0);
    let tag = format!(
        "\"{:x}-{:x}-{size:x}\"",
        data.ino(),
        data.mtime() as u128 * 1_000_000_000 + data.mtime_nsec() as u128
    );
    let date = date::format(modified);
    let connection = if request.close { "close" } else { "keep-alive" };
    let mut fields = vec![
        ("Last-Modified", date.as_str()),
        ("ETag", tag.as_str()),
        ("Accept-Ranges", "bytes"),
        ("Connection", connection),
    ];
    match request.verdict(&tag, modified, size) {
        Verdict::NotModified => head(writer, 304, "Not Modified", &fields),
        Verdict::Unsatisfiable => {
            let range = format!("bytes */{size}");
            fields.extend([("Content-Range", range.as_str()), ("Content-Length", "0")]);
            head(writer, 416, "Range Not Satisfiable", &fields)
        }
        Verdict::Whole => {
            let length = size.to_string();
            fields.extend([
                ("Content-Length", length.as_str()),
                ("Content-Type", "application/octet-stream"),
            ]);
            head(writer, 200, "OK", &fields)?;
            body(writer, file, 0, size, request.head)
        }
        Verdict::Part { first, last } => {
            let (range, length) = (
                format!("bytes {first}-{last}/{size}"),
                (last - first + 1).to_string(),
            );
            fields.extend([
                ("Content-Range", range.as_str()),
                ("Content-Length", length.as_str()),
            ]);
            head(writer, 206, "Partial Content", &fields)?;
            body(writer, file, first, last - first + 1, request.head)
        }
    }
}

/// Opens a file below the directory; nothing for whatever is not there, not readable or not below.
fn open(dir: &Path, path: &str) -> Option<File> {
    let root = File::open(dir).ok()?;
    let relative = path.trim_start_matches('/');
    // NONBLOCK: a FIFO would hold the thread for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    openat2(
        root,
        relative,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    )
    .ok()
    .map(File::from)
}

fn body(
    writer: &mut impl Write,
    mut file: File,
    first: u64,
    length: u64,
    only_head: bool,
) -> io::Result<()> {
    if only_head {
        return Ok(());
    }
    io::Seek::seek(&mut file, io::SeekFrom::Start(first))?;
    // A file that shrank meanwhile: closing tells the client that the rest is missing.
    match io::copy(&mut file.take(length), writer)? {
        sent if sent == length => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn error(
    writer: &mut impl Write,
    code: u16,
    reason: &str,
    only_head: bool,
    close: bool,
) -> io::Result<()> {
    let text = format!("{code} {reason}\n");
    let length = text.len().to_string();
    let connection = if close { "close" } else { "keep-alive" };
    let fields = [
        ("Content-Length", length.as_str()),
        ("Content-Type", "text/plain"),
        ("Connection", connection),
    ];
    head(writer, code, reason, &fields)?;
    if only_head {
        Ok(())
    } else {
        writer.write_all(text.as_bytes())
    }
}

/// Writes a status line and fields in one piece, so that small answers are one packet.
fn head(
    writer: &mut impl Write,
    code: u16,
    reason: &str,
    fields: &[(&str, &str)],
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {code} {reason}\r\nServer: rolesmith-lab\r\n");
    for (name, value) in fields {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    writer.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests;
