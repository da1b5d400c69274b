//! Running other programs with a limit of time.
//!
//! [`Programs`] is the one seam between the agent and the machine's programs; everything above it is tested without root.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Exit status "try again later" of sysexits(3head).
pub const EX_TEMPFAIL: i32 = 75;

/// Bytes of output that are kept of a program that failed.
const TAIL: usize = 2000;

/// A program to run, without a shell in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment besides PATH and LANG.
    pub env: Vec<(String, String)>,
    /// What it reads; nothing at all when `None`.
    pub stdin: Option<String>,
    /// When it is killed, with its process group.
    pub limit: Duration,
}

impl Call {
    /// A program with arguments and half a minute.
    pub fn new<const N: usize>(argv: [&str; N]) -> Self {
        Self {
            argv: argv.map(str::to_owned).to_vec(),
            env: Vec::new(),
            stdin: None,
            limit: Duration::from_secs(30),
        }
    }

    /// With more arguments.
    #[must_use]
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.argv.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// With something to read.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// With another limit of time.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The program's name, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Why a program gave no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("{program}: {error}")]
    Start {
        /// The program.
        program: String,
        /// What execve(2) said.
        error: io::Error,
    },
    /// It was killed after its limit of time.
    #[error("{program} did not end within {} s", limit.as_secs())]
    TooLong {
        /// The program with its arguments.
        program: String,
        /// The limit.
        limit: Duration,
        /// The end of what it had written by then.
        tail: String,
    },
    /// It ended with another status than 0.
    #[error("{program} {how}: {tail}")]
    Failed {
        /// The program with its arguments.
        program: String,
        /// "exited with N" or "was killed by a signal".
        how: String,
        /// The end of what it wrote.
        tail: String,
    },
}

/// Ends a program that others wait for, from another thread.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<OwnedFd>);

impl Interrupt {
    /// One that nobody has raised.
    ///
    /// # Errors
    /// What eventfd(2) returns.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?)))
    }

    /// Kills what runs under it, and whatever is started under it later, at once.
    pub fn raise(&self) {
        // It fails only where the counter is full, which is raised too.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// The machine's programs.
pub trait Programs {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// It could not be started, or took too long.
    fn run(&self, call: &Call) -> Result<Ended, ProgramError>;

    /// Runs a program that has to exit with 0, and gives its standard output.
    ///
    /// # Errors
    /// As [`Programs::run`], and any other exit status.
    fn output(&self, call: &Call) -> Result<String, ProgramError> {
        succeeded(call, self.run(call)?)
    }
}

fn succeeded(call: &Call, ended: Ended) -> Result<String, ProgramError> {
    if ended.code == Some(0) {
        return Ok(ended.stdout);
    }
    Err(ProgramError::Failed {
        program: call.argv.join(" "),
        how: ended.code.map_or_else(
            || "was killed by a signal".to_owned(),
            |code| format!("exited with {code}"),
        ),
        tail: ended.tail(),
    })
}

impl Ended {
    /// The end of standard error, or of standard output where that is empty.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        tail(text)
    }
}

/// The last part of a text, from the beginning of a line where possible.
fn tail(text: &str) -> String {
    let text = text.trim();
    let mut start = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let end = &text[start..];
    match end.split_once('\n') {
        Some((_, lines)) if start > 0 => lines.to_owned(),
        _ => end.to_owned(),
    }
}

/// The real programs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

/// What systemctl(1) says when systemd(1) executed itself anew while it was asked, as an upgrade of its libraries makes it do.
const LOST: [&str; 4] = [
    "Transport endpoint is not connected",
    "Connection reset by peer",
    "D-Bus connection terminated",
    "Failed to connect to bus: Connection refused",
];
/// How often systemctl(1) is asked then, and how long after the last time: nothing tells when systemd listens again.
const ASKED: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Whether systemd went away before it answered. Whatever the agent asks of it may be asked twice.
fn lost(call: &Call, ended: &Ended) -> bool {
    call.name() == "systemctl"
        && ended.code != Some(0)
        && LOST.iter().any(|what| ended.stderr.contains(what))
}

impl Programs for Machine {
    fn run(&self, call: &Call) -> Result<Ended, ProgramError> {
        for _ in 1..ASKED {
            let ended = Self::once(call, None)?;
            if !lost(call, &ended) {
                return Ok(ended);
            }
            sleep(PAUSE);
        }
        Self::once(call, None)
    }
}

impl Machine {
    /// Runs a program that has to exit with 0, until it ends or the interrupt is raised.
    ///
    /// # Errors
    /// As [`Programs::output`]; an interrupted one was killed by a signal.
    pub fn output_until(&self, call: &Call, interrupt: &Interrupt) -> Result<String, ProgramError> {
        succeeded(call, Self::once(call, Some(interrupt))?)
    }

