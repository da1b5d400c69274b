//! A lab that is up: looking at it, and going into its nodes.

use std::{
    ffi::{OsStr, OsString},
    io::IsTerminal,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{
    cgroup::Hierarchies,
    command::{command, run},
    error::{LabError, Result},
    launch::ENTER_GROUPS,
    network::Namespace,
    seed::Disk,
    state::{NodeState, State, Store},
};

mod status;

use status::run_state;
pub use status::{NodeStatus, OutsideStatus, RunState, Status};

/// Where [`run_directory`] is.
pub(crate) const RUN: &str = "/run";
/// What the names of [`run_directory`] begin with.
pub(crate) const RUN_PREFIX: &str = "rolesmith-";

/// Where sockets by which starting processes report are made; short, since the path of a socket may have 107 bytes. Each lab has its
/// own directory, so that none removes what another is about to use.
pub(crate) fn run_directory(id: &str) -> PathBuf {
    Path::new(RUN).join(format!("{RUN_PREFIX}{id}"))
}

/// Where a process reports: a machine's by its number, another one's by its name.
pub(crate) fn socket_path(id: &str, process: &str) -> PathBuf {
    run_directory(id).join(process)
}

/// A lab as it was recorded when this was opened.
#[derive(Debug)]
pub struct Lab {
    store: Store,
    state: State,
}

/// What a command in a node did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 128 plus the signal's number when a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Lab {
    /// The lab in this directory.
    ///
    /// # Errors
    /// [`LabError::NoLab`] when there is none.
    pub fn open(state_dir: &Path) -> Result<Lab> {
        let store = Store::at(state_dir);
        match store.load()? {
            Some(state) => Ok(Lab { store, state }),
            None => Err(LabError::NoLab(state_dir.to_owned())),
        }
    }

    /// Runs a command in a node with this program's standard streams, and returns its exit code (128 plus the number of the signal
    /// that ended it). With `terminal`, the command gets a terminal of the node's own, as a shell or an editor needs.
    ///
    /// # Errors
    /// [`LabError::NoNode`], [`LabError::NotRunning`], [`LabError::Start`].
    pub fn exec(&self, node: &str, argv: &[OsString], terminal: bool) -> Result<i32> {
        // script(1), of the Essential bsdutils, makes the terminal inside the node, where its name means something.
        let quoted = argv
            .iter()
            .map(|word| quote(word))
            .collect::<Vec<_>>()
            .join(&OsString::from(" "));
        let wrapped = ["script", "--quiet", "--return", "--command"].map(OsString::from);
        let words: Vec<OsString> = if terminal && std::io::stdin().is_terminal() {
            wrapped
                .into_iter()
                .chain([quoted, "/dev/null".into()])
                .collect()
        } else {
            argv.to_vec()
        };
        let mut inside = self.command(node, &words)?;
        inside.stdin(Stdio::inherit());
        code(inside.status().map_err(|source| LabError::Start {
            program: "nsenter".to_owned(),
            source,
        })?)
    }

    /// Runs a command in a node and captures what it writes; standard input is empty.
    ///
    /// # Errors
    /// As [`Lab::exec`]. A command that fails is no error here.
    pub fn output<S: AsRef<OsStr>>(&self, node: &str, argv: &[S]) -> Result<Output> {
        let output = self
            .command(node, argv)?
            .output()
            .map_err(|source| LabError::Start {
                program: "nsenter".to_owned(),
                source,
            })?;
        Ok(Output {
            code: code(output.status)?,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The command that runs `argv` in a node, as root, in a clean environment, not yet started; standard input is empty. It runs
    /// outside the node's control group: a frozen node's commands go on, and its memory limit does not count them.
    ///
    /// # Errors
    /// [`LabError::NoNode`], [`LabError::NotRunning`].
    pub fn command<S: AsRef<OsStr>>(&self, node: &str, argv: &[S]) -> Result<Command> {
        match run_state(self.node(node)?.stage) {
            (_, Some(leader)) => Ok(inside(leader.pid, argv, None)),
            _ => Err(LabError::NotRunning(node.to_owned())),
        }
    }

    /// The lab's network, as setns(2) takes it: sockets made there reach every node.
    pub fn network(&self) -> PathBuf {
        Namespace::named(&self.state.id).path()
    }

    /// The command that runs `argv` on this machine but in the lab's network, where it can reach every node; standard input is
    /// empty.
    pub fn client<S: AsRef<OsStr>>(&self, argv: &[S]) -> Command {
        let mut network = OsString::from("--net=");
        network.push(Namespace::named(&self.state.id).path());
        let mut client = command("nsenter");
        client.arg(network).arg("--").args(argv);
        client
    }

    /// The command that runs `argv`, a program of this machine, as a client inside a node: in the node's network and its control
    /// group, so that it is frozen and killed with the node, and among this machine's files. Not yet started; standard input is
    /// empty. It is killed when the thread that starts it ends.
    ///
    /// # Errors
    /// [`LabError::NoNode`], [`LabError::NotRunning`], and whatever keeps the group from being made.
    pub fn resident<S: AsRef<OsStr>>(&self, node: &str, argv: &[S]) -> Result<Command> {
        let known = self.node(node)?;
        let (_, Some(leader)) = run_state(known.stage) else {
            return Err(LabError::NotRunning(node.to_owned()));
        };
        let group = Hierarchies::detect()?.group(&format!("{}/clients", known.group));
        group.create()?;
        let network = format!("--net=/proc/{}/ns/net", leader.pid);
        let mut resident = command("setpriv");
        resident.args(["--pdeathsig", "KILL", "nsenter", &network]);
        resident.args(["sh", "-euc", ENTER_GROUPS, "lab-enter"]);
        resident.args(group.directories()).arg("--").args(argv);
        Ok(resident)
    }

    /// The file with everything a node wrote to its console, and systemd-nspawn's own words.
    ///
    /// # Errors
    /// [`LabError::NoNode`].
    pub fn console_log(&self, node: &str) -> Result<PathBuf> {
        self.node(node)?;
        Ok(self.disk(node).console())
    }

    /// Runs journalctl(1) with these arguments on a node's journal, with this program's standard streams; the node may have
    /// stopped. Returns journalctl's exit code.
    ///
    /// # Errors
    /// [`LabError::NoNode`], [`LabError::Start`].
    pub fn logs(&self, node: &str, arguments: &[OsString]) -> Result<i32> {
        let mut journal = self.journal(node, arguments)?;
        code(journal.status().map_err(|source| LabError::Start {
            program: "journalctl".to_owned(),
            source,
        })?)
    }

    /// The command behind [`Lab::logs`], not yet started.
    ///
    /// # Errors
    /// [`LabError::NoNode`].
    pub fn journal(&self, node: &str, arguments: &[OsString]) -> Result<Command> {
        match self.command(node, &["journalctl", "--no-pager"]) {
            Ok(mut journal) => {
                journal.args(arguments);
                Ok(journal)
            }
            Err(LabError::NotRunning(_)) => {
                let mut journal = command("journalctl");
                journal
                    .arg("--no-pager")
                    .arg("--directory")
                    .arg(self.disk(node).upper().join("var/log/journal"));
                journal.args(arguments);
                Ok(journal)
            }
            Err(error) => Err(error),
        }
    }

    fn node(&self, name: &str) -> Result<&NodeState> {
        self.state
            .machine(name)
            .ok_or_else(|| LabError::NoNode(name.to_owned()))
    }

    fn disk(&self, name: &str) -> Disk {
        Disk::at(self.store.nodes().join(name))
    }
}

/// Runs a command in the node with this first process and returns what it wrote to standard output.
pub(crate) fn enter(leader: u32, argv: &[&str], limit: Option<Duration>) -> Result<String> {
    run(&mut inside(leader, argv, limit))
}

fn inside<S: AsRef<OsStr>>(leader: u32, argv: &[S], limit: Option<Duration>) -> Command {
    let mut inside = match limit {
        Some(limit) => {
            let mut timeout = command("timeout");
            timeout
                .arg(limit.as_secs().max(1).to_string())
                .arg("nsenter");
            timeout
        }
        None => command("nsenter"),
    };
    inside
        .args(["--target", &leader.to_string(), "--all", "--"])
        .args(argv);
    inside.env("LANG", "C.UTF-8").env_remove("LC_ALL");
    // What the node's programs may draw with is a matter of the terminal in front of the person.
    if let Some(terminal) = std::env::var_os("TERM") {
        inside.env("TERM", terminal);
    }
    inside
}

fn code(status: ExitStatus) -> Result<i32> {
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// A word as sh(1) reads it back unchanged.
fn quote(word: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_come_back_from_a_shell_unchanged() {
        for word in ["plain", "", "it's", "a b\nc", "$HOME `id` \\ \"x\" *"] {
            let script =
                [OsString::from("printf %s"), quote(OsStr::new(word))].join(OsStr::new(" "));
            let output = Command::new("sh")
                .arg("-c")
                .arg(script)
                .output()
                .expect("sh runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }
}
