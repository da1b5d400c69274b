//! The files through which the agent steers the server. Each is replaced as a whole and is durable before anything relies
//! on it.
//!
//! - `upstream.conf`: `primary_conninfo` and `primary_slot_name`. Missing means none, which is safe.
//! - `synchronous.conf`: `synchronous_standby_names`. The server refuses to start without it.
//! - `pg_hba.conf`: a copy of one of the role's two variants; the unit itself puts "closed" there before each start.
//! - `standby.signal` in the data directory: put back as soon as a promotion has removed it, so that whoever starts the
//!   server, the agent, Debian's tools or a person, gets a standby without upstream.

use std::path::Path;

use rolesmith_model::ids::NodeName;

use super::settings::{KEY_DIR, STATE_DIR, conninfo_node, postgres_ids};
use super::{Problem, Server};
use crate::cluster::{Access as Door, SyncSetting};
use crate::files::{self, Access, Stamp, stamp};

/// What only the agent may set; ALTER SYSTEM, repmgr and copies of other nodes leave such lines behind.
const OURS: [&str; 13] = [
    "primary_conninfo",
    "primary_slot_name",
    "restore_command",
    "synchronous_standby_names",
    "hba_file",
    "ident_file",
    "promote_trigger_file",
    "restart_after_crash",
    "data_directory",
    // Without these the server cannot be asked, or never has replayed all that it has.
    "hot_standby",
    "recovery_min_apply_delay",
    "port",
    "unix_socket_directories",
];

/// The text of `postgresql.auto.conf` without the settings that only the agent may make.
#[must_use]
pub fn without_ours(text: &str) -> String {
    let ours = |line: &str| {
        let name = line
            .trim_start()
            .split(|c: char| c == '=' || c.is_whitespace())
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        OURS.contains(&name.as_str()) || name.starts_with("recovery_target")
    };
    text.lines()
        .filter(|line| !ours(line))
        .fold(String::new(), |text, line| text + line + "\n")
}

/// The replication slot of a member: at most 63 characters of `[a-z0-9_]`.
#[must_use]
pub fn slot(node: &NodeName) -> String {
    let name = node.as_str().replace('-', "_");
    if name.len() <= 53 {
        format!("rolesmith_{name}")
    } else {
        format!("rolesmith_{}", &files::digest(name.as_bytes())[..40])
    }
}

/// The value of `synchronous_standby_names`.
#[must_use]
pub fn synchronous(sync: &SyncSetting) -> String {
    if sync.names.is_empty() || sync.k == 0 {
        return String::new();
    }
    let names: Vec<String> = sync.names.iter().map(|n| format!("\"{n}\"")).collect();
    format!("ANY {} ({})", sync.k, names.join(", "))
}

/// What [`synchronous`] wrote. A value that it did not write says one standby of nobody's name, which equals nothing
/// that the agent would set.
#[must_use]
pub fn parse_synchronous(value: &str) -> SyncSetting {
    if value.trim().is_empty() {
        return SyncSetting::default();
    }
    let parse = || {
        let rest = value.strip_prefix("ANY ")?;
        let (k, names) = rest.split_once(" (")?;
        let names = names
            .strip_suffix(')')?
            .split(", ")
            .map(|name| NodeName::new(name.trim_matches('"')).ok())
            .collect::<Option<_>>()?;
        Some(SyncSetting {
            k: k.parse().ok()?,
            names,
        })
    };
    parse().unwrap_or(SyncSetting {
        k: 1,
        names: std::collections::BTreeSet::new(),
    })
}

/// The mark of a directory that was rewound and has not been seen consistent since.
pub(super) const REWOUND: &str = "rewound";

/// The line by which the closed variant of pg_hba.conf says what it is.
const CLOSED: &str = "# rolesmith-access: closed";

/// A setting's line in a configuration file.
fn line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}

impl Server {
    /// Numeric user and group of postgres.
    ///
    /// # Errors
    /// There is no such user.
    pub(super) fn postgres(&self) -> Result<(u32, u32), Problem> {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        postgres_ids(&passwd).ok_or_else(|| Problem::Later("no user postgres yet".into()))
    }

