//! What a machine is and does, as `probe.sh` tells it.

use std::{collections::BTreeMap, net::IpAddr};

use rolesmith_model::facts::Identity;

/// The program that a machine runs to be looked at: POSIX sh, for `sh -s`. It changes nothing.
pub const SCRIPT: &str = include_str!("probe.sh");

/// Why a machine's answer is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Something else answered, or the connection broke.
    #[error("the machine's answer is incomplete; the connection may have broken")]
    Incomplete,
    /// Not root, so that half of it would not be seen.
    #[error(
        "the login is not root: connect as root, or with --sudo as a user whom sudo asks for no password"
    )]
    NotRoot,
    /// A line that has to be there is not, or says something else.
    #[error("the machine says nothing usable about {0}; is it Debian?")]
    Missing(&'static str),
}

/// A port that something listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// TCP; otherwise UDP.
    pub tcp: bool,
    /// The address; None for all of them.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The program, empty when the kernel itself listens.
    pub program: String,
}

impl Listener {
    /// Whether other machines can reach it, a firewall aside.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.address.is_none_or(|address| !address.is_loopback())
    }
}

/// A PostgreSQL cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Major version and name, such as `17/main`.
    pub name: String,
    /// The port that it is configured for, running or not.
    pub port: u16,
    /// Whether it runs.
    pub online: bool,
    /// Databases that somebody made in it.
    pub databases: u32,
    /// Its data directory.
    pub directory: String,
}

/// An account with a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its numeric id.
    pub uid: u32,
    /// Whether it has a password.
    pub password: bool,
    /// Whether it has an authorised ssh key.
    pub keys: bool,
}

/// What sshd would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshServer {
    /// Its ports; empty when there is no OpenSSH server.
    pub ports: Vec<u16>,
    /// Whether it takes passwords, in one way or the other.
    pub passwords: bool,
    /// Whether root may log in by password.
    pub root_passwords: bool,
    /// Whether its configuration includes /etc/ssh/sshd_config.d.
    pub includes: bool,
    /// AllowUsers and AllowGroups, as written; empty when everybody may.
    pub allowed: Vec<String>,
}

/// What stands in the identity file of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// Nothing: it belongs to no fleet.
    No,
    /// This.
    As(Identity),
    /// Something that is no identity.
    Unreadable,
}

/// A machine as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `ID` of os-release(5).
    pub distribution: String,
    /// Its code name; empty for testing and unstable.
    pub suite: String,
    /// dpkg's architecture.
    pub architecture: String,
    /// Whether systemd is the init that runs.
    pub systemd: bool,
    /// Its host name, without a domain.
    pub hostname: String,
    /// Its clock, Unix seconds.
    pub time: u64,
    /// Whether the clock follows a time server; None when it does not say.
    pub synchronised: Option<bool>,
    /// Memory in MiB.
    pub memory: u64,
    /// Whether it routes IPv4 packets.
    pub forwarding: bool,
    /// Who logged in.
    pub login: String,
    /// MiB free, by mount point; each file system once.
    pub free: BTreeMap<String, u64>,
    /// Interfaces and their addresses.
    pub addresses: Vec<(String, IpAddr)>,
    /// Process that holds dpkg's lock.
    pub dpkg_busy: Option<u32>,
    /// What `dpkg --audit` finds, by line.
    pub dpkg_broken: Vec<String>,
    /// Installed packages.
    pub packages: Vec<String>,
    /// Active units of the kinds service, socket and timer.
    pub active: Vec<String>,
    /// Unit files of these kinds with their state, such as `enabled` or `masked`.
    pub unit_files: BTreeMap<String, String>,
    /// Its ssh server.
    pub ssh: SshServer,
    /// Accounts with a shell.
    pub accounts: Vec<Account>,
    /// What listens.
    pub listeners: Vec<Listener>,
    /// PostgreSQL clusters.
    pub clusters: Vec<Cluster>,
    /// What nginx listens on: file, and the directive's parameters.
    pub nginx: Vec<(String, String)>,
    /// Whether postfix has a configuration that no fleet gave it.
    pub own_postfix: bool,
    /// Whether ufw is active.
    pub ufw: bool,
    /// Rules of iptables, without `-A`.
    pub rules: Vec<String>,
    /// Chains with the policy DROP.
    pub drops: Vec<String>,
    /// Whether nftables has an input hook of its own.
    pub nftables: bool,
    /// Traces of configuration management.
    pub managers: Vec<String>,
    /// Which fleet it belongs to.
    pub enrolled: Enrolled,
    /// apt's sources: file and line, and the repository's URL.
    pub sources: Vec<(String, String)>,
}

