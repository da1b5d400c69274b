//! What the fleet's shape can and cannot promise about its database, and how many copies a commit waits for.

use std::{collections::BTreeMap, ops::Range};

use super::Check;
use crate::{
    finding::Place,
    fleet::Node,
    fleet_file::FleetFile,
    ids::{NodeName, RoleName},
    manifest::{CLIENT_ROLE, WITNESS_ROLE},
    role::Role,
};

/// A node with its part in the database, and the place of the role that gives it.
struct Part<'a> {
    node: &'a NodeName,
    role: Range<usize>,
}

/// Who holds the database, who only votes, and who reaches it.
struct Shape<'a> {
    data: Vec<Part<'a>>,
    witnesses: Vec<Part<'a>>,
    clients: Vec<Part<'a>>,
}

impl Shape<'_> {
    fn voters(&self) -> usize {
        self.data.len() + self.witnesses.len()
    }

    fn majority(&self) -> usize {
        self.voters() / 2 + 1
    }
}

/// Whether nodes with this role form a cluster of databases.
fn forms_database(role: &Role) -> bool {
    let mut layers = role.layers.iter().rev();
    layers
        .find_map(|layer| layer.file.cluster.as_ref())
        .and_then(|cluster| cluster.get_ref().kind.as_ref())
        .is_some_and(|kind| kind.get_ref() == "postgresql")
}

/// As many copies as a commit may wait for: whoever reported to the winner of an election has to be enough to confirm its
/// first commit, so no more than half of the other nodes with the database, and one of two.
const fn most_copies(data: usize) -> usize {
    let half = data.saturating_sub(1) / 2;
    if half == 0 { 1 } else { half }
}