    /// Writes a file for the server to read, unless it is what it should be: nothing starts the server but the agent, which
    /// comes by here each time, so a file is right whenever it is read, and the disk is spared where time counts.
    pub(super) fn give(&self, path: &Path, text: &str) -> Result<(), Problem> {
        if files::read(path).ok().flatten().as_deref() == Some(text.as_bytes()) {
            return Ok(());
        }
        let (_, group) = self.postgres()?;
        let access = Access {
            mode: 0o640,
            owner: Some((0, group)),
        };
        files::write(path, text.as_bytes(), access).map_err(Problem::file(path))
    }

    /// Makes the directories, and the copies of the node's key and certificate that libpq accepts.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(super) fn prepare(&self) -> Result<(), Problem> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
        let (user, group) = self.postgres()?;
        for dir in [STATE_DIR, KEY_DIR] {
            let dir = Path::new(dir);
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(dir)
                .and_then(|()| chown(dir, Some(0), Some(group)))
                .and_then(|()| {
                    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o750))
                })
                .map_err(Problem::file(dir))?;
        }
        let pairs = [
            (&self.settings.key, self.settings.client_key()),
            (
                &self.settings.certificate,
                self.settings.client_certificate(),
            ),
        ];
        for (from, to) in pairs {
            let bytes = std::fs::read(from).map_err(Problem::file(from))?;
            if std::fs::read(&to).ok().as_ref() != Some(&bytes) {
                let access = Access {
                    mode: 0o400,
                    owner: Some((user, group)),
                };
                files::write(&to, &bytes, access).map_err(Problem::file(&to))?;
            }
        }
        Ok(())
    }

    /// Writes whom to follow, durably.
    ///
    /// # Errors
    /// The node's address is not known, or a file that cannot be written.
    pub(super) fn write_upstream(&self, upstream: Option<&NodeName>) -> Result<(), Problem> {
        let path = self.settings.state("upstream.conf");
        let mut text = String::from(
            "# Written by rolesmith-agent; whom this node follows is decided by the cluster.\n",
        );
        if let Some(node) = upstream {
            let address = self.address(node)?;
            let own = self.settings.node.as_str();
            // Before it is consistent a rewound directory confirms the receipt of log too, and could not be used if its source
            // were lost then: it does so under a name that no commit waits for.
            let name = if self.marked(REWOUND) {
                format!("{own} (rewound)")
            } else {
                own.to_owned()
            };
            let conninfo = self
                .settings
                .conninfo(node, &address, &[("application_name", &name)]);
            text += &line("primary_conninfo", &conninfo);
            text += &line("primary_slot_name", &slot(&self.settings.node));
        }
        self.give(&path, &text)
    }

    /// The node in `primary_conninfo` as it stands on disk.
    #[must_use]
    pub(super) fn written_upstream(&self) -> Option<NodeName> {
        let text = std::fs::read_to_string(self.settings.state("upstream.conf")).ok()?;
        text.lines()
            .find(|line| line.starts_with("primary_conninfo"))
            .and_then(|line| {
                // Without the quotation marks around the whole.
                let value = line.split_once('\'')?.1;
                conninfo_node(value)
            })
    }

    /// Writes `synchronous_standby_names`, durably.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn write_synchronous(&self, sync: &SyncSetting) -> Result<(), Problem> {
        let text = line("synchronous_standby_names", &synchronous(sync));
        self.give(&self.settings.state("synchronous.conf"), &text)
    }

    /// Puts the variant of `pg_hba.conf` in place.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(super) fn write_access(&self, door: Door) -> Result<(), Problem> {
        let from = self.settings.conf.join(variant(door));
        let text = std::fs::read_to_string(&from).map_err(Problem::file(&from))?;
        self.give(&self.settings.state("pg_hba.conf"), &text)
    }

    /// The variant that stands there, which says so itself. Whatever is not "closed" counts as open.
    #[must_use]
    pub(super) fn written_access(&self) -> Door {
        let text = std::fs::read_to_string(self.settings.state("pg_hba.conf"));
        if text.is_ok_and(|text| text.lines().any(|line| line == CLOSED)) {
            Door::Closed
        } else {
            Door::Open
        }
    }

    /// The files that the server reads and others replace, to see when they do: the role's, the node's certificate, the CAs.
    #[must_use]
    pub(super) fn inputs(&self) -> Vec<Stamp> {
        let names = [
            "postgresql.conf",
            "pg_ident.conf",
            variant(Door::Closed),
            variant(Door::Open),
        ];
        let role = names.map(|name| self.settings.conf.join(name));
        let shared = [self.settings.certificate.clone(), self.settings.ca.clone()];
        role.iter().chain(&shared).map(|path| stamp(path)).collect()
    }

    /// Makes sure that the data directory is a standby's at its next start, durably.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn write_signal(&self, data: &Path) -> Result<(), Problem> {
        let recovery = data.join("recovery.signal");
        files::remove(&recovery).map_err(Problem::file(&recovery))?;
        let path = data.join("standby.signal");
        if path.exists() {
            return Ok(());
        }
        let access = Access {
            mode: 0o600,
            owner: Some(self.postgres()?),
        };
        files::write(&path, b"", access).map_err(Problem::file(&path))
    }

    /// Removes from `postgresql.auto.conf` what only the agent may set. The server must not run.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(super) fn clean_auto_conf(&self, data: &Path) -> Result<(), Problem> {
        let path = data.join("postgresql.auto.conf");
        let text = match files::read(&path).map_err(Problem::file(&path))? {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => return Ok(()),
        };
        let clean = without_ours(&text);
        if clean == text {
            return Ok(());
        }
        let access = Access {
            mode: 0o600,
            owner: Some(self.postgres()?),
        };
        files::write(&path, clean.as_bytes(), access).map_err(Problem::file(&path))
    }

    /// Makes a mark, durably.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn mark(&self, name: &str, text: &str) -> Result<(), Problem> {
        let path = self.settings.state(name);
        files::write(&path, text.as_bytes(), Access::PRIVATE).map_err(Problem::file(&path))
    }

    /// Removes a mark, durably.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub(super) fn unmark(&self, name: &str) -> Result<(), Problem> {
        let path = self.settings.state(name);
        files::remove(&path).map_err(Problem::file(&path))
    }

    /// Whether a mark stands.
    #[must_use]
    pub(super) fn marked(&self, name: &str) -> bool {
        self.settings.state(name).exists()
    }
}

