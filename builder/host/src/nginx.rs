//! What nginx of this machine says of the configuration that a node's nginx will read (`nginx -t`).
//!
//! The files are laid out below a temporary directory, and every name in them that leads out of it (files, sockets, addresses) is
//! replaced by one that does not ([`rewrite`]): the machine's own nginx is neither asked nor touched, and nothing of the fleet
//! has to exist here. Lines stay where they are, so that a complaint can be traced to the template that it comes from.

pub mod files;
pub mod origin;
mod rewrite;
mod said;

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rcgen::{CertificateParams, KeyPair};

use self::{
    files::NodeFiles,
    rewrite::{ETC, Rewriter},
};
pub use said::{Complaint, Level};

/// The release since which HTTP/2 is switched on by a directive; the ones before know a word of `listen` alone.
const HTTP2_DIRECTIVE: (u32, u32, u32) = (1, 25, 1);

/// Where Debian installs it, which is not in everybody's PATH.
const PLACE: &str = "/usr/sbin/nginx";

/// Why nginx could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NginxError {
    /// It cannot be started.
    #[error("{}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} does not say which version of nginx it is", .0.display())]
    Version(PathBuf),
    /// The files cannot be laid out.
    #[error("a temporary directory for nginx: {0}")]
    Lay(#[from] io::Error),
    /// No certificate can be made.
    #[error("a certificate for nginx: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// nginx(8) of this machine.
#[derive(Debug, Clone)]
pub struct Nginx {
    program: PathBuf,
    version: (u32, u32, u32),
}

impl Nginx {
    /// The program in one of the directories of `path` (PATH), or where Debian has it; None where there is none.
    ///
    /// # Errors
    /// [`NginxError`].
    pub fn find(path: &OsStr) -> Result<Option<Self>, NginxError> {
        let directories = std::env::split_paths(path).map(|directory| directory.join("nginx"));
        let found = directories
            .chain([PathBuf::from(PLACE)])
            .find(|program| program.is_absolute() && program.is_file());
        found.map(Self::at).transpose()
    }

    /// The program at this path.
    ///
    /// # Errors
    /// [`NginxError`].
    pub fn at(program: PathBuf) -> Result<Self, NginxError> {
        let output = Command::new(&program)
            .arg("-v")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| NginxError::Start {
                program: program.clone(),
                source,
            })?;
        match said::version(&String::from_utf8_lossy(&output.stderr)) {
            Some(version) => Ok(Self { program, version }),
            None => Err(NginxError::Version(program)),
        }
    }

    /// What it says of these files; nothing where it would start with them.
    ///
    /// It runs as the caller, and as root without any capability but that to read; it listens on loopback for as long as it reads.
    ///
    /// # Errors
    /// [`NginxError`].
    pub fn test(&self, files: &NodeFiles) -> Result<Vec<Complaint>, NginxError> {
        let directory = tempfile::Builder::new()
            .prefix("rolesmith-nginx-")
            .tempdir()?;
        let prefix = directory.path();
        let mut rewriter = Rewriter::new(
            prefix,
            files.paths().map(str::to_owned).collect(),
            self.version >= HTTP2_DIRECTIVE,
        );
        for file in &files.files {
            write(&below(prefix, &file.path), &rewriter.text(&file.text))?;
        }
        for path in rewriter.missing() {
            if !below(prefix, path).exists() {
                write(&below(prefix, path), "")?;
            }
        }
        let main = below(prefix, ETC).join("nginx.conf");
        let user = rustix::process::geteuid().is_root().then_some("root");
        write(&main, &rewriter.main(user))?;
        write(&rewriter.certificate(), &throw_away()?)?;
        borrow(&below(prefix, ETC))?;
        let output = self
            .command(prefix, &main)
            .output()
            .map_err(|source| NginxError::Start {
                program: self.program.clone(),
                source,
            })?;
        let text = String::from_utf8_lossy(&output.stderr);
        let mut complaints = said::complaints(&rewriter.restore(&text));
        if !output.status.success() && !complaints.iter().any(|one| one.level == Level::Error) {
            complaints.push(Complaint::unspecific(output.status, &text));
        }
        Ok(complaints)
    }

    fn command(&self, prefix: &Path, main: &Path) -> Command {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args([
                "--bounding-set=-all,+dac_read_search",
                "--inh-caps=-all",
                "--no-new-privs",
                "--",
            ]);
            command.arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        command
            .args(["-t", "-q", "-e", "stderr", "-p"])
            .arg(prefix)
            .arg("-c")
            .arg(main)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }
}

/// Where an absolute path is, below this directory.
fn below(prefix: &Path, path: &str) -> PathBuf {
    prefix.join(path.trim_start_matches('/'))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

/// What Debian's nginx.conf includes of the machine's own, which is not what is tested.
const NOT_LENT: [&str; 3] = ["conf.d", "modules-enabled", "sites-enabled"];

/// Lends the directory what Debian's nginx has beside its configuration, such as mime.types and proxy_params.
fn borrow(etc: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(ETC) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let there = etc.join(entry.file_name());
        let lent = !NOT_LENT.iter().any(|name| entry.file_name() == *name);
        if lent && !there.exists() {
            symlink(entry.path(), there)?;
        }
    }
    Ok(())
}

/// A certificate that nobody keeps, with its key.
fn throw_away() -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let parameters = CertificateParams::new(vec!["nginx.invalid".to_owned()])?;
    let certificate = parameters.self_signed(&key)?;
    Ok(key.serialize_pem() + &certificate.pem())
}
