//! A machine that was there before the fleet, as its administrator and the operator of the fleet meet it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use rolesmith_lab::LabSpec;
use rolesmith_tests::Fleet;
use tempfile::TempDir;

use crate::existing_lab::{lab, up};

/// Where the machines' administrator put sshd.
pub const SSH_PORT: u16 = 2222;
/// Where a service listens of which no role knows.
pub const WIKI_PORT: u16 = 8080;
/// The administrator's password.
const PASSWORD: &str = "an old password";
/// A line of the test's own account, with the time of day in seconds since its start.
pub fn tell(text: &str) {
    use std::{io::Write as _, sync::OnceLock};
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    // A closed standard error is nobody's loss.
    let _ = writeln!(
        std::io::stderr(),
        "{:7.1}  {text}",
        start.elapsed().as_secs_f64()
    );
}

/// What the operator holds: a key for root on the machines, and one that the fleet is to let in.
pub struct Operator {
    directory: TempDir,
}

impl Operator {
    /// Makes both keys.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["old-root", "fleet"] {
            let status = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C"])
                .arg(format!("{name}@operator"))
                .arg("-f")
                .arg(directory.path().join(name))
                .status()
                .expect("ssh-keygen starts: install openssh-client");
            assert!(status.success());
        }
        let ask = directory.path().join("ask");
        std::fs::write(&ask, format!("#!/bin/sh\necho '{PASSWORD}'\n")).expect("written");
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&ask, std::fs::Permissions::from_mode(0o700)).expect("set");
        Self { directory }
    }

    /// The private half of a key.
    pub fn key(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The public half of a key.
    pub fn public_key(&self, name: &str) -> String {
        let path = self.directory.path().join(format!("{name}.pub"));
        let text = std::fs::read_to_string(path).expect("ssh-keygen made it");
        text.trim().to_owned()
    }

    /// Options for ssh that keep this user's own configuration and known hosts out of the test.
    pub fn ssh_options(&self, key: &str) -> Vec<String> {
        let known = self.directory.path().join("known_hosts");
        vec![
            "-F".to_owned(),
            "none".to_owned(),
            "-i".to_owned(),
            self.key(key).display().to_string(),
            "-o".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "-o".to_owned(),
            format!("UserKnownHostsFile={}", known.display()),
            "-o".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
        ]
    }
}

/// How somebody logs in.
#[derive(Debug, Clone, Copy)]
pub enum Login {
    /// Root, with the key that the machine had before.
    OldRoot,
    /// Root, with a key of the fleet.
    FleetRoot,
    /// The administrator, by password.
    Password,
}

/// One of the machines.
pub struct Machine<'a> {
    /// Its name in the lab and in the fleet.
    pub name: &'static str,
    /// Its address in the public network.
    pub address: &'static str,
    /// Where its sshd listens.
    pub port: u16,
    /// The fleet that it is to belong to.
    pub fleet: &'a Fleet,
    /// Who works on it.
    pub operator: &'a Operator,
}

