//! Whether the fleet's repository has changed: one conditional request (RFC 9110, section 13), and no apt.
//!
//! Asked by the unprivileged daemon, with everything that comes back taken for a hint: when something seems new, another
//! unit lets apt fetch it and verify the signature. Where this program cannot ask - a proxy, another scheme than http and
//! https, a server without TLS 1.3 - apt is asked to look now and then.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::http::{self, Bounds, HttpError, Server};
use crate::files::digest;

/// Between two questions, on average.
pub const PERIOD: Duration = Duration::from_secs(60);
/// How often apt has to look itself while this program cannot ask (seconds).
pub const BLIND: u64 = 900;

/// A fleet's InRelease has a few thousand bytes.
const BOUNDS: Bounds = Bounds {
    most: 1024 * 1024,
    limit: Duration::from_secs(20),
};

/// Where the repository's InRelease is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// Why nothing is known about the repository.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Where it is cannot be told from the sources.
    #[error("{0}")]
    Place(&'static str),
    /// No answer.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// An answer that says nothing.
    #[error("the answer is of no use: {0}")]
    Answer(String),
}

impl From<HttpError> for AskError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Io(error) => Self::Io(error),
            HttpError::Host => Self::Place("the repository's host is no name"),
            HttpError::Answer(why) => Self::Answer(why.to_owned()),
        }
    }
}

impl Place {
    /// From the text of the repository's .sources file (deb822 style, sources.list(5)); its first URI and suite.
    ///
    /// # Errors
    /// [`AskError::Place`].
    pub fn from_sources(text: &str) -> Result<Self, AskError> {
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.split_whitespace().next())
                    .flatten()
            })
        };
        let (uri, suite) = field("URIs")
            .zip(field("Suites"))
            .ok_or(AskError::Place("the sources name no URI or no suite"))?;
        let (tls, rest) = match uri.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(AskError::Place("the repository is reached by apt alone")),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') || authority.starts_with('[') {
            return Err(AskError::Place("the repository is reached by apt alone"));
        }
        let default = if tls { 443 } else { 80 };
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (
                host,
                port.parse()
                    .map_err(|_| AskError::Place("the repository's port is no number"))?,
            ),
            None => (authority, default),
        };
        let path = match path.trim_end_matches('/') {
            "" => format!("/dists/{suite}/InRelease"),
            path => format!("/{path}/dists/{suite}/InRelease"),
        };
        let sound =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !sound(host) || !sound(&path) {
            return Err(AskError::Place("the repository's URI is not one"));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            path,
        })
    }

    /// Asks whether it is another one than that of these validators. Blocks; `roots` is the text of [`http::AUTHORITIES`].
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask(&self, known: &Validators, roots: &[u8]) -> Result<Answer, AskError> {
        let server = Server {
            tls: self.tls,
            host: self.host.clone(),
            port: self.port,
        };
        Answer::read(&server.get(&self.path, &known.fields(), roots, BOUNDS)?)
    }
}

/// What a server said about the version that was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// SHA-256 of the body, for servers that give neither or that give new ones for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Validators {
    /// What makes a request conditional.
    fn fields(&self) -> Vec<(&str, &str)> {
        let etag = self.etag.iter().map(|tag| ("If-None-Match", tag.as_str()));
        let modified = self.modified.iter();
        etag.chain(modified.map(|date| ("If-Modified-Since", date.as_str())))
            .collect()
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is the one that is known.
    Same,
    /// This is what it is.
    Is(Validators),
}

impl Answer {
    /// What a whole answer says.
    ///
    /// # Errors
    /// [`AskError::Answer`].
    pub fn read(answer: &http::Answer) -> Result<Self, AskError> {
        let field = |name: &str| answer.field(name).map(ToOwned::to_owned);
        match answer.status {
            304 => Ok(Self::Same),
            200 => Ok(Self::Is(Validators {
                etag: field("ETag"),
                modified: field("Last-Modified"),
                digest: Some(digest(&answer.body)),
            })),
            status => Err(AskError::Answer(format!("status {status}"))),
        }
    }
}

/// What is remembered of the repository until the next boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Where it was; another place is another repository.
    place: Option<Place>,
    known: Validators,
    /// When apt was last told to look (Unix seconds).
    wanted: u64,
}

impl Memory {
    /// Validators to ask with.
    #[must_use]
    pub fn known(&self, place: &Place) -> Validators {
        if self.place.as_ref() == Some(place) {
            self.known.clone()
        } else {
            Validators::default()
        }
    }

    /// Takes an answer in (`None`: this program cannot ask, or got none), and says whether apt has to look.
    #[must_use]
    pub fn take(&mut self, place: Option<&Place>, answer: Option<Answer>, now: u64) -> bool {
        let wanted = match answer {
            Some(Answer::Same) => false,
            Some(Answer::Is(found)) => {
                let new = self.place.as_ref() != place || self.known.digest != found.digest;
                self.known = found;
                self.place = place.cloned();
                new
            }
            // A clock that went back must not keep apt from looking for ever.
            None => now.abs_diff(self.wanted) >= BLIND,
        };
        if wanted {
            self.wanted = now;
        }
        wanted
    }
}

#[cfg(test)]
mod tests;
