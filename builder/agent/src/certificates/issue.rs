//! Asking the authority, by uacme(1).

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::bundle::{Bundle, BundleError};
use super::{Settings, Site};
use crate::files::{self, Root};
use crate::program::{Call, ProgramError, Programs};

/// Writes the answer to a challenge where [`super::challenge`] finds it.
pub const HOOK: &str = "/usr/lib/rolesmith/certificates/hook";

/// How long one call of uacme may take. An authority takes seconds.
const LIMIT: Duration = Duration::from_secs(240);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The program failed, and what it said.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The disk.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    /// What came is no certificate for the key that was made.
    #[error("what the authority gave: {0}")]
    Bundle(#[from] BundleError),
    /// The lease does not last any longer.
    #[error("the time for which nobody else asks is over")]
    Late,
    /// It is for other names.
    #[error("the authority gave a certificate for other names than those of the site")]
    Names,
}

impl IssueError {
    /// Whether the authority wants to be left alone for a while (RFC 8555, 6.6).
    #[must_use]
    pub fn limited(&self) -> bool {
        self.to_string().contains("acme:error:rateLimited")
    }
}

/// How long a call may take with so much time left; nothing when that is over. No call outlasts the lease: somebody else may
/// have it then.
#[must_use]
pub fn within(left: Duration) -> Option<Duration> {
    Some(left.min(LIMIT)).filter(|limit| !limit.is_zero())
}

/// Asks for a certificate with a new key. `dir` is where uacme keeps this edge's account, and nothing is asked after `deadline`.
///
/// Each edge has an account of its own, so that no account's key ever leaves the machine that made it; authorities bind neither
/// certificates nor names to accounts unless a domain's owner asks for it (RFC 8657).
///
/// # Errors
/// [`IssueError`].
pub fn issue(
    programs: &impl Programs,
    root: &Root,
    dir: &Path,
    settings: &Settings,
    site: &Site,
    deadline: Instant,
) -> Result<Bundle, IssueError> {
    let conf = dir.to_string_lossy().into_owned();
    let first = site.hosts.first().map_or("", String::as_str);
    fs::create_dir_all(dir).map_err(|error| IssueError::Io("the account's directory", error))?;
    let call = |words: &[&str]| {
        let fixed = [
            "--yes",
            "--confdir",
            &conf,
            "--acme-url",
            &settings.directory,
        ];
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = within(left).ok_or(IssueError::Late)?;
        let call = Call::new(["/usr/bin/uacme"])
            .args(fixed)
            .args(words.iter().copied())
            .limit(limit);
        programs.output(&call).map_err(IssueError::from)
    };
    let account = dir.join("private/key.pem");
    let register = || {
        let words = ["--type", "EC", "new"].into_iter();
        let words: Vec<&str> = words.chain(settings.contact.as_deref()).collect();
        call(&words)
    };
    if !has_key(&account) {
        aside(&account).map_err(|error| IssueError::Io("the account's key", error))?;
        register()?;
    }
    // A new key for each certificate.
    let (private, public) = (dir.join("private").join(first), dir.join(first));
    for old in [&private, &public] {
        remove(old).map_err(|error| IssueError::Io("the former certificate", error))?;
    }
    // What an attempt that was cut short has left.
    remove(&root.join(super::challenge::DIR))
        .map_err(|error| IssueError::Io("challenges", error))?;
    fs::create_dir_all(root.join(super::challenge::DIR))
        .map_err(|error| IssueError::Io("challenges", error))?;
    let mut words = vec!["--hook", HOOK, "--type", "EC", "--no-ocsp", "issue"];
    words.extend(site.hosts.iter().map(String::as_str));
    let mut result = call(&words);
    if result.as_ref().is_err_and(unknown) {
        // Another authority than before, or one that forgot those that it had not heard of for long.
        fs::remove_file(&account).map_err(|error| IssueError::Io("the account's key", error))?;
        register()?;
        result = call(&words);
    }
    let bundle =
        result.and_then(|_| gather(programs, &private.join("key.pem"), &public.join("cert.pem")));
    // It is kept elsewhere, or useless.
    for made in [&private, &public] {
        let _ = remove(made);
    }
    let bundle = bundle?;
    if !bundle.offer.fits(&site.hosts) {
        return Err(IssueError::Names);
    }
    Ok(bundle)
}