    fn once(call: &Call, interrupt: Option<&Interrupt>) -> Result<Ended, ProgramError> {
        let start = |error| ProgramError::Start {
            program: call.name().to_owned(),
            error,
        };
        // Memory files instead of pipes: a daemon that the program leaves behind cannot keep us waiting for an end of file.
        let (mut out, mut err) = (
            scratch("out").map_err(start)?,
            scratch("err").map_err(start)?,
        );
        let mut command = Command::new(call.name());
        command
            .args(call.argv.iter().skip(1))
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LANG", "C.UTF-8")
            .envs(call.env.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(match &call.stdin {
                None => Stdio::null(),
                Some(text) => Stdio::from(input(text).map_err(start)?),
            })
            .stdout(Stdio::from(out.try_clone().map_err(start)?))
            .stderr(Stdio::from(err.try_clone().map_err(start)?));
        let mut child = command.spawn().map_err(start)?;
        let status = wait(&mut child, call.limit, interrupt).map_err(start)?;
        let (stdout, stderr) = (
            contents(&mut out).map_err(start)?,
            contents(&mut err).map_err(start)?,
        );
        match status {
            Some(status) => Ok(Ended {
                code: status.code(),
                stdout,
                stderr,
            }),
            None => Err(ProgramError::TooLong {
                program: call.argv.join(" "),
                limit: call.limit,
                tail: Ended {
                    code: None,
                    stdout,
                    stderr,
                }
                .tail(),
            }),
        }
    }
}

fn scratch(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn input(text: &str) -> io::Result<File> {
    let mut file = scratch("in")?;
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn contents(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for a child; kills it with its process group after `limit` and then returns `None`, or when the interrupt is raised.
fn wait(
    child: &mut Child,
    limit: Duration,
    interrupt: Option<&Interrupt>,
) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let _ = kill_process_group(pid, Signal::KILL);
            child.wait()?;
            return Ok(None);
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut ends = vec![PollFd::new(&handle, PollFlags::IN)];
        if let Some(Interrupt(raised)) = interrupt {
            ends.push(PollFd::new(raised, PollFlags::IN));
        }
        match poll(&mut ends, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if ends.get(1).is_some_and(|end| !end.revents().is_empty()) {
            let _ = kill_process_group(pid, Signal::KILL);
            return child.wait().map(Some);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_ends_what_runs_and_what_is_started_later() {
        let interrupt = Interrupt::new().unwrap();
        let raise = interrupt.clone();
        let other = std::thread::spawn(move || raise.raise());
        // With a child of its own, which has to go too.
        let call = Call::new(["sh", "-c", "sleep 600 & wait"]).limit(Duration::from_secs(600));
        for _ in 0..2 {
            let error = Machine.output_until(&call, &interrupt).unwrap_err();
            assert!(error.to_string().contains("killed by a signal"), "{error}");
        }
        other.join().unwrap();
    }

    #[test]
    fn a_program_reads_writes_and_ends() {
        let ended = Machine
            .run(&Call::new(["sh", "-c", "cat; echo oops >&2; exit 75"]).stdin("hello"))
            .unwrap();
        assert_eq!(
            ended,
            Ended {
                code: Some(EX_TEMPFAIL),
                stdout: "hello".into(),
                stderr: "oops\n".into()
            }
        );
        let error = Machine
            .output(&Call::new(["sh", "-c", "echo why >&2; exit 3"]))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh -c echo why >&2; exit 3 exited with 3: why"
        );
        assert!(matches!(
            Machine.run(&Call::new(["/does/not/exist"])),
            Err(ProgramError::Start { .. })
        ));
    }

    #[test]
    fn systemd_is_asked_again_when_it_went_away_and_only_then() {
        let show = Call::new(["systemctl", "show", "ssh.service"]);
        let ended = |code, stderr: &str| Ended {
            code: Some(code),
            stdout: String::new(),
            stderr: stderr.to_owned(),
        };
        let gone = "Failed to get properties: Transport endpoint is not connected\n";
        assert!(lost(&show, &ended(1, gone)));
        assert!(!lost(&show, &ended(0, gone)));
        assert!(!lost(&show, &ended(5, "Unit ssh.service not found.\n")));
        // Where systemd is not the init nobody will answer.
        let none = "Failed to connect to bus: No such file or directory\n";
        assert!(!lost(&show, &ended(1, none)));
        assert!(!lost(&Call::new(["iptables-restore"]), &ended(1, gone)));
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let call = Call::new(["sh", "-c", "echo begun; sleep 1000 & wait"])
            .limit(Duration::from_millis(100));
        let began = Instant::now();
        let Err(ProgramError::TooLong { tail, .. }) = Machine.run(&call) else {
            panic!("it ended");
        };
        assert_eq!(tail, "begun");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_daemon_left_behind_keeps_nobody_waiting() {
        let began = Instant::now();
        let ended = Machine
            .run(&Call::new(["sh", "-c", "sleep 30 & echo $!"]))
            .unwrap();
        let left_behind = ended
            .stdout
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        rustix::process::kill_process(left_behind, Signal::KILL).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn tails_begin_with_a_line() {
        assert_eq!(tail(" short \n"), "short");
        let long = format!("{}\nlast line", "x".repeat(3000));
        assert_eq!(tail(&long), "last line");
    }
}
