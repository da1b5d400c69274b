//! Requests: reading one, and what its conditions and range come to.

use std::io::{self, BufRead, Read};

/// Longest request that is read, line and fields together.
const LONGEST: u64 = 16 * 1024;

/// What is kept of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// HEAD instead of GET.
    pub(super) head: bool,
    /// The path, percent-decoded, without query.
    pub(super) path: String,
    /// The connection is to be closed after the answer.
    pub(super) close: bool,
    pub(super) if_none_match: Option<String>,
    pub(super) if_modified_since: Option<String>,
    pub(super) if_range: Option<String>,
    pub(super) range: Option<String>,
}

/// A status code and its phrase, for a request that is not served.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u16, pub(super) &'static str);

const BAD: Refusal = Refusal(400, "Bad Request");

impl Request {
    /// Reads the next request; nothing at the end of the connection, in the middle of a request too.
    pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Result<Request, Refusal>>> {
        let mut lines = Vec::new();
        let mut limited = reader.take(LONGEST);
        loop {
            let mut line = Vec::new();
            if limited.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') {
                let cut = limited.limit() == 0;
                return Ok(cut.then_some(Err(Refusal(431, "Request Header Fields Too Large"))));
            }
            let Ok(line) = String::from_utf8(line) else {
                return Ok(Some(Err(BAD)));
            };
            match line.trim_end_matches(['\r', '\n']) {
                // RFC 9112, 2.2: empty lines before a request are passed over.
                "" if lines.is_empty() => {}
                "" => return Ok(Some(Self::parse(&lines))),
                line => lines.push(line.to_owned()),
            }
        }
    }

    fn parse(lines: &[String]) -> Result<Request, Refusal> {
        let mut words = lines.first().ok_or(BAD)?.split(' ');
        let (method, target, version) = (
            words.next(),
            words.next().ok_or(BAD)?,
            words.next().ok_or(BAD)?,
        );
        if words.next().is_some() {
            return Err(BAD);
        }
        let mut request = Request {
            path: path(target).ok_or(BAD)?,
            ..Request::default()
        };
        request.close = match version {
            "HTTP/1.1" => false,
            "HTTP/1.0" => true,
            _ => return Err(Refusal(505, "HTTP Version Not Supported")),
        };
        for line in &lines[1..] {
            let (name, value) = line.split_once(':').ok_or(BAD)?;
            let value = value.trim();
            let slot = match name.to_ascii_lowercase().as_str() {
                "connection" => {
                    request.close = match value.to_ascii_lowercase().as_str() {
                        "close" => true,
                        "keep-alive" => false,
                        _ => request.close,
                    };
                    continue;
                }
                // A body would be taken for the next request.
                "content-length" if value != "0" => return Err(Refusal(413, "Content Too Large")),
                "transfer-encoding" => return Err(Refusal(413, "Content Too Large")),
                "if-none-match" => &mut request.if_none_match,
                "if-modified-since" => &mut request.if_modified_since,
                "if-range" => &mut request.if_range,
                "range" => &mut request.range,
                _ => continue,
            };
            *slot = Some(value.to_owned());
        }
        match method {
            Some("GET") => Ok(request),
            Some("HEAD") => Ok(Request {
                head: true,
                ..request
            }),
            _ => Err(Refusal(405, "Method Not Allowed")),
        }
    }
}

/// The decoded path of a request's target, which is `/path?query` or, sent to a proxy, a whole URL.
fn path(target: &str) -> Option<String> {
    let target = match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/')?..],
        None => target,
    };
    let raw = target.split(['?', '#']).next()?;
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
        decoded.push((digit(bytes.next())? * 16 + digit(bytes.next())?) as u8);
    }
    let path = String::from_utf8(decoded).ok()?;
    (path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != ".."))
        .then_some(path)
}

pub(super) mod ifs {
    //! Conditions and ranges (RFC 9110, 13 and 14).

    use super::{super::date, Request};

    /// What is to be sent of a file.
    #[derive(Debug, PartialEq, Eq)]
    pub(in super::super) enum Verdict {
        /// Nothing: the client has it.
        NotModified,
        /// All of it.
        Whole,
        /// These bytes, both ends included.
        Part { first: u64, last: u64 },
        /// Nothing: the range lies beyond the end.
        Unsatisfiable,
    }

    impl Request {
        /// Weighs the request's conditions, in the order of RFC 9110, 13.2.2, against a file's entity tag, time and size.
        pub(in super::super) fn verdict(&self, tag: &str, modified: u64, size: u64) -> Verdict {
            if let Some(tags) = &self.if_none_match {
                if tags
                    .split(',')
                    .map(str::trim)
                    .any(|known| known == "*" || known.trim_start_matches("W/") == tag)
                {
                    return Verdict::NotModified;
                }
            } else if let Some(since) = self.if_modified_since.as_deref().and_then(date::parse)
                && modified <= since
            {
                return Verdict::NotModified;
            }
            let unchanged = match &self.if_range {
                None => true,
                Some(value) => value == tag || date::parse(value) == Some(modified),
            };
            match (&self.range, unchanged) {
                (Some(range), true) => part(range, size),
                _ => Verdict::Whole,
            }
        }
    }

