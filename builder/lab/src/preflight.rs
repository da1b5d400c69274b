//! What a machine needs before a lab can run on it.

use std::{fmt, fs, path::Path};

use rustix::fs::{Access, access};

use crate::{cgroup::Hierarchies, command::command};

/// Everything the machine lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// One entry per thing, in the order in which they were looked for.
    pub items: Vec<MissingItem>,
}

/// One thing the machine lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingItem {
    /// What is missing.
    pub what: String,
    /// What the lab does with it, or what can be done about it.
    pub why: String,
    /// The Debian package that brings it, when one does.
    pub package: Option<&'static str>,
}

impl Missing {
    /// The command that installs what packages can bring; nothing when no package helps.
    pub fn apt_command(&self) -> Option<String> {
        let mut packages: Vec<_> = self.items.iter().filter_map(|item| item.package).collect();
        packages.sort_unstable();
        packages.dedup();
        (!packages.is_empty()).then(|| format!("sudo apt-get install {}", packages.join(" ")))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this machine cannot run the lab yet:")?;
        for item in &self.items {
            write!(f, "\n  {}: {}", item.what, item.why)?;
        }
        match self.apt_command() {
            Some(line) => write!(f, "\nto install what is missing: {line}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Missing {}

/// Programs, the package that has each on Debian and Ubuntu, and its use here.
const PROGRAMS: [(&str, &str, &str); 10] = [
    ("mmdebstrap", "mmdebstrap", "it makes the nodes' root trees"),
    ("systemd-nspawn", "systemd-container", "it boots the nodes"),
    ("ip", "iproute2", "it makes the lab's network"),
    ("nft", "nftables", "it cuts nodes off from each other"),
    ("nsenter", "util-linux", "it goes into nodes"),
    ("unshare", "util-linux", "it keeps mounts apart"),
    ("setpriv", "util-linux", "it ends half-built trees"),
    (
        "setsid",
        "util-linux",
        "it detaches the nodes from the terminal",
    ),
    ("mount", "mount", "it mounts the nodes' disks"),
    ("chroot", "coreutils", "it prepares the nodes' root trees"),
];

/// Debian's archive keys: the first name is trixie's and later, the second bookworm's and Ubuntu's.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
];

/// Looks for everything the lab needs on this machine. Changes nothing, apart from letting the kernel load overlayfs.
///
/// # Errors
/// [`Missing`] with all that was not found.
pub fn preflight() -> Result<(), Missing> {
    let mut items = Vec::new();
    let mut lack = |what: &str, why: &str, package| {
        items.push(MissingItem {
            what: what.to_owned(),
            why: why.to_owned(),
            package,
        });
    };
    if !rustix::process::geteuid().is_root() {
        lack(
            "root",
            "namespaces, mounts and control groups are root's to make; run it with sudo",
            None,
        );
    }
    for (program, package, why) in PROGRAMS {
        if !on_path(program) {
            lack(program, why, Some(package));
        }
    }
    if !KEYRINGS.iter().any(|path| Path::new(path).exists()) {
        lack(
            "Debian's archive keys",
            "the root trees' packages are checked with them",
            Some("debian-archive-keyring"),
        );
    }
    if !has_overlayfs() {
        lack(
            "overlayfs",
            "nodes share one root tree through it; this kernel offers none (inside a container it is the host's to load)",
            None,
        );
    }
    match Hierarchies::detect() {
        Ok(hierarchies) if !hierarchies.usable() => lack(
            "control groups",
            "neither cgroup v2 nor the v1 hierarchy name=systemd is mounted below /sys/fs/cgroup (on WSL, enable systemd in /etc/wsl.conf)",
            None,
        ),
        Ok(hierarchies) => {
            // The kernel says EROFS where a container manager mounted them for reading only.
            let root = hierarchies.group("");
            let directories = root.directories();
            for directory in directories.filter(|d| access(*d, Access::WRITE_OK).is_err()) {
                lack(
                    "writable control groups",
                    &format!(
                        "{} can only be read; every node gets a group of its own",
                        directory.display()
                    ),
                    None,
                );
            }
        }
        Err(error) => lack("control groups", &error.to_string(), None),
    }
    if items.is_empty() {
        Ok(())
    } else {
        Err(Missing { items })
    }
}

fn on_path(program: &str) -> bool {
    [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    .iter()
    .any(|directory| Path::new(directory).join(program).exists())
}

fn has_overlayfs() -> bool {
    let listed = || {
        fs::read_to_string("/proc/filesystems").is_ok_and(|list| {
            list.lines()
                .any(|line| line.split_whitespace().last() == Some("overlay"))
        })
    };
    // A module is listed once it is loaded; modprobe(8) may be absent, and then there are no modules either.
    listed()
        || (command("modprobe")
            .args(["--quiet", "overlay"])
            .status()
            .is_ok_and(|s| s.success())
            && listed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_brings_all_that_packages_can_bring() {
        let item = |what: &str, package| MissingItem {
            what: what.to_owned(),
            why: "needed".to_owned(),
            package,
        };
        let missing = Missing {
            items: vec![
                item("root", None),
                item("nsenter", Some("util-linux")),
                item("unshare", Some("util-linux")),
                item("ip", Some("iproute2")),
            ],
        };
        assert_eq!(
            missing.apt_command().as_deref(),
            Some("sudo apt-get install iproute2 util-linux")
        );
        assert!(
            missing
                .to_string()
                .ends_with("to install what is missing: sudo apt-get install iproute2 util-linux")
        );
        assert_eq!(
            Missing {
                items: vec![item("root", None)]
            }
            .apt_command(),
            None
        );
    }
}
