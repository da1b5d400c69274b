//! The Redis serialization protocol, version 2, as far as a client of Redis and Sentinel needs it. Pure.
//!
//! Commands go out as arrays of bulk strings. A reply is refused when it is larger or nested deeper than anything that
//! the agent asks for, so that a peer gone wrong costs a bounded amount of memory.

/// Most bytes of one reply.
pub const MAX_REPLY: usize = 512 * 1024;
/// Most elements of all arrays of a reply together.
const MAX_ELEMENTS: usize = 16 * 1024;
/// How deep arrays may be nested.
const MAX_DEPTH: usize = 4;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A simple or bulk string.
    Text(String),
    /// An error, with its code as the first word.
    Error(String),
    /// An integer.
    Integer(i64),
    /// Nothing.
    Null,
    /// A list.
    Array(Vec<Value>),
}

impl Value {
    /// The string that it is.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Why bytes are no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// Not the protocol.
    #[error("the reply is not of the Redis protocol")]
    Malformed,
    /// Larger than any that is asked for.
    #[error("the reply is larger than {MAX_REPLY} bytes or nested too deeply")]
    TooLarge,
}

/// A command as bytes.
#[must_use]
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// The first reply in `bytes` and its length; `None` when more bytes are needed.
///
/// # Errors
/// [`RespError`].
pub fn decode(bytes: &[u8]) -> Result<Option<(Value, usize)>, RespError> {
    let mut reader = Reader {
        bytes,
        at: 0,
        left: MAX_ELEMENTS,
    };
    match reader.value(0) {
        Ok(_) if reader.at > MAX_REPLY => Err(RespError::TooLarge),
        Ok(value) => Ok(Some((value, reader.at))),
        Err(Stop::More) if bytes.len() > MAX_REPLY => Err(RespError::TooLarge),
        Err(Stop::More) => Ok(None),
        Err(Stop::Bad(error)) => Err(error),
    }
}

enum Stop {
    More,
    Bad(RespError),
}

const MALFORMED: Stop = Stop::Bad(RespError::Malformed);

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    left: usize,
}

impl Reader<'_> {
    fn line(&mut self) -> Result<&str, Stop> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return Err(Stop::More);
        };
        self.at += end + 2;
        std::str::from_utf8(&rest[..end]).map_err(|_| MALFORMED)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        if self.left == 0 || depth > MAX_DEPTH {
            return Err(Stop::Bad(RespError::TooLarge));
        }
        self.left -= 1;
        let line = self.line()?;
        let mut chars = line.chars();
        let kind = chars.next().ok_or(MALFORMED)?;
        let rest = chars.as_str();
        let number = || rest.parse::<i64>().map_err(|_| MALFORMED);
        match kind {
            '+' => Ok(Value::Text(rest.to_owned())),
            '-' => Ok(Value::Error(rest.to_owned())),
            ':' => Ok(Value::Integer(number()?)),
            '$' | '*' if rest == "-1" => Ok(Value::Null),
            '$' => {
                let length = usize::try_from(number()?).map_err(|_| MALFORMED)?;
                self.bulk(length)
            }
            '*' => {
                let length = usize::try_from(number()?).map_err(|_| MALFORMED)?;
                if length > self.left {
                    return Err(Stop::Bad(RespError::TooLarge));
                }
                // Grows with what arrives, not with what was announced.
                let mut items = Vec::new();
                for _ in 0..length {
                    items.push(self.value(depth + 1)?);
                }
                Ok(Value::Array(items))
            }
            _ => Err(MALFORMED),
        }
    }

    fn bulk(&mut self, length: usize) -> Result<Value, Stop> {
        if length > MAX_REPLY {
            return Err(Stop::Bad(RespError::TooLarge));
        }
        let rest = &self.bytes[self.at..];
        let Some(whole) = rest.get(..length + 2) else {
            return Err(Stop::More);
        };
        if &whole[length..] != b"\r\n" {
            return Err(MALFORMED);
        }
        self.at += length + 2;
        // What the agent asks for is text; a key that is not would show as such.
        Ok(Value::Text(
            String::from_utf8_lossy(&whole[..length]).into_owned(),
        ))
    }
}

#[cfg(test)]
mod tests;
