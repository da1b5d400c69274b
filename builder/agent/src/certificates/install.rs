//! From the service's directory to nginx's. As root, and the directory is that of somebody whom root does not trust.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::bundle::{Bundle, LIMIT, Offer};
use super::store::{self, bundle_path};
use super::{Settings, Site};
use crate::files::{self, Access, Root, Seen};
use crate::program::{Call, Programs};

/// Where nginx reads a site's key and certificate.
pub const SITES: &str = "/var/lib/rolesmith-edge/sites";

/// What nginx was last made to read, by site: written when its reload has succeeded, so that one that failed is tried again. It goes with
/// the boot, and so does the nginx that has read it.
pub const SERVED: &str = "/run/rolesmith-certificates-install/served.json";

/// [`SERVED`]; nothing where that is not known.
#[must_use]
pub fn served(root: &Root) -> BTreeMap<String, Offer> {
    match files::read_json(&root.join(SERVED)) {
        Seen::Is(served) => served,
        Seen::Absent | Seen::Broken(_) => BTreeMap::new(),
    }
}

/// Whether nginx still has to be given a certificate that it would take.
#[must_use]
pub fn unserved(offer: &Offer, served: Option<&Offer>, hosts: &[String], now: u64) -> bool {
    let better = served.is_none_or(|served| offer.beats(served, hosts) || !served.sound(now));
    offer.fits(hosts) && offer.sound(now) && better
}

/// Gives nginx what is better than what it has; it reads its files until that has succeeded once. Says which sites have a new one.
///
/// # Errors
/// A line for each site that could not be given, or that nginx does not take.
pub fn install(
    root: &Root,
    programs: &impl Programs,
    settings: &Settings,
    now: u64,
) -> Result<Vec<String>, String> {
    let (mut given, mut problems) = (Vec::new(), Vec::new());
    for site in &settings.sites {
        match give(root, site, now) {
            Ok(true) => given.push(site.name.clone()),
            Ok(false) => {}
            Err(why) => problems.push(format!("{}: {why}", site.name)),
        }
    }
    let has: BTreeMap<String, Offer> = settings
        .sites
        .iter()
        .filter_map(|site| Some((site.name.clone(), nginx_has(root, site)?)))
        .filter(|(name, offer)| {
            let site = settings.site(name);
            site.is_some_and(|site| offer.fits(&site.hosts))
        })
        .collect();
    if has != served(root) {
        // Its own test comes first: a running nginx keeps what it has. One that does not run reads them when it starts.
        let reload = Call::new(["systemctl", "try-reload-or-restart", "nginx.service"]);
        let told = programs
            .output(&reload)
            .map_err(|why| why.to_string())
            .and_then(|_| {
                files::write_json(&root.join(SERVED), &has, Access::PUBLIC)
                    .map_err(|error| format!("{SERVED}: {error}"))
            });
        if let Err(why) = told {
            problems.push(why);
        }
    }
    if problems.is_empty() {
        Ok(given)
    } else {
        Err(problems.join("\n"))
    }
}

fn give(root: &Root, site: &Site, now: u64) -> Result<bool, String> {
    let Some(text) = read(&bundle_path(&root.join(store::DIR), &site.name))? else {
        return Ok(false);
    };
    let new = Bundle::parse(&text).map_err(|error| error.to_string())?;
    if !new.offer.fits(&site.hosts) || !new.offer.sound(now) {
        return Ok(false);
    }
    // What it has may be the one that the machine made for itself, or nothing that can be read or believed.
    let better = nginx_has(root, site)
        .filter(|has| has.sound(now))
        .is_none_or(|has| new.offer.beats(&has, &site.hosts));
    if better {
        let path = nginx_path(root, site);
        files::write(&path, new.pem.as_bytes(), Access::PRIVATE)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(better)
}

fn nginx_path(root: &Root, site: &Site) -> PathBuf {
    root.join(SITES).join(format!("{}.pem", site.name))
}

/// What nginx reads for a site, if that is a certificate.
fn nginx_has(root: &Root, site: &Site) -> Option<Offer> {
    let text = files::read(&nginx_path(root, site)).ok()??;
    Some(Bundle::parse(&text).ok()?.offer)
}

/// A plain file of bounded size, or nothing. No link is followed at its end, and nothing that would keep the reader waiting is opened.
fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(FLAGS)
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let plain = file.metadata().is_ok_and(|seen| seen.is_file());
    if !plain {
        return Err(format!("{} is no plain file", path.display()));
    }
    let mut text = Vec::new();
    // One byte more, so that the one who reads it sees that it is too long.
    let most = u64::try_from(LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most)
        .read_to_end(&mut text)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Some(text))
}

