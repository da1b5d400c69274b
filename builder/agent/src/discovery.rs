//! Where peers might be: what a service that knows a fleet's machines says of them.
//!
//! Asked by a unit of its own, unprivileged and for a moment only, which alone has the token. It writes what it was told into a
//! file, and rolesmith-cluster.service reads that as what it is: a hint. Whoever answers at such an address has to show the
//! certificate of the member that was called.

pub mod digitalocean;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rolesmith_model::facts::{DIGITALOCEAN_TOKEN, Facts};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use self::digitalocean::{Api, Refusal};
use crate::files::{self, Access, Root, Seen};
use crate::net::http::AUTHORITIES;
use crate::observe;

/// The file by which rolesmith-cluster.service asks for it.
pub const WANTED: &str = "/run/rolesmith-cluster/discover";
/// What was found; the unprivileged user's.
pub const FOUND: &str = "/run/rolesmith-discovery/found.json";
/// Its format.
pub const FORMAT: u32 = 1;
/// Bytes of [`FOUND`] at most: a thousand members with a few addresses each.
const MOST: u64 = 128 * 1024;
/// Addresses of one name at most; names are not unique at a provider.
const ADDRESSES: usize = 4;
/// Seconds for which nobody asks again after a token was refused, and after any other failure.
const PAUSES: (u64, u64) = (300, 15);
/// Longest pause that a server may wish for (seconds).
const LONGEST: u64 = 3600;

/// What is known from the last question that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Found {
    /// [`FORMAT`].
    pub format: u32,
    /// Which tag was asked for.
    pub tag: String,
    /// When (Unix seconds).
    pub at: u64,
    /// Before this moment it is not asked again (Unix seconds).
    #[serde(default)]
    pub not_before: u64,
    /// Why the last question has no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Where members might be, by name.
    pub addresses: BTreeMap<String, Vec<Ipv4Addr>>,
}

impl Found {
    /// Reads it. The file belongs to a user that root does not trust: nothing but a plain, short file is read.
    #[must_use]
    pub fn read(root: &Root) -> Option<Self> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).ok()?)
            .open(root.join(FOUND))
            .ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(MOST + 1).read_to_end(&mut bytes).ok()?;
        if bytes.len() as u64 > MOST {
            return None;
        }
        let mut found: Self = serde_json::from_slice(&bytes).ok()?;
        for addresses in found.addresses.values_mut() {
            addresses.truncate(ADDRESSES);
            addresses.retain(fit);
        }
        found.problem = found.problem.map(|why| {
            let plain = why.chars().filter(|c| !c.is_control());
            plain.take(200).collect()
        });
        (found.format == FORMAT).then_some(found)
    }
}

/// Whether a machine can have this address at all.
fn fit(address: &Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// There is nothing to ask, or not now, and why.
    Nothing(&'static str),
    /// It was asked; what is known now.
    Asked(Found),
}

/// Asks where the members are, and writes down what it was told. `credentials` is the directory of the unit's credentials.
///
/// # Errors
/// What writing says.
pub fn look(root: &Root, credentials: Option<&Path>, api: &Api, now: u64) -> io::Result<Looked> {
    let Seen::Is(facts) = observe::facts(root) else {
        return Ok(Looked::Nothing("there are no facts"));
    };
    let Some(place) = &facts.discovery.digitalocean else {
        return Ok(Looked::Nothing("the fleet does not ask for its members"));
    };
    let before = Found::read(root)
        .filter(|found| found.tag == place.tag)
        .unwrap_or_default();
    // A clock that went back must not keep it quiet for ever.
    if before.not_before > now && before.not_before <= now.saturating_add(LONGEST) {
        return Ok(Looked::Nothing("it is not to be asked again so soon"));
    }
    let answer = match token(credentials) {
        None => Err(Refusal::Other("this node has no usable token".to_owned())),
        Some(token) => {
            let roots = files::read(&root.join(AUTHORITIES))?.unwrap_or_default();
            api.droplets(&place.tag, &token, &roots)
        }
    };
    let found = Found {
        format: FORMAT,
        tag: place.tag.clone(),
        at: now,
        ..match answer {
            Ok(droplets) => Found {
                addresses: members(&facts, &droplets),
                ..Found::default()
            },
            // What was known stays: a member is likelier there than anywhere else.
            Err(refusal) => Found {
                not_before: now.saturating_add(pause(&refusal)),
                problem: Some(refusal.to_string()),
                addresses: before.addresses,
                ..Found::default()
            },
        }
    };
    files::write_json(&root.join(FOUND), &found, Access::PUBLIC)?;
    Ok(Looked::Asked(found))
}

fn pause(refusal: &Refusal) -> u64 {
    match refusal {
        Refusal::Token(_) => PAUSES.0,
        Refusal::Busy(seconds) => (*seconds).clamp(PAUSES.1, LONGEST),
        Refusal::Other(_) => PAUSES.1,
    }
}

/// What the unit is handed where the node has no token.
const NO_TOKEN: &str = "-";

/// The token, as systemd handed it to this unit alone.
fn token(credentials: Option<&Path>) -> Option<String> {
    let bytes = files::read(&credentials?.join(DIGITALOCEAN_TOKEN)).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    let token = text.trim();
    // It stands in a field of a request.
    let sound = !matches!(token, "" | NO_TOKEN) && token.len() <= 512;
    (sound && token.bytes().all(|byte| byte.is_ascii_graphic())).then(|| token.to_owned())
}

/// Those of the droplets that are called as a member is, with or without the fleet's domain.
fn members(
    facts: &Facts,
    droplets: &BTreeMap<String, Vec<Ipv4Addr>>,
) -> BTreeMap<String, Vec<Ipv4Addr>> {
    let found = facts.members.iter().filter_map(|member| {
        let full = format!("{}.{}", member.name, facts.domain);
        let mut addresses: Vec<Ipv4Addr> = [&member.name, &full]
            .into_iter()
            .filter_map(|name| droplets.get(name))
            .flatten()
            .copied()
            .filter(fit)
            .collect();
        addresses.truncate(ADDRESSES);
        (!addresses.is_empty()).then(|| (member.name.clone(), addresses))
    });
    found.collect()
}

#[cfg(test)]
mod tests;
