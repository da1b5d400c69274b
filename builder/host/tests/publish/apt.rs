//! Real apt in a root of its own, and a web server to feed it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rolesmith_formats::openpgp::Signer;
use rolesmith_host::publish::{Target, publish, rollback};

use crate::support::*;

/// A directory with another release of Debian whose apt shall be asked, by chroot and so by root; TMPDIR has to lie in it.
const OTHER_ROOT: &str = "ROLESMITH_TEST_APT_ROOT";

/// apt with its own configuration, lists and dpkg status; needs no privileges and sees nothing of the machine's.
pub(crate) struct Apt {
    directory: tempfile::TempDir,
    /// `/`, or [`OTHER_ROOT`].
    system: PathBuf,
}

impl Apt {
    /// An apt that knows one source, `uri`, and these keys.
    pub(crate) fn new(uri: &str, keys: &[&dyn Signer]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let system = PathBuf::from(std::env::var_os(OTHER_ROOT).unwrap_or("/".into()));
        let apt = Self { directory, system };
        let root = apt.path();
        for path in [
            "etc/apt.conf.d",
            "etc/preferences.d",
            "etc/sources.list.d",
            "state/lists/partial",
            "cache/archives/partial",
            "log",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::write(root.join("status"), "").unwrap();
        let config = format!(
            "Dir \"{0}/\";\nDir::Etc \"etc/\";\nDir::State \"state/\";\nDir::State::status \"{0}/status\";\n\
             Dir::Cache \"cache/\";\nDir::Log \"log/\";\nAPT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
             APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\nAcquire::Retries \"0\";\n\
             Acquire::Check-Valid-Until \"true\";\nAcquire::Check-Date \"true\";\n",
            apt.seen(root)
        );
        fs::write(root.join("apt.conf"), config).unwrap();
        apt.trust(uri, keys);
        apt
    }

    /// Replaces the source and its keys.
    pub(crate) fn trust(&self, uri: &str, keys: &[&dyn Signer]) {
        let mut source =
            format!("Types: deb\nURIs: {uri}\nSuites: fleet\nComponents: main\nSigned-By:\n");
        // apt reads several keys of one source from a file, one armored block after the other.
        let keyring: String = keys
            .iter()
            .map(|key| key.public_key_armored().unwrap())
            .collect();
        let path = self.path().join("keyring.asc");
        fs::write(&path, keyring).unwrap();
        source.truncate(source.len() - 1);
        source.push_str(&format!(" {}\n", self.seen(&path)));
        fs::write(self.path().join("etc/sources.list.d/fleet.sources"), source).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// How apt names a path of this machine.
    pub(crate) fn seen(&self, path: &Path) -> String {
        Path::new("/")
            .join(path.strip_prefix(&self.system).unwrap())
            .display()
            .to_string()
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let here = self.seen(self.path());
        let mut command = if self.system == Path::new("/") {
            Command::new("env")
        } else {
            let mut command = Command::new("chroot");
            command.arg(&self.system).arg("env");
            command
        };
        command
            .args(["--chdir", &here, program])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("APT_CONFIG", format!("{here}/apt.conf"))
            .output()
            .unwrap()
    }

    /// `apt-get update`; warnings count as failures, because a suite that cannot be used is only a warning when an older
    /// state of it is there.
    pub(crate) fn update(&self) -> Result<String, String> {
        let output = self.run("apt-get", &["update", "--error-on=any"]);
        let text = text(&output);
        if output.status.success() && !text.contains("W:") && !text.contains("E:") {
            Ok(text)
        } else {
            Err(text)
        }
    }

    /// `apt-get download`; gives the file's bytes.
    pub(crate) fn download(&self, package: &str) -> Result<Vec<u8>, String> {
        let output = self.run("apt-get", &["download", package]);
        if !output.status.success() {
            return Err(text(&output));
        }
        let file = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| text(&output))?;
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(file).unwrap();
        Ok(bytes)
    }

    /// Versions that `apt-cache` knows of a package, newest first.
    pub(crate) fn versions(&self, package: &str) -> Vec<String> {
        let output = self.run("apt-cache", &["madison", package]);
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .map(|version| version.trim().to_owned())
            .collect()
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// URI of a repository on the disk, as apt sees it.
pub(crate) fn file_uri(root: &Path) -> String {
    let system = PathBuf::from(std::env::var_os(OTHER_ROOT).unwrap_or("/".into()));
    format!("file:/{}", root.strip_prefix(system).unwrap().display())
}

/// A web server for files below a directory, on a loopback port of the kernel's choice, until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(root: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (stopping, log) = (Arc::clone(&stop), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    break;
                }
                let (root, log) = (root.clone(), Arc::clone(&log));
                std::thread::spawn(move || serve(&root, &log, &stream.unwrap()));
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
            requests,
        }
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Paths asked for so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Answers the requests of one connection; errors end it, the client sees them.
fn serve(root: &Path, log: &Mutex<Vec<String>>, stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).ok()? == 0 {
                return None;
            }
            if header == "\r\n" {
                break;
            }
        }
        let path = request
            .split(' ')
            .nth(1)?
            .trim_start_matches('/')
            .to_owned();
        log.lock().unwrap().push(path.clone());
        let (status, body) = match fs::read(root.join(&path)) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .ok()?;
        stream.write_all(&body).ok()?;
    }
}

