mod grep;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{End, json};
use crate::files::Root;
use crate::logs::source::{self, Found, Kind};
use crate::logs::verify::{Since, Verdict, verify};
use crate::logs::{HOSTS_DIR, OWN_LOG, forward, session};

/// Search the aggregated log, number the lines of this machine (run by rsyslog's unit), and prove that log servers have them all
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    Grep(grep::Grep),
    /// Begin a session: run before each start of rsyslogd
    Session {
        /// The directory that stands for /
        #[arg(long, hide = true, default_value = "/")]
        root: PathBuf,
    },
    /// Close the session: run after rsyslogd ended
    End {
        /// The directory that stands for /
        #[arg(long, hide = true, default_value = "/")]
        root: PathBuf,
    },
    /// Bring the lines of this machine to every log server (run by rolesmith-logs.service)
    Forward {
        /// The directory that stands for /
        #[arg(long, hide = true, default_value = "/")]
        root: PathBuf,
    },
    /// Compare what machines sent with what log servers hold
    ///
    /// Without arguments, on a log server: its own lines. Exit status 0: every line that the machines still know is on every
    /// log server; 1: lines are missing or contradict each other, or nothing could be compared.
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// What machines sent: copies of their /var/log/rolesmith/own.log*, directories with such, or - for standard input
    #[arg(long, value_name = "PATH")]
    own: Vec<PathBuf>,
    /// What a log server holds: its /var/log/rolesmith/hosts or a copy; before it the name to report
    #[arg(long, value_name = "[NAME=]PATH")]
    server: Vec<String>,
    /// A log server that joined later: it has to hold lines from its first one on
    #[arg(long, value_name = "NAME")]
    joined_later: Vec<String>,
    /// For programs: everything that was found
    #[arg(long)]
    json: bool,
}

/// By server, then by machine.
type Verdicts = BTreeMap<String, BTreeMap<String, Verdict>>;

impl Logs {
    pub(crate) fn run(self) -> End {
        match self.part {
            Part::Grep(grep) => grep.run(),
            Part::Session { root } => match session::start(&Root::at(root)) {
                Ok(Some(session)) => End::Good(format!("session {session}\n")),
                Ok(None) => End::Good("not enrolled\n".to_owned()),
                Err(error) => {
                    End::Error(format!("no session, so rsyslogd is not started: {error}"))
                }
            },
            Part::End { root } => {
                // As systemd.exec(5) says: how the main process ended.
                let killed = std::env::var_os("EXIT_CODE").is_some_and(|code| code != "exited");
                if killed {
                    return End::Good(String::new());
                }
                match session::end(&Root::at(root)) {
                    Ok(()) => End::Good(String::new()),
                    Err(error) => End::Error(error.to_string()),
                }
            }
            Part::Forward { root } => match forward::run(&Root::at(root)) {
                Ok(()) => End::Good("there is no other log server\n".to_owned()),
                Err(error) => End::Error(error.to_string()),
            },
            Part::Verify(verify) => verify.run(),
        }
    }
}

impl Verify {
    fn run(self) -> End {
        match self.compare() {
            Ok(verdicts) => {
                let whole = verdicts
                    .values()
                    .flat_map(BTreeMap::values)
                    .all(Verdict::is_whole);
                let text = if self.json {
                    json(&Report {
                        whole,
                        servers: &verdicts,
                    })
                } else {
                    report(&verdicts)
                };
                if whole {
                    End::Good(text)
                } else {
                    End::Bad(text)
                }
            }
            Err(error) => End::Error(error.to_string()),
        }
    }

    fn compare(&self) -> io::Result<Verdicts> {
        let mut own = Found::default();
        let files = if self.own.is_empty() {
            source::with_older(OWN_LOG.as_ref())?
        } else {
            self.own.clone()
        };
        for path in &files {
            source::read(path, Kind::Own, &mut own)?;
        }
        if own.hosts.values().all(|holding| holding.is_empty()) {
            return Err(io::Error::other("no machine's own lines were found"));
        }
        let mut servers = BTreeMap::<String, Found>::new();
        let named = if self.server.is_empty() {
            vec![format!("this={HOSTS_DIR}")]
        } else {
            self.server.clone()
        };
        for server in &named {
            let (name, path) = server.split_once('=').unwrap_or((server, server));
            let found = servers.entry(name.to_owned()).or_default();
            source::read(path.as_ref(), Kind::Server, found)?;
        }
        if let Some(name) = self
            .joined_later
            .iter()
            .find(|name| !servers.contains_key(*name))
        {
            return Err(io::Error::other(format!(
                "--joined-later {name}: no server has that name"
            )));
        }
        Ok(servers
            .into_iter()
            .map(|(name, mut found)| {
                let since = if self.joined_later.contains(&name) {
                    Since::ItsFirst
                } else {
                    Since::Always
                };
                let hosts = own.hosts.iter().map(|(host, sent)| {
                    let held = found.hosts.remove(host).unwrap_or_default();
                    (host.clone(), verify(sent, &held, since))
                });
                let hosts = hosts.collect();
                (name, hosts)
            })
            .collect())
    }
}

#[derive(Serialize)]
struct Report<'a> {
    whole: bool,
    servers: &'a Verdicts,
}

fn report(verdicts: &Verdicts) -> String {
    let mut text = String::new();
    for (server, hosts) in verdicts {
        for (host, verdict) in hosts {
            // Writing to a String cannot fail.
            let _ = write_verdict(&mut text, server, host, verdict);
        }
    }
    text
}

fn write_verdict(
    text: &mut String,
    server: &str,
    host: &str,
    verdict: &Verdict,
) -> std::fmt::Result {
    let held: u64 = verdict.sessions.iter().map(|session| session.held).sum();
    let missing = verdict.missing();
    writeln!(
        text,
        "{server}: {host}: {} {held} lines in {} sessions, {missing} missing; {} came again, {} were read again after a kill",
        if verdict.is_whole() {
            "whole:"
        } else {
            "NOT WHOLE:"
        },
        verdict.sessions.len(),
        verdict.duplicates,
        verdict.read_again,
    )?;
    for session in &verdict.sessions {
        let name = format!("{}.{}", session.incarnation, session.session);
        for (from, to) in &session.missing {
            writeln!(text, "    missing: {name}.{from} to {name}.{to}")?;
        }
        if session.unproven > 0 {
            writeln!(
                text,
                "    not judged: {} lines of session {name} that the machine itself no longer has",
                session.unproven
            )?;
        }
    }
    for stamp in verdict.conflicts.iter().take(10) {
        writeln!(text, "    two lines with one number: {stamp}")?;
    }
    if verdict.unstamped > 0 {
        writeln!(text, "    {} lines have no number", verdict.unstamped)?;
    }
    Ok(())
}
