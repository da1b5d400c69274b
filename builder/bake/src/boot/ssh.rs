//! The way into a guest: OpenSSH's client with a key that is made for one test, and nothing of the user's own.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{error::BootError, running::tool};

/// Most of what a guest printed that is read.
const LONGEST: usize = 1 << 20;

/// cloud-init's user on Debian, who becomes root by sudo without a password.
const USER: &str = "debian";

/// A key for one test.
#[derive(Debug)]
pub struct Key {
    path: PathBuf,
    public: String,
}

impl Key {
    /// Makes one in this directory, which is the user's alone.
    ///
    /// # Errors
    /// [`BootError::Tool`] with ssh-keygen's words.
    pub fn make(directory: &Path) -> Result<Key, BootError> {
        let path = directory.join("key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "boot-test", "-f"]);
        tool("ssh-keygen", keygen.arg(&path))?;
        let file = path.with_extension("pub");
        let public = std::fs::read_to_string(&file).map_err(BootError::file("read", &file))?;
        Ok(Key {
            path,
            public: public.trim().to_owned(),
        })
    }

    /// The line for `authorized_keys`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// ssh to this port of the loopback address; what to run there is still to be added.
pub(super) fn command(key: &Path, port: u16) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-T", "-p", &port.to_string(), "-i"])
        .arg(key);
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        // The guest made its host key a moment ago; on a later boot it has to be the same.
        "StrictHostKeyChecking=accept-new",
        "GlobalKnownHostsFile=/dev/null",
        "ConnectTimeout=20",
        "ServerAliveInterval=10",
        "LogLevel=ERROR",
    ] {
        ssh.args(["-o", option]);
    }
    let known = key.with_file_name(format!("known-{port}"));
    ssh.arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()));
    ssh.arg(format!("{USER}@127.0.0.1"));
    ssh
}

/// Runs a shell script as root; the error is what was said instead.
pub(super) fn run(key: &Path, port: u16, script: &str, limit: Duration) -> Result<String, String> {
    let ssh = command(key, port);
    let mut timeout = Command::new("timeout");
    timeout.args([
        "--foreground",
        "--kill-after=5",
        &limit.as_secs().to_string(),
    ]);
    timeout
        .arg(ssh.get_program())
        .args(ssh.get_args())
        .args(["sudo", "-n", "sh", "-s"]);
    let mut child = timeout
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("timeout: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // Where ssh has ended, its own words say more.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)])
            .trim()
            .to_owned()
    };
    match output.status.code() {
        Some(0) => Ok(text(&output.stdout)),
        Some(124 | 137) => Err(format!("no answer within {} s", limit.as_secs())),
        _ => Err(format!(
            "{} {} ({})",
            text(&output.stdout),
            text(&output.stderr),
            output.status
        )),
    }
}
