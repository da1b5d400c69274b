//! Which database the published facts know: genesis, once closed, stays so (rule 7 of the high-availability rules).
//!
//! Facts say that genesis is closed because cluster.lock says so. A lock that was lost, or facts from before the cluster was
//! formed, would open it again, and two machines that are made anew could found a second, empty database. So the repository
//! remembers what its facts said, in each generation's record.

use std::path::Path;

use super::state::{Generation, Records, codenames};
use super::{PublishError, check_name};

/// What the facts that are to be published know of the fleet's database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Founded {
    /// None: genesis is open.
    #[default]
    Nothing,
    /// The one of this system identifier: genesis is closed.
    Database(String),
    /// None any more: its operator says that the one of this system identifier is gone for good.
    Abandoned(String),
}

impl Founded {
    /// As the generation remembers it.
    pub(super) fn recorded(&self) -> Option<String> {
        match self {
            Self::Database(id) => Some(id.clone()),
            Self::Nothing | Self::Abandoned(_) => None,
        }
    }

    /// Refuses to open again what is closed, and to change one database for another.
    pub(super) fn check(&self, published: Option<&str>) -> Result<(), PublishError> {
        let Some(published) = published else {
            return Ok(());
        };
        match self {
            Self::Nothing => Err(PublishError::Reopened {
                published: published.to_owned(),
            }),
            Self::Database(offered) if offered != published => Err(PublishError::OtherDatabase {
                published: published.to_owned(),
                offered: offered.clone(),
            }),
            Self::Abandoned(named) if named != published => Err(PublishError::NotAbandoned {
                published: published.to_owned(),
                named: named.clone(),
            }),
            Self::Database(_) | Self::Abandoned(_) => Ok(()),
        }
    }

    /// Refuses an earlier generation whose facts knew another database than today's, or none.
    pub(super) fn check_rollback(
        earlier: &Generation,
        current: Option<&Generation>,
    ) -> Result<(), PublishError> {
        let known = current.and_then(|current| current.database.clone());
        if earlier.database == known {
            return Ok(());
        }
        Err(PublishError::RollbackReopens {
            id: earlier.id,
            earlier: earlier.database.clone(),
            known,
        })
    }
}

/// The database that the published facts know. A suite that is published for the first time goes on from the other ones.
pub(super) fn published(
    root: &Path,
    codename: &str,
    records: &Records,
) -> Result<Option<String>, PublishError> {
    if let Some(current) = records.current() {
        return Ok(current.database.clone());
    }
    for other in codenames(root)? {
        if other != codename
            && let Some(current) = Records::load(root, &other)?.current()
            && current.database.is_some()
        {
            return Ok(current.database.clone());
        }
    }
    Ok(None)
}

/// Says whether these facts could be published, before anything is built for them.
///
/// # Errors
/// As [`super::publish`].
pub fn check(root: &Path, codename: &str, founded: &Founded) -> Result<(), PublishError> {
    check_name("code name", codename)?;
    let records = Records::load(root, codename)?;
    founded.check(published(root, codename, &records)?.as_deref())
}

/// The database that the facts published below `root` know.
///
/// # Errors
/// When the records cannot be read.
pub fn published_database(root: &Path, codename: &str) -> Result<Option<String>, PublishError> {
    published(root, codename, &Records::load(root, codename)?)
}
