//! A seed, executed by the cloud-init of the machine that it is for: all four stages, in namespaces, on an unpacked tree.
//!
//! No machine boots, so it takes seconds: what systemd would start is not started. Everything that cloud-init itself does is done by
//! its own program of its own version: it finds the data source, writes the files, makes the users, and has apt look for the packages.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rolesmith_formats::{cloud_config, seed::Seed};

use crate::{
    cache::{Cache, Key, Layer},
    error::{BakeError, Result},
    program::{self, is_root},
    tree::{self, Origin},
};

mod judge;

use judge::{judge, without_secrets};

const SCRIPT: &str = include_str!("execute/run.sh");

/// How a seed reaches the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum DataSource {
    /// A disk labelled `cidata`, or a directory.
    NoCloud,
    /// A disk labelled `config-2`, as DigitalOcean and OpenStack have it.
    ConfigDrive,
}

impl DataSource {
    /// Both.
    pub const ALL: [Self; 2] = [Self::NoCloud, Self::ConfigDrive];

    /// As cloud-init calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoCloud => "NoCloud",
            Self::ConfigDrive => "ConfigDrive",
        }
    }

    /// What cloud-init's `result.json` calls it.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::NoCloud => "DataSourceNoCloud",
            Self::ConfigDrive => "DataSourceConfigDrive",
        }
    }

    /// Where cloud-init looks for its files, below `/var/lib/cloud/seed`, when they are no disk's.
    const fn directory(self) -> &'static str {
        match self {
            Self::NoCloud => "nocloud",
            Self::ConfigDrive => "config_drive",
        }
    }

    fn files(self, seed: &Seed, user_data: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::NoCloud => cloud_config::nocloud(seed, user_data),
            Self::ConfigDrive => cloud_config::config_drive(seed, user_data),
        }
    }
}

/// The fleet's repository, as it is published.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Its directory.
    pub directory: PathBuf,
    /// The host in its URL, which leads to the loopback address.
    pub host: String,
    /// The port in its URL.
    pub port: u16,
    /// Program and first arguments of its server; `--dir DIR --listen ADDRESS:PORT` is added.
    pub server: Vec<String>,
}

/// What is executed, and where.
#[derive(Debug, Clone, Copy)]
pub struct Execution<'a> {
    /// The tree, a tar archive.
    pub tree: &'a Path,
    /// What the seed is to do.
    pub seed: &'a Seed,
    /// Its cloud-config.
    pub user_data: &'a str,
    /// How it gets there.
    pub source: DataSource,
    /// Names of the private and of the public interface.
    pub interfaces: [&'a str; 2],
    /// Where apt looks for the packages. Without one it is not asked for them.
    pub repository: Option<&'a Repository>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// What is to be said against the seed; nothing where everything took effect without a warning. No secret is in it.
    pub complaints: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// The tree of a suite as Debian has it, for seeds whose image was not baked; made once.
///
/// # Errors
/// [`BakeError`], with mmdebstrap's words.
pub fn plain_tree(
    cache: &Path,
    suite: &str,
    packages: &[String],
    progress: &dyn Fn(&str),
) -> Result<Layer> {
    program::preflight()?;
    let cache = Cache::open(cache, || {
        progress("waiting for another program with this cache")
    })?;
    let mut key = Key::new("seed", tree::RECIPE);
    tree::base_key(&mut key, suite, packages);
    let key = key.finish();
    if cache.known("seed", &key)?.is_none() {
        progress(&format!("Debian {suite}, for seeds to be tried in (once)"));
    }
    cache.layer("seed", &key, |to| {
        tree::base(suite, packages, &Origin::Host, 0, to)
    })
}

/// Executes a seed.
///
/// # Errors
/// [`BakeError::Failed`] where it did not come to that: this machine does not allow namespaces, or the tree has no cloud-init. What
/// cloud-init says against the seed is no error, but what is asked for.
pub fn execute(what: &Execution<'_>) -> Result<Executed> {
    let begun = Instant::now();
    let mount = tempfile::tempdir().map_err(BakeError::file("make", std::env::temp_dir()))?;
    let input = archive(what).map_err(BakeError::file("write", "the seed's archive"))?;
    let mut command = namespaces();
    command.args(["sh", "-c", SCRIPT, "execute"]);
    command
        .arg(mount.path())
        .arg(what.tree)
        .args(what.interfaces);
    match what.repository {
        Some(repository) => {
            command.arg(&repository.directory).arg(&repository.host);
            command.arg(repository.port.to_string());
            command.args(&repository.server);
        }
        None => {
            command.args(["", "", ""]);
        }
    }
    command.arg("--");
    command.args(
        what.seed
            .files
            .iter()
            .map(|f| f.path.trim_start_matches('/')),
    );
    let output =
        program::run("cloud-init", &mut command, Some(&input)).map_err(|error| match error {
            BakeError::Failed {
                program,
                status,
                output,
            } => BakeError::Failed {
                program,
                status,
                output: without_secrets(&output, what.seed),
            },
            other => other,
        })?;
    let found = read(&output).map_err(BakeError::file("read", "what cloud-init left"))?;
    Ok(Executed {
        complaints: judge(what.seed, what.source, &found),
        took: begun.elapsed(),
    })
}

/// Ends with this program, however it ends: the kernel kills unshare, whose end kills everything in the namespace.
fn namespaces() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare"]);
    if !is_root() {
        command.args(["--user", "--map-root-user", "--map-auto"]);
    }
    command.args(["--mount", "--pid", "--fork", "--kill-child=KILL"]);
    command.args(["--net", "--uts", "--ipc"]);
    command.env_clear();
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// The seed's directory. It goes through a pipe, since it holds secrets.
fn archive(what: &Execution<'_>) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in what.source.files(what.seed, what.user_data) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(text.len() as u64);
        let path = Path::new(what.source.directory()).join(path);
        tar.append_data(&mut header, path, text.as_bytes())?;
    }
    tar.into_inner()
}

/// A file that was found afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    path: String,
    mode: u32,
    owner: String,
    bytes: Vec<u8>,
}

fn read(archive: &[u8]) -> std::io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let header = entry.header();
        let name =
            |name: Option<&[u8]>| String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        let owner = format!(
            "{}:{}",
            name(header.username_bytes()),
            name(header.groupname_bytes())
        );
        let mut file = Found {
            path: entry.path()?.to_string_lossy().into_owned(),
            mode: header.mode()? & 0o7777,
            owner,
            bytes: Vec::new(),
        };
        entry.read_to_end(&mut file.bytes)?;
        found.push(file);
    }
    Ok(found)
}
