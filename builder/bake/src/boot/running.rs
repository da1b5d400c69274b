//! A machine that runs: qemu, its console, and the way in.

use std::{
    fs,
    net::TcpListener,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::io::{FdFlags, fcntl_setfd};

use super::{
    Image,
    console::{Console, Mark, Seen, Vain},
    error::BootError,
    guest::{DataSource, Guest, Repository},
    machine::{Accelerator, Durability, Firmware, Machine, OVMF_VARIABLES},
    ssh::Key,
};

/// Size of a guest's disk: that of the smallest droplet with 1 GB of memory. It takes room as it is written.
const DISK: &str = "25G";

/// Lines of a console that an error shows.
const SHOWN: usize = 40;

/// qemu's own words that are kept.
const WORDS: usize = 4000;

/// How one machine is to be booted.
pub(super) struct Start<'a> {
    pub(super) image: &'a Image,
    pub(super) guest: &'a Guest,
    pub(super) source: DataSource,
    pub(super) firmware: Firmware,
    pub(super) accelerator: Accelerator,
    pub(super) durability: Durability,
    pub(super) processors: u32,
    pub(super) repository: Option<&'a Repository>,
    /// Which of the machines on the private network it is.
    pub(super) number: u8,
    /// The machine's end of the private network.
    pub(super) wire: Option<OwnedFd>,
    /// A directory for its files: empty, or that in which it ran before.
    pub(super) directory: &'a Path,
    pub(super) key: &'a Key,
}

/// A machine that was switched on. It is switched off, as by pulling the plug, when this is dropped, and when this program ends in
/// whatever way.
#[derive(Debug)]
pub struct Running {
    pub(super) guest: Guest,
    firmware: Firmware,
    begun: Instant,
    qemu: Child,
    console: Console,
    words: Arc<Mutex<Vec<u8>>>,
    ssh: u16,
    key: PathBuf,
}

impl Start<'_> {
    /// Makes the machine's files and switches it on. The thread that calls this has to live as long as the machine: the kernel ends
    /// qemu with it (`PR_SET_PDEATHSIG`, prctl(2)).
    pub(super) fn switch_on(self) -> Result<Running, BootError> {
        let nics = self.guest.nics(self.number);
        let machine = Machine {
            name: self.guest.node.clone(),
            firmware: self.firmware,
            accelerator: self.accelerator,
            memory: self.guest.memory,
            processors: self.processors,
            disk: self.overlay()?,
            durability: self.durability,
            seed: self.seed(&nics)?,
            variables: self.directory.join("variables.fd"),
            public: nics.0,
            private: nics.1,
            ssh: (free_port()?, self.guest.ssh_port),
            repository: self.repository.map(|it| (it.port, it.answer.clone())),
            wire: self.wire.as_ref().map(raw),
        };
        if self.firmware == Firmware::Uefi && !machine.variables.exists() {
            fs::copy(OVMF_VARIABLES, &machine.variables)
                .map_err(BootError::file("write", &machine.variables))?;
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(machine.arguments());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(wire) = &self.wire {
            // Handed on to this child; no other is started meanwhile.
            fcntl_setfd(wire, FdFlags::empty())
                .map_err(|error| BootError::file("hand on", "the private network")(error.into()))?;
        }
        let begun = Instant::now();
        let child = command.spawn();
        drop(self.wire);
        let mut qemu = child.map_err(BootError::file("start", "qemu-system-x86_64"))?;
        let stdout = qemu.stdout.take().expect("was asked for");
        let words = words(qemu.stderr.take().expect("was asked for"));
        Ok(Running {
            guest: self.guest.clone(),
            firmware: self.firmware,
            begun,
            console: Console::read(stdout, begun),
            qemu,
            words,
            ssh: machine.ssh.0,
            key: self.key.path().to_owned(),
        })
    }

    /// A disk on top of the image, which is never written to. A machine that ran before has one.
    fn overlay(&self) -> Result<PathBuf, BootError> {
        let image = &self.image.path;
        let below = fs::canonicalize(image).map_err(BootError::file("read", image))?;
        let overlay = self.directory.join("disk.qcow2");
        if overlay.exists() {
            return Ok(overlay);
        }
        let mut create = Command::new("qemu-img");
        create.args([
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            self.image.format.name(),
            "-b",
        ]);
        tool("qemu-img", create.arg(&below).arg(&overlay).arg(DISK))?;
        Ok(overlay)
    }

    fn seed(
        &self,
        nics: &(super::machine::Nic, super::machine::Nic),
    ) -> Result<PathBuf, BootError> {
        let bytes = self
            .guest
            .seed(self.source, nics, self.repository)
            .map_err(|source| BootError::Seed {
                node: self.guest.node.clone(),
                source,
            })?;
        let path = self.directory.join("seed.iso");
        // The directory is this user's alone; the seed holds secrets.
        fs::write(&path, bytes).map_err(BootError::file("write", &path))?;
        Ok(path)
    }
}

