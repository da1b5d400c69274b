//! Where package managers run: bubblewrap(1).
//!
//! They see a Debian tree for reading, the copy of the service, their own cache, /dev, /proc and an empty /tmp; of the machine's
//! processes and files nothing. The network is the machine's, since the registry is out there. They run as a user without any
//! privilege, and end with this program, however it ends.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::error::{ServiceError, io_error};
use super::registry::Registry;
use super::system::System;

/// Files of the machine that a sandbox shows, in place of empty ones of the tree: how names of hosts are found.
pub(super) const MOUNT_POINTS: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Certificates of authorities in the sandbox.
pub(super) const AUTHORITIES: &str = "/etc/rolesmith-authorities.pem";

/// The copy of the service in the sandbox: the same for every service, so that no path tells who built it.
pub(super) const SERVICE: &str = "/service";

/// Caches of package managers in the sandbox.
pub(super) const DOWNLOADS: &str = "/downloads";

/// Links from the root to below /usr that trees of merged systems lack.
const TOP: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// A place to run package managers in.
pub(super) struct Sandbox<'a> {
    /// The Debian tree.
    pub system: &'a System,
    /// How registries are reached.
    pub registry: &'a Registry,
    /// The copy of the service, to be changed.
    pub service: &'a Path,
    /// Kept between builds.
    pub downloads: &'a Path,
    /// For files that only the sandbox needs.
    pub scratch: &'a Path,
}

impl Sandbox<'_> {
    /// Runs Node.js with these arguments to its end; `files` of the machine are shown at the given paths, for reading.
    pub(super) fn node(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
        files: &[(&Path, &str)],
    ) -> Result<Output, ServiceError> {
        let authorities = self.scratch.join("authorities.pem");
        fs::write(&authorities, self.registry.authorities()?)
            .map_err(io_error("write", &authorities))?;
        let mut command = Command::new("bwrap");
        command.args([
            "--unshare-all",
            "--share-net",
            "--die-with-parent",
            "--new-session",
        ]);
        command.args(["--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"]);
        let root = &self.system.root;
        for part in ["usr", "etc"] {
            command
                .arg("--ro-bind")
                .arg(root.join(part))
                .arg(format!("/{part}"));
        }
        for part in TOP {
            let path = root.join(part);
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                command.arg("--ro-bind").arg(path).arg(format!("/{part}"));
            } else {
                command.args(["--symlink", &format!("usr/{part}"), &format!("/{part}")]);
            }
        }
        for path in MOUNT_POINTS {
            // Often a link to elsewhere, which the sandbox does not show.
            if let Ok(real) = fs::canonicalize(path) {
                command.arg("--ro-bind").arg(real).arg(path);
            }
        }
        command.arg("--ro-bind").arg(&authorities).arg(AUTHORITIES);
        for (from, to) in files {
            command.arg("--ro-bind").arg(from).arg(to);
        }
        command.args([
            "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/home",
        ]);
        command.arg("--bind").arg(self.service).arg(SERVICE);
        command.arg("--bind").arg(self.downloads).arg(DOWNLOADS);
        // Credentials go through a pipe: not to the disk, and not to an argument list.
        command.args(["--perms", "0600", "--ro-bind-data", "0", "/home/.npmrc"]);
        command
            .args(["--chdir", SERVICE, "/usr/bin/node"])
            .args(arguments);
        command.env_clear();
        // On proxies and registries the user's word counts, on everything else ours.
        command.envs(self.registry.variables());
        command
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", "/home")
            .env("LC_ALL", "C.UTF-8");
        for name in [
            "SSL_CERT_FILE",
            "NODE_EXTRA_CA_CERTS",
            "npm_config_cafile",
            "YARN_HTTPS_CA_FILE_PATH",
        ] {
            command.env(name, AUTHORITIES);
        }
        command.envs(variables.iter().copied());
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Result<Output, ServiceError> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| ServiceError::NoProgram {
            program: "bwrap",
            package: "bubblewrap",
            source,
        })?;
        if let Some(mut pipe) = child.stdin.take() {
            // A sandbox that could not be made reads nothing, and says why.
            let _ = pipe.write_all(self.registry.npmrc().as_bytes());
        }
        let output = child
            .wait_with_output()
            .map_err(io_error("wait for", Path::new("bwrap")))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && said.starts_with("bwrap: ") {
            return Err(ServiceError::Sandbox(said.trim().to_owned()));
        }
        Ok(output)
    }
}
