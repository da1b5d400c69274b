//! Every duration of the protocol, so that tests and the simulator can vary them. No safety property rests on one of
//! them (rule 10); they decide how long an interruption lasts.

/// Durations in milliseconds, by each node's own `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Between two beats of a holder.
    pub beat: u64,
    /// How long an answer is waited for.
    pub answer: u64,
    /// A voter that heard the holder within this time refuses pre-votes.
    pub fresh: u64,
    /// A data member that has not heard the holder for this time begins to ask for pre-votes; not below `fresh`.
    pub suspect: u64,
    /// Random part of every wait of a candidate.
    pub spread: u64,
    /// Added for each data member that is known to be more advanced, or equal with a lower name.
    pub rank: u64,
    /// How long a candidate goes on with one epoch.
    pub election: u64,
    /// How long a candidate still hopes for an epoch that some voter has promised to another one, plus [`Timing::rank`] for each
    /// that goes first.
    pub split: u64,
    /// Between two repetitions of a request for a pending grant.
    pub again: u64,
    /// A holder without a majority of answers for this time fences itself.
    pub fence: u64,
    /// Between two heartbeat commits of a primary.
    pub heartbeat: u64,
    /// A heartbeat commit that takes longer than this, while a standby streams, makes the primary step down.
    pub stuck: u64,
    /// With two data members and a witness: how long the standby has to be gone before the primary goes on alone.
    pub alone: u64,
    /// After a failed database action.
    pub retry: u64,
    /// Between two attempts at genesis.
    pub genesis: u64,
    /// How long only the new machine of a name has to have answered before it replaces the old one in the configuration.
    pub replace: u64,
    /// A standby that takes no connection for this long is given more log, and one for which there is none is replaced by a
    /// copy after [`Timing::hopeless`].
    pub revive: u64,
    /// See there.
    pub hopeless: u64,
    /// How long a planned switchover may take before the old primary takes its place back.
    pub handover: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat: 300,
            answer: 1_000,
            fresh: 1_500,
            suspect: 1_800,
            spread: 600,
            rank: 250,
            election: 4_000,
            split: 300,
            again: 50,
            fence: 5_000,
            heartbeat: 1_000,
            stuck: 10_000,
            alone: 2_000,
            retry: 500,
            genesis: 2_000,
            replace: 5_000,
            revive: 5_000,
            hopeless: 600_000,
            handover: 5_000,
        }
    }
}