impl Probe {
    /// Reads what [`SCRIPT`] wrote. Text before it (a login shell's greeting) is skipped.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn parse(text: &str) -> Result<Self, ProbeError> {
        let sections = sections(text).ok_or(ProbeError::Incomplete)?;
        if sections.contains_key("not-root") {
            return Err(ProbeError::NotRoot);
        }
        let lines = |name: &str| sections.get(name).map_or(&[][..], Vec::as_slice);
        let os = |key: &'static str| {
            lines("os")
                .iter()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
                .filter(|value| !value.is_empty())
        };
        let need = |key: &'static str| os(key).ok_or(ProbeError::Missing(key));
        let number = |key: &'static str| {
            need(key)?
                .parse::<u64>()
                .map_err(|_| ProbeError::Missing(key))
        };
        let (active, unit_files) = units(lines("units"));
        Ok(Self {
            distribution: need("id")?.to_owned(),
            suite: os("suite").unwrap_or_default().to_owned(),
            architecture: need("architecture")?.to_owned(),
            systemd: os("systemd") == Some("yes"),
            hostname: host_label(need("hostname")?).to_owned(),
            time: number("time")?,
            synchronised: os("synchronised").map(|value| value == "yes"),
            memory: number("memory")? / 1024,
            forwarding: os("forwarding") == Some("1"),
            login: need("login")?.to_owned(),
            free: lines("disks")
                .iter()
                .filter_map(|line| disk(line))
                .collect(),
            addresses: lines("addresses")
                .iter()
                .filter_map(|line| address(line))
                .collect(),
            dpkg_busy: lines("dpkg-lock").iter().find_map(|line| line.parse().ok()),
            dpkg_broken: owned(lines("dpkg-audit")),
            packages: lines("packages")
                .iter()
                .filter_map(|line| installed(line))
                .collect(),
            active,
            unit_files,
            ssh: ssh_server(lines("sshd")),
            accounts: lines("accounts")
                .iter()
                .filter_map(|line| account(line))
                .collect(),
            listeners: listeners(lines("tcp"), lines("udp")),
            clusters: lines("clusters")
                .iter()
                .filter_map(|line| cluster(line))
                .collect(),
            nginx: pairs(lines("nginx")),
            own_postfix: lines("mail").contains(&"postfix"),
            ufw: lines("filters").contains(&"ufw active"),
            rules: after(lines("filters"), "rule "),
            drops: after(lines("filters"), "drop "),
            nftables: lines("filters").contains(&"nft input"),
            managers: owned(lines("managers")),
            enrolled: enrolled(lines("identity")),
            sources: pairs(lines("sources")),
        })
    }

    /// Whether a unit is active.
    #[must_use]
    pub fn is_active(&self, unit: &str) -> bool {
        self.active.iter().any(|active| active == unit)
    }

    /// Whether a package is installed.
    #[must_use]
    pub fn has(&self, package: &str) -> bool {
        self.packages.iter().any(|name| name == package)
    }
}

/// The sections by name; None unless the answer is whole.
fn sections(text: &str) -> Option<BTreeMap<&str, Vec<&str>>> {
    let mut sections = BTreeMap::<&str, Vec<&str>>::new();
    let mut name = None;
    for line in text.lines().skip_while(|line| *line != "== begin") {
        if let Some(begun) = line.strip_prefix("== ") {
            sections.entry(begun).or_default();
            name = Some(begun);
        } else if let (Some(name), Some(body)) = (name, line.strip_prefix(' ')) {
            sections.entry(name).or_default().push(body);
        }
    }
    sections.contains_key("end").then_some(sections)
}

