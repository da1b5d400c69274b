//! Replacing the data directory by a copy of another node's.
//!
//! The copy is made beside the old directory, in one of a new name for each attempt: whatever an interrupted attempt's
//! programs still write goes nowhere. The old directory is what counts until the copy is whole and on the disk; then they
//! change places, and the old one is kept until the copy streams (rule 4). The mark `cloning` stands for all that time.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rolesmith_model::ids::NodeName;

use super::conf::REWOUND;
use super::create::{remove_tree, sync};
use super::look::system_id;
use super::settings::{PEER_ROLE, REPMGR_DATABASE};
use super::{Problem, Server, run_until};
use crate::program::Interrupt;

/// repmgr's configuration with the copy's directory in it.
const CONF: &str = "clone.conf";
/// A large database takes hours.
const COPIED: Duration = Duration::from_secs(24 * 3600);
/// How the names of directories begin that are no cluster's: copies in the making, and replacements that never streamed.
const LEFTOVER: &str = "copy-";

/// A number that no earlier attempt had.
fn attempt() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos())
}

impl Server {
    /// The directory that was replaced, and is kept for now.
    fn kept(&self) -> PathBuf {
        self.beside("old")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.settings
            .data_parent()
            .join(format!("{}.{suffix}", self.settings.fleet))
    }

    /// What interrupted attempts left.
    fn leftovers(&self) -> Vec<PathBuf> {
        let prefix = format!("{}.{LEFTOVER}", self.settings.fleet);
        let entries = std::fs::read_dir(self.settings.data_parent());
        entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect()
    }

    /// Copies that node's cluster into the place of this one, and leaves it stopped.
    pub(super) async fn copy(&self, from: &NodeName) -> Result<(), Problem> {
        let interrupt = self.interruptible()?;
        let address = self.address(from)?;
        self.mark("cloning", from.as_str())?;
        self.write_upstream(None)?;
        self.stop(true).await?;
        for dir in self.leftovers() {
            // An interrupted attempt's program may still write there; then the next attempt removes it.
            let _ = remove_tree(&dir);
        }
        let parent = self.settings.data_parent();
        std::fs::create_dir_all(&parent).map_err(Problem::file(&parent))?;
        let copy = self.beside(&format!("{LEFTOVER}{}", attempt()));
        self.fetch(from, &address, &copy, interrupt).await?;
        if system_id(&copy).is_none() {
            return Err(Problem::Later("the copy is no whole cluster".into()));
        }
        self.write_signal(&copy)?;
        self.clean_auto_conf(&copy)?;
        self.replace(&copy)?;
        self.mark("made", "")?;
        self.unmark("rewinding")?;
        self.unmark(REWOUND)?;
        self.unmark("cloning")
    }

    /// `repmgr standby clone` into a directory.
    async fn fetch(
        &self,
        from: &NodeName,
        address: &str,
        copy: &Path,
        interrupt: Interrupt,
    ) -> Result<(), Problem> {
        use std::os::unix::fs::{DirBuilderExt as _, chown};
        let (user, group) = self.postgres()?;
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(copy)
            .and_then(|()| chown(copy, Some(user), Some(group)))
            .map_err(Problem::file(copy))?;
        self.write_repmgr_conf_for(CONF, copy)?;
        let source = self
            .settings
            .conninfo(from, address, &[("dbname", REPMGR_DATABASE)]);
        let (repmgr, conf) = (self.settings.program("repmgr"), self.settings.state(CONF));
        let call = self
            .as_postgres([repmgr.as_str()])
            .args(["-f", conf.display().to_string().as_str()])
            .args(["-d", source.as_str(), "-U", PEER_ROLE])
            .args(["--fast-checkpoint", "--force"])
            .args(["standby", "clone"])
            .limit(COPIED);
        run_until(call, interrupt).await?;
        Ok(())
    }

    /// Puts a copy into the place of the data directory. Nothing runs there.
    fn replace(&self, copy: &Path) -> Result<(), Problem> {
        let (data, kept) = (self.settings.data(), self.kept());
        let mut worthless = None;
        if kept.exists() && data.exists() {
            // What is there now never streamed: it is itself a replacement, and the kept one is older and worth more. It leaves
            // whole: half of it under its old name would still look like a cluster after a crash.
            let aside = self.beside(&format!("{LEFTOVER}{}", attempt()));
            std::fs::rename(&data, &aside).map_err(Problem::file(&data))?;
            worthless = Some(aside);
        } else if data.exists() {
            std::fs::rename(&data, &kept).map_err(Problem::file(&data))?;
        }
        std::fs::rename(copy, &data).map_err(Problem::file(copy))?;
        sync(&self.settings.data_parent())?;
        if let Some(aside) = worthless {
            // What is left of it after a crash goes before the next copy is made.
            let _ = remove_tree(&aside);
        }
        Ok(())
    }

    /// A crash between the two renames of [`Server::replace`]: what was there before is put back, and counts as before.
    /// Nothing of a running replacement is ever seen, for it does not wait between the two.
    pub(super) fn bring_back_kept(&self) {
        let (data, kept) = (self.settings.data(), self.kept());
        if self.marked("cloning") && !data.exists() && kept.exists() {
            let _ = std::fs::rename(&kept, &data);
            let _ = sync(&self.settings.data_parent());
        }
    }

    /// Deletes the replaced directory. Called only when the replacement streams.
    pub(super) fn forget_kept(&self) {
        let kept = self.kept();
        if kept.exists() {
            let _ = self.unmark("cloning");
            // In its own time; what is left after a crash is deleted after the next look.
            drop(tokio::task::spawn_blocking(move || remove_tree(&kept)));
        }
    }
}
