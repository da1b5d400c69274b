//! Starting processes that outlive the program: each enters its control group first, then a session and the namespaces it belongs in.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    cgroup::Group,
    command::{command, ended, tail},
    error::{LabError, Result},
    network::{Namespace, Ports},
    process::Process,
    seed::Disk,
    state::remove_file,
};

/// Enters the groups given, then becomes the command after `--`. A group that is no longer there (the lab is being ended) ends it.
pub(crate) const ENTER_GROUPS: &str = r#"
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done
shift
exec "$@"
"#;

/// Mounts a node's file system where only the node sees it, so that nothing stays mounted when it ends, however it ends. The tmpfs
/// hides the directories systemd-nspawn keeps by machine name, where nodes of two fleets would meet and which a kill leaves behind.
const MOUNT_NODE: &str = r#"
lower=$1 upper=$2 work=$3 merged=$4
shift 4
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=0755 tmpfs /run/systemd/nspawn
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work" "$merged"
exec "$@"
"#;

/// Open files, soft and hard limit, that process 1 of a machine has. systemd-nspawn hands on the host's, which may be far fewer than
/// services ask for. Where root may not
/// raise its own, the node's are as near as they can be.
const OPEN_FILES: &str = "1024:524288";

/// A command that runs in the group and, if one is named, the namespace, away from this program's terminal and session.
fn detached(namespace: Option<&Namespace>, group: &Group, log: &Path) -> Result<Command> {
    let log_file: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(LabError::file("open", log))?;
    let error_file = log_file.try_clone().map_err(LabError::file("open", log))?;
    // setsid(1) forks only when it leads a process group, which a child never does: the process id stays the same all the way.
    let mut detached = command("setsid");
    if let Some(namespace) = namespace {
        let mut network = OsString::from("--net=");
        network.push(namespace.path());
        detached.arg("nsenter").arg(network);
    }
    detached.args(["sh", "-euc", ENTER_GROUPS, "lab-enter"]);
    detached.args(group.directories()).arg("--");
    detached
        .stdout(Stdio::from(log_file))
        .stderr(Stdio::from(error_file));
    Ok(detached)
}

/// A node that has been started.
#[derive(Debug)]
pub(crate) struct Launched {
    /// systemd-nspawn.
    pub(crate) nspawn: Process,
    /// The node's process 1.
    pub(crate) leader: Process,
    child: Child,
    messages: Messages,
}

/// What is needed to start a node.
pub(crate) struct Launch<'a> {
    pub(crate) name: &'a str,
    pub(crate) disk: &'a Disk,
    pub(crate) tree: &'a Path,
    pub(crate) namespace: &'a Namespace,
    pub(crate) group: &'a Group,
    pub(crate) ports: &'a Ports,
    pub(crate) private_interface: &'a str,
    pub(crate) public_interface: &'a str,
    /// Where the socket for systemd-nspawn's messages may be made.
    pub(crate) socket: &'a Path,
    pub(crate) limit: Duration,
}

impl Launch<'_> {
    /// Starts systemd-nspawn, waits until the node's first process exists, and plugs its cables in.
    pub(crate) fn start(&self) -> Result<Launched> {
        let messages = Messages::bind(self.socket)?;
        let disk = self.disk;
        let mut command = detached(Some(self.namespace), self.group, &disk.console())?;
        command.args([
            "unshare",
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-euc",
            MOUNT_NODE,
            "lab-mount",
        ]);
        command
            .arg(self.tree)
            .args([disk.upper(), disk.work(), disk.merged()]);
        command.args([
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
        ]);
        command.args([
            "--notify-ready=yes",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
        ]);
        command.arg(format!("--rlimit=RLIMIT_NOFILE={OPEN_FILES}"));
        command.arg(format!("--machine={}", self.name));
        command.arg(format!(
            "--network-veth-extra={}:{}",
            self.ports.public, self.public_interface
        ));
        command.arg(format!(
            "--network-veth-extra={}:{}",
            self.ports.private, self.private_interface
        ));
        command.arg("--directory").arg(disk.merged());
        command.env("NOTIFY_SOCKET", self.socket);
        let child = command.spawn().map_err(|source| LabError::Start {
            program: "setsid".to_owned(),
            source,
        })?;
        let mut launched = Starting {
            launch: self,
            child,
            messages,
        };
        let leader = launched.leader()?;
        self.namespace.plug(self.ports)?;
        let Starting {
            child, messages, ..
        } = launched;
        let gone = || self.stopped("it was gone at once".to_owned());
        Ok(Launched {
            nspawn: Process::of(child.id()).ok_or_else(gone)?,
            leader: Process::of(leader).ok_or_else(gone)?,
            child,
            messages,
        })
    }

    fn stopped(&self, status: String) -> LabError {
        let console = fs::read(self.disk.console()).unwrap_or_default();
        let console = tail(String::from_utf8_lossy(&console).trim());
        LabError::Boot {
            node: self.name.to_owned(),
            status,
            console,
        }
    }
}