fn host_label(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn after(lines: &[&str], prefix: &str) -> Vec<String> {
    let bodies = lines.iter().filter_map(|line| line.strip_prefix(prefix));
    bodies.map(ToOwned::to_owned).collect()
}

/// Lines of two words or more: the first, and the rest.
fn pairs(lines: &[&str]) -> Vec<(String, String)> {
    let split = lines.iter().filter_map(|line| line.split_once(' '));
    split
        .map(|(first, rest)| (first.to_owned(), rest.to_owned()))
        .collect()
}

/// `/usr 72350496 /`: directory asked for, KiB free, mount point.
fn disk(line: &str) -> Option<(String, u64)> {
    let mut words = line.split_whitespace().skip(1);
    let free: u64 = words.next()?.parse().ok()?;
    Some((words.next()?.to_owned(), free / 1024))
}

/// `2: eth1    inet 10.77.0.11/24 brd …`, as `ip -o addr show` writes it.
fn address(line: &str) -> Option<(String, IpAddr)> {
    let mut words = line.split_whitespace().skip(1);
    let interface = words.next()?;
    let family = words.next()?;
    if !matches!(family, "inet" | "inet6") {
        return None;
    }
    let address = words.next()?.split('/').next()?.parse().ok()?;
    Some((interface.to_owned(), address))
}

/// `ii  nginx`: wanted, status, name (dpkg-query(1)). Held packages count; those that were removed do not.
fn installed(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let status = words.next()?;
    let name = words.next()?;
    (status.as_bytes().get(1) == Some(&b'i')).then(|| name.to_owned())
}

fn units(lines: &[&str]) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut active, mut files) = (Vec::new(), BTreeMap::new());
    for (state, unit) in lines.iter().filter_map(|line| line.split_once(' ')) {
        if state == "active" {
            active.push(unit.to_owned());
        } else {
            files.insert(unit.to_owned(), state.to_owned());
        }
    }
    (active, files)
}

/// Lines of `sshd -T`, then those of sshd_config that include other files.
fn ssh_server(lines: &[&str]) -> SshServer {
    let mut server = SshServer::default();
    let mut root = "";
    for line in lines {
        let (key, value) = line.trim().split_once([' ', '\t']).unwrap_or((line, ""));
        match key.to_ascii_lowercase().as_str() {
            "port" => server.ports.extend(value.parse::<u16>()),
            "permitrootlogin" => root = value,
            "passwordauthentication" | "kbdinteractiveauthentication" => {
                server.passwords |= value == "yes";
            }
            "allowusers" | "allowgroups" => server.allowed.push((*line).to_owned()),
            "include" => {
                server.includes |=
                    value.contains("/etc/ssh/sshd_config.d/") || value.contains("sshd_config.d/*")
            }
            _ => {}
        }
    }
    server.root_passwords = server.passwords && root == "yes";
    server
}

fn account(line: &str) -> Option<Account> {
    let mut words = line.split(' ');
    Some(Account {
        name: words.next()?.to_owned(),
        uid: words.next()?.parse().ok()?,
        password: words.next()? == "password",
        keys: words.next()? == "keys",
    })
}

fn cluster(line: &str) -> Option<Cluster> {
    let mut words = line.split(' ');
    let (version, name) = (words.next()?, words.next()?);
    Some(Cluster {
        name: format!("{version}/{name}"),
        port: words.next()?.parse().ok()?,
        online: words.next()? == "online",
        databases: words.nth(1)?.parse().ok()?,
        directory: words.next()?.to_owned(),
    })
}

fn listeners(tcp: &[&str], udp: &[&str]) -> Vec<Listener> {
    let read = |lines: &[&str], tcp| {
        let found = lines.iter().filter_map(|line| listener(line, tcp));
        found.collect::<Vec<_>>()
    };
    let mut all = [read(tcp, true), read(udp, false)].concat();
    all.sort();
    // A program's workers share a port.
    all.dedup();
    all
}

/// `LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=612,fd=3))`, as `ss -H -ltnp` writes it.
fn listener(line: &str, tcp: bool) -> Option<Listener> {
    let local = line.split_whitespace().nth(3)?;
    let (address, port) = local.rsplit_once(':')?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    // An interface may stand behind the address: 127.0.0.53%lo, fe80::1%eth0.
    let address = address.split('%').next()?;
    let program = line
        .split_once("users:((\"")
        .and_then(|(_, rest)| rest.split('"').next());
    Some(Listener {
        tcp,
        address: match address {
            "*" | "0.0.0.0" | "::" => None,
            address => Some(address.parse().ok()?),
        },
        port: port.parse().ok()?,
        program: program.unwrap_or_default().to_owned(),
    })
}

fn enrolled(lines: &[&str]) -> Enrolled {
    if lines.is_empty() {
        return Enrolled::No;
    }
    serde_json::from_str(&lines.join("\n")).map_or(Enrolled::Unreadable, Enrolled::As)
}