fn publish_versions(target: &Target, version: &str, signers: &[&dyn Signer], epoch: u64) {
    let packages = files([
        deb("portable", version, "all"),
        deb("native", version, "amd64"),
    ]);
    publish(target, &input(packages, signers, epoch)).unwrap();
}

#[test]
fn apt_takes_the_repository() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    publish_versions(&target, "1.0", &signers, now());

    for web in [false, true] {
        let server = Server::start(target.root.clone());
        let uri = if web {
            server.uri()
        } else {
            file_uri(&target.root)
        };
        let apt = Apt::new(&uri, &signers);
        let log = apt.update().unwrap();
        assert_eq!(
            (apt.versions("portable"), apt.versions("native")),
            (vec!["1.0".to_owned()], vec!["1.0".to_owned()]),
            "{log}"
        );
        let package = target.root.join("pool/main/n/native/native_1.0_amd64.deb");
        assert!(apt.download("native").unwrap() == fs::read(package).unwrap());
        let plan = apt.run("apt-get", &["install", "--simulate", "portable", "native"]);
        assert!(plan.status.success(), "{plan:?}");
        if web {
            let asked = server.requests();
            assert!(
                asked.iter().any(|path| path.contains("/by-hash/SHA512/")),
                "{asked:?}"
            );
            assert!(
                !asked
                    .iter()
                    .any(|path| path.contains("binary-all") || path.contains("/SHA256/")),
                "{asked:?}"
            );
        }
    }
}

#[test]
fn contents_are_what_apt_acquires() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    publish_versions(&target, "1.0", &signers, now());
    let server = Server::start(target.root.clone());
    let apt = Apt::new(&server.uri(), &signers);
    // The index target that apt-file(1) declares.
    let declared = "Acquire::IndexTargets::deb::Contents-deb { MetaKey \"$(COMPONENT)/Contents-$(ARCHITECTURE)\"; \
                    ShortDescription \"Contents\"; Description \"$(RELEASE)/$(COMPONENT) Contents\"; };\n";
    fs::write(apt.path().join("etc/apt.conf.d/contents"), declared).unwrap();
    apt.update().unwrap();
    let lists = tree(&apt.path().join("state/lists"));
    let read = |suffix: &str| {
        let name = lists
            .iter()
            .find(|name| name.ends_with(suffix))
            .unwrap_or_else(|| panic!("{suffix} in {lists:?}"));
        fs::read_to_string(apt.path().join("state/lists").join(name)).unwrap()
    };
    assert!(read("main_Contents-amd64").contains("usr/share/native/content "));
    let all = read("main_Contents-all");
    assert!(
        all.lines().any(|line| line
            .split_whitespace()
            .eq(["usr/share/portable/content", "misc/portable"])),
        "{all}"
    );
    assert!(!all.contains("native"));
}

#[test]
fn a_key_rotation_never_locks_a_client_out() {
    let (old, new) = (key(1), key(2));
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let server = Server::start(target.root.clone());
    let start = now() - 100;
    let knows_old = Apt::new(&server.uri(), &[&old]);
    let knows_both = Apt::new(&server.uri(), &[&old, &new]);
    let knows_new = Apt::new(&server.uri(), &[&new]);

    publish_versions(&target, "1.0", &[&old], start);
    knows_old.update().unwrap();
    knows_both.update().unwrap();
    assert!(knows_new.update().is_err());

    publish_versions(&target, "2.0", &[&old, &new], start + 10);
    for apt in [&knows_old, &knows_both, &knows_new] {
        apt.update().unwrap();
        assert_eq!(apt.versions("native"), ["2.0"]);
    }

    publish_versions(&target, "3.0", &[&new], start + 20);
    knows_new.update().unwrap();
    knows_both.update().unwrap();
    assert!(knows_old.update().is_err());
    assert_eq!(knows_old.versions("native"), ["2.0"]);
}

#[test]
fn a_roll_back_reaches_clients() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let server = Server::start(target.root.clone());
    let apt = Apt::new(&server.uri(), &signers);
    let start = now() - 100;
    for (number, version) in ["1.0", "2.0"].iter().enumerate() {
        publish_versions(&target, version, &signers, start + 10 * number as u64);
        apt.update().unwrap();
        assert_eq!(apt.versions("native"), [*version]);
    }
    rollback(&target, "fleet", 1, start + 30, 86_400, &signers).unwrap();
    apt.update().unwrap();
    assert_eq!(apt.versions("native"), ["1.0"]);
}
