use std::cell::RefCell;
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use jiff::ZonedDateTime;
use regex::bytes::RegexBuilder;

use crate::cli::End;
use crate::logs::HOSTS_DIR;
use crate::logs::search::files::{self, Log};
use crate::logs::search::filter::{Filter, Glob, Severities};
use crate::logs::search::follow::follow;
use crate::logs::search::show::{Form, show};
use crate::logs::search::{moment, search};

/// Find lines of all machines on a log server
///
/// Lines come in the order of their times, from all files that the log server keeps. Times are read as journalctl reads them, in this
/// machine's time zone. Exit status 0: something was found; 1: nothing, or it failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Grep {
    /// What the text of a line has to match: a regular expression (without it, every line)
    pattern: Option<String>,
    /// Not earlier than, such as "2026-03-01 10:00", 10:00, yesterday or -1h
    #[arg(long, short = 'S', value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Not later than
    #[arg(long, short = 'U', value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Lines of this machine; * and ? stand for others
    #[arg(long, short, value_name = "NAME")]
    node: Vec<Glob>,
    /// Lines of this program, such as nginx or rolesmith-*
    #[arg(long, short = 't', value_name = "NAME")]
    service: Vec<Glob>,
    /// Lines of this severity or worse, such as err; or a range, such as err..warning
    #[arg(long, short = 'p', value_name = "SEVERITY")]
    severity: Option<Severities>,
    /// Do not tell upper from lower case
    #[arg(long, short)]
    ignore_case: bool,
    /// The pattern is a plain text
    #[arg(long, short = 'F')]
    fixed_strings: bool,
    /// Lines that do not match the pattern
    #[arg(long, short = 'v', requires = "pattern")]
    invert_match: bool,
    /// For programs: an object a line
    #[arg(long, conflicts_with_all = ["raw", "count"])]
    json: bool,
    /// The lines as they stand in the files
    #[arg(long, conflicts_with = "count")]
    raw: bool,
    /// Only how many lines there are
    #[arg(long)]
    count: bool,
    /// Go on with the lines that come
    #[arg(long, short, conflicts_with_all = ["until", "count", "from"])]
    follow: bool,
    /// Search in these files, or in the logs of these directories, instead of those of this log server
    #[arg(long, value_name = "PATH")]
    from: Vec<PathBuf>,
}

impl Grep {
    pub(super) fn run(self) -> End {
        let filter = match self.filter(&ZonedDateTime::now()) {
            Ok(filter) => filter,
            Err(why) => return End::Error(why),
        };
        let form = match (self.json, self.raw) {
            (true, _) => Form::Json,
            (_, true) => Form::Raw,
            _ => Form::Short,
        };
        if self.follow {
            return self.go_on(&filter, form);
        }
        let mut out = BufWriter::new(io::stdout().lock());
        let each = |line: &[u8]| {
            if self.count {
                return Ok(());
            }
            show(&mut out, line, form)
        };
        let outcome = self.logs().and_then(|logs| search(logs, &filter, each));
        let outcome = match outcome.and_then(|outcome| out.flush().map(|()| outcome)) {
            Ok(outcome) => outcome,
            // A reader that went away (`| head`) has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return End::Good(String::new()),
            Err(error) => return End::Error(error.to_string()),
        };
        drop(out);
        if !outcome.missed.is_empty() {
            return End::Error(format!(
                "search again: logrotate took away {} before it was read",
                outcome.missed.join(", ")
            ));
        }
        let said = if self.count {
            format!("{}\n", outcome.found)
        } else {
            String::new()
        };
        if outcome.found > 0 {
            End::Good(said)
        } else {
            End::Bad(said)
        }
    }

    fn go_on(&self, filter: &Filter, form: Form) -> End {
        let out = RefCell::new(BufWriter::new(io::stdout().lock()));
        let each = |line: &[u8]| show(&mut *out.borrow_mut(), line, form);
        let caught_up = || out.borrow_mut().flush();
        match follow(Path::new(HOSTS_DIR), filter, io::stdout(), each, caught_up) {
            Ok(never) => match never {},
            Err(error) if error.kind() == ErrorKind::BrokenPipe => End::Good(String::new()),
            Err(error) => End::Error(about(error).to_string()),
        }
    }

    fn filter(&self, now: &ZonedDateTime) -> Result<Filter, String> {
        let time = |option: &str, text: &Option<String>| match text {
            Some(text) => match moment::parse(text, now) {
                Ok(time) => Ok(Some(time)),
                Err(error) => Err(format!("--{option}: {error}")),
            },
            None => Ok(None),
        };
        let pattern = match &self.pattern {
            Some(pattern) => {
                let pattern = if self.fixed_strings {
                    regex::escape(pattern)
                } else {
                    pattern.clone()
                };
                let mut builder = RegexBuilder::new(&pattern);
                builder.case_insensitive(self.ignore_case);
                Some(builder.build().map_err(|error| error.to_string())?)
            }
            None => None,
        };
        Ok(Filter {
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            nodes: self.node.clone(),
            services: self.service.clone(),
            severity: self.severity.clone(),
            pattern,
            invert: self.invert_match,
        })
    }

    fn logs(&self) -> io::Result<Vec<Log>> {
        if self.from.is_empty() {
            let mut logs = files::of_directory(Path::new(HOSTS_DIR), true).map_err(about)?;
            // Each of these files is of the machine that it is named after.
            logs.retain(|log| {
                self.node.is_empty() || self.node.iter().any(|glob| glob.fits(log.name.as_bytes()))
            });
            return Ok(logs);
        }
        let mut logs = Vec::new();
        for path in &self.from {
            if path.is_dir() {
                logs.extend(files::of_directory(path, false)?);
            } else {
                logs.push(files::of_file(path)?);
            }
        }
        Ok(logs)
    }
}

/// What to do about a log server's directory that cannot be read.
fn about(error: io::Error) -> io::Error {
    let help = match error.kind() {
        ErrorKind::NotFound => "this machine is no log server of its fleet",
        ErrorKind::PermissionDenied => "root and the group adm may read it",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}: {help}"))
}