fn variant(door: Door) -> &'static str {
    match door {
        Door::Closed => "pg_hba.closed.conf",
        Door::Open => "pg_hba.open.conf",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn what_others_set_is_removed_and_the_rest_stays() {
        let text = "# comment\nprimary_conninfo = 'host=x'\n  Recovery_Target_lsn='1'\nwork_mem = '8MB'\nprimary_slot_name='s'\n";
        assert_eq!(without_ours(text), "# comment\nwork_mem = '8MB'\n");
    }

    #[test]
    fn the_synchronous_setting_survives_the_way_through_the_server() {
        let setting = SyncSetting {
            k: 1,
            names: [node("app-2"), node("app-3")].into(),
        };
        assert_eq!(synchronous(&setting), "ANY 1 (\"app-2\", \"app-3\")");
        assert_eq!(parse_synchronous(&synchronous(&setting)), setting);
        assert_eq!(parse_synchronous(""), SyncSetting::default());
        assert_ne!(parse_synchronous("FIRST 1 (x)"), SyncSetting::default());
        assert_eq!(synchronous(&SyncSetting { k: 0, ..setting }), "");
    }

    #[test]
    fn slots_have_names_that_postgresql_takes() {
        assert_eq!(slot(&node("app-1")), "rolesmith_app_1");
        let long = slot(&node(
            &"a-very-long-name"
                .repeat(3)
                .chars()
                .cycle()
                .take(63)
                .collect::<String>()
                .replace("--", "xx"),
        ));
        assert!(long.len() <= 63, "{long}");
    }
}