impl Machine<'_> {
    /// Runs a script in it as root, past ssh and firewall; it has to succeed.
    pub fn must(&self, script: &str) -> String {
        let (code, text) = self.shell(script);
        assert_eq!(code, 0, "on {}: {script}\n{text}", self.name);
        text
    }

    /// Runs a script in it as root, past ssh and firewall; gives exit code and what it printed, both streams together.
    pub fn shell(&self, script: &str) -> (i32, String) {
        let script = format!("exec 2>&1\n{script}");
        let output = lab(self.fleet).output(self.name, &["sh", "-c", &script]);
        let output = output.expect("the machine runs");
        (output.code, output.stdout + &output.stderr)
    }

    /// Runs a script over a new ssh connection to the machine's public address.
    pub fn ssh(&self, login: Login, script: &str) -> (i32, String) {
        let (user, key) = match login {
            Login::OldRoot => ("root", "old-root"),
            Login::FleetRoot => ("root", "fleet"),
            Login::Password => ("admin", "none"),
        };
        let mut words = vec!["ssh".to_owned(), "-p".to_owned(), self.port.to_string()];
        words.extend(self.operator.ssh_options(key));
        let methods = match login {
            Login::Password => "PreferredAuthentications=password",
            _ => "PreferredAuthentications=publickey",
        };
        for option in [
            methods,
            "NumberOfPasswordPrompts=1",
            "ConnectTimeout=5",
            "LogLevel=ERROR",
        ] {
            words.extend(["-o".to_owned(), option.to_owned()]);
        }
        words.push(format!("{user}@{}", self.address));
        words.push(script.to_owned());
        let mut ssh = lab(self.fleet).client(&words);
        ssh.env("SSH_ASKPASS", self.operator.key("ask"))
            .env("SSH_ASKPASS_REQUIRE", "force");
        said(ssh.output().expect("nsenter starts"))
    }

    /// As [`Machine::ssh`], and the script has to succeed.
    pub fn must_ssh(&self, login: Login, script: &str) -> String {
        let (code, text) = self.ssh(login, script);
        assert_eq!(code, 0, "{login:?} on {}: {script}\n{text}", self.name);
        text
    }

    /// `rolesmith enroll` of it, from the lab's network; gives exit code and what it printed.
    pub fn enroll(&self, arguments: &[&str]) -> (i32, String) {
        let target = format!("root@{}", self.address);
        let port = self.port.to_string();
        let options = self.operator.ssh_options("old-root");
        let mut words = vec!["enroll", self.name, "--ssh", &target, "--port", &port];
        for option in &options {
            words.extend(["--ssh-option", option]);
        }
        words.extend(arguments);
        let rolesmith = self.fleet.command(&words);
        let program = [rolesmith.get_program()]
            .into_iter()
            .chain(rolesmith.get_args());
        let mut client = lab(self.fleet).client(&program.collect::<Vec<_>>());
        for (name, value) in rolesmith.get_envs() {
            if let Some(value) = value {
                client.env(name, value);
            }
        }
        said(client.output().expect("nsenter starts"))
    }

    /// What an HTTP client in the lab's network gets from a port of the machine's public address.
    pub fn site(&self, port: u16) -> String {
        let url = format!("http://{}:{port}/", self.address);
        let curl = lab(self.fleet)
            .client(&["curl", "-sS", "--max-time", "3", &url])
            .output();
        said(curl.expect("nsenter starts")).1
    }

    /// Runs a script in it again and again until it succeeds, for what tells nobody when it happens.
    pub fn wait_until(&self, what: &str, seconds: u64, script: &str) {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let (code, text) = self.shell(script);
            if code == 0 {
                return;
            }
            if Instant::now() > end {
                let (_, status) =
                    self.shell("rolesmith-agent status; journalctl -n 60 --no-pager -o cat");
                panic!(
                    "{}: {what}: not within {seconds} s\n{text}\n{status}",
                    self.name
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Everything on its disk that a person or a package put there: a line a file, and what units there are. What services
    /// and the kernel write all the time (logs, databases, the clock's stamp) is left out.
    pub fn snapshot(&self) -> String {
        self.must(
            r"cd /
            find . -xdev \( -path ./proc -o -path ./sys -o -path ./run -o -path ./dev -o -path ./tmp -o -path ./var/tmp \
                -o -path ./var/log -o -path ./var/lib/postgresql -o -path ./var/lib/redis -o -path ./var/lib/systemd/timesync \
                -o -path ./var/lib/systemd/timers -o -path ./var/lib/private -o -path ./var/lib/lastlog -o -path ./var/lib/wtmpdb \) -prune \
                -o -printf '%M %U:%G %T@ %p %l\n' -type f -exec sha256sum {} + | LC_ALL=C sort -k 2
            systemctl list-unit-files --no-legend --no-pager
            systemctl list-units --type=service,socket,timer,path,mount --state=active,failed --plain --no-legend --no-pager |
                awk '{ print $1, $2, $3, $4 }' | grep -vE '^(run-user-|user@|user-runtime-dir@|systemd-(timedated|hostnamed|localed))'
            sshd -T
            ss -H -ltn | awk '{ print $4 }' | sort
            sysctl -a 2>/dev/null | grep -E '^(net.ipv4.(ip_forward|conf.all)|vm.(swappiness|overcommit_memory)|kernel.panic)'",
        )
    }

    /// What the machine's own services hold and who they are: it has to stay the same whatever the fleet does.
    pub fn foreign(&self) -> String {
        self.must(
            r#"cd /
            echo "rows: $(runuser -u postgres -- psql -qAt -p 5432 -d shop -c 'SELECT string_agg(name, $$,$$ ORDER BY id) FROM customers')"
            echo "redis: $(redis-cli -p 6379 get visits)"
            echo "clusters: $(pg_lsclusters --no-header | grep ' 5432 ' | tr -s ' ')"
            echo "settings: $(sha256sum /etc/postgresql/17/main/*.conf /etc/redis/redis.conf /etc/nginx/nginx.conf /etc/nginx/sites-available/shop | sha256sum)"
            echo "local site: $(python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1/").read().decode())')""#,
        ) + "public site: "
            + &self.site(80)
    }

    /// Numbers of the processes of its own services: a service that was restarted has another one.
    pub fn processes(&self) -> String {
        self.must(
            "for unit in nginx redis-server postgresql@17-main wiki; do
                echo \"$unit $(systemctl show --property MainPID --value $unit.service)\"
            done",
        )
    }

    /// Loaded rules of both families without their counters, and the names of sets.
    pub fn firewall(&self) -> String {
        self.must(
            r"for save in iptables-save ip6tables-save 'ipset list -n'; do
                if command -v ${save%% *} >/dev/null; then $save; fi
            done | sed -e 's/\[[0-9:]*\]//' -e '/^#/d'",
        )
    }

    /// Ends it as its button does, and boots it again from its disk; gives what the machines complain of.
    pub fn reboot(&self, machines: &LabSpec) -> Vec<String> {
        let before = lab(self.fleet).status().expect("a lab");
        let pid = before
            .nodes
            .iter()
            .find(|node| node.name == self.name)
            .and_then(|node| node.pid)
            .expect("it runs");
        self.must("systemctl poweroff");
        let end = Instant::now() + Duration::from_secs(120);
        while Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < end, "{} does not shut down", self.name);
            std::thread::sleep(Duration::from_millis(100));
        }
        up(machines)
    }
}

fn said(output: Output) -> (i32, String) {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), text)
}
