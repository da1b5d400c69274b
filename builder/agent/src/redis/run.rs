//! Starts Redis and Sentinel.
//!
//! Each starter asks until the answer is known, writes the file, and becomes the program: no process of the agent stays
//! behind. While it waits it tells systemd that it runs, and why it waits, so that no boot and no package's configuration
//! waits with it; whether Redis answers is what health checks are for.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rolesmith_model::facts::KEY_FILE;
use rustls::ClientConfig;

use super::ask::{self, Heards};
use super::conf::{EPOCHS_SKIPPED, SentinelState, parse_sentinel, sentinel_file, server_file};
use super::decide::{Data, SentinelSeen, SentinelStart, ServerSeen, ServerStart, sentinel, server};
use super::settings::{CONF_DIR, Declared, Settings, SettingsError, founder};
use super::state::{self, Report, SENTINEL_DIR, SERVER_DIR};
use crate::files::{self, Access, Root, Stamp, stamp};
use crate::net::credentials::{BadCredentials, credentials};
use crate::notify::Notifier;

/// How often a starter asks.
const PAUSE: Duration = Duration::from_millis(300);

/// Why nothing could be started. The unit starts again.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What the agent is told.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Key and certificates.
    #[error(transparent)]
    Credentials(#[from] BadCredentials),
    /// A file.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
    move |error| RunError::File(path.to_owned(), error)
}

/// What every part needs.
pub(super) struct Context<'a> {
    pub(super) root: &'a Root,
    pub(super) settings: Settings,
    /// Key, certificate and CAs; the stamps are of what was read last.
    pub(super) files: [PathBuf; 3],
    pub(super) stamps: [Stamp; 3],
    pub(super) tls: Arc<ClientConfig>,
    pub(super) boot: String,
    pub(super) notifier: Notifier,
    unit: &'static str,
    told: Option<Report>,
}

impl<'a> Context<'a> {
    pub(super) fn new(root: &'a Root, unit: &'static str) -> Result<Self, RunError> {
        let settings = Settings::load(root)?;
        // systemd hands the key to a service that may not read root's file (LoadCredential=).
        let key = std::env::var_os("CREDENTIALS_DIRECTORY").map_or_else(
            || root.join(KEY_FILE),
            |dir| Path::new(&dir).join("node.key"),
        );
        let files = [key, root.join(&settings.cert), root.join(&settings.ca)];
        // Before they are read: what is replaced meanwhile is seen the next time.
        let stamps = files.each_ref().map(|path| stamp(path));
        let tls = credentials(&files[0], &files[1], &files[2])?;
        Ok(Self {
            root,
            settings,
            files,
            stamps,
            tls,
            boot: state::boot(root),
            notifier: Notifier::from_env(),
            unit,
            told: None,
        })
    }

    /// Takes over another certificate, or another list of CAs. What cannot be read is left: what was read before still serves.
    pub(super) fn refresh(&mut self) {
        let stamps = self.files.each_ref().map(|path| stamp(path));
        let [key, certificate, authorities] = &self.files;
        if stamps != self.stamps
            && let Ok(tls) = credentials(key, certificate, authorities)
        {
            (self.stamps, self.tls) = (stamps, tls);
        }
    }

    /// Says something once.
    pub(super) fn tell(&mut self, report: Report, status: &str) {
        if self.told.as_ref() == Some(&report) {
            return;
        }
        // A report that cannot be written is no reason to keep Redis from starting.
        let _ = state::report(self.root, self.unit, &report);
        self.notifier.send(&format!("READY=1\nSTATUS={status}"));
        self.told = Some(report);
    }

    fn wait(&mut self, why: &impl std::fmt::Display) {
        let why = why.to_string();
        let status = format!("waiting: {why}");
        self.tell(Report::Waiting { why }, &status);
        sleep(PAUSE);
    }

    fn become_program(&self, program: &[OsString], file: &Path, how: &str) -> io::Error {
        let report = Report::Started {
            how: how.to_owned(),
        };
        let _ = state::report(self.root, self.unit, &report);
        self.notifier.send(&format!("STATUS=starting as {how}"));
        let Some((name, args)) = program.split_first() else {
            return io::ErrorKind::InvalidInput.into();
        };
        Command::new(name).args(args).arg(file).exec()
    }
}