struct Starting<'a> {
    launch: &'a Launch<'a>,
    child: Child,
    messages: Messages,
}

impl Starting<'_> {
    fn leader(&mut self) -> Result<u32> {
        let what = format!("the start of node {}", self.launch.name);
        let value = self.messages.wait(
            &mut self.child,
            "X_NSPAWN_LEADER_PID=",
            self.launch.limit,
            &what,
        );
        let value = value?.map_err(|status| self.launch.stopped(status))?;
        value.parse().map_err(|_| {
            self.launch
                .stopped(format!("systemd-nspawn named {value:?} as its leader"))
        })
    }
}

impl Launched {
    /// Waits until the node's systemd has no more jobs, that is until it is `running` or `degraded`.
    pub(crate) fn wait_ready(&mut self, launch: &Launch<'_>) -> Result<()> {
        let what = format!("the boot of node {}", launch.name);
        let value = self
            .messages
            .wait(&mut self.child, "READY=", launch.limit, &what)?;
        value.map(drop).map_err(|status| launch.stopped(status))
    }
}

/// What is needed to start a process that serves the lab.
pub(crate) struct Server<'a> {
    /// What it is called when it does not start.
    pub(crate) what: &'a str,
    /// Where it runs; nothing: in this machine's network.
    pub(crate) namespace: Option<&'a Namespace>,
    pub(crate) group: &'a Group,
    pub(crate) log: &'a Path,
    /// Where the socket for its messages may be made.
    pub(crate) socket: &'a Path,
    /// Program and arguments.
    pub(crate) words: &'a [OsString],
    pub(crate) limit: Duration,
}

impl Server<'_> {
    /// Starts it and waits until it sends an assignment that begins with `key`; gives the process and what follows the key.
    pub(crate) fn start(&self, key: &str) -> Result<(Process, String)> {
        let mut messages = Messages::bind(self.socket)?;
        let mut command = detached(self.namespace, self.group, self.log)?;
        command.args(self.words).env("NOTIFY_SOCKET", self.socket);
        let mut child = command.spawn().map_err(|source| LabError::Start {
            program: "setsid".to_owned(),
            source,
        })?;
        let failed = |status: String| LabError::Failed {
            command: self
                .words
                .iter()
                .map(|w| w.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" "),
            status,
            output: tail(fs::read_to_string(self.log).unwrap_or_default().trim()),
        };
        let what = format!("the start of {}", self.what);
        let said = messages
            .wait(&mut child, key, self.limit, &what)?
            .map_err(failed)?;
        let process = Process::of(child.id());
        Ok((
            process.ok_or_else(|| failed("it was gone at once".to_owned()))?,
            said,
        ))
    }
}

/// The receiving end of sd_notify(3).
#[derive(Debug)]
struct Messages {
    socket: UnixDatagram,
    path: PathBuf,
    /// Assignments that came while another was waited for.
    pending: Vec<String>,
}

impl Messages {
    fn bind(path: &Path) -> Result<Messages> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(LabError::file("make", parent))?;
        }
        remove_file(path)?;
        let socket = UnixDatagram::bind(path).map_err(LabError::file("listen on", path))?;
        Ok(Messages {
            socket,
            path: path.to_owned(),
            pending: Vec::new(),
        })
    }

    /// Waits for an assignment that begins with `key` and returns what follows; the inner error is how the sender ended instead.
    fn wait(
        &mut self,
        child: &mut Child,
        key: &str,
        limit: Duration,
        what: &str,
    ) -> Result<std::result::Result<String, String>> {
        /// How soon the sender's own end is noticed; its messages are noticed at once.
        const LOOK: Duration = Duration::from_millis(100);
        let end = Instant::now() + limit;
        self.socket
            .set_read_timeout(Some(LOOK))
            .map_err(LabError::file("read", &self.path))?;
        let mut buffer = [0; 4096];
        loop {
            if let Some(found) = self.pending.iter().position(|line| line.starts_with(key)) {
                return Ok(Ok(self.pending.swap_remove(found)[key.len()..].to_owned()));
            }
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    self.pending.extend(text.lines().map(str::to_owned));
                    continue;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(LabError::file("read", &self.path)(error)),
            }
            if let Some(status) = child
                .try_wait()
                .map_err(LabError::file("wait for", &self.path))?
            {
                return Ok(Err(ended(status)));
            }
            if Instant::now() > end {
                return Err(LabError::Timeout {
                    what: what.to_owned(),
                    limit,
                });
            }
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        // Whoever is left to send finds nobody, which sd_notify(3) allows; `down` removes the directory.
        let _ = fs::remove_file(&self.path);
    }
}

/// Tells whoever started this process something, such as that it is ready, if anyone asked (sd_notify(3)).
pub(crate) fn notify(message: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        // A lost message shows as a time-out on the other side, with this process's log.
        let _ = UnixDatagram::unbound()
            .and_then(|sender| sender.send_to(message.as_bytes(), Path::new::<OsStr>(&socket)));
    }
}
