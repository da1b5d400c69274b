//! Members that are looked for: where they might be.
//!
//! The facts' address comes first. Where there is none, or nobody was reached there for long, there are hints: where a member
//! came to us from, what the system's resolver says, what another service was told ([`crate::discovery`]). They are tried in
//! turn. None of them is believed: who answers has to show the certificate of the member that was called, before it is shown
//! anything but a greeting.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio::time::{Duration, sleep, timeout};

use super::Shared;
use super::limits::Jitter;

/// Addresses of one member at most, from each source.
const MOST: usize = 4;
/// How long one question to the resolver is waited for.
const ANSWER: Duration = Duration::from_secs(10);

/// What was said of a member that was looked for. It stays when nothing is said any more: it is likelier there than anywhere
/// else.
#[derive(Debug, Default)]
pub(super) struct Located {
    dns: Vec<IpAddr>,
    told: Vec<IpAddr>,
    /// Where it answered last.
    good: Option<IpAddr>,
}

/// The addresses of a name, by the system's resolver.
///
/// # Errors
/// What getaddrinfo(3) says.
pub fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs()?;
    Ok(found.map(|address| address.ip()).collect())
}

impl Shared {
    /// Members to which there is no connection, and that the facts give no address for or that were not reached for long.
    pub(super) fn lost(&self) -> BTreeSet<String> {
        let material = self.material();
        let away = self.state().away.clone();
        away.into_iter()
            .filter(|(name, since)| {
                material.address(name).is_none() || since.elapsed() >= self.limits.lost
            })
            .map(|(name, _)| name)
            .collect()
    }

    /// Where to look for a member, best first.
    pub(super) fn candidates(&self, name: &str) -> Vec<IpAddr> {
        let material = self.material();
        let state = self.state();
        let known = material.address(name);
        let reached = state
            .away
            .get(name)
            .is_none_or(|since| since.elapsed() < self.limits.lost);
        let located = state.located.get(name);
        let mut all: Vec<IpAddr> = known.into_iter().collect();
        all.extend(located.and_then(|located| located.good));
        if known.is_none() || !reached {
            all.extend(state.hints.get(name));
            all.extend(located.iter().flat_map(|located| &located.dns));
            all.extend(located.iter().flat_map(|located| &located.told));
        }
        let own = material.listen.map(|listen| listen.ip());
        let mut seen = BTreeSet::new();
        all.retain(|address| Some(*address) != own && seen.insert(*address));
        all
    }

    /// The member was met there.
    pub(super) fn reached(&self, name: &str, address: IpAddr) {
        let mut state = self.state();
        state.located.entry(name.to_owned()).or_default().good = Some(address);
    }

    /// Why there is nowhere to look.
    pub(super) fn nowhere(&self, name: &str) -> String {
        let material = self.material();
        let (domain, discovery) = (&material.facts.domain, &material.facts.discovery);
        let mut text = "its address is in no facts".to_owned();
        if discovery.dns {
            text.push_str(&format!(", DNS does not know {name}.{domain}"));
        }
        if let Some(place) = &discovery.digitalocean {
            text.push_str(&format!(
                ", DigitalOcean has told of no such droplet with the tag {}",
                place.tag
            ));
        }
        text + ": `rolesmith record` tells it"
    }

    /// Takes over what another service was told.
    pub(super) fn told(&self, told: BTreeMap<String, Vec<IpAddr>>) {
        let mut state = self.state();
        for (name, mut addresses) in told {
            addresses.truncate(MOST);
            let known = &mut state.located.entry(name.clone()).or_default().told;
            if *known != addresses {
                *known = addresses;
                if let Some(wake) = state.wake.get(&name) {
                    wake.notify_one();
                }
            }
        }
    }
}

/// Asks the resolver for members that are lost, less and less often, for as long as the facts want it.
pub(super) async fn resolve(shared: Arc<Shared>) {
    let (first, longest) = shared.limits.discover;
    let mut jitter = Jitter::new(shared.machine.incarnation);
    let mut pause = first;
    loop {
        let facts = &shared.material().facts;
        let lost = if facts.discovery.dns {
            shared.lost()
        } else {
            BTreeSet::new()
        };
        pause = if lost.is_empty() {
            first
        } else {
            (pause * 2).min(longest)
        };
        for name in lost {
            let found = ask(&shared, format!("{name}.{}", facts.domain)).await;
            let mut state = shared.state();
            // It may have been removed, and forgotten, meanwhile.
            if found.is_empty() || !state.away.contains_key(&name) {
                continue;
            }
            let known = &mut state.located.entry(name.clone()).or_default().dns;
            if *known != found {
                *known = found;
                if let Some(wake) = state.wake.get(&name) {
                    wake.notify_one();
                }
            }
        }
        sleep(jitter.around(pause)).await;
    }
}

/// Asks the resolver; nothing where it knows nothing, or says nothing in time.
async fn ask(shared: &Shared, name: String) -> Vec<IpAddr> {
    let (resolver, lookup) = (shared.resolver.clone(), shared.limits.lookup);
    let answer = timeout(ANSWER, async {
        let turn = resolver.acquire_owned().await.ok()?;
        let answer = spawn_blocking(move || {
            let found = lookup(&name);
            // Only now: who stops waiting does not stop the question.
            drop(turn);
            found
        });
        answer.await.ok()?.ok()
    });
    let mut found = answer.await.ok().flatten().unwrap_or_default();
    found.retain(IpAddr::is_ipv4);
    found.truncate(MOST);
    found
}
