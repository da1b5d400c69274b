//! Who is the primary, for a node that has no part in the cluster: it asks those that have.
//!
//! A member's word alone is not enough, the primary's neither: a pgbouncer follows who a majority of the voters have
//! promised the newest epoch to, and who says itself that its row of that epoch is committed (rule 13).

use std::collections::BTreeMap;

use rolesmith_model::ids::NodeName;

use crate::cluster::{
    Config, Declared, EpochRow, Incarnation, Reply, Response, RoleWord, StatusReport,
};

/// What members said last; who did not answer the last time said nothing.
#[derive(Debug, Default)]
pub struct Watch {
    said: BTreeMap<NodeName, (Incarnation, StatusReport)>,
    /// The last answer: kept while too few answer to tell otherwise.
    known: Option<EpochRow>,
}

impl Watch {
    /// Forgets all but these.
    pub fn keep(&mut self, members: &BTreeMap<NodeName, Declared>) {
        self.said.retain(|name, _| members.contains_key(name));
    }

    /// An answer came, or none.
    pub fn heard(&mut self, from: &NodeName, reply: Option<Reply>) {
        match reply {
            Some(Reply {
                incarnation,
                response: Response::Status(status),
                ..
            }) => {
                self.said.insert(from.clone(), (incarnation, *status));
            }
            _ => {
                self.said.remove(from);
            }
        }
        if let Some(found) = self.find() {
            self.known = Some(found);
        }
    }

    /// The primary, as far as is known. While no majority answers it stays the one that was known: connections to it are
    /// no worse than none.
    #[must_use]
    pub fn primary(&self) -> Option<EpochRow> {
        self.known.clone()
    }

    fn find(&self) -> Option<EpochRow> {
        let config = self
            .said
            .values()
            .map(|(_, status)| &status.config)
            .max_by_key(|config| config.stamp)?;
        let (holder, row) = self.said.iter().find_map(|(name, (_, status))| {
            let row = status.row.as_ref()?;
            (status.role == RoleWord::Primary
                && row.node == *name
                && self.promises(config, name, row))
            .then_some((name, row))
        })?;
        (row.node == *holder).then(|| row.clone())
    }

    /// Whether a majority of the voters has promised that row's epoch to that node, and no voter a later one to another.
    fn promises(&self, config: &Config, holder: &NodeName, row: &EpochRow) -> bool {
        let promised = |voter: &NodeName, incarnation: &Incarnation| {
            let (machine, status) = self.said.get(voter)?;
            (machine == incarnation)
                .then_some(status.promised.clone())
                .flatten()
        };
        let count = config
            .voters
            .iter()
            .filter(|(voter, incarnation)| {
                promised(voter, incarnation)
                    .is_some_and(|(epoch, to)| epoch == row.epoch && to == *holder)
            })
            .count();
        count > config.voters.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{DataState, Epoch, Lsn, Stamp, Timeline};

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn incarnation(id: u64) -> Incarnation {
        Incarnation { number: 1, id }
    }

    fn row(epoch: u64, node: &str) -> EpochRow {
        EpochRow {
            epoch: Epoch(epoch),
            node: name(node),
            timeline: Timeline(1),
            switch: Lsn(0),
        }
    }

    fn reply(
        node: &str,
        id: u64,
        role: RoleWord,
        promised: (u64, &str),
        newest: Option<EpochRow>,
        stamp: u64,
    ) -> Reply {
        let config = Config {
            stamp: Stamp {
                epoch: Epoch(stamp),
                version: stamp,
            },
            voters: [("n1", 1), ("n2", 2), ("n3", 3)]
                .map(|(node, id)| (name(node), incarnation(id)))
                .into(),
            ..Config::default()
        };
        Reply {
            incarnation: incarnation(id),
            facts: 1,
            config: None,
            promised: Epoch(promised.0),
            response: Response::Status(Box::new(StatusReport {
                node: name(node),
                role,
                promised: Some((Epoch(promised.0), name(promised.1))),
                primary: None,
                row: newest,
                position: None,
                system_id: None,
                data: DataState::Complete,
                standbys: BTreeMap::new(),
                config,
                facts: 1,
                alarms: Vec::new(),
            })),
        }
    }

    #[test]
    fn a_majority_and_the_primary_itself_have_to_say_so() {
        let mut watch = Watch::default();
        let (n1, n2, n3) = (name("n1"), name("n2"), name("n3"));
        let primary = reply("n1", 1, RoleWord::Primary, (4, "n1"), Some(row(4, "n1")), 1);
        let standby = reply("n2", 2, RoleWord::Standby, (4, "n1"), Some(row(4, "n1")), 1);
        watch.heard(&n2, Some(standby.clone()));
        assert_eq!(watch.primary(), None, "the primary has not spoken");
        watch.heard(&n1, Some(primary));
        assert_eq!(watch.primary(), Some(row(4, "n1")));
        // Cut off, it still believes in itself; the others have gone on.
        let candidate = |node, id| {
            reply(
                node,
                id,
                RoleWord::Standby,
                (5, "n2"),
                Some(row(4, "n1")),
                1,
            )
        };
        watch.heard(&n2, Some(candidate("n2", 2)));
        watch.heard(&n3, Some(candidate("n3", 3)));
        assert_eq!(
            watch.primary(),
            Some(row(4, "n1")),
            "nobody else is one yet"
        );
        let promoted = reply("n2", 2, RoleWord::Primary, (5, "n2"), Some(row(5, "n2")), 1);
        watch.heard(&n2, Some(promoted));
        assert_eq!(watch.primary(), Some(row(5, "n2")));
        watch.heard(&n2, None);
        assert_eq!(watch.primary(), Some(row(5, "n2")), "too few say anything");
    }

    #[test]
    fn a_machine_that_has_no_vote_does_not_count() {
        let mut watch = Watch::default();
        watch.heard(
            &name("n1"),
            Some(reply(
                "n1",
                1,
                RoleWord::Primary,
                (4, "n1"),
                Some(row(4, "n1")),
                1,
            )),
        );
        let second = reply("n2", 9, RoleWord::Standby, (4, "n1"), None, 1);
        watch.heard(&name("n2"), Some(second));
        assert_eq!(watch.primary(), None);
        // Nor does one that is primary without its own row being committed.
        let mut watch = Watch::default();
        for (node, id) in [("n1", 1), ("n2", 2), ("n3", 3)] {
            let role = if id == 1 {
                RoleWord::Promoting
            } else {
                RoleWord::Standby
            };
            let said = reply(node, id, role, (4, "n1"), Some(row(3, "n2")), 1);
            watch.heard(&name(node), Some(said));
        }
        assert_eq!(watch.primary(), None);
    }
}
