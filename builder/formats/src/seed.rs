//! A node's seed: what makes a machine this node of this fleet.
//!
//! The same value becomes cloud-config for a fresh machine ([`crate::cloud_config`]) and a list of changes for an existing
//! one (`rolesmith enroll`).

use std::collections::BTreeMap;

use rolesmith_model::{
    facts::{IDENTITY_FILE, Identity, KEY_FILE, Origin, SECRETS_DIR},
    fleet::Fleet,
    fleet_file::Upstream,
    ids::Suite,
    plan::{NodePlan, Plan},
};

use crate::keyring;

/// A file of the seed.
#[derive(Clone, PartialEq, Eq)]
pub struct SeedFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// `user:group`.
    pub owner: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Must not be shown, logged or put on a command line.
    pub secret: bool,
}

impl std::fmt::Debug for SeedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A secret's bytes stay out of panics and logs.
        write!(
            f,
            "SeedFile({} {:04o}, {} bytes)",
            self.path,
            self.mode,
            self.bytes.len()
        )
    }
}

/// What makes a machine a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The fleet's name.
    pub fleet: String,
    /// The node's name, its host name.
    pub node: String,
    /// The node's name in the fleet's domain.
    pub fqdn: String,
    /// Debian release it has to run.
    pub suite: Suite,
    /// Counts the machines that had this name; a part of the instance id.
    pub incarnation: u64,
    /// Port of its sshd.
    pub ssh_port: u16,
    /// Files, in the order in which they are written.
    pub files: Vec<SeedFile>,
    /// Units of Debian's packages that a fresh machine masks before they are installed.
    pub masked_units: Vec<String>,
    /// Answers to what Debian's packages ask when they are configured, given on a fresh machine before that.
    pub debconf: Vec<String>,
    /// Packages to install.
    pub packages: Vec<String>,
    /// Lines of authorized_keys.
    pub admin_ssh_keys: Vec<String>,
}

/// The private half of a node's identity, and the secrets that its roles use.
#[derive(Clone)]
pub struct NodeSecrets {
    /// Counts the machines that had this name.
    pub incarnation: u64,
    /// Private key (PEM, PKCS #8).
    pub key_pem: String,
    /// Secrets by name.
    pub values: BTreeMap<String, String>,
}

impl std::fmt::Debug for NodeSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "NodeSecrets(incarnation {}, {} values)",
            self.incarnation,
            self.values.len()
        )
    }
}

/// Settings that make apt fit for machines that nobody watches: it waits for locks, never asks and keeps local changes.
pub const APT_CONF: &str = "// Written by rolesmith: nobody watches this machine's apt.\n\
DPkg::Lock::Timeout \"300\";\n\
DPkg::Options { \"--force-confdef\"; \"--force-confold\"; };\n\
APT::Install-Recommends \"false\";\n\
Acquire::Retries \"3\";\n";

/// Where [`APT_CONF`] stands. The role base ships the same bytes at the same path.
pub const APT_CONF_PATH: &str = "/etc/apt/apt.conf.d/60rolesmith";

impl Seed {
    /// Makes the seed of `node`.
    ///
    /// # Panics
    /// Never: an identity has a JSON form.
    #[must_use]
    pub fn new(
        plan: &Plan,
        node: &NodePlan,
        keyring_armored: &str,
        secrets: &NodeSecrets,
        origin: Origin,
    ) -> Self {
        let fleet = &plan.fleet;
        let identity = Identity {
            fleet: fleet.name.to_string(),
            node: node.name.to_string(),
            incarnation: secrets.incarnation,
            origin,
        };
        let mut identity =
            serde_json::to_vec_pretty(&identity).expect("an identity has a JSON form");
        identity.push(b'\n');
        let mut files = vec![
            public(keyring::keyring_path(fleet), keyring_armored),
            public(keyring::sources_path(fleet), &keyring::sources(fleet)),
            public(APT_CONF_PATH.into(), APT_CONF),
        ];
        if fleet.repository.upstream == Upstream::Mirror && origin == Origin::Seed {
            files.extend(no_other_sources(fleet));
        }
        for (name, value) in &secrets.values {
            files.push(secret(format!("{SECRETS_DIR}/{name}"), value.as_bytes()));
        }
        files.push(secret(KEY_FILE.into(), secrets.key_pem.as_bytes()));
        // Last: whoever finds an identity finds everything that belongs to it.
        files.push(SeedFile {
            path: IDENTITY_FILE.into(),
            mode: 0o644,
            owner: "root:root",
            bytes: identity,
            secret: false,
        });
        let machine = &fleet.nodes[node.name.as_str()];
        Self {
            fleet: fleet.name.to_string(),
            node: node.name.to_string(),
            fqdn: format!("{}.{}", node.name, fleet.domain),
            suite: fleet.suite,
            incarnation: secrets.incarnation,
            ssh_port: machine.ssh_port,
            files,
            masked_units: node.masked_units.clone(),
            debconf: node.debconf.clone(),
            packages: node.packages.iter().map(ToString::to_string).collect(),
            admin_ssh_keys: fleet.network.admin_ssh_keys.clone(),
        }
    }

    /// Names this machine among all that had the node's name; cloud-init does its work once for each.
    #[must_use]
    pub fn instance_id(&self) -> String {
        format!("{}-{}-{}", self.fleet, self.node, self.incarnation)
    }
}

fn public(path: String, text: &str) -> SeedFile {
    SeedFile {
        path,
        mode: 0o644,
        owner: "root:root",
        bytes: text.as_bytes().to_vec(),
        secret: false,
    }
}

fn secret(path: String, bytes: &[u8]) -> SeedFile {
    SeedFile {
        path,
        mode: 0o600,
        owner: "root:root",
        bytes: bytes.to_vec(),
        secret: true,
    }
}

/// Debian's packages come from the fleet's repository; the image's own sources would be asked in vain.
fn no_other_sources(fleet: &Fleet) -> Vec<SeedFile> {
    let text = format!(
        "# Debian's packages come from the repository in {}.\n",
        keyring::sources_path(fleet)
    );
    [
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d/debian.sources",
    ]
    .into_iter()
    .map(|path| public(path.into(), &text))
    .collect()
}
