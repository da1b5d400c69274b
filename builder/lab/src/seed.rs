//! What a node finds on its disk at the first boot: the seed, and what makes it this machine.
//!
//! Written straight into the writable layer, before the node's file system is mounted.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    error::{LabError, Result},
    network::{NETWORKD_DROP_IN, network_config},
    spec::{Host, LabSpec, NodeSpec},
};

/// A node's disk: the directories of its overlay, and its files.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    directory: PathBuf,
}

impl Disk {
    /// The disk kept in this directory.
    pub(crate) fn at(directory: impl Into<PathBuf>) -> Disk {
        Disk {
            directory: directory.into(),
        }
    }

    /// All of it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the node has written: overlayfs's `upperdir`.
    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// overlayfs's `workdir`.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Where the node's root is mounted, in its own mount namespace only.
    pub(crate) fn merged(&self) -> PathBuf {
        self.directory.join("merged")
    }

    /// What the node wrote to its console, and systemd-nspawn's own words.
    pub(crate) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// Makes what is missing of the disk and writes the seed. `tree` is the layer below.
    pub(crate) fn write(&self, spec: &LabSpec, node: &NodeSpec, tree: &Path) -> Result<()> {
        for directory in [self.work(), self.merged()] {
            fs::create_dir_all(&directory).map_err(LabError::file("make", directory))?;
        }
        let network = &spec.network;
        let public = spec.public_address(node).ok_or_else(|| {
            LabError::Spec(format!(
                "{} of node {} has no public counterpart",
                node.address, node.name
            ))
        })?;
        // root's alone, as a provider's metadata service is to be (user-data carries secrets).
        let seed = Path::new("var/lib/cloud/seed/nocloud");
        self.put(&seed.join("user-data"), &node.user_data, 0o600)?;
        self.put(&seed.join("meta-data"), &node.meta_data, 0o600)?;
        self.put(
            &seed.join("network-config"),
            &network_config(network, node.address, public),
            0o600,
        )?;
        for interface in [&network.private_interface, &network.public_interface] {
            let drop_in =
                format!("etc/systemd/network/10-cloud-init-{interface}.network.d/50-lab.conf");
            self.put(Path::new(&drop_in), NETWORKD_DROP_IN, 0o644)?;
        }
        let authority = spec
            .outside
            .as_ref()
            .and_then(|outside| outside.authority.as_ref());
        if let Some(authority) = authority {
            self.put(Path::new(&authority.ca_path), &authority.ca, 0o644)?;
        }
        self.write_hosts(&spec.all_hosts(), tree)
    }

    /// Appends the lab's names to `/etc/hosts`, and to the template from which cloud-init writes that file when a seed says
    /// `manage_etc_hosts: true`. A disk that has a hosts file already keeps it.
    fn write_hosts(&self, hosts: &[Host], tree: &Path) -> Result<()> {
        let lines: String = hosts
            .iter()
            .map(|host| format!("{}\t{}\n", host.address, host.name))
            .collect();
        for file in ["etc/hosts", "etc/cloud/templates/hosts.debian.tmpl"] {
            if self.upper().join(file).exists() {
                continue;
            }
            let below = tree.join(file);
            let text = match fs::read_to_string(&below) {
                Ok(text) => text,
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && file == "etc/hosts" =>
                {
                    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned()
                }
                Err(error) => return Err(LabError::file("read", below)(error)),
            };
            self.put(Path::new(file), &format!("{text}{lines}"), 0o644)?;
        }
        Ok(())
    }

    fn put(&self, file: &Path, text: &str, mode: u32) -> Result<()> {
        let path = self.upper().join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(LabError::file("make", parent))?;
        }
        fs::write(&path, text).map_err(LabError::file("write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(LabError::file("set the mode of", path))
    }
}
