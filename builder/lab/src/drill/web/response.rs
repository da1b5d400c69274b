//! The head of a response (RFC 9112), as much of it as a visitor needs.

/// A head that is too long, or none at all, is an error of the server.
pub(super) const HEAD_LIMIT: usize = 16 * 1024;

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The status.
    pub(super) status: u16,
    /// Bytes of the body; nothing where only the connection's end or chunks tell.
    pub(super) length: Option<usize>,
    /// The connection may be used again once the body was read.
    pub(super) keep: bool,
    /// Bytes of the head itself.
    pub(super) size: usize,
}

/// Reads a head that is whole; nothing where more of it has to come.
///
/// # Errors
/// Why it is none.
pub(super) fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > HEAD_LIMIT {
            Err("the head of the answer has no end".into())
        } else {
            Ok(None)
        };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "the answer is no text")?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| format!("{first:?} is no status line"))?;
    let mut head = Head {
        status,
        length: None,
        keep: true,
        size: end + 4,
    };
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("{line:?} is no header"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length = value
                .parse()
                .map_err(|_| format!("{line:?} is no length"))?;
            head.length = Some(length);
        } else if name.eq_ignore_ascii_case("connection") {
            head.keep &= !value.eq_ignore_ascii_case("close");
        }
    }
    head.keep &= head.length.is_some();
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn status_length_and_connection_are_read() {
        let bytes = b"HTTP/1.1 201 Created\r\nServer: nginx\r\nContent-length: 5\r\n\r\nhello";
        assert_eq!(
            head(bytes),
            Ok(Some(Head {
                status: 201,
                length: Some(5),
                keep: true,
                size: bytes.len() - 5
            }))
        );
        let closed = b"HTTP/1.1 503 No\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            head(closed).map(|head| head.map(|head| head.keep)),
            Ok(Some(false))
        );
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            head(chunked).map(|head| head.map(|head| head.keep)),
            Ok(Some(false))
        );
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-Le"), Ok(None));
        assert!(head(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(head(&vec![b'a'; HEAD_LIMIT + 1]).is_err());
    }

    proptest! {
        #[test]
        fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = head(&bytes);
        }
    }
}
