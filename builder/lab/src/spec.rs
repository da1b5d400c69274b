//! What a lab is made from. Everything is a value given by the caller; nothing is read from the environment.

use std::{collections::BTreeSet, ffi::OsString, fmt, net::Ipv4Addr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    error::{LabError, Result},
    outside::{self, Outside},
};

/// A whole fleet for one machine.
#[derive(Debug, Clone)]
pub struct LabSpec {
    /// Name of the fleet: lower-case letters, digits and hyphens, at most 32.
    pub name: String,
    /// The root tree below the nodes.
    pub tree: TreeSpec,
    /// The two networks.
    pub network: Network,
    /// The nodes.
    pub nodes: Vec<NodeSpec>,
    /// The machine outside the fleet, if there is to be one.
    pub outside: Option<Outside>,
    /// The fleet's repository, served to the nodes over HTTP; without one the nodes have nowhere to install from.
    pub repository: Option<Repository>,
    /// More names for every node's `/etc/hosts`. The repository's own name need not be here.
    pub hosts: Vec<Host>,
    /// The lab's own directory: state, disks, logs. Made if it is not there; emptied by [`crate::down`]. It must be on a file
    /// system that overlayfs can write to (ext4, xfs, btrfs, tmpfs).
    pub state_dir: PathBuf,
}

/// Which root tree machines stand on.
#[derive(Debug, Clone)]
pub struct TreeSpec {
    /// What for: it decides what is in the tree.
    pub purpose: Purpose,
    /// Debian's code name, `trixie` or `bookworm`.
    pub suite: String,
    /// Where trees are kept between labs; may be shared by many labs.
    pub cache_dir: PathBuf,
    /// Anything else that makes a tree another tree, such as the digest of the mirrored snapshot: nodes that are newer than the
    /// mirror cannot install from it.
    pub key_extra: Option<String>,
    /// What mmdebstrap is to install from, each a mirror's URI, a sources.list line or a file with such (mmdebstrap(1), MIRROR).
    /// Nothing: the host's own apt configuration decides.
    pub sources: Option<Vec<String>>,
}

/// A root tree with roles in it, as an image has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BakedTree {
    /// Names its bytes, such as their digest.
    pub key: String,
    /// The tree, a tar archive.
    pub archive: PathBuf,
}

/// What a root tree is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The fleet's nodes: what a provider's image has, and nothing of any role.
    Node,
    /// The machine outside the fleet, see [`crate::Outside`]: with all that it may ever run, since it has nowhere to install from.
    Outside,
}

/// The networks of the lab. Both exist in the lab's own namespace only.
#[derive(Debug, Clone)]
pub struct Network {
    /// The fleet's private network; its first address is the lab's bridge.
    pub private_prefix: Prefix,
    /// Stands in for the provider's public network; its first address is the lab's bridge, the nodes' gateway and where the
    /// repository is served. Every node has the same host part here as in the private network.
    pub public_prefix: Prefix,
    /// The nodes' interface in the private network.
    pub private_interface: String,
    /// The nodes' interface in the public network.
    pub public_interface: String,
}

/// One machine of the fleet.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// Host name.
    pub name: String,
    /// Address in the private network.
    pub address: Ipv4Addr,
    /// The node's roles, shown by status and otherwise unused.
    pub roles: Vec<String>,
    /// What the provider would hand over as user-data.
    pub user_data: String,
    /// What the provider would hand over as meta-data: YAML with `instance-id` and `local-hostname`.
    pub meta_data: String,
    /// Size of the machine's memory in bytes; nothing for no limit.
    pub memory_limit: Option<u64>,
    /// The tree that it stands on when it is new. Nothing: Debian's ([`LabSpec::tree`]), on which it installs everything itself.
    pub baked: Option<BakedTree>,
}

/// A directory that is served to the nodes as the fleet's repository.
#[derive(Debug, Clone)]
pub struct Repository {
    /// What is served.
    pub dir: PathBuf,
    /// The name in the repository's URL; every node's `/etc/hosts` gets it.
    pub host: String,
    /// The port in the repository's URL.
    pub port: u16,
    /// Program and first arguments of the server process; `--dir DIR --listen ADDRESS:PORT` is added. The program has to end up in
    /// [`crate::serve`].
    pub server: Vec<OsString>,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The address.
    pub address: Ipv4Addr,
    /// The name.
    pub name: String,
}

/// An IPv4 network, `10.77.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    network: u32,
    length: u8,
}

impl Prefix {
    /// Length of the prefix in bits, 8 to 29.
    pub fn length(self) -> u8 {
        self.length
    }

    /// The address with this host part; nothing when it is not a host's address in this network.
    pub fn host(self, part: u32) -> Option<Ipv4Addr> {
        let last = (1u32 << (32 - self.length)) - 1;
        (part > 0 && part < last).then(|| Ipv4Addr::from(self.network | part))
    }

    /// The host part of an address; nothing when it is not a host's address in this network.
    pub fn part(self, address: Ipv4Addr) -> Option<u32> {
        let part = u32::from(address) & !self.mask();
        (u32::from(address) & self.mask() == self.network && self.host(part).is_some())
            .then_some(part)
    }