impl Check<'_> {
    /// How many copies each commit waits for, by `[database] synchronous`; what the nodes' roles come to is told on the way.
    pub(super) fn database(&mut self, file: &FleetFile, nodes: &BTreeMap<NodeName, Node>) -> u32 {
        let mut shape = Shape {
            data: Vec::new(),
            witnesses: Vec::new(),
            clients: Vec::new(),
        };
        // What is left out was told already, and without it nothing of this would be true.
        let mut sound = nodes.len() == file.nodes.len();
        for node in nodes.values() {
            let data = self.part(node, forms_database);
            let witness = self.part(node, |role| role.name.as_str() == WITNESS_ROLE);
            let client = self.part(node, |role| role.name.as_str() == CLIENT_ROLE);
            if let (Some((role, _)), Some((_, span))) = (&data, &witness) {
                sound = false;
                self.error(
                    "fleet::witness-with-data",
                    span.clone(),
                    format!(
                        "node {} is a witness of the database and holds it",
                        node.name
                    ),
                    "its vote counts already, and both would be lost together",
                    format!(
                        "remove {WITNESS_ROLE:?} here, and give it to a machine without {role}"
                    ),
                );
            }
            let name = &node.name;
            shape
                .data
                .extend(data.map(|(_, role)| Part { node: name, role }));
            shape
                .witnesses
                .extend(witness.map(|(_, role)| Part { node: name, role }));
            shape
                .clients
                .extend(client.map(|(_, role)| Part { node: name, role }));
        }
        if sound
            && let Some(witness) = shape.witnesses.first()
            && shape.data.is_empty()
        {
            sound = false;
            self.error(
                "fleet::witness-without-database",
                witness.role.clone(),
                format!(
                    "node {} is a witness, and no node has the database",
                    witness.node
                ),
                "there is nothing that it could vote about",
                "give the nodes that are to hold it \"db-primary-capable\", or remove the role",
            );
        }
        if sound
            && let Some(client) = shape.clients.first()
            && shape.data.is_empty()
        {
            sound = false;
            self.error(
                "fleet::client-without-database",
                client.role.clone(),
                format!(
                    "node {} is to reach the database, and no node has it",
                    client.node
                ),
                "its pooler would have nowhere to lead to",
                "give the nodes that are to hold it \"db-primary-capable\", or remove what needs it here",
            );
        }
        if sound {
            self.promises(&shape);
        }
        self.synchronous(file, &shape)
    }

    /// The first role of a node that is, or requires, one of this kind: which that is, and where the first one stands.
    fn part(
        &self,
        node: &Node,
        wanted: impl Fn(&Role) -> bool,
    ) -> Option<(RoleName, Range<usize>)> {
        node.roles.iter().find_map(|(role, span)| {
            let closure = self.roles.closure([role].into_iter());
            let found = closure
                .into_iter()
                .find(|name| self.roles.get(name.as_str()).is_some_and(&wanted))?;
            Some((found, span.clone()))
        })
    }

    fn advice(
        &mut self,
        code: &'static str,
        part: &Part<'_>,
        message: String,
        why: String,
        help: &str,
    ) {
        let place = Place::new(self.id, part.role.clone());
        self.findings.advice(code, place, message, why, help);
    }

    fn warning(
        &mut self,
        code: &'static str,
        part: &Part<'_>,
        message: String,
        why: String,
        help: &str,
    ) {
        let place = Place::new(self.id, part.role.clone());
        self.findings.warning(code, place, message, why, help);
    }

    /// Three nodes with the database promise most, and there is nothing to be said about them.
    fn promises(&mut self, shape: &Shape<'_>) {
        let (data, witnesses) = (shape.data.as_slice(), shape.witnesses.as_slice());
        let (voters, majority) = (shape.voters(), shape.majority());
        if let [only] = data {
            self.advice(
                "fleet::one-data-node",
                only,
                format!("{} alone holds the database", only.node),
                "no copy: its disk is the only one, and without it there is no database".into(),
                "give the role to two more nodes, and any one of the three may be lost",
            );
        }
        match (data, witnesses) {
            ([] | [_], []) => {}
            ([only], [.., last]) => self.warning(
                "fleet::witness-of-one",
                last,
                format!("{} votes about a database that {} alone holds", last.node, only.node),
                format!(
                    "nobody could take its place; with a majority of {majority} of {voters} voters it stops without its witnesses"
                ),
                "give the database to a second node, or remove the role",
            ),
            ([_, second], []) => self.warning(
                "fleet::two-data-nodes",
                second,
                "the database is on two nodes, and nobody votes beside them".into(),
                "2 voters, majority 2: when one of them is lost the other stops, and nobody takes over by itself".into(),
                "give \"db-witness\" to a third machine, or the database itself",
            ),
            ([first, second], [witness]) => self.advice(
                "fleet::two-and-witness",
                witness,
                format!(
                    "the database is on {} and {}, and {} votes",
                    first.node, second.node, witness.node
                ),
                "any one of the three may be lost; while one with data is, the other goes on alone, without a copy, as soon as the witness has it in writing"
                    .into(),
                "a third node with the database keeps a copy at all times",
            ),
            (_, [.., last]) if witnesses.len() > usize::from(data.len() % 2 == 0) => {
                let even = data.len() % 2 == 0;
                self.advice(
                    "fleet::witness-surplus",
                    last,
                    format!(
                        "{} nodes with the database need {}, and the fleet has {}",
                        data.len(),
                        if even { "one witness" } else { "no witness" },
                        witnesses.len()
                    ),
                    format!(
                        "{voters} voters, majority {majority}: no more nodes with the database may be lost for it"
                    ),
                    "remove the role from this node",
                );
            }
            ([.., last], []) if data.len() % 2 == 0 => self.advice(
                "fleet::even-voters",
                last,
                format!("the database has {voters} voters, an even number"),
                format!(
                    "majority {majority}: they bear the loss of {}, as {} do, and a network that is cut in halves leaves none",
                    voters - majority,
                    voters - 1
                ),
                "give \"db-witness\" to one machine more, or the database to one node more or less",
            ),
            _ => {}
        }
    }

    fn synchronous(&mut self, file: &FleetFile, shape: &Shape<'_>) -> u32 {
        let (data, most) = (shape.data.len(), most_copies(shape.data.len()));
        let Some(written) = &file.database.synchronous else {
            if let (true, Some(last)) = (most > 1, shape.data.last()) {
                self.advice(
                    "fleet::more-copies",
                    last,
                    format!("commits wait for one copy, and {data} nodes have the database"),
                    format!("an election has to see {} of them, so one may be lost", data - 1),
                    &format!(
                        "[database] synchronous = \"any-{most}\" lets {most} be lost; \"any-1\" says that one is enough"
                    ),
                );
            }
            return 1;
        };
        let text = written.get_ref().as_str();
        let digits = text.strip_prefix("any-").unwrap_or_default();
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        let copies = digits.parse::<u32>().ok().filter(|_| plain);
        match copies {
            None => {
                self.error(
                    "fleet::synchronous",
                    written.span(),
                    format!("`synchronous` cannot be {text:?}"),
                    "each commit waits for at least one copy on another node, or it may be lost with the machine",
                    "write \"any-1\"; with five nodes that have the database \"any-2\" is possible",
                );
                1
            }
            Some(copies) if copies as usize > most => {
                let needed = (copies as usize).saturating_mul(2).saturating_add(1);
                self.error(
                    "fleet::synchronous-too-many",
                    written.span(),
                    format!(
                        "{text:?} takes {needed} nodes with the database, and the fleet has {data}"
                    ),
                    "while some are lost, the others have to be enough to confirm commits",
                    format!("write \"any-{most}\", or give the database to more nodes"),
                );
                1
            }
            Some(copies) => copies,
        }
    }
}

#[cfg(test)]
mod tests;