fn raw(descriptor: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd as _;
    descriptor.as_fd().as_raw_fd()
}

/// A port of the loopback address that is free now. qemu fails, and says so, where another program takes it first.
fn free_port() -> Result<u16, BootError> {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port())
        .map_err(BootError::file("listen on", "127.0.0.1"))
}

/// Reads what qemu says of itself, and keeps the beginning.
fn words(mut source: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let words: Arc<Mutex<Vec<u8>>> = Arc::default();
    let theirs = Arc::clone(&words);
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(got @ 1..) = source.read(&mut buffer) {
            let mut words = theirs.lock().unwrap_or_else(PoisonError::into_inner);
            let room = WORDS.saturating_sub(words.len());
            words.extend(&buffer[..got.min(room)]);
        }
    });
    words
}

/// Runs a program that helps.
pub(super) fn tool(program: &'static str, command: &mut Command) -> Result<String, BootError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(BootError::file("start", program))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(BootError::Tool {
        program,
        status: output.status.to_string(),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

impl Running {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.guest.node
    }

    /// Waits until the console has said this, in this boot (1 is the first) or a later one.
    ///
    /// # Errors
    /// [`BootError::Boot`] with the console's end, where the machine ends, gives up, or is late.
    pub fn wait(&mut self, mark: Mark, boot: u32, until: Instant) -> Result<Seen, BootError> {
        self.console.wait(mark, boot, until).map_err(|vain| {
            let wanted = match mark {
                Mark::Kernel => "its kernel",
                Mark::CloudInit => "the end of cloud-init",
                Mark::Joined => "the agent's word that it has joined",
            };
            let what = match vain {
                Vain::Late => format!(
                    "did not come to {wanted} within {:.0} s",
                    self.begun.elapsed().as_secs_f64()
                ),
                Vain::Hopeless(line) => format!("stopped before {wanted}: {line}"),
                Vain::Ended => format!("ended before {wanted}: {}", self.end()),
            };
            self.failed(what)
        })
    }

    /// Runs a shell script in the guest as root and gives what it printed.
    ///
    /// # Errors
    /// [`BootError::Ssh`].
    pub fn shell(&self, script: &str, limit: Duration) -> Result<String, BootError> {
        super::ssh::run(&self.key, self.ssh, script, limit).map_err(|said| BootError::Ssh {
            node: self.guest.node.clone(),
            said,
            console: self.console.tail(SHOWN),
        })
    }

    /// A command that runs another one in the guest as root: ssh with what it needs, without what is to be run.
    #[must_use]
    pub fn ssh(&self) -> Command {
        super::ssh::command(&self.key, self.ssh)
    }

    /// Leads a new port of the host's loopback address to a port of the guest's, as long as the value lives.
    ///
    /// # Errors
    /// [`BootError::File`] where ssh cannot be started. Whether it gets through is seen by who connects.
    pub fn forward(&self, port: u16) -> Result<Forward, BootError> {
        let here = free_port()?;
        let ssh = self.ssh();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(ssh.get_program());
        command.args(["-N", "-o", "ExitOnForwardFailure=yes", "-L"]);
        command.arg(format!("127.0.0.1:{here}:127.0.0.1:{port}"));
        command.args(ssh.get_args()).stdin(Stdio::null());
        let ssh = command.spawn().map_err(BootError::file("start", "ssh"))?;
        Ok(Forward { port: here, ssh })
    }

    /// Process id of qemu.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.qemu.id()
    }

    /// Everything of note that the console has said so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.console.seen()
    }

    /// Since it was switched on.
    #[must_use]
    pub fn up(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Pulls the plug: SIGKILL to qemu. What the guest had in its memory is gone.
    ///
    /// # Errors
    /// [`BootError::File`] where it cannot be waited for.
    pub fn kill(&mut self) -> Result<(), BootError> {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        self.qemu
            .wait()
            .map(drop)
            .map_err(BootError::file("wait for", "qemu-system-x86_64"))
    }

    pub(super) fn failed(&self, what: String) -> BootError {
        BootError::Boot {
            node: self.guest.node.clone(),
            firmware: self.firmware,
            what,
            console: self.console.tail(SHOWN),
        }
    }

    /// How qemu ended, and what it said.
    fn end(&mut self) -> String {
        let status = self
            .qemu
            .wait()
            .map_or_else(|error| error.to_string(), |status| status.to_string());
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = String::from_utf8_lossy(&words);
        format!("qemu ended with {status}: {}", words.trim())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left that could be told of an error.
        let _ = self.kill();
    }
}

/// A port that leads into a guest.
#[derive(Debug)]
pub struct Forward {
    /// Of the host's loopback address.
    pub port: u16,
    ssh: Child,
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended with its machine.
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}
