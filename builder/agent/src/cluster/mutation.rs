//! Faults that can be built into a core, each undoing one rule, so that the simulator can prove that it would notice.

/// A broken rule. Nothing but the simulator's tests makes one but [`Mutation::None`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[doc(hidden)]
#[allow(missing_docs)]
pub enum Mutation {
    #[default]
    None,
    /// Rule 1: a voter grants at once and goes on streaming.
    NoSever,
    /// Rule 2: grants of a majority are enough, whatever logs they report.
    NoReports,
    /// Rule 2: a witness counts as a member whose log was read.
    WitnessCountsForWal,
    /// Rule 3: only the place in the log decides who is newer.
    LsnOnly,
    /// Rule 3: everybody follows the primary, whatever his own log holds.
    NoLineage,
    /// Rule 4: applications and copies do not wait for the epoch row.
    NoEpochRow,
    /// Rule 4 for re-affirmed epochs: sessions of the earlier one stay while standbys attach.
    ReaffirmOpen,
    /// Rule 2: a member that gave its log up counts for everybody.
    GivenUpCounts,
    /// Rule 6: requests under an older configuration are answered as if it were the newest, and nobody says that it is not.
    StaleConfiguration,
    /// Rule 6: two members at once, and the majority of the old ones is not asked. Either alone is safe: majorities of
    /// configurations that differ by one member meet, and what both majorities keep may differ by any number.
    TwoMembersAtOnce,
    /// Rule 6: a new holder changes the configuration without having written it anew first.
    NoRestamp,
    /// Rule 6: a member is removed while commits still count on it.
    RemoveUncovered,
    /// Rule 7: a node founds alone.
    GenesisWithoutMajority,
    /// Rule 7: what was accepted before is ignored.
    AdoptNothing,
    /// Any single voter is a majority.
    Minority,
    /// Rule 8: promises are asked for at every suspicion.
    NoPreVote,
    /// Rule 8: the incumbent does not ask for a new epoch.
    NoReaffirm,
    /// A holder without a majority goes on.
    NoFencing,
    /// A beat of an earlier epoch is followed.
    FollowLowerEpoch,
    /// Rule 11: synchronous replication is dropped without asking the witness.
    DegradeWithoutWitness,
    /// Rule 11: it is not taken up again before the register is cleared.
    ClearBeforeSync,
}
