//! DigitalOcean's API, as far as it says where the droplets of a fleet are: `GET /v2/droplets`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::net::http::{Bounds, HttpError, Server};

/// Pages of an answer at most, of two hundred droplets each.
const PAGES: usize = 10;
/// Bytes of a page at most: a droplet is described in three to five thousand.
const MOST: usize = 4 * 1024 * 1024;
/// For one page, and for all.
const LIMITS: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(60));
/// Seconds to wait when too much was asked and nobody says how long.
const BUSY: u64 = 60;

/// Why there is no answer. None of these holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not one, not one any more, or not one that may read droplets.
    #[error(
        "DigitalOcean refuses the token (status {0}): put a new one into secrets/fleet/ and bring it with `rolesmith enroll NODE \
         --ssh HOST --secrets`"
    )]
    Token(u16),
    /// Too many questions; when to ask again (seconds).
    #[error("DigitalOcean was asked too often and wants to be left alone for {0} s")]
    Busy(u64),
    /// Anything else.
    #[error("DigitalOcean gives no answer: {0}")]
    Other(String),
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        Self::Other(error.to_string())
    }
}

/// The API.
#[derive(Debug, Clone)]
pub struct Api {
    server: Server,
    limit: Duration,
}

/// What of an answer is read; it says much more.
#[derive(Debug, Deserialize)]
struct Page {
    droplets: Vec<Droplet>,
    #[serde(default)]
    links: Links,
}

#[derive(Debug, Deserialize)]
struct Droplet {
    name: String,
    #[serde(default)]
    networks: Networks,
}

#[derive(Debug, Default, Deserialize)]
struct Networks {
    #[serde(default)]
    v4: Vec<Network>,
}

#[derive(Debug, Deserialize)]
struct Network {
    ip_address: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
struct Links {
    #[serde(default)]
    pages: Pages,
}

#[derive(Debug, Default, Deserialize)]
struct Pages {
    next: Option<String>,
}

impl Api {
    /// The public one, over TLS. There is no other outside of tests: a token is shown to nobody else.
    #[must_use]
    pub fn public() -> Self {
        Self {
            server: Server {
                tls: true,
                host: "api.digitalocean.com".to_owned(),
                port: 443,
            },
            limit: LIMITS.0,
        }
    }

    /// One that a test serves.
    #[cfg(test)]
    pub(super) fn at(server: Server, limit: Duration) -> Self {
        Self { server, limit }
    }

    /// The private addresses of the droplets with that tag, by their names. Blocks. `roots` are the authorities that are
    /// trusted (PEM).
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn droplets(
        &self,
        tag: &str,
        token: &str,
        roots: &[u8],
    ) -> Result<BTreeMap<String, Vec<Ipv4Addr>>, Refusal> {
        let end = Instant::now() + LIMITS.1;
        let authorization = format!("Bearer {token}");
        let fields = [("Authorization", authorization.as_str())];
        let mut path = format!("/v2/droplets?tag_name={tag}&per_page=200");
        let mut found: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
        for _ in 0..PAGES {
            let left = end.saturating_duration_since(Instant::now());
            let bounds = Bounds {
                most: MOST,
                limit: self.limit.min(left),
            };
            let answer = self.server.get(&path, &fields, roots, bounds)?;
            match answer.status {
                200 => {}
                status @ (401 | 403) => return Err(Refusal::Token(status)),
                429 => {
                    let told = answer.field("Retry-After");
                    let told = told.and_then(|seconds| seconds.parse().ok());
                    return Err(Refusal::Busy(told.unwrap_or(BUSY)));
                }
                status => return Err(Refusal::Other(format!("status {status}"))),
            }
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|_| Refusal::Other("the answer is not what its API promises".into()))?;
            for droplet in page.droplets {
                let private = droplet
                    .networks
                    .v4
                    .iter()
                    .filter(|network| network.kind == "private")
                    .filter_map(|network| network.ip_address.parse::<Ipv4Addr>().ok());
                found.entry(droplet.name).or_default().extend(private);
            }
            match page.links.pages.next {
                None => return Ok(found),
                Some(next) => path = self.own(&next)?,
            }
        }
        Err(Refusal::Other(format!(
            "more than {PAGES} pages of droplets have the tag"
        )))
    }

    /// The path of a URL that the API gave, if it is one of its own: the token is shown to no other server.
    fn own(&self, url: &str) -> Result<String, Refusal> {
        let Server { tls, host, port } = &self.server;
        let scheme = if *tls { "https" } else { "http" };
        let port = match (tls, port) {
            (true, 443) | (false, 80) => String::new(),
            (_, port) => format!(":{port}"),
        };
        url.strip_prefix(&format!("{scheme}://{host}{port}"))
            .filter(|path| path.starts_with("/v2/droplets?") && path.len() <= 1000)
            .filter(|path| path.bytes().all(|byte| byte.is_ascii_graphic()))
            .map(ToOwned::to_owned)
            .ok_or_else(|| Refusal::Other("the next page is said to be elsewhere".into()))
    }
}
