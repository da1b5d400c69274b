//! What an edge remembers: certificates, its promise, its attempts. In a directory that belongs to the service alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::bundle::Bundle;
use super::lease::Promise;
use super::plan::Attempts;
use super::{Settings, Site};
use crate::files::{self, Access, Seen};

/// The directory (`StateDirectory=` of rolesmith-certificates.service).
pub const DIR: &str = "/var/lib/rolesmith-certificates";

/// The file of a site's bundle below [`DIR`].
#[must_use]
pub fn bundle_path(dir: &Path, site: &str) -> PathBuf {
    dir.join("sites").join(format!("{site}.pem"))
}

/// All of it. What is remembered is on the disk before a function returns.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    bundles: BTreeMap<String, Bundle>,
    promise: Option<Promise>,
    attempts: BTreeMap<String, Attempts>,
}

impl Store {
    /// Reads what there is. What cannot be understood is as good as not there: others have certificates, and an authority gives new
    /// ones.
    #[must_use]
    pub fn open(dir: &Path, settings: &Settings) -> Self {
        let mut bundles = BTreeMap::new();
        for site in &settings.sites {
            let text = files::read(&bundle_path(dir, &site.name)).ok().flatten();
            if let Some(bundle) = text.and_then(|text| Bundle::parse(&text).ok()) {
                bundles.insert(site.name.clone(), bundle);
            }
        }
        Self {
            bundles,
            promise: read(&dir.join(PROMISE)),
            attempts: read(&dir.join(ATTEMPTS)).unwrap_or_default(),
            dir: dir.to_owned(),
        }
    }

    /// A site's certificate.
    #[must_use]
    pub fn bundle(&self, site: &str) -> Option<&Bundle> {
        self.bundles.get(site)
    }

    /// Forgets certificates that are not to be believed: they would keep the place of all others. Their files stay until there are
    /// better ones. What has ended is still known.
    pub fn forget(&mut self, now: u64) {
        self.bundles.retain(|_, bundle| {
            let offer = &bundle.offer;
            offer.sound(now.min(offer.not_after.saturating_sub(1)))
        });
    }

    /// Keeps a certificate, if it is better than what is there and may be believed. Says whether it was kept.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&mut self, site: &Site, bundle: Bundle, now: u64) -> io::Result<bool> {
        let known = self.bundles.get(&site.name);
        let better = known.is_none_or(|known| bundle.offer.beats(&known.offer, &site.hosts));
        if !better || !bundle.offer.fits(&site.hosts) || !bundle.offer.sound(now) {
            return Ok(false);
        }
        let path = bundle_path(&self.dir, &site.name);
        files::write(&path, bundle.pem.as_bytes(), Access::PRIVATE)?;
        self.bundles.insert(site.name.clone(), bundle);
        Ok(true)
    }

    /// The promise that was given last.
    #[must_use]
    pub fn promise(&self) -> Option<Promise> {
        self.promise.clone()
    }

    /// Remembers a promise, or that there is none.
    ///
    /// # Errors
    /// It cannot be written; then it was not made.
    pub fn promised(&mut self, promise: Option<Promise>) -> io::Result<()> {
        if promise != self.promise {
            files::write_json(&self.dir.join(PROMISE), &promise, Access::PRIVATE)?;
            self.promise = promise;
        }
        Ok(())
    }

    /// What was tried for a site.
    #[must_use]
    pub fn attempts(&self, site: &str) -> Attempts {
        self.attempts.get(site).copied().unwrap_or_default()
    }

    /// Remembers what was tried.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn tried(&mut self, site: &str, attempts: Attempts) -> io::Result<()> {
        if self.attempts(site) == attempts {
            return Ok(());
        }
        self.attempts.insert(site.to_owned(), attempts);
        files::write_json(&self.dir.join(ATTEMPTS), &self.attempts, Access::PRIVATE)
    }
}

const PROMISE: &str = "promise.json";
const ATTEMPTS: &str = "attempts.json";

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    match files::read_json(path) {
        Seen::Is(value) => Some(value),
        Seen::Absent | Seen::Broken(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::testing::bundle;
    use super::*;

    fn settings() -> Settings {
        Settings {
            directory: "https://acme.example/dir".into(),
            contact: None,
            renew_days: 30,
            port: 7433,
            address: "10.0.0.1".into(),
            sites: vec![Site {
                name: "shop".into(),
                hosts: vec!["a.example.com".into()],
            }],
        }
    }

    fn parsed(names: &[&str], from: u8, until: u8) -> Bundle {
        Bundle::parse(bundle(names, from, until).as_bytes()).unwrap()
    }

    /// 2030-01-15.
    const NOW: u64 = 1_894_665_600;

    #[test]
    fn an_older_one_never_takes_the_place_of_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings();
        let site = &settings.sites[0];
        let mut store = Store::open(dir.path(), &settings);
        let (old, new) = (
            parsed(&["a.example.com"], 1, 1),
            parsed(&["a.example.com"], 9, 1),
        );
        assert!(store.keep(site, old.clone(), NOW).unwrap());
        assert!(store.keep(site, new.clone(), NOW).unwrap());
        assert!(!store.keep(site, old, NOW).unwrap());
        assert!(
            !store
                .keep(site, parsed(&["b.example.com"], 10, 1), NOW)
                .unwrap(),
            "another name"
        );
        assert!(
            !store
                .keep(site, parsed(&["a.example.com"], 10, 1), u64::MAX)
                .unwrap(),
            "ended"
        );
        let again = Store::open(dir.path(), &settings);
        assert_eq!(again.bundle("shop"), Some(&new));
        let file = std::fs::metadata(bundle_path(dir.path(), "shop")).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777,
            0o600
        );
    }

    #[test]
    fn what_is_not_to_be_believed_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings();
        let site = &settings.sites[0];
        let mut store = Store::open(dir.path(), &settings);
        let bundle = parsed(&["a.example.com"], 9, 1);
        let begins = bundle.offer.not_before;
        assert!(!store.keep(site, bundle.clone(), begins - 86_400).unwrap());
        assert!(store.keep(site, bundle.clone(), begins).unwrap());
        store.forget(u64::MAX);
        assert_eq!(store.bundle("shop"), Some(&bundle), "it has only ended");
        store.forget(begins - 86_400);
        assert_eq!(store.bundle("shop"), None);
        assert!(store.keep(site, bundle, begins).unwrap());
    }

    #[test]
    fn promises_and_attempts_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), &settings());
        let promise = Promise {
            holder: "app-1".into(),
            until: 5,
        };
        store.promised(Some(promise.clone())).unwrap();
        let attempts = Attempts::default().failed(1, false);
        store.tried("shop", attempts).unwrap();
        let mut again = Store::open(dir.path(), &settings());
        assert_eq!(again.promise(), Some(promise));
        assert_eq!(again.attempts("shop"), attempts);
        again.promised(None).unwrap();
        assert_eq!(Store::open(dir.path(), &settings()).promise(), None);
    }
}
