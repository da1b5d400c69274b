//! The system's ssh program: the user's own configuration, keys, agent, jump hosts and known hosts hold.

use std::{
    io::{self, Write as _},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// Exit status of ssh when the connection itself failed (ssh(1)).
const CONNECTION: i32 = 255;
/// Lines of a failed program's output that are shown.
const SHOWN: usize = 20;

/// Where a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `[user@]host`, or a name of ssh_config(5).
    pub host: String,
    /// Its port; None leaves it to ssh's configuration.
    pub port: Option<u16>,
    /// Further arguments for ssh, such as `-i` and a file.
    pub options: Vec<String>,
    /// Becomes root by sudo, which must not ask for a password.
    pub sudo: bool,
    /// Seconds until a machine that does not answer is given up.
    pub patience: u32,
}

/// Why a machine could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The program cannot be run.
    #[error("cannot run ssh: {0}; on Debian it is in the package openssh-client")]
    Run(#[source] io::Error),
    /// A name that ssh would take for an option.
    #[error("{0:?} is not a host: [user@]host is needed")]
    NotAHost(String),
    /// No connection, or it broke.
    #[error("ssh {host}: {message}")]
    Connection {
        /// The host.
        host: String,
        /// What ssh says.
        message: String,
    },
    /// sudo wants a password, and there is no terminal to ask for it.
    #[error(
        "sudo asks for a password: connect as root, or allow the user `NOPASSWD: ALL` in sudoers(5) until the machine is enrolled"
    )]
    SudoPassword,
    /// A program on the machine failed.
    #[error("on the machine: {message}")]
    Failed {
        /// Its exit status; None when a signal ended it.
        status: Option<i32>,
        /// The end of what it said.
        message: String,
    },
}

/// A machine that runs programs of POSIX sh as root.
pub trait Remote {
    /// Runs a program, given on `sh -s`'s standard input, and returns its standard output.
    ///
    /// # Errors
    /// [`RemoteError`].
    fn run(&self, script: &str) -> Result<String, RemoteError>;
}

/// A connection that several programs share, so that a password is asked for once.
#[derive(Debug)]
pub struct Ssh {
    target: Target,
    /// Holds the control socket; mode 0700.
    directory: TempDir,
}

impl Ssh {
    /// Connects. ssh asks on the terminal for what it needs to ask, and says there what it has to say.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn connect(target: Target) -> Result<Self, RemoteError> {
        if target.host.is_empty()
            || target.host.starts_with('-')
            || target.host.contains(char::is_whitespace)
        {
            return Err(RemoteError::NotAHost(target.host));
        }
        // A socket's path has at most 107 bytes, and ssh appends 17 to it while it is made.
        let directory = tempfile::Builder::new()
            .prefix("rolesmith-ssh-")
            .tempdir()
            .map_err(RemoteError::Run)?;
        let ssh = Self { target, directory };
        let mut command = ssh.shared();
        command.arg(&ssh.target.host).arg("true");
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(RemoteError::Run)?;
        if !status.success() {
            return Err(ssh.connection("no connection; ssh's own words stand above"));
        }
        Ok(ssh)
    }

    /// Runs a program over a NEW connection, which proves that the machine can still be reached; on `port` if one is given.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn run_anew(&self, port: Option<u16>, script: &str) -> Result<String, RemoteError> {
        let mut command = self.base(port.or(self.target.port));
        command.args(["-o", "ControlMaster=no", "-o", "ControlPath=none"]);
        command.args(&self.target.options);
        self.finish(command, script)
    }

    /// Runs a program whose output goes where this one's goes, as it comes. Gives its exit status.
    ///
    /// # Errors
    /// [`RemoteError`]. A program that fails is no error here.
    pub fn pass_through(&self, script: &str) -> Result<i32, RemoteError> {
        let mut command = self.shared();
        command.arg(&self.target.host).arg("sh -s");
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .map_err(RemoteError::Run)?;
        if let Some(mut pipe) = child.stdin.take() {
            // A program that ends early says why by its exit status. The script is shorter than what a pipe holds.
            let _ = pipe.write_all(script.as_bytes());
        }
        match child.wait().map_err(RemoteError::Run)?.code() {
            Some(CONNECTION) => {
                Err(self.connection("the connection broke; ssh's own words stand above"))
            }
            Some(status) => Ok(status),
            None => Err(self.connection("ssh was killed")),
        }
    }

    fn base(&self, port: Option<u16>) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-T", "-o"]);
        command.arg(format!("ConnectTimeout={}", self.target.patience));
        command.args(["-o", "ServerAliveInterval=15", "-o", "ForwardAgent=no"]);
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        command
    }

    fn shared(&self) -> Command {
        let mut command = self.base(self.target.port);
        let socket = self.directory.path().join("socket");
        // The master process ends with this value, or a minute after a kill.
        command.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o"]);
        command.arg(format!("ControlPath={}", socket.display()));
        command.args(&self.target.options);
        command
    }

    fn finish(&self, mut command: Command, script: &str) -> Result<String, RemoteError> {
        command.arg(&self.target.host);
        // Simple words, because the login shell may be any.
        command.arg(if self.target.sudo {
            "sudo -n sh -s"
        } else {
            "sh -s"
        });
        let output = feed(&mut command, script).map_err(RemoteError::Run)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        if self.target.sudo && said.contains("sudo:") && said.contains("password") {
            return Err(RemoteError::SudoPassword);
        }
        if output.status.code() == Some(CONNECTION) {
            return Err(self.connection(&tail(&said)));
        }
        Err(RemoteError::Failed {
            status: output.status.code(),
            message: tail(
                if said.trim().is_empty() {
                    String::from_utf8_lossy(&output.stdout)
                } else {
                    said
                }
                .as_ref(),
            ),
        })
    }

    fn connection(&self, message: &str) -> RemoteError {
        RemoteError::Connection {
            host: self.target.host.clone(),
            message: message.to_owned(),
        }
    }
}

impl Remote for Ssh {
    fn run(&self, script: &str) -> Result<String, RemoteError> {
        self.finish(self.shared(), script)
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let mut command = self.shared();
        command.args(["-O", "exit"]).arg(&self.target.host);
        // A master that is gone already is as good.
        let _ = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Runs a program with text on its standard input, and reads what it says meanwhile.
pub(super) fn feed(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pipe = child.stdin.take();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early says why by its exit status.
            if let Some(mut pipe) = pipe {
                let _ = pipe.write_all(input.as_bytes());
            }
        });
        child.wait_with_output()
    })
}

/// The last lines of what a program said.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