    /// The first host address, which is the lab's own.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network | 1)
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - self.length)
    }

    fn overlaps(self, other: Prefix) -> bool {
        let mask = self.mask() & other.mask();
        self.network & mask == other.network & mask
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is not an IPv4 network like 10.77.0.0/24: {why}");
        let (address, length) = text.split_once('/').ok_or_else(|| wrong("there is no /"))?;
        let address: Ipv4Addr = address
            .parse()
            .map_err(|_| wrong("the address cannot be read"))?;
        let length: u8 = length
            .parse()
            .map_err(|_| wrong("the length cannot be read"))?;
        if !(8..=29).contains(&length) {
            return Err(wrong("the length must be 8 to 29"));
        }
        let prefix = Prefix {
            network: u32::from(address),
            length,
        };
        if prefix.network & !prefix.mask() != 0 {
            return Err(wrong("bits of the host part are set"));
        }
        Ok(prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.length)
    }
}

/// A label of a host name, short enough for what the lab derives from it.
fn is_label(name: &str, longest: usize) -> bool {
    !name.is_empty()
        && name.len() <= longest
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A name the kernel takes for an interface (`dev_valid_name`), and that is harmless in a file name.
fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl LabSpec {
    /// Checks what the rest relies on.
    ///
    /// # Errors
    /// [`LabError::Spec`] with the first contradiction found.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(LabError::Spec(why));
        if !is_label(&self.name, 32) {
            return wrong(format!("{:?} is no name for a fleet", self.name));
        }
        let network = &self.network;
        if network.private_prefix.overlaps(network.public_prefix) {
            return wrong(format!(
                "{} and {} overlap",
                network.private_prefix, network.public_prefix
            ));
        }
        for interface in [&network.private_interface, &network.public_interface] {
            if !is_interface(interface) || interface == "lo" {
                return wrong(format!("{interface:?} is no name for an interface"));
            }
        }
        if network.private_interface == network.public_interface {
            return wrong(format!(
                "{} would be in both networks",
                network.private_interface
            ));
        }
        let (mut names, mut addresses) = (
            BTreeSet::new(),
            BTreeSet::from([network.private_prefix.first()]),
        );
        if let Some(Outside { address, .. }) = &self.outside {
            if !addresses.insert(*address) || self.public_counterpart(*address).is_none() {
                return wrong(format!(
                    "{address} of the machine outside the fleet is the lab's own (the first of the network), or does not fit {} and {}",
                    network.private_prefix, network.public_prefix
                ));
            }
            // Its commands would be ambiguous.
            names.insert(outside::NAME);
        }
        for node in &self.nodes {
            if !is_label(&node.name, 63) {
                return wrong(format!("{:?} is no host name", node.name));
            }
            if !names.insert(node.name.as_str()) {
                let mut why = format!("there are two nodes called {}", node.name);
                if self.outside.is_some() && node.name == outside::NAME {
                    why = format!("{why}: the lab's own machine outside the fleet has this name");
                }
                return wrong(why);
            }
            if !addresses.insert(node.address) {
                return wrong(format!(
                    "{} of node {} is taken (the first address is the lab's own)",
                    node.address, node.name
                ));
            }
            if self.public_address(node).is_none() {
                let Network {
                    private_prefix,
                    public_prefix,
                    ..
                } = network;
                return wrong(format!(
                    "{} of node {} does not fit {private_prefix} and {public_prefix}",
                    node.address, node.name
                ));
            }
        }
        if self
            .repository
            .as_ref()
            .is_some_and(|repository| repository.server.is_empty())
        {
            return wrong("the repository's server program is not given".to_owned());
        }
        for path in [&self.state_dir, &self.tree.cache_dir] {
            let text = path.to_string_lossy();
            // overlayfs splits its options at these, and mount(8) offers no way round for all of them.
            if text.contains([',', ':', '\\', '\n', '"']) {
                return wrong(format!(
                    "{text} holds a comma, colon, backslash, quotation mark or line end; overlayfs cannot take it"
                ));
            }
            if !path.is_absolute() {
                return wrong(format!("{text} is not absolute"));
            }
        }
        Ok(())
    }

    /// The node's address in the public network: the host part of its private one.
    pub fn public_address(&self, node: &NodeSpec) -> Option<Ipv4Addr> {
        self.public_counterpart(node.address)
    }

    /// The address in the public network of a machine that has this one in the private network.
    pub(crate) fn public_counterpart(&self, private: Ipv4Addr) -> Option<Ipv4Addr> {
        self.network
            .public_prefix
            .host(self.network.private_prefix.part(private)?)
    }

    /// All names that a node's `/etc/hosts` gets from the lab.
    pub(crate) fn all_hosts(&self) -> Vec<Host> {
        let repository = self.repository.iter().map(|repository| Host {
            address: self.network.public_prefix.first(),
            name: repository.host.clone(),
        });
        let authority = self.outside.iter().filter_map(|outside| {
            Some(Host {
                address: self.public_counterpart(outside.address)?,
                name: outside.authority.as_ref()?.host.clone(),
            })
        });
        repository
            .chain(authority)
            .chain(self.hosts.iter().cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests;
