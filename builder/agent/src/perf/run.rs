//! The loop of rolesmith-perf.service, and the one look of a person.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rolesmith_model::facts::KEY_FILE;
use serde::Deserialize;

use super::journal::{Journal, SOCKET};
use super::read::{Reader, micros};
use super::sample::{Sample, Whose, line};
use super::{bouncer, postgres, redis, text};
use crate::files::{self, Root, Seen};
use crate::notify::Notifier;

/// Rendered by the role base.
pub const SETTINGS_FILE: &str = "/var/lib/rolesmith/conf/base/perf.json";
/// Rendered by the role redis, where the node has it.
const REDIS_FILE: &str = "/var/lib/rolesmith/conf/redis/monitor.json";
/// The user of the system that the unit runs as (roles/base/role.toml).
const USER: &str = "rolesmith-perf";

/// [`SETTINGS_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// The fleet.
    pub fleet: String,
    /// This node.
    pub node: String,
    /// Seconds between two lines.
    pub interval: u64,
    /// PostgreSQL's port, where the node has it.
    #[serde(default)]
    pub postgresql: Option<u16>,
    /// pgbouncer's port, where the node has it.
    #[serde(default)]
    pub pgbouncer: Option<u16>,
}

/// Why no lines are written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine is in no fleet.
    #[error("this machine is not enrolled: {SETTINGS_FILE} is not there")]
    NotEnrolled,
    /// A file that cannot be used.
    #[error("{}: {why}", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// What was asked of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn broken(path: &Path) -> impl FnOnce(String) -> RunError {
    let path = path.to_owned();
    move |why| RunError::Broken { path, why }
}

impl Settings {
    fn load(root: &Root) -> Result<Self, RunError> {
        let path = root.join(SETTINGS_FILE);
        match files::read_json::<Self>(&path) {
            Seen::Is(settings) if settings.interval == 0 => {
                Err(broken(&path)("the interval is 0".to_owned()))
            }
            Seen::Is(settings) => Ok(settings),
            Seen::Absent => Err(RunError::NotEnrolled),
            Seen::Broken(why) => Err(broken(&path)(why)),
        }
    }
}

/// Settings for Redis and the key: systemd hands both to a service that may not read root's files (LoadCredential=).
fn redis(root: &Root) -> Result<Option<redis::Asker>, RunError> {
    let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let (file, key) = match &given {
        Some(dir) => (dir.join("redis.json"), dir.join("redis.key")),
        None => (root.join(REDIS_FILE), root.join(KEY_FILE)),
    };
    match files::read(&file)? {
        // A unit whose drop-in names a file that is not there is given this word.
        Some(bytes) if bytes == b"none" => Ok(None),
        Some(bytes) => {
            let settings =
                serde_json::from_slice(&bytes).map_err(|error| broken(&file)(error.to_string()))?;
            Ok(Some(redis::Asker::new(root, settings, &key)))
        }
        None => Ok(None),
    }
}

/// Looks at the machine and asks its servers.
struct Watcher {
    whose: Whose,
    reader: Reader,
    runtime: tokio::runtime::Runtime,
    postgresql: Option<postgres::Asker>,
    pgbouncer: Option<bouncer::Asker>,
    redis: Option<redis::Asker>,
}

impl Watcher {
    fn new(root: &Root, settings: &Settings) -> Result<Self, RunError> {
        let user = if rustix::process::geteuid().is_root() {
            "root"
        } else {
            USER
        };
        Ok(Self {
            whose: Whose {
                fleet: settings.fleet.clone(),
                node: settings.node.clone(),
            },
            reader: Reader::new(root.clone()),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            postgresql: settings.postgresql.map(postgres::Asker::new),
            pgbouncer: settings
                .pgbouncer
                .map(|port| bouncer::Asker::new(port, user)),
            redis: redis(root)?,
        })
    }

    fn look(&mut self) -> Sample {
        let begun = Instant::now();
        // The machine first: how long servers take is no part of what it is like.
        let mut sample = self.reader.look();
        self.runtime.block_on(async {
            if let Some(asker) = &mut self.postgresql {
                sample.postgresql = Some(asker.ask().await);
            }
            if let Some(asker) = &self.pgbouncer {
                sample.pgbouncer = Some(asker.ask().await);
            }
        });
        sample.redis = self.redis.as_mut().map(redis::Asker::ask);
        sample.took_us = micros(begun.elapsed());
        sample
    }

    fn text(&self, before: &Sample, now: &Sample) -> Result<String, RunError> {
        let line = line(&self.whose, before, now);
        Ok(text::text(&line).map_err(io::Error::from)?)
    }
}

/// Writes lines for ever.
///
/// # Errors
/// [`RunError`], before the first line.
pub fn run(root: &Root) -> Result<(), RunError> {
    let settings = Settings::load(root)?;
    let interval_ms = settings.interval.saturating_mul(1000);
    let mut watcher = Watcher::new(root, &settings)?;
    let journal = Journal::new(&root.join(SOCKET))?;
    let notifier = Notifier::from_env();
    notifier.send("READY=1\nSTATUS=taking the first look");
    let mut before = watcher.look();
    let mut least = interval_ms / 2;
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = micros(now.unwrap_or_default()) / 1000;
        sleep(Duration::from_millis(pause(now_ms, interval_ms, least)));
        least = 0;
        let seen = watcher.look();
        let text = watcher.text(&before, &seen)?;
        match journal.write(&text) {
            Ok(()) => {
                before = seen;
                notifier.send(&format!("STATUS=last line: {} bytes", text.len()));
            }
            // The next line covers this time too.
            Err(error) => notifier.send(&format!("STATUS=journald took no line: {error}")),
        }
    }
}

/// One line, over so long.
///
/// # Errors
/// [`RunError`].
pub fn once(root: &Root, over: Duration) -> Result<String, RunError> {
    let mut watcher = Watcher::new(root, &Settings::load(root)?)?;
    let before = watcher.look();
    sleep(over);
    let now = watcher.look();
    watcher.text(&before, &now)
}

/// Milliseconds to wait: lines are made when the clock shows a multiple of the interval, so that those of all nodes are of one moment.
/// At least so many; pure.
fn pause(now_ms: u64, interval_ms: u64, least_ms: u64) -> u64 {
    let left = interval_ms - now_ms % interval_ms;
    if left < least_ms {
        left + interval_ms
    } else {
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_nodes_are_of_one_moment() {
        assert_eq!(pause(120_000, 60_000, 0), 60_000);
        assert_eq!(pause(125_500, 60_000, 0), 54_500);
        assert_eq!(pause(179_999, 60_000, 0), 1);
        // The first one covers a time worth the name.
        assert_eq!(pause(179_999, 60_000, 30_000), 60_001);
        assert_eq!(pause(130_000, 60_000, 30_000), 50_000);
    }

    #[test]
    fn settings_say_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        assert!(matches!(Settings::load(&root), Err(RunError::NotEnrolled)));
        let path = root.join(SETTINGS_FILE);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write(r#"{"fleet": "acme", "node": "log-1", "interval": 60}"#);
        let settings = Settings::load(&root).unwrap();
        assert_eq!((settings.postgresql, settings.interval), (None, 60));
        write(r#"{"fleet": "acme", "node": "log-1", "interval": 0}"#);
        assert!(matches!(
            Settings::load(&root),
            Err(RunError::Broken { .. })
        ));
    }
}
