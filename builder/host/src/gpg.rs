//! Signing with the gpg program, for keys that an agent or a token holds.
//!
//! gpg signs with its own clock: signatures carry the present time, whatever time is asked for, because `gpg-agent` and
//! tokens do not take `--faked-system-time` in a way that could be relied on. A repository signed so is valid and is not
//! reproducible byte for byte; one signed with the key file is.

use std::{
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rolesmith_formats::openpgp::{OpenPgpError, Signer};

/// Why gpg could not be used.
#[derive(Debug, thiserror::Error)]
pub enum GpgError {
    /// The program cannot be run.
    #[error("cannot run gpg: {0}; on Debian it is in the package gnupg")]
    Run(#[source] std::io::Error),
    /// gpg said no.
    #[error("gpg {doing}: {message}")]
    Refused {
        /// What it was asked for.
        doing: &'static str,
        /// What it says.
        message: String,
    },
    /// It has no such secret key.
    #[error(
        "gpg holds no secret key with the fingerprint {0}; `gpg --list-secret-keys` shows those it holds"
    )]
    NoSuchKey(String),
    /// The fingerprint is not one: short key ids are forged too easily.
    #[error("{0:?} is not a fingerprint: 40 hexadecimal digits are needed")]
    NotAFingerprint(String),
    /// The key has no part that may sign now.
    #[error(
        "the key {0} has no part that may sign: neither itself nor a subkey that is neither revoked nor expired"
    )]
    CannotSign(String),
}

impl From<GpgError> for OpenPgpError {
    fn from(error: GpgError) -> Self {
        Self::external(error)
    }
}

/// A key that the gpg program holds.
#[derive(Debug, Clone)]
pub struct GpgSigner {
    home: Option<PathBuf>,
    /// Of the primary key.
    fingerprint: String,
    /// What signs: the primary key or a subkey.
    signing: Part,
    public: String,
    expires: Option<u64>,
}

/// A primary key or subkey as `gpg --with-colons` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    fingerprint: String,
    created: u64,
    expires: Option<u64>,
    /// Neither revoked, expired nor disabled, and the secret is at hand.
    usable: bool,
    signs: bool,
}

impl GpgSigner {
    /// Takes up the key with that fingerprint: 40 hexadecimal digits of a primary key, whose newest usable signing
    /// subkey signs, as gpg itself chooses, or of one subkey. `home` is the GnuPG home directory; None leaves it to the
    /// environment.
    ///
    /// # Errors
    /// [`GpgError`].
    pub fn new(fingerprint: &str, home: Option<&Path>) -> Result<Self, GpgError> {
        let wanted: String = fingerprint
            .chars()
            .filter(|c| *c != ' ')
            .map(|c| c.to_ascii_uppercase())
            .collect();
        if wanted.len() != 40 || !wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(GpgError::NotAFingerprint(fingerprint.to_owned()));
        }
        let missing = || GpgError::NoSuchKey(wanted.clone());
        let listed = run(
            home,
            "lists secret keys",
            &["--with-colons", "--list-secret-keys", &wanted],
            b"",
        )
        .map_err(|error| match error {
            GpgError::Refused { .. } => missing(),
            other => other,
        })?;
        let parts = parts(&String::from_utf8_lossy(&listed));
        let primary = parts.first().ok_or_else(missing)?;
        let signing = if primary.fingerprint == wanted {
            // Of equally old subkeys the later one, as gpg does.
            parts[1..]
                .iter()
                .filter(|part| part.usable && part.signs)
                .max_by_key(|part| part.created)
                .or(Some(primary))
        } else {
            parts[1..].iter().find(|part| part.fingerprint == wanted)
        };
        let signing = signing
            .filter(|part| part.usable && part.signs)
            .ok_or_else(|| GpgError::CannotSign(wanted.clone()))?
            .clone();
        let public = run(
            home,
            "exports the public key",
            &[
                "--armor",
                "--export-options",
                "export-minimal",
                "--export",
                &primary.fingerprint,
            ],
            b"",
        )?;
        let expires = match (primary.expires, signing.expires) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok(Self {
            home: home.map(Path::to_owned),
            fingerprint: primary.fingerprint.clone(),
            signing,
            public: String::from_utf8_lossy(&public).into_owned(),
            expires,
        })
    }

    fn sign(&self, data: &[u8], mode: &'static [&'static str]) -> Result<Vec<u8>, OpenPgpError> {
        // The exclamation mark keeps gpg from choosing another subkey.
        let key = format!("{}!", self.signing.fingerprint);
        let mut arguments = vec!["--local-user", key.as_str(), "--digest-algo", "SHA512"];
        arguments.extend(mode);
        arguments.push("--detach-sign");
        Ok(run(self.home.as_deref(), "signs", &arguments, data)?)
    }
}

impl Signer for GpgSigner {
    /// `time` is not used: see the module's text.
    fn sign_detached(&self, data: &[u8], _time: u64) -> Result<Vec<u8>, OpenPgpError> {
        self.sign(data, &[])
    }

    /// `time` is not used: see the module's text.
    fn sign_text(&self, text: &str, _time: u64) -> Result<Vec<u8>, OpenPgpError> {
        self.sign(text.as_bytes(), &["--textmode"])
    }

    fn public_key_armored(&self) -> Result<String, OpenPgpError> {
        Ok(self.public.clone())
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn created(&self) -> u64 {
        self.signing.created
    }

    fn expires(&self) -> Option<u64> {
        self.expires
    }
}

impl fmt::Display for GpgSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gpg:{}", self.fingerprint)
    }
}

/// Runs gpg with bytes on its standard input. A passphrase is the agent's business: its pinentry asks.
fn run(
    home: Option<&Path>,
    doing: &'static str,
    arguments: &[&str],
    input: &[u8],
) -> Result<Vec<u8>, GpgError> {
    let mut command = Command::new("gpg");
    if let Some(home) = home {
        command.arg("--homedir").arg(home);
    }
    // The user's options (comments, a default key, another digest) would change what is signed.
    command
        .args([
            "--no-options",
            "--batch",
            "--quiet",
            "--no-tty",
            "--no-auto-check-trustdb",
        ])
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(GpgError::Run)?;
    // gpg reads all of its input before it writes a signature, so neither side waits for the other; one that stops
    // early says why by its exit status.
    if let Some(mut pipe) = child.stdin.take() {
        let _ = pipe.write_all(input);
    }
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().map_err(GpgError::Run)?;
    if status.success() {
        return Ok(stdout);
    }
    Err(GpgError::Refused {
        doing,
        message: String::from_utf8_lossy(&stderr).trim().replace('\n', "; "),
    })
}

/// Reads `sec`, `ssb` and the `fpr` records behind them (GnuPG's doc/DETAILS), primary key first.
fn parts(listing: &str) -> Vec<Part> {
    let mut parts = Vec::<Part>::new();
    for line in listing.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let field = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
        match field(1) {
            "sec" | "ssb" => parts.push(Part {
                fingerprint: String::new(),
                created: field(6).parse().unwrap_or_default(),
                expires: field(7).parse().ok(),
                // Validity: invalid, disabled, revoked, expired, no value. Field 15: '#' for a secret that is not here.
                usable: !field(2).starts_with(['i', 'd', 'r', 'e', 'n']) && field(15) != "#",
                signs: field(12).contains('s'),
            }),
            "fpr" => {
                if let Some(part) = parts.last_mut().filter(|part| part.fingerprint.is_empty()) {
                    part.fingerprint = field(10).to_owned();
                }
            }
            _ => {}
        }
    }
    parts
}
