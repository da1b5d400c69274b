//! Debian trees with Node.js and a package manager of a suite.
//!
//! The packages are unpacked and not configured: no maintainer script runs, so making a tree needs neither root nor subordinate user
//! ids, and nothing that a package manager does needs what these scripts set up. mmdebstrap finds the mirror in this machine's apt
//! sources, and has apt check the archive's signature.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rolesmith_model::ids::Suite;

use super::cache::{Cache, touch};
use super::error::{ServiceError, io_error};
use super::sandbox::{AUTHORITIES, MOUNT_POINTS};
use super::source::digest_of;

/// Raised when what is done to a tree changes, so that trees made before are made anew.
const RECIPE: &str = "1";

/// Files that a tree needs and maintainer scripts would have made. Node.js asks who it runs as, and where hosts are looked up.
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "build:x:1000:1000::/home:/bin/false\n"),
    ("etc/group", "build:x:1000:\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
];

/// Of no use to a program, and a tenth of a tree.
const REMOVED: [&str; 6] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/include",
    "var/cache",
    "var/lib/apt/lists",
];

/// Debian's package managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Npm,
    Yarn,
}

/// A tree in the cache.
#[derive(Debug)]
pub(super) struct System {
    /// The root directory.
    pub root: PathBuf,
    /// The package manager in it.
    pub program: &'static str,
}

impl Program {
    fn packages(self) -> [&'static str; 2] {
        [
            "nodejs",
            match self {
                Self::Npm => "npm",
                Self::Yarn => "yarnpkg",
            },
        ]
    }

    /// Its main module. The links in /usr/bin are not always there: npm's is an alternative, which a maintainer script makes.
    fn path(self, suite: Suite) -> &'static str {
        match (self, suite) {
            (Self::Npm, _) => "/usr/share/nodejs/npm/bin/npm-cli.js",
            (Self::Yarn, Suite::Bookworm) => "/usr/share/nodejs/yarn/bin/yarn.js",
            (Self::Yarn, Suite::Trixie) => "/usr/share/nodejs/@yarnpkg/cli/bundles/yarn.js",
        }
    }

    /// What says which tree it is: recipe, architecture, suite and packages.
    pub(super) fn key(self, suite: Suite) -> String {
        let mut parts = vec![
            RECIPE,
            std::env::consts::ARCH,
            suite.codename(),
            self.path(suite),
        ];
        parts.extend(self.packages());
        digest_of(parts.iter().map(|part| part.as_bytes()))
    }
}

/// The tree for a suite and a package manager, made where there is none: half a minute, 300 to 500 MB. The caller holds the cache's
/// lock.
pub(super) fn ensure(
    program: Program,
    suite: Suite,
    cache: &Cache,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<System, ServiceError> {
    let name = format!(
        "{suite}-{}-{}",
        program.packages()[1],
        &program.key(suite)[..16]
    );
    let directory = cache.systems().join(name);
    let system = System {
        root: directory.join("root"),
        program: program.path(suite),
    };
    if directory.is_dir() {
        touch(&directory);
        return Ok(system);
    }
    progress(&format!(
        "unpacking Debian {suite} with {} (once)",
        program.packages()[1]
    ));
    let scratch = cache.scratch()?;
    let root = scratch.path().join("root");
    unpack(program, suite, &root, scratch.path())?;
    if !root.join(&system.program[1..]).is_file() {
        return Err(ServiceError::System {
            suite: suite.codename(),
            packages: program.packages().join(" and "),
            said: format!("{} is missing in it", system.program),
        });
    }
    finish(&root)?;
    // What the name promises must be on the disk before the name is.
    let synced = fs::File::open(&root).and_then(|root| Ok(rustix::fs::syncfs(root)?));
    synced.map_err(io_error("write", &root))?;
    let _ = fs::remove_dir_all(scratch.path().join("tmp"));
    // Renamed away, so there is nothing for the guard to remove.
    let whole = scratch.keep();
    fs::rename(&whole, &directory).map_err(io_error("rename", &whole))?;
    Ok(system)
}

/// Runs mmdebstrap in a pid namespace, so that apt and tar end with this program, however it ends.
fn unpack(program: Program, suite: Suite, root: &Path, scratch: &Path) -> Result<(), ServiceError> {
    let temporary = scratch.join("tmp");
    fs::create_dir(&temporary).map_err(io_error("make the directory", &temporary))?;
    let mut command = Command::new("bwrap");
    command.env_clear().stdin(Stdio::null());
    for name in [
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
    ] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LC_ALL", "C.UTF-8");
    command.env("TMPDIR", &temporary).env("HOME", &temporary);
    command.args([
        "--dev-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--unshare-pid",
        "--die-with-parent",
        "--new-session",
    ]);
    // `extract` runs no script, which is what the check warns of.
    command.args([
        "mmdebstrap",
        "--quiet",
        "--mode=chrootless",
        "--skip=check/chrootless",
        "--variant=extract",
    ]);
    command.arg(format!("--include={}", program.packages().join(",")));
    command.arg(suite.codename()).arg(root);
    let output = command.output().map_err(|source| ServiceError::NoProgram {
        program: "bwrap",
        package: "bubblewrap",
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.starts_with("bwrap: execvp mmdebstrap") {
        return Err(ServiceError::NoProgram {
            program: "mmdebstrap",
            package: "mmdebstrap",
            source: std::io::ErrorKind::NotFound.into(),
        });
    }
    if said.starts_with("bwrap: ") {
        return Err(ServiceError::Sandbox(said));
    }
    Err(ServiceError::System {
        suite: suite.codename(),
        packages: program.packages().join(" and "),
        said: super::install::tail(&said),
    })
}

fn finish(root: &Path) -> Result<(), ServiceError> {
    for path in REMOVED {
        let path = root.join(path);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
    }
    let empty = MOUNT_POINTS
        .iter()
        .chain([&AUTHORITIES])
        .map(|path| (&path[1..], ""));
    for (path, text) in FILES.into_iter().chain(empty) {
        let path = root.join(path);
        fs::write(&path, text).map_err(io_error("write", &path))?;
    }
    Ok(())
}
