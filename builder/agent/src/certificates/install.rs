//! From the service's directory to nginx's. As root, and the directory is that of somebody whom root does not trust.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::bundle::{Bundle, LIMIT};
use super::store::{self, bundle_path};
use super::{Settings, Site};
use crate::files::{self, Access, Root};
use crate::program::{Call, Programs};

/// Where nginx reads a site's key and certificate.
pub const SITES: &str = "/var/lib/rolesmith-edge/sites";

/// Gives nginx what is better than what it has; it reads its files when one was changed. Says for which sites.
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
    if !given.is_empty() {
        // Its own test comes first: a running nginx keeps what it has. One that does not run reads them when it starts.
        let reload = Call::new(["systemctl", "try-reload-or-restart", "nginx.service"]);
        if let Err(why) = programs.output(&reload) {
            problems.push(why.to_string());
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
    let path = root.join(SITES).join(format!("{}.pem", site.name));
    let has = files::read(&path).map_err(|error| error.to_string())?;
    // What it has may be the one that the machine made for itself, or nothing that can be read or believed.
    let better = has
        .and_then(|text| Bundle::parse(&text).ok())
        .filter(|has| has.offer.sound(now))
        .is_none_or(|has| new.offer.beats(&has.offer, &site.hosts));
    if better {
        files::write(&path, new.pem.as_bytes(), Access::PRIVATE)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(better)
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
    struct Systemctl(Mutex<Vec<String>>);

    impl Programs for Systemctl {
        fn run(&self, call: &Call) -> Result<Ended, ProgramError> {
            self.0.lock().unwrap().push(call.argv.join(" "));
            Ok(Ended {
                code: Some(0),
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
