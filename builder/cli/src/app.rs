//! What every command starts from: the environment, read once.

use std::{
    io::{ErrorKind, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::report::{Failure, Outcome};

/// The environment of a run.
#[derive(Debug)]
pub struct App {
    /// The fleet's directory.
    pub dir: PathBuf,
    /// JSON on standard output.
    pub json: bool,
    /// Standard error is a terminal.
    pub terminal: bool,
    /// Colours are welcome on standard error.
    pub color: bool,
    /// Seconds since 1970: SOURCE_DATE_EPOCH where it is set.
    pub now: u64,
    /// Where caches go: $XDG_CACHE_HOME/rolesmith.
    pub cache: PathBuf,
}

impl App {
    /// Reads the environment.
    pub fn new(dir: &Path, json: bool) -> Outcome<Self> {
        let terminal = std::io::stderr().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let now = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => match text.parse::<u64>() {
                Ok(epoch) => epoch,
                Err(_) => {
                    return Err(Failure::new(
                        format!("SOURCE_DATE_EPOCH is {text:?}, which is not a number of seconds"),
                        "unset it, or set it as https://reproducible-builds.org/specs/source-date-epoch/ says",
                    ));
                }
            },
            Err(_) => clock()?,
        };
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .unwrap_or_else(|| PathBuf::from("/var/cache"))
            .join("rolesmith");
        Ok(Self {
            dir: dir.to_owned(),
            json,
            terminal,
            color: terminal && !no_color,
            now,
            cache,
        })
    }

    /// A line about what is being done, for people.
    pub fn say(&self, text: impl std::fmt::Display) {
        if !self.json {
            // Whoever closed standard error does not want to hear of it.
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }
}

/// Writes text to standard output, as it is. A reader that went away ends the command quietly; a full disk is an error.
pub fn out(text: impl std::fmt::Display) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    let written = write!(stdout, "{text}").and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::new(
            format!("standard output: {error}"),
            "see where it goes to, and whether there is room",
        ),
    })
}

/// Writes a line to standard output; see [`out`].
pub fn line(text: impl std::fmt::Display) -> Outcome {
    out(format_args!("{text}\n"))
}

/// The time of day, whatever SOURCE_DATE_EPOCH says; seconds since 1970.
pub fn clock() -> Outcome<u64> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|d| d.as_secs())
        .map_err(|_| Failure::new("this machine's clock is before 1970", "set the clock"))
}
