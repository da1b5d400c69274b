//! cluster.lock: which clusters of the fleet were formed (rule 7 of the high-availability rules).
//!
//! The fleet alone knows that it has a database; the facts have to say so, because a virgin majority believes nothing else.
//! So what the fleet told is written down beside fleet.toml, committed by its user, and read by every build: from then on
//! facts say that genesis is closed. Nothing takes a line out of it again but its user.

use serde::{Deserialize, Serialize};

use crate::facts::Genesis;
use crate::status::FleetStatus;

/// Name of the file in a fleet's directory.
pub const FILE: &str = "cluster.lock";
/// Format of the file.
pub const FORMAT: u32 = 1;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterLock {
    /// [`FORMAT`].
    pub format: u32,
    /// The database, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// Redis, once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Learnt>,
}

/// The fleet's one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its system identifier, as PostgreSQL shows it. A text: TOML's numbers end before the largest of them.
    pub system_id: String,
    /// When it was learnt (Unix seconds).
    pub learnt: u64,
    /// The members that told it.
    pub from: Vec<String>,
}

/// That something was learnt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learnt {
    /// When (Unix seconds).
    pub learnt: u64,
    /// The members that told it.
    pub from: Vec<String>,
}

impl Default for ClusterLock {
    fn default() -> Self {
        Self {
            format: FORMAT,
            database: None,
            redis: None,
        }
    }
}

/// The lock names one database, and the fleet has another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{FILE} names the database {known}, and the fleet has {found}")]
pub struct OtherDatabase {
    /// What stands in the lock.
    pub known: String,
    /// What the fleet says.
    pub found: String,
}

impl ClusterLock {
    /// The lock after the fleet told how it is; the same one where there is nothing new.
    ///
    /// # Errors
    /// [`OtherDatabase`]: what stands there is never replaced.
    pub fn learn(&self, status: &FleetStatus, now: u64) -> Result<Self, OtherDatabase> {
        let mut lock = self.clone();
        if let Some((found, from)) = status.formed_database() {
            match &lock.database {
                None => {
                    lock.database = Some(Database {
                        system_id: found,
                        learnt: now,
                        from,
                    });
                }
                Some(known) if known.system_id != found => {
                    return Err(OtherDatabase {
                        known: known.system_id.clone(),
                        found,
                    });
                }
                Some(_) => {}
            }
        }
        if lock.redis.is_none()
            && let Some(from) = status.formed_redis()
        {
            lock.redis = Some(Learnt { learnt: now, from });
        }
        Ok(lock)
    }

    /// What facts say of the database: whether one may be made, and the one there is.
    #[must_use]
    pub fn genesis(&self) -> (Genesis, Option<&str>) {
        match &self.database {
            Some(database) => (Genesis::Closed, Some(&database.system_id)),
            None => (Genesis::Open, None),
        }
    }

    /// What facts say of Redis.
    #[must_use]
    pub fn redis_genesis(&self) -> Genesis {
        match self.redis {
            Some(_) => Genesis::Closed,
            None => Genesis::Open,
        }
    }

    /// Whether a text is an identifier as PostgreSQL shows it: a number that is not 0, written in one way.
    #[must_use]
    pub fn is_system_id(text: &str) -> bool {
        text.parse::<u64>()
            .is_ok_and(|number| number > 0 && number.to_string() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::fleet;

    #[test]
    fn what_was_learnt_is_never_replaced() {
        let mut status = fleet();
        let lock = ClusterLock::default().learn(&status, 100).unwrap();
        assert_eq!(lock.genesis(), (Genesis::Closed, Some("7")));
        assert_eq!(lock.redis_genesis(), Genesis::Closed);
        assert_eq!(lock.learn(&status, 200), Ok(lock.clone()), "nothing new");
        for member in &mut status.members {
            if let Some(database) = &mut member.database {
                database.system_id = Some("8".into());
                database.formed = Some("8".into());
            }
        }
        let other = lock.learn(&status, 300).unwrap_err();
        assert_eq!((other.known, other.found), ("7".into(), "8".into()));
        // A fleet that does not answer takes nothing away.
        status.members.clear();
        assert_eq!(lock.learn(&status, 400), Ok(lock));
    }

    #[test]
    fn identifiers_are_written_in_one_way() {
        for (text, good) in [
            ("7481234567890123456", true),
            ("18446744073709551615", true),
            ("0", false),
            ("", false),
            ("07", false),
            ("+7", false),
            ("18446744073709551616", false),
        ] {
            assert_eq!(ClusterLock::is_system_id(text), good, "{text}");
        }
    }
}