    /// A single range. What is not understood, several ranges among it, is as if not asked for (RFC 9110, 14.2).
    fn part(range: &str, size: u64) -> Verdict {
        let Some((first, last)) = range
            .strip_prefix("bytes=")
            .and_then(|range| range.split_once('-'))
        else {
            return Verdict::Whole;
        };
        let number = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| text.parse::<u64>().ok())
                .flatten()
        };
        match (number(first), number(last)) {
            (None, Some(count)) if first.is_empty() => match size.checked_sub(count.min(size)) {
                Some(first) if count > 0 && first < size => Verdict::Part {
                    first,
                    last: size - 1,
                },
                _ => Verdict::Unsatisfiable,
            },
            (Some(first), None) if last.is_empty() => match first < size {
                true => Verdict::Part {
                    first,
                    last: size - 1,
                },
                false => Verdict::Unsatisfiable,
            },
            (Some(first), Some(last)) if first <= last => match first < size {
                true => Verdict::Part {
                    first,
                    last: last.min(size - 1),
                },
                false => Verdict::Unsatisfiable,
            },
            _ => Verdict::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ifs::Verdict, *};
    use proptest::prelude::*;

    fn read(text: &str) -> Option<Result<Request, Refusal>> {
        Request::read(&mut text.as_bytes()).expect("memory can be read")
    }

    fn code(text: &str) -> u16 {
        read(text).expect("a request").expect_err("refused").0
    }

    #[test]
    fn pipelined_requests_are_read_one_by_one() {
        let mut reader: &[u8] = b"GET /a%20b?x HTTP/1.1\r\nHost: x\r\n\r\nHEAD /c HTTP/1.1\r\nConnection: close\r\n\r\n";
        let mut next = || Request::read(&mut reader).expect("memory can be read");
        assert_eq!(
            next(),
            Some(Ok(Request {
                path: "/a b".to_owned(),
                ..Request::default()
            }))
        );
        assert_eq!(
            next(),
            Some(Ok(Request {
                path: "/c".to_owned(),
                head: true,
                close: true,
                ..Request::default()
            }))
        );
        assert_eq!(next(), None);
    }

    #[test]
    fn what_is_not_served_is_refused_with_the_fitting_code() {
        assert_eq!(code("POST / HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(code("GET / HTTP/2\r\n\r\n"), 505);
        assert_eq!(code("GET /\r\n\r\n"), 400);
        assert_eq!(code("GET a HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(code("GET /%zz HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(code("GET /%00 HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(code("GET /a/%2e%2e/%2E./b HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(
            code("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
            413
        );
        assert_eq!(
            code(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(17_000))),
            431
        );
    }

    #[test]
    fn conditions_are_weighed_in_the_order_of_the_rfc() {
        let tag = "\"t\"";
        let ask = |none: Option<&str>,
                   since: Option<&str>,
                   range: Option<&str>,
                   if_range: Option<&str>| {
            let own = |value: Option<&str>| value.map(str::to_owned);
            let (if_none_match, if_modified_since) = (own(none), own(since));
            let request = Request {
                if_none_match,
                if_modified_since,
                range: own(range),
                if_range: own(if_range),
                ..Request::default()
            };
            request.verdict(tag, 784_111_777, 10)
        };
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(
            ask(Some("\"a\", W/\"t\""), None, None, None),
            Verdict::NotModified
        );
        assert_eq!(
            ask(Some("\"a\""), Some(date), None, None),
            Verdict::Whole,
            "the tag wins over the date"
        );
        assert_eq!(ask(None, Some(date), None, None), Verdict::NotModified);
        assert_eq!(
            ask(None, Some("Sun, 06 Nov 1994 08:49:36 GMT"), None, None),
            Verdict::Whole
        );
        assert_eq!(
            ask(None, None, Some("bytes=2-"), Some(date)),
            Verdict::Part { first: 2, last: 9 }
        );
        assert_eq!(
            ask(None, None, Some("bytes=2-"), Some("\"old\"")),
            Verdict::Whole
        );
        assert_eq!(
            ask(None, None, Some("bytes=-3"), None),
            Verdict::Part { first: 7, last: 9 }
        );
        assert_eq!(
            ask(None, None, Some("bytes=-99"), None),
            Verdict::Part { first: 0, last: 9 }
        );
        assert_eq!(
            ask(None, None, Some("bytes=4-99"), None),
            Verdict::Part { first: 4, last: 9 }
        );
        assert_eq!(
            ask(None, None, Some("bytes=10-"), None),
            Verdict::Unsatisfiable
        );
        assert_eq!(
            ask(None, None, Some("bytes=-0"), None),
            Verdict::Unsatisfiable
        );
        assert_eq!(ask(None, None, Some("bytes=1-2,4-5"), None), Verdict::Whole);
        assert_eq!(ask(None, None, Some("bytes=5-2"), None), Verdict::Whole);
    }

    proptest! {
        #[test]
        fn no_request_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::read(&mut bytes.as_slice());
        }

        #[test]
        fn a_part_lies_within_the_file(range in "bytes=[0-9]{0,3}-[0-9]{0,3}", size in 0u64..200) {
            let request = Request { range: Some(range), ..Request::default() };
            if let Verdict::Part { first, last } = request.verdict("", 0, size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