/// Whether there is a key that uacme can read. A machine that lost its power may have left an empty file.
fn has_key(path: &Path) -> bool {
    let text = fs::read(path).unwrap_or_default();
    PrivateKeyDer::from_pem_slice(&text).is_ok_and(|key| !key.secret_der().is_empty())
}

/// Moves what is no key out of the way; somebody may want to look at it.
fn aside(path: &Path) -> io::Result<()> {
    match fs::rename(path, path.with_extension("broken")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the authority does not know the account (RFC 8555, 7.3.1), in the words of uacme.
fn unknown(error: &IssueError) -> bool {
    let text = error.to_string();
    text.contains("no account associated with") || text.contains("acme:error:accountDoesNotExist")
}

/// uacme leaves the key in the form of SEC 1, with an encoding that not everybody reads; PKCS #8 (RFC 5958) is read by all.
fn gather(programs: &impl Programs, key: &Path, certificate: &Path) -> Result<Bundle, IssueError> {
    let path = key.to_string_lossy();
    let convert = Call::new([
        "/usr/bin/openssl",
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-in",
        &*path,
    ]);
    let mut pem = programs.output(&convert)?.into_bytes();
    match files::read(certificate) {
        Ok(Some(bytes)) => pem.extend(bytes),
        Ok(None) => {
            let error = io::ErrorKind::NotFound.into();
            return Err(IssueError::Io("the certificate", error));
        }
        Err(error) => return Err(IssueError::Io("the certificate", error)),
    }
    Ok(Bundle::parse(&pem)?)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::bundle::testing::bundle;
    use super::super::lease;
    use super::*;
    use crate::program::Ended;

    const ACCOUNT: &str =
        "-----BEGIN EC PRIVATE KEY-----\nMAAwAA==\n-----END EC PRIVATE KEY-----\n";

    /// uacme, as far as files go.
    struct Uacme {
        dir: std::path::PathBuf,
        names: Vec<&'static str>,
        fails: Option<&'static str>,
        calls: Mutex<Vec<String>>,
        limits: Mutex<Vec<Duration>>,
    }

    impl Programs for Uacme {
        fn run(&self, call: &Call) -> Result<Ended, ProgramError> {
            if call.name() == "/usr/bin/openssl" {
                let stdout = std::fs::read_to_string(call.argv.last().unwrap()).unwrap();
                return Ok(Ended {
                    code: Some(0),
                    stdout,
                    stderr: String::new(),
                });
            }
            let words = call.argv[6..].join(" ");
            let (code, stderr) = match self.fails {
                Some(why) if words.contains("issue") => (2, why.to_owned()),
                _ => (0, String::new()),
            };
            let put = |path: &str, text: &str| {
                files::write(
                    &self.dir.join(path),
                    text.as_bytes(),
                    files::Access::PRIVATE,
                )
                .unwrap();
            };
            if words.contains("new") {
                put("private/key.pem", ACCOUNT);
            } else if code == 0 {
                let text = bundle(&self.names, 1, 1);
                let (key, certificate) = text.split_at(text.find("-----BEGIN CERT").unwrap());
                put("private/a.example.com/key.pem", key);
                put("a.example.com/cert.pem", certificate);
            }
            self.calls.lock().unwrap().push(words);
            self.limits.lock().unwrap().push(call.limit);
            Ok(Ended {
                code: Some(code),
                stdout: String::new(),
                stderr,
            })
        }
    }

    fn settings() -> Settings {
        Settings {
            directory: "https://acme.example/dir".into(),
            contact: Some("ops@example.com".into()),
            renew_days: 30,
            port: 7433,
            address: "10.0.0.1".into(),
            sites: vec![Site {
                name: "shop".into(),
                hosts: vec!["a.example.com".into(), "b.example.com".into()],
            }],
        }
    }

    fn try_with(
        names: &[&'static str],
        fails: Option<&'static str>,
    ) -> (Result<Bundle, IssueError>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let uacme = Uacme {
            dir: dir.path().join("acme"),
            names: names.to_vec(),
            fails,
            calls: Mutex::default(),
            limits: Mutex::default(),
        };
        let (settings, root) = (settings(), Root::at(dir.path()));
        let site = &settings.sites[0];
        let deadline = Instant::now() + Duration::from_secs(lease::USE);
        let ask = || issue(&uacme, &root, &uacme.dir, &settings, site, deadline);
        let first = ask();
        let _ = ask();
        let limits = uacme.limits.lock().unwrap().clone();
        assert!(limits.iter().all(|limit| *limit <= LIMIT), "{limits:?}");
        assert!(
            !uacme.dir.join("private/a.example.com").exists(),
            "no key stays there"
        );
        (first, uacme.calls.into_inner().unwrap())
    }

    #[test]
    fn the_account_is_made_once_and_the_key_each_time() {
        let (first, calls) = try_with(&["a.example.com", "b.example.com"], None);
        assert_eq!(first.unwrap().offer.names.len(), 2);
        let issue = format!("--hook {HOOK} --type EC --no-ocsp issue a.example.com b.example.com");
        assert_eq!(calls, ["--type EC new ops@example.com", &issue, &issue]);
    }

    #[test]
    fn what_is_no_key_of_an_account_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.pem");
        for (text, good) in [
            (Some(ACCOUNT), true),
            (Some(""), false),
            (Some(&ACCOUNT[..40]), false),
            (Some("\0\0\0\0"), false),
            (None, false),
        ] {
            match text {
                Some(text) => fs::write(&key, text).unwrap(),
                None => fs::remove_file(&key).unwrap(),
            }
            assert_eq!(has_key(&key), good, "{text:?}");
        }
        aside(&key).unwrap();
        fs::write(&key, "").unwrap();
        aside(&key).unwrap();
        assert!(!key.exists() && dir.path().join("key.broken").exists());
    }

    #[test]
    fn an_authority_that_has_forgotten_the_account_gets_another_one() {
        let forgotten = "uacme: no account associated with /x/private/key.pem found at https://acme.example/new";
        let (first, calls) = try_with(&[], Some(forgotten));
        assert!(first.is_err());
        let words = |call: &String| call.split(' ').nth(2).map(str::to_owned);
        // Each time a second account, and no third.
        assert_eq!(calls.len(), 7, "{calls:?}");
        assert_eq!(
            calls
                .iter()
                .filter(|call| words(call).as_deref() == Some("new"))
                .count(),
            3
        );
    }

    #[test]
    fn nothing_is_asked_without_the_lease() {
        let seconds = Duration::from_secs;
        for (left, limit) in [
            (lease::USE, Some(240)),
            (240, Some(240)),
            (30, Some(30)),
            (0, None),
        ] {
            assert_eq!(within(seconds(left)), limit.map(seconds), "{left}");
        }
        let dir = tempfile::tempdir().unwrap();
        let uacme = Uacme {
            dir: dir.path().join("acme"),
            names: vec!["a.example.com"],
            fails: None,
            calls: Mutex::default(),
            limits: Mutex::default(),
        };
        let (settings, root) = (settings(), Root::at(dir.path()));
        let site = &settings.sites[0];
        let late = issue(&uacme, &root, &uacme.dir, &settings, site, Instant::now());
        assert!(matches!(late, Err(IssueError::Late)));
        assert!(uacme.calls.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_for_other_names_is_refused() {
        let (first, _) = try_with(&["a.example.com"], None);
        assert!(matches!(first, Err(IssueError::Names)));
    }

    #[test]
    fn an_authority_that_was_asked_too_much_is_left_alone() {
        let limited = "{\"type\": \"urn:ietf:params:acme:error:rateLimited\"}";
        assert!(try_with(&[], Some(limited)).0.unwrap_err().limited());
        assert!(
            !try_with(&[], Some("no route to host"))
                .0
                .unwrap_err()
                .limited()
        );
    }
}