const FLAGS: i32 = {
    let flags = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK);
    flags.bits().cast_signed()
};

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::bundle::testing::bundle;
    use super::*;
    use crate::program::{Ended, ProgramError};

    #[derive(Default)]
    struct Systemctl(Mutex<Vec<String>>, Mutex<i32>);

    impl Programs for Systemctl {
        fn run(&self, call: &Call) -> Result<Ended, ProgramError> {
            self.0.lock().unwrap().push(call.argv.join(" "));
            Ok(Ended {
                code: Some(*self.1.lock().unwrap()),
                stdout: String::new(),
                stderr: String::new(),
            })
        }
    }

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

    /// 2030-01-15.
    const NOW: u64 = 1_894_665_600;

    #[test]
    fn nginx_gets_what_is_better_and_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let stored = bundle_path(&root.join(store::DIR), "shop");
        let nginx = root.join(SITES).join("shop.pem");
        let put =
            |path: &Path, text: &str| files::write(path, text.as_bytes(), Access::PRIVATE).unwrap();
        let systemctl = Systemctl::default();
        let run = || install(&root, &systemctl, &settings(), NOW);
        assert_eq!(run(), Ok(vec![]), "there is none yet");

        put(&nginx, &bundle(&["fallback.example.com"], 12, 20));
        let (old, new) = (
            bundle(&["a.example.com"], 1, 1),
            bundle(&["a.example.com"], 9, 1),
        );
        put(&stored, &new);
        assert_eq!(run(), Ok(vec!["shop".to_owned()]));
        assert_eq!(std::fs::read_to_string(&nginx).unwrap(), new);
        assert_eq!(run(), Ok(vec![]), "it has it");
        put(&stored, &old);
        assert_eq!(run(), Ok(vec![]), "an older one");
        put(&stored, &bundle(&["b.example.com"], 10, 1));
        assert_eq!(run(), Ok(vec![]), "one for another name");
        put(&stored, "nonsense");
        assert!(run().is_err());
        assert_eq!(std::fs::read_to_string(&nginx).unwrap(), new);
        assert_eq!(
            *systemctl.0.lock().unwrap(),
            ["systemctl try-reload-or-restart nginx.service"]
        );
    }

    #[test]
    fn a_reload_that_failed_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let stored = bundle_path(&root.join(store::DIR), "shop");
        let text = bundle(&["a.example.com"], 9, 1);
        files::write(&stored, text.as_bytes(), Access::PRIVATE).unwrap();
        let systemctl = Systemctl::default();
        *systemctl.1.lock().unwrap() = 1;
        let run = || install(&root, &systemctl, &settings(), NOW);
        assert!(run().is_err() && run().is_err());
        assert!(served(&root).is_empty());
        *systemctl.1.lock().unwrap() = 0;
        assert_eq!(run(), Ok(vec![]), "its file is there already");
        assert_eq!(run(), Ok(vec![]));
        assert_eq!(systemctl.0.lock().unwrap().len(), 3);
        let offer = Bundle::parse(text.as_bytes()).unwrap().offer;
        assert_eq!(served(&root).get("shop"), Some(&offer));
        files::remove(&root.join(SERVED)).unwrap();
        assert_eq!(run(), Ok(vec![]), "nobody knows what nginx has");
        assert_eq!(systemctl.0.lock().unwrap().len(), 4);
    }

    #[test]
    fn nginx_is_given_what_is_better_than_what_it_serves() {
        let offer = |names: &[&str], from| {
            let text = bundle(names, from, 1);
            Bundle::parse(text.as_bytes()).unwrap().offer
        };
        let hosts = ["a.example.com".to_owned()];
        let (old, new) = (offer(&["a.example.com"], 1), offer(&["a.example.com"], 9));
        let other = offer(&["b.example.com"], 10);
        for (offer, served, now, expected) in [
            (&new, None, NOW, true),
            (&new, Some(&old), NOW, true),
            (&new, Some(&new), NOW, false),
            (&old, Some(&new), NOW, false),
            (&other, None, NOW, false),
            (&new, Some(&other), NOW, true),
            (&new, None, u64::MAX, false),
        ] {
            assert_eq!(unserved(offer, served, &hosts, now), expected, "{offer:?}");
        }
    }

    #[test]
    fn links_and_pipes_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let stored = bundle_path(&root.join(store::DIR), "shop");
        std::fs::create_dir_all(stored.parent().unwrap()).unwrap();
        let secret = dir.path().join("secret.pem");
        std::fs::write(&secret, bundle(&["a.example.com"], 1, 1)).unwrap();
        std::os::unix::fs::symlink(&secret, &stored).unwrap();
        let run = || install(&root, &Systemctl::default(), &settings(), NOW);
        assert!(run().is_err());
        std::fs::remove_file(&stored).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &stored,
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        assert!(run().unwrap_err().contains("no plain file"));
        assert!(!root.join(SITES).exists());
    }
}