/// Becomes Redis, once it is known what this node is. Returns only when it cannot.
///
/// # Errors
/// [`RunError`].
pub fn start_server(root: &Root, program: &[OsString]) -> Result<(), RunError> {
    let mut context = Context::new(root, "server")?;
    let begun = Instant::now();
    loop {
        let declared = Declared::load(root, &context.settings)?;
        let data = state::data(root, &context.boot);
        context.refresh();
        let heards = ask::everybody(&context.tls, &context.settings, &declared);
        let start = server(&ServerSeen {
            fleet: &context.settings.fleet,
            me: &context.settings.node,
            declared: &declared,
            founder: founder(root, context.settings.founder, &declared).as_deref(),
            data,
            heard: &heards.sentinels,
            instances: &heards.instances,
            waited: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        let (master, how) = match start {
            ServerStart::Wait(why) => {
                context.wait(&why);
                continue;
            }
            ServerStart::Master => (None, "master".to_owned()),
            ServerStart::Replica(of) => {
                let name = declared
                    .at(&of)
                    .map_or(of.clone(), |peer| peer.name.clone());
                (Some(of), format!("replica of {name}"))
            }
        };
        let eligible = master.is_none() || data != Data::Empty;
        let dir = root.join(SERVER_DIR);
        let marked = if eligible {
            state::mark(root, &context.boot)
        } else {
            state::unmark(root)
        };
        marked.map_err(at(&dir))?;
        let conf = root.join(CONF_DIR).join("redis.conf");
        let master = master.as_deref().map(|of| (of, context.settings.port));
        let text = server_file(&conf.to_string_lossy(), master, eligible);
        let file = root.join(SERVER_DIR).join("redis.conf");
        files::write(&file, text.as_bytes(), Access::PRIVATE).map_err(at(&file))?;
        let error = context.become_program(program, &file, &how);
        return Err(at(Path::new(program.first().unwrap_or(&OsString::new())))(
            error,
        ));
    }
}

/// Becomes Sentinel, once it is known what it watches. Returns only when it cannot.
///
/// # Errors
/// [`RunError`].
pub fn start_sentinel(root: &Root, program: &[OsString]) -> Result<(), RunError> {
    let mut context = Context::new(root, "sentinel")?;
    let fleet = context.settings.fleet.clone();
    let me = context.settings.node.clone();
    let file = root.join(SENTINEL_DIR).join("sentinel.conf");
    loop {
        let declared = Declared::load(root, &context.settings)?;
        let text = files::read(&file).map_err(at(&file))?.unwrap_or_default();
        let own = parse_sentinel(&fleet, &String::from_utf8_lossy(&text))
            .map(|own| own.today(&fleet, &declared, &state::places(root)));
        let heard = match own {
            // What it knows itself is enough, and after a blackout there is nobody else to ask.
            Some(_) => Heards::default().sentinels,
            None => {
                context.refresh();
                let mut heard = ask::everybody(&context.tls, &context.settings, &declared);
                heard.sentinels.remove(&me);
                heard.sentinels
            }
        };
        let start = sentinel(&SentinelSeen {
            fleet: &fleet,
            me: &me,
            declared: &declared,
            founder: founder(root, context.settings.founder, &declared).as_deref(),
            own: own.as_ref(),
            heard: &heard,
        });
        let fresh = |master: String, epoch: u64, past: u64, others| SentinelState {
            master,
            config_epoch: epoch,
            leader_epoch: past,
            current_epoch: past,
            replicas: Vec::new(),
            others,
        };
        let (watched, how) = match (start, own) {
            (SentinelStart::Wait(why), _) => {
                context.wait(&why);
                continue;
            }
            (SentinelStart::Resume, Some(own)) => (own, "before"),
            // Resume comes with a state of its own only.
            (SentinelStart::Resume, None) => continue,
            (
                SentinelStart::Join {
                    master,
                    epoch,
                    others,
                },
                _,
            ) => {
                let past = epoch.saturating_add(EPOCHS_SKIPPED);
                (fresh(master, epoch, past, others), "a new member")
            }
            (SentinelStart::Found { master, others }, _) => {
                (fresh(master, 0, 0, others), "a founder")
            }
        };
        let conf = root.join(CONF_DIR).join("sentinel.conf");
        let settings = std::fs::read_to_string(&conf).map_err(at(&conf))?;
        let ports = (context.settings.port, context.settings.sentinel_port);
        let text = sentinel_file(&settings, &fleet, &me, ports, declared.majority(), &watched);
        let places = declared
            .peers
            .iter()
            .filter_map(|peer| Some((peer.name.clone(), peer.address.clone()?)))
            .collect();
        // After the state: with old places and new addresses nothing is lost, the other way round a member that moved
        // would be forgotten.
        files::write(&file, text.as_bytes(), Access::PRIVATE).map_err(at(&file))?;
        state::remember(root, &places).map_err(at(&file))?;
        let error = context.become_program(program, &file, how);
        return Err(at(Path::new(program.first().unwrap_or(&OsString::new())))(
            error,
        ));
    }
}
