//! The lab's network namespace: two bridges, and the nodes' cables into them.
//!
//! Everything lives in one named namespace, so removing that one name removes every interface, route and rule with it.

use std::{
    ffi::OsString,
    fs,
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    command::{command, ended, run},
    error::{LabError, Result},
    spec::Network,
};

/// The bridges' names inside the namespace.
const PRIVATE: &str = "private";
const PUBLIC: &str = "public";

/// Where ip-netns(8) keeps the names.
pub(crate) const NAMESPACES: &str = "/run/netns";

/// A named network namespace, as ip-netns(8) keeps them.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    name: String,
}

/// The lab's end of a node's two cables: interface names in the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Plugged into the private bridge.
    pub(crate) private: String,
    /// Plugged into the public bridge.
    pub(crate) public: String,
}

impl Ports {
    /// The ports of the node with this number.
    pub(crate) fn of(index: u32) -> Ports {
        Ports {
            private: format!("priv{index}"),
            public: format!("pub{index}"),
        }
    }
}

impl Namespace {
    /// The namespace of that name, whether it exists or not.
    pub(crate) fn named(name: &str) -> Namespace {
        Namespace {
            name: name.to_owned(),
        }
    }

    /// What setns(2) and `nsenter --net=` take.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// True when the namespace is there. A file of that name may be left by a program killed between making the file and binding
    /// the namespace onto it; only the bound one is of the nsfs type.
    fn exists(&self) -> bool {
        const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
        rustix::fs::statfs(self.path()).is_ok_and(|s| s.f_type == NSFS_MAGIC)
    }

    /// Makes the namespace and its bridges, or completes what is there of them.
    pub(crate) fn create(&self, network: &Network) -> Result<()> {
        if !self.exists() {
            self.delete()?;
            run(command("ip").args(["netns", "add", &self.name]))?;
        }
        let mut script = String::from("link set lo up\n");
        let bridges = [
            (PRIVATE, network.private_prefix, 1),
            (PUBLIC, network.public_prefix, 2),
        ];
        let there = self.interfaces()?;
        for (bridge, prefix, number) in bridges {
            let address = prefix.first();
            if !there.iter().any(|name| name == bridge) {
                script += &format!("link add {bridge} type bridge\n");
            }
            // Without a fixed address a bridge takes that of a port, which changes as ports come and go, and connections stall.
            // 02: locally administered; the rest is the bridge's IPv4 address, unique within the lab.
            let [a, b, c, d] = address.octets();
            script += &format!(
                "link set {bridge} address 02:{number:02x}:{a:02x}:{b:02x}:{c:02x}:{d:02x}\n"
            );
            script += &format!(
                "address replace {address}/{} dev {bridge}\n",
                prefix.length()
            );
            script += &format!("link set {bridge} up\n");
        }
        // There is no outside. The gateway says so at once (ICMP "unreachable"), so that nothing in a node waits for a time-out.
        script += "route replace unreachable default\n";
        self.batch(&script)?;
        let mut inside = OsString::from("--net=");
        inside.push(self.path());
        run(command("nsenter").arg(inside).args([
            "sh",
            "-c",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
        ]))
        .map(drop)
    }

    /// Plugs a node's cables in. They appear when systemd-nspawn has made the node's own namespace.
    pub(crate) fn plug(&self, ports: &Ports) -> Result<()> {
        let Ports { private, public } = ports;
        self.batch(&format!(
            "link set {private} master {PRIVATE}\nlink set {public} master {PUBLIC}\nlink set {private} up\nlink set {public} up\n"
        ))
    }

    /// Removes the cables of a node that ended. The kernel does so too, but some time after the node's last process has gone, and
    /// a node booted again at once would find its names taken.
    pub(crate) fn unplug(&self, ports: &Ports) -> Result<()> {
        let there = self.interfaces()?;
        let mut script = String::new();
        for port in [&ports.private, &ports.public]
            .into_iter()
            .filter(|port| there.contains(port))
        {
            script += &format!("link delete {port}\n");
        }
        match self.batch(&script) {
            // The kernel was quicker.
            Err(_)
                if self
                    .interfaces()?
                    .iter()
                    .all(|name| *name != ports.private && *name != ports.public) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Has nft(8) read this script inside the namespace: all of it takes effect at one moment, or nothing of it.
    pub(crate) fn filter(&self, script: &str) -> Result<()> {
        let mut inside = OsString::from("--net=");
        inside.push(self.path());
        let mut nft = command("nsenter");
        nft.arg(inside).args(["nft", "-f", "-"]);
        feed(nft, "nft -f -", script)
    }

    /// Removes the namespace's name; the kernel removes the rest when the last process in it has ended.
    pub(crate) fn delete(&self) -> Result<()> {
        if self.exists() {
            run(command("ip").args(["netns", "delete", &self.name]))?;
        }
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LabError::file("remove", self.path())(error))
            }
            _ => Ok(()),
        }
    }

    fn interfaces(&self) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Link {
            ifname: String,
        }
        let text = run(command("ip").args(["-n", &self.name, "-json", "link", "show"]))?;
        let links: Vec<Link> = serde_json::from_str(&text).map_err(|error| LabError::State {
            path: self.path(),
            reason: format!("ip link: {error}"),
        })?;
        Ok(links.into_iter().map(|link| link.ifname).collect())
    }

    /// Several ip(8) commands, one a line, in one process; the first that fails ends it.
    fn batch(&self, script: &str) -> Result<()> {
        if script.is_empty() {
            return Ok(());
        }
        let mut ip = command("ip");
        ip.args(["-n", &self.name, "-batch", "-"]);
        feed(ip, &format!("ip -n {} -batch -", self.name), script)
    }
}

/// Runs a command that reads what it is to do from its standard input; `name` is what an error calls it.
fn feed(mut command: Command, name: &str, script: &str) -> Result<()> {
    let start = |source| LabError::Start {
        program: name.to_owned(),
        source,
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut input) = child.stdin.take() {
        // When it has ended early its own words say more than this would.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Failed {
        command: name.to_owned(),
        status: ended(output.status),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// cloud-init's network configuration, version 2, of a node with a static address on each interface. Only keys that both 22.4
/// and 25.1 render without a complaint: `gateway4` is deprecated, `to: default` is not known to 22.4's networkd renderer.
pub(crate) fn network_config(network: &Network, private: Ipv4Addr, public: Ipv4Addr) -> String {
    let Network {
        private_prefix,
        public_prefix,
        private_interface,
        public_interface,
    } = network;
    format!(
        "version: 2\n\
         ethernets:\n\
         \x20 {public_interface}:\n\
         \x20   addresses: [{public}/{}]\n\
         \x20   routes: [{{to: 0.0.0.0/0, via: {}}}]\n\
         \x20 {private_interface}:\n\
         \x20   addresses: [{private}/{}]\n",
        public_prefix.length(),
        public_prefix.first(),
        private_prefix.length(),
    )
}

/// systemd-networkd's drop-in for each interface of a node.
///
/// There is no IPv6 router here and no second owner of an address: waiting for either keeps the network "configuring", and with it
/// the boot, for 12 s and 1 s. A cable that is cut must look like a lost switch, which the kernel does not report.
pub(crate) const NETWORKD_DROP_IN: &str =
    "[Network]\nIPv6AcceptRA=no\nIPv6DuplicateAddressDetection=0\nIgnoreCarrierLoss=yes\n";
