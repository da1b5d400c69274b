//! Numbers as types, so that an epoch is never taken for a timeline.

use std::fmt;

use rolesmith_model::ids::NodeName;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A term of office: at most one node holds one. 0 comes before the first.
    Epoch, u64
);
number!(
    /// A PostgreSQL timeline id. Two nodes can make different timelines of one id, so it identifies nothing alone.
    Timeline, u32
);
number!(
    /// PostgreSQL's database system identifier (`pg_controldata`).
    SystemId, u64
);

/// A position in the write-ahead log (`pg_lsn`), in bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    /// As PostgreSQL writes it: two hexadecimal halves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl std::str::FromStr for Lsn {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.split_once('/').unwrap_or(("0", text));
        Ok(Self(
            u64::from(u32::from_str_radix(high, 16)?) << 32
                | u64::from(u32::from_str_radix(low, 16)?),
        ))
    }
}

/// Which machine stands behind a name (rule 5). A machine that lost its promises is another one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Incarnation {
    /// The identity's number, as facts declare it.
    pub number: u64,
    /// Made at random at the first start of the agent, kept in its durable state.
    pub id: u64,
}

impl Epoch {
    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A place in one timeline's log.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// The timeline.
    pub timeline: Timeline,
    /// The place.
    pub lsn: Lsn,
}

/// Where a timeline left its parent, as its `.history` file tells. Timeline 1 begins at 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct TimelineStart {
    /// The timeline.
    pub timeline: Timeline,
    /// Its first place.
    pub begins: Lsn,
}

/// One line of the lineage: the first thing a primary commits, synchronously, in its epoch (rule 4). It stands in the
/// database, so it travels with the write-ahead log that it describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EpochRow {
    /// The epoch.
    pub epoch: Epoch,
    /// Who holds it.
    pub node: NodeName,
    /// The timeline on which it writes.
    pub timeline: Timeline,
    /// Where that timeline begins.
    pub switch: Lsn,
}
