//! A fleet of Redis and Sentinel on loopback addresses, each node below a directory of its own, started by the agent from
//! the role's own templates.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rolesmith_agent::files::Root;
use rolesmith_agent::net::credentials::credentials;
use rolesmith_agent::redis::ask::{self, Heards};
use rolesmith_agent::redis::client::{Client, ClientError};
use rolesmith_agent::redis::resp::Value;
use rolesmith_agent::redis::settings::{CONF_DIR, Declared, FOUNDER_FILE, Settings};
use rolesmith_agent::redis::state::{self, Report};
use rolesmith_keys::ApplicationKey;
use rolesmith_model::facts::application_name;
use rustls::ClientConfig;
use serde_json::json;

pub(super) const FLEET: &str = "acme";
pub(super) const PASSWORD: &str = "one-of-the-cluster";
pub(super) const APP_PASSWORD: &str = "one-of-the-applications";
const MONITOR_PASSWORD: &str = "one-of-the-figures";
const TEMPLATES: [(&str, &str); 5] = [
    (
        "redis.conf",
        include_str!("../../../../roles/redis/templates/redis.conf"),
    ),
    (
        "sentinel.conf",
        include_str!("../../../../roles/redis/templates/sentinel.conf"),
    ),
    (
        "users.acl",
        include_str!("../../../../roles/redis/templates/users.acl"),
    ),
    (
        "cluster.json",
        include_str!("../../../../roles/redis/templates/cluster.json"),
    ),
    (
        "monitor.json",
        include_str!("../../../../roles/redis/templates/monitor.json"),
    ),
];

/// The programs, under the names by which the one file of redis-tools knows what it is to be. Debian's redis-server and
/// redis-sentinel hold links of these names and units that would start instances; they are not needed.
pub(super) fn programs(dir: &Path) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("ROLESMITH_TEST_REDIS") {
        return Some(dir.into());
    }
    let program = Path::new("/usr/bin/redis-check-rdb");
    if !program.exists() {
        return None;
    }
    for name in ["redis-server", "redis-sentinel"] {
        symlink(program, dir.join(name)).unwrap();
    }
    Some(dir.to_owned())
}

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params
            .distinguished_name
            .push(DnType::CommonName, "acme fleet CA");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (self.certify(name, &key), key.serialize_pem())
    }

    /// A certificate for a key that is there.
    pub(super) fn certify(&self, name: &str, key: &KeyPair) -> String {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// The key (PEM) of a node's applications, which follows from the node's, and a certificate for it, as `publish` issues it.
    pub(super) fn application(&self, node: &str, node_key: &KeyPair) -> (String, String) {
        let key = ApplicationKey::of(&node_key.serialize_pem(), FLEET, node).unwrap();
        let key = key.to_pem();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, application_name(node));
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let pair = KeyPair::from_pem(&key).unwrap();
        let cert = params.signed_by(&pair, &self.issuer).unwrap().pem();
        (key, cert)
    }

    /// Somebody who shows a certificate of this authority and trusts those.
    pub(super) fn tester(&self, trusted: &str) -> Arc<ClientConfig> {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = self.issue("tester");
        let paths = ["key.pem", "cert.pem", "ca.pem"].map(|name| dir.path().join(name));
        for (path, text) in paths.iter().zip([&*key, &*cert, trusted]) {
            fs::write(path, text).unwrap();
        }
        credentials(&paths[0], &paths[1], &paths[2]).unwrap()
    }
}

/// What a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Server,
    Sentinel,
    Watch,
}

pub(super) const PARTS: [Part; 3] = [Part::Server, Part::Sentinel, Part::Watch];

pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) root: Root,
    dir: PathBuf,
    running: [Option<Child>; 3],
}

pub(super) struct Fleet {
    pub(super) nodes: Vec<Node>,
    ports: (u16, u16),
    pub(super) authority: Authority,
    programs: PathBuf,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) dir: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        for part in PARTS {
            self.kill(part);
        }
    }
}

