//! What a program comes in with, which has the key of its node's applications and not the node's: Redis and Sentinel as their
//! own client sees them, with OpenSSL at both ends.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::fleet::{APP_PASSWORD, Authority, FLEET, Fleet, PARTS, PASSWORD};
use super::{MISSING, write};

/// A private key and its certificate.
struct Pair {
    key: PathBuf,
    cert: PathBuf,
}

impl Pair {
    /// Of the first node's applications.
    fn application(fleet: &Fleet) -> Self {
        let node = &fleet.nodes[0];
        let (key, cert) = fleet.authority.application(&node.name, &node.key());
        let dir = fleet.dir.path();
        let pair = Self {
            key: dir.join("application.key"),
            cert: dir.join("application.pem"),
        };
        fs::write(&pair.key, key).unwrap();
        fs::write(&pair.cert, cert).unwrap();
        pair
    }

    /// Of the first node itself.
    fn node(fleet: &Fleet) -> Self {
        let root = &fleet.nodes[0].root;
        Self {
            key: root.join("/etc/rolesmith/node.key"),
            cert: root.join("/etc/rolesmith/cert.pem"),
        }
    }
}

/// What redis-cli is told at a port, or says itself.
fn ask(
    ca: &Path,
    (address, port): (&str, u16),
    shown: Option<&Pair>,
    (user, password): (&str, &str),
    words: &[&str],
) -> String {
    let mut command = Command::new("redis-cli");
    command
        .args(["--no-auth-warning", "--tls", "--cacert"])
        .arg(ca)
        .args(["-h", address, "-p", &port.to_string(), "--user", user])
        .env("REDISCLI_AUTH", password);
    if let Some(pair) = shown {
        command.arg("--cert").arg(&pair.cert);
        command.arg("--key").arg(&pair.key);
    }
    let output = command.args(words).output().expect("redis-cli is there");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[test]
#[ignore = "a few seconds, and redis-tools"]
fn a_program_comes_in_with_the_certificate_of_its_nodes_applications_and_the_password() {
    let mut fleet = Fleet::new(20, 1).expect(MISSING);
    for part in PARTS {
        fleet.start(0, part);
    }
    write(&mut fleet, "before");
    let own = Pair::application(&fleet);
    let ca = fleet.nodes[0].root.join("/usr/lib/rolesmith/facts/ca.pem");
    let (redis, sentinel) = fleet.ports();
    let address = fleet.nodes[0].address.clone();
    let app = ("app", APP_PASSWORD);
    let redis = |shown, login, words: &[&str]| ask(&ca, (&address, redis), shown, login, words);
    let sentinel =
        |shown, login, words: &[&str]| ask(&ca, (&address, sentinel), shown, login, words);
    let master = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", FLEET];

    assert_eq!(redis(Some(&own), app, &["SET", "key", "value"]), "OK");
    assert_eq!(redis(Some(&own), app, &["GET", "key"]), "value");
    let told = sentinel(Some(&own), app, &master);
    assert!(told.starts_with(&address), "{told}");

    // Each of the two is needed. Beside Redis, the others of the fleet do not let in who has the programs' password.
    for (shown, login) in [
        (None, app),
        (Some(&own), ("app", PASSWORD)),
        (Some(&own), ("agent", APP_PASSWORD)),
        (Some(&own), ("replica", APP_PASSWORD)),
        (Some(&own), ("sentinel", APP_PASSWORD)),
        (Some(&own), ("default", APP_PASSWORD)),
    ] {
        let who = login.0;
        let told = redis(shown, login, &["GET", "key"]);
        assert!(!told.contains("value"), "{who}: {told}");
        let told = sentinel(shown, login, &master);
        assert!(!told.starts_with(&address), "{who}: {told}");
    }
    // A certificate of another authority for the same key.
    let foreign = Pair {
        key: own.key.clone(),
        cert: fleet.dir.path().join("foreign.pem"),
    };
    let node = &fleet.nodes[0];
    let (_, cert) = Authority::new().application(&node.name, &node.key());
    fs::write(&foreign.cert, cert).unwrap();
    let told = redis(Some(&foreign), app, &["GET", "key"]);
    assert!(!told.contains("value"), "{told}");
    assert_eq!(redis(Some(&own), app, &["GET", "key"]), "value");
}

/// A Redis of this test's own, which ends with the value.
struct Instance {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Instance {
    fn start(fleet: &Fleet, name: &str, pair: &Pair, settings: &[&str]) -> Self {
        let dir = fleet.dir.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = dir.join("log");
        let child = Command::new(fleet.programs().join("redis-server"))
            .args(["--bind", "127.0.0.1", "--port", "0", "--save", ""])
            .args(["--tls-port", &port.to_string()])
            .args(["--tls-auth-clients", "no", "--tls-replication", "yes"])
            .args(["--repl-diskless-sync-delay", "0"])
            .arg("--tls-cert-file")
            .arg(&pair.cert)
            .arg("--tls-key-file")
            .arg(&pair.key)
            .arg("--tls-ca-cert-file")
            .arg(fleet.dir.path().join("ca.pem"))
            .arg("--dir")
            .arg(&dir)
            .args(settings)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, port, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log holds one of these, and says which.
    fn says<'a>(&self, any: &[&'a str]) -> &'a str {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let log = self.log();
            if let Some(found) = any.iter().find(|text| log.contains(**text)) {
                return found;
            }
            assert!(Instant::now() < end, "{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Redis does not compare names, so that it is the use of a certificate that tells a server from a program: one that pretends to be
/// a master is given neither the password of the cluster nor a replica.
#[test]
#[ignore = "a few seconds, and redis-tools"]
fn a_program_is_no_master_for_a_replica() {
    const COPIED: &str = "MASTER <-> REPLICA sync: Finished with success";
    const REFUSED: &str = "certificate verify failed";
    let fleet = Fleet::new(21, 1).expect(MISSING);
    for (name, pair, expected) in [
        ("node", Pair::node(&fleet), COPIED),
        ("application", Pair::application(&fleet), REFUSED),
    ] {
        let master = Instance::start(&fleet, name, &pair, &[]);
        master.says(&["Ready to accept connections"]);
        let port = master.port.to_string();
        let follow = ["--replicaof", "127.0.0.1", &port];
        let replica = Instance::start(
            &fleet,
            &format!("replica of {name}"),
            &Pair::node(&fleet),
            &follow,
        );
        assert_eq!(
            replica.says(&[COPIED, REFUSED]),
            expected,
            "{}",
            replica.log()
        );
    }
}