impl Node {
    /// SIGKILL, and gone when this returns.
    pub(super) fn kill(&mut self, part: Part) {
        if let Some(mut child) = self.running[part as usize].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP.
    pub(super) fn freeze(&self, part: Part) {
        self.signal(part, rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub(super) fn thaw(&self, part: Part) {
        self.signal(part, rustix::process::Signal::CONT);
    }

    fn signal(&self, part: Part, signal: rustix::process::Signal) {
        let child = self.running[part as usize].as_ref().unwrap();
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(super) fn wipe(&self, what: &str) {
        fs::remove_dir_all(self.root.join(what)).unwrap();
        fs::create_dir_all(self.root.join(what)).unwrap();
    }

    /// The machine boots anew, as far as anybody can tell.
    pub(super) fn reboot(&self) {
        static BOOTS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let boot = BOOTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = self.root.join("/proc/sys/kernel/random");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("boot_id"), format!("boot-{boot}\n")).unwrap();
    }

    pub(super) fn report(&self, unit: &str) -> Option<Report> {
        state::read_report(&self.root, unit)
    }

    /// Puts a file in the place of another, as dpkg does.
    pub(super) fn replace(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        let new = path.with_extension("dpkg-new");
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub(super) fn key(&self) -> KeyPair {
        let path = self.root.join("/etc/rolesmith/node.key");
        KeyPair::from_pem(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Everything its programs have written, for a failure.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(60).collect();
        tail.into_iter()
            .rev()
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

impl Fleet {
    /// Members of the given number, on addresses that no other test uses.
    pub(super) fn new(network: u8, size: u8) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let programs = programs(dir.path())?;
        let address = |n: u8| format!("127.77.{network}.{n}");
        let free = || {
            let socket = TcpListener::bind((address(1), 0)).unwrap();
            socket.local_addr().unwrap().port()
        };
        let authority = Authority::new();
        let (ca, cert, key) = (
            dir.path().join("ca.pem"),
            dir.path().join("cert.pem"),
            dir.path().join("key.pem"),
        );
        let (own_cert, own_key) = authority.issue("tester");
        fs::write(&ca, &authority.pem).unwrap();
        fs::write(&cert, own_cert).unwrap();
        fs::write(&key, own_key).unwrap();
        let mut fleet = Self {
            nodes: Vec::new(),
            ports: (free(), free()),
            tls: credentials(&key, &cert, &ca).unwrap(),
            authority,
            programs,
            dir,
        };
        for n in 1..=size {
            fleet.add(&format!("n{n}"), &address(n));
        }
        fleet.publish(1, true);
        Some(fleet)
    }

    /// A fresh machine; facts do not know it before the next `publish`.
    pub(super) fn add(&mut self, name: &str, address: &str) {
        let dir = self.dir.path().join(format!("{name}-{address}"));
        fs::create_dir_all(&dir).unwrap();
        let root = Root::at(&dir);
        for path in [
            state::SERVER_DIR,
            state::SENTINEL_DIR,
            CONF_DIR,
            "/etc/rolesmith",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let (cert, key) = self.authority.issue(name);
        fs::write(root.join("/etc/rolesmith/node.key"), key).unwrap();
        fs::write(root.join("/etc/rolesmith/cert.pem"), cert).unwrap();
        let node = Node {
            name: name.to_owned(),
            address: address.to_owned(),
            root,
            dir,
            running: [None, None, None],
        };
        node.reboot();
        self.nodes.push(node);
    }

    /// Gives every node facts and files, as publishing and applying do.
    pub(super) fn publish(&self, version: u64, open: bool) {
        let members: Vec<_> = self
            .nodes
            .iter()
            .map(|node| {
                json!({"name": node.name, "address": node.address, "fqdn": node.name, "roles": ["base", "redis"],
                    "incarnation": 1, "certificate": ""})
            })
            .collect();
        let facts = json!({"format": 1, "fleet": FLEET, "domain": "acme.test", "suite": "trixie", "version": version,
            "genesis": if open { "open" } else { "closed" }, "members": members, "packages": {},
            // The fleet has a database too, whose founder is Redis's.
            "clusters": {"db-primary-capable": "postgresql"}});
        for node in &self.nodes {
            let dir = node.root.join("/usr/lib/rolesmith/facts");
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("facts.json"), facts.to_string()).unwrap();
            fs::write(dir.join("ca.pem"), &self.authority.pem).unwrap();
            let mut context = tera::Context::new();
            context.insert("fleet", &json!({"name": FLEET}));
            context.insert("node", &json!({"name": node.name, "address": node.address}));
            context.insert("members", &members);
            context.insert(
                "redis",
                &json!({"port": self.ports.0, "sentinel_port": self.ports.1, "max_memory": 32}),
            );
            context.insert(
                "secret",
                &json!({
                    "redis_cluster_password": PASSWORD,
                    "redis_password": APP_PASSWORD,
                    "redis_monitor_password": MONITOR_PASSWORD,
                }),
            );
            context.insert("conf", &node.root.join(CONF_DIR));
            let path = |path: &str| node.root.join(path).to_string_lossy().into_owned();
            // What the agent reads names them below the node's root, Redis's own files need them whole.
            for (name, template) in TEMPLATES {
                let cluster = matches!(name, "cluster.json" | "monitor.json");
                let tls = |file: &str| if cluster { file.to_owned() } else { path(file) };
                context.insert(
                    "tls",
                    &json!({"key": "", "cert": tls("/etc/rolesmith/cert.pem"),
                        "application_key": tls("/etc/rolesmith/application.key"),
                        "application_cert": tls("/etc/rolesmith/application.pem"),
                        "ca": tls("/usr/lib/rolesmith/facts/ca.pem")}),
                );
                let text = tera::Tera::one_off(template, &context, false).unwrap();
                let text = text
                    .replace("dir /var/lib", &format!("dir {}", path("/var/lib")))
                    .replace(
                        "/run/credentials/rolesmith-redis.service",
                        &path("/etc/rolesmith"),
                    )
                    .replace(
                        "/run/credentials/rolesmith-sentinel.service",
                        &path("/etc/rolesmith"),
                    )
                    .replace("supervised systemd", "supervised no")
                    // A test's own instance has no need of the other one.
                    .replace("bind 127.0.0.1 ", "bind ");
                fs::write(node.root.join(CONF_DIR).join(name), text).unwrap();
            }
        }
    }

    pub(super) fn choose(&self, founder: &str) {
        for node in &self.nodes {
            let path = node.root.join(FOUNDER_FILE);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{founder}\n")).unwrap();
        }
    }

    /// Starts a part of a node, as its unit would.
    pub(super) fn start(&mut self, node: usize, part: Part) {
        let node = &mut self.nodes[node];
        node.kill(part);
        let log = File::options()
            .create(true)
            .append(true)
            .open(node.dir.join("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rolesmith-agent"));
        command.args(["redis", "--root"]).arg(&node.dir);
        match part {
            Part::Server => command
                .arg("server")
                .arg(self.programs.join("redis-server")),
            Part::Sentinel => command
                .arg("sentinel")
                .arg(self.programs.join("redis-sentinel")),
            Part::Watch => command.arg("watch"),
        };
        let child = command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        node.running[part as usize] = Some(child);
    }

    /// What systemd does with Restart=always.
    pub(super) fn revive(&mut self) {
        for n in 0..self.nodes.len() {
            for part in PARTS {
                let ended = match &mut self.nodes[n].running[part as usize] {
                    Some(child) => child.try_wait().unwrap().is_some(),
                    None => false,
                };
                if ended {
                    self.start(n, part);
                }
            }
        }
    }

    pub(super) fn boot(&mut self, node: usize) {
        for part in PARTS {
            self.start(node, part);
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        for part in PARTS {
            self.nodes[node].kill(part);
        }
    }

    /// Those of Redis and of Sentinel.
    pub(super) fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// Directory of redis-server.
    pub(super) fn programs(&self) -> &Path {
        &self.programs
    }

    pub(super) fn settings(&self, node: usize) -> Settings {
        Settings::load(&self.nodes[node].root).unwrap()
    }

    pub(super) fn heards(&self) -> Heards {
        let settings = self.settings(0);
        let declared = Declared::load(&self.nodes[0].root, &settings).unwrap();
        ask::everybody(&self.tls, &settings, &declared)
    }

    /// A connection of an application to a node's Redis.
    pub(super) fn client(&self, node: usize) -> Result<Client, ClientError> {
        self.client_as(&self.tls, node)
    }

    pub(super) fn client_as(
        &self,
        tls: &Arc<ClientConfig>,
        node: usize,
    ) -> Result<Client, ClientError> {
        self.connect(tls, node, ("app", APP_PASSWORD))
    }

    /// A connection as the node's own agent makes it.
    pub(super) fn agent(&self, node: usize) -> Result<Client, ClientError> {
        self.connect(&self.tls, node, (ask::USER, PASSWORD))
    }

    fn connect(
        &self,
        tls: &Arc<ClientConfig>,
        node: usize,
        login: (&str, &str),
    ) -> Result<Client, ClientError> {
        let node = &self.nodes[node];
        let limit = Duration::from_secs(2);
        Client::connect(tls, &node.name, &node.address, self.ports.0, login, limit)
    }

    pub(super) fn set(&self, node: usize, key: &str, value: &str) -> Result<Value, ClientError> {
        self.client(node)?.ask(&["SET", key, value])
    }

    pub(super) fn get(&self, node: usize, key: &str) -> Option<String> {
        let value = self.client(node).ok()?.ask(&["GET", key]).ok()?;
        value.text().map(str::to_owned)
    }

    /// Waits until something holds, restarting what ended as systemd would; says how long it took.
    pub(super) fn until(
        &mut self,
        what: &str,
        limit: u64,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        loop {
            if holds(self) {
                return begun.elapsed();
            }
            if begun.elapsed() > Duration::from_secs(limit) {
                let heards = self.heards();
                let mut text = format!("not within {limit} s: {what}\n{heards:#?}\n");
                for node in &self.nodes {
                    let reports = ["server", "sentinel", "watch"].map(|unit| node.report(unit));
                    text.push_str(&format!("== {}: {reports:?}\n{}", node.name, node.log()));
                }
                panic!("{text}");
            }
            self.revive();
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
