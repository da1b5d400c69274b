//! The matrix with equals put together: what one line or column says, it says of all that it names.

use std::collections::BTreeMap;

use rolesmith_model::manifest::Protocol;

use super::{
    matrix::{Matrix, Source},
    rules::word,
};

/// Senders that may reach the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column {
    /// One that is no member.
    Other(Source),
    /// Members, by name.
    Members {
        /// Their names.
        names: Vec<String>,
        /// All that there are.
        all: bool,
        /// Whether their addresses are recorded; if not, nobody knows them from strangers.
        recorded: bool,
    },
}

/// A port that is open in the same way on some nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// As in `tcp/22`.
    pub(super) port: String,
    /// What listens there.
    pub(super) name: String,
    /// On which nodes; none for all of several.
    pub(super) on: Vec<String>,
    /// Over IPv4 and over IPv6, a column each.
    pub(super) cells: Vec<(bool, bool)>,
}

/// The matrix in as few lines and columns as tell the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) columns: Vec<Column>,
    pub(super) lines: Vec<Line>,
}

impl Groups {
    pub(super) fn of(matrix: &Matrix) -> Self {
        let columns = columns(matrix);
        let lines = lines(matrix, &columns);
        Self {
            columns: columns.into_iter().map(|(column, _)| column).collect(),
            lines,
        }
    }

    /// Whether somebody's address is not recorded.
    pub(super) fn unrecorded(&self) -> bool {
        let unknown =
            |column: &Column| matches!(column, Column::Members { recorded, .. } if !recorded);
        self.columns.iter().any(unknown)
    }
}

/// Each column with one of its senders, which stands for all of them.
fn columns(matrix: &Matrix) -> Vec<(Column, &Source)> {
    type Class<'a> = (Vec<(bool, bool)>, bool, Vec<String>, &'a Source);
    let mut columns = Vec::new();
    let mut classes: Vec<Class<'_>> = Vec::new();
    for sender in &matrix.sources {
        let Source::Member(name) = &sender.name else {
            columns.push((Column::Other(sender.name.clone()), &sender.name));
            continue;
        };
        let may: Vec<(bool, bool)> = matrix
            .nodes
            .iter()
            .flat_map(|target| target.openings.iter().map(move |o| (target, o)))
            .map(|(target, opening)| opening.of(target, &sender.name))
            .collect();
        let recorded = sender.address.is_some();
        let same = |class: &&mut (Vec<(bool, bool)>, bool, Vec<String>, &Source)| {
            class.0 == may && class.1 == recorded
        };
        match classes.iter_mut().find(same) {
            Some(class) => class.2.push(name.clone()),
            None => classes.push((may, recorded, vec![name.clone()], &sender.name)),
        }
    }
    let all = classes.len() == 1;
    columns.extend(classes.into_iter().map(|(_, recorded, names, source)| {
        let all = all && names.len() > 1;
        let column = Column::Members {
            names,
            all,
            recorded,
        };
        (column, source)
    }));
    columns
}

fn lines(matrix: &Matrix, columns: &[(Column, &Source)]) -> Vec<Line> {
    type Key<'a> = (Protocol, u16, &'a str);
    type Cells = Vec<(bool, bool)>;
    let mut groups: BTreeMap<Key<'_>, Vec<(Cells, Vec<String>)>> = BTreeMap::new();
    for target in &matrix.nodes {
        for opening in &target.openings {
            let cells: Vec<(bool, bool)> = columns
                .iter()
                .map(|(_, source)| opening.of(target, source))
                .collect();
            let same = groups
                .entry((opening.protocol, opening.port, &opening.name))
                .or_default();
            match same.iter_mut().find(|(other, _)| *other == cells) {
                Some((_, on)) => on.push(target.name.clone()),
                None => same.push((cells, vec![target.name.clone()])),
            }
        }
    }
    let nodes = matrix.nodes.len();
    let mut lines = Vec::new();
    for ((protocol, port, name), same) in groups {
        for (cells, on) in same {
            lines.push(Line {
                port: format!("{}/{port}", word(protocol)),
                name: name.to_owned(),
                on: if on.len() == nodes && nodes > 1 {
                    Vec::new()
                } else {
                    on
                },
                cells,
            });
        }
    }
    lines
}

/// Names in lines of at most `width` characters, or one name where that is longer.
pub(super) fn wrapped(names: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let comma = if number + 1 < names.len() { "," } else { "" };
        match lines.last_mut() {
            Some(line) if line.len() + 1 + name.len() + comma.len() <= width => {
                line.push_str(&format!(" {name}{comma}"));
            }
            _ => lines.push(format!("{name}{comma}")),
        }
    }
    lines
}

/// Heads of the columns as people read them, in lines of at most some characters.
pub(super) fn head(column: &Column, width: usize) -> Vec<String> {
    let lines = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    match column {
        Column::Other(Source::Public) => lines(&["public", "side"]),
        Column::Other(Source::LoadBalancer) => lines(&["load", "balancer"]),
        Column::Other(Source::Stranger | Source::Member(_)) => lines(&["private", "network"]),
        Column::Members {
            all: true,
            recorded,
            ..
        } => lines(&["every", if *recorded { "member" } else { "member*" }]),
        Column::Members {
            names, recorded, ..
        } => {
            let mark = if *recorded { "" } else { "*" };
            let names: Vec<String> = names.iter().map(|name| format!("{name}{mark}")).collect();
            wrapped(&names, width)
        }
    }
}

/// What is said below the matrix.
pub(super) fn notes(groups: &Groups) -> Vec<&'static str> {
    let balanced = groups
        .columns
        .contains(&Column::Other(Source::LoadBalancer));
    let mut notes = vec![
        "4: over IPv4. 6: over IPv6. -: dropped, as is everything that no line names.",
        if balanced {
            "private network: from an address there that is neither the load balancer's nor a member's."
        } else {
            "private network: from an address there that is no member's."
        },
    ];
    if groups.unrecorded() {
        notes.push("*: its address is not recorded, so nobody can tell it from others in the private network.");
    }
    notes.push("A node reaches itself, and everything outside but the metadata service, which is for root.");
    notes
}

/// What stands in a cell.
pub(super) const fn cell(access: (bool, bool)) -> &'static str {
    match access {
        (true, true) => "4 6",
        (true, false) => "4",
        (false, true) => "6",
        (false, false) => "-",
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*, sample};

    use super::*;
    use crate::firewall::{
        matrix::{Access, Sender, Target},
        policy::Side,
    };

    fn sender(name: Source, address: bool) -> Sender {
        Sender {
            name,
            side: Side::Private,
            address: address.then_some([10, 0, 0, 1].into()),
        }
    }

    /// Any matrix of up to four nodes.
    fn matrix() -> impl Strategy<Value = Matrix> {
        collection::vec(any::<bool>(), 1..5).prop_flat_map(|recorded| {
            let mut sources = vec![
                sender(Source::Public, false),
                sender(Source::Stranger, false),
            ];
            for (number, recorded) in recorded.iter().enumerate() {
                sources.push(sender(Source::Member(format!("n{number}")), *recorded));
            }
            let names: Vec<Source> = sources.iter().map(|sender| sender.name.clone()).collect();
            let some = sample::subsequence(names.clone(), 0..=names.len());
            let access = (20_u16..23, some.clone(), some, any::<(bool, bool)>());
            let openings = collection::vec(access, 0..4);
            collection::vec(openings, recorded.len()).prop_map(move |nodes| Matrix {
                fleet: "acme".into(),
                sources: sources.clone(),
                nodes: nodes
                    .into_iter()
                    .enumerate()
                    .map(|(number, openings)| target(number, openings))
                    .collect(),
            })
        })
    }

    /// A port, who may reach it over IPv4 and over IPv6, and whether its own node does.
    type Open = (u16, Vec<Source>, Vec<Source>, (bool, bool));

    fn target(number: usize, all: Vec<Open>) -> Target {
        let mut openings: Vec<Access> = Vec::new();
        for (port, ipv4, ipv6, own) in all {
            if openings.iter().all(|opening| opening.port != port) {
                openings.push(Access {
                    name: "service".into(),
                    protocol: Protocol::Tcp,
                    port,
                    ipv4,
                    ipv6,
                    own,
                });
            }
        }
        Target {
            name: format!("n{number}"),
            address: None,
            openings,
        }
    }

    proptest! {
        #[test]
        fn lines_and_columns_say_what_the_matrix_says(matrix in matrix()) {
            let groups = Groups::of(&matrix);
            let mut said = BTreeMap::new();
            for line in &groups.lines {
                for target in &matrix.nodes {
                    if !line.on.is_empty() && !line.on.contains(&target.name) {
                        continue;
                    }
                    for (column, cell) in groups.columns.iter().zip(&line.cells) {
                        let sources = match column {
                            Column::Other(source) => vec![source.clone()],
                            Column::Members { names, .. } => {
                                names.iter().cloned().map(Source::Member).collect()
                            }
                        };
                        for source in sources {
                            let key = (target.name.clone(), line.port.clone(), source);
                            prop_assert_eq!(said.insert(key, *cell), None, "told twice");
                        }
                    }
                }
            }
            let mut told = BTreeMap::new();
            for target in &matrix.nodes {
                for opening in &target.openings {
                    for sender in &matrix.sources {
                        let port = format!("tcp/{}", opening.port);
                        let key = (target.name.clone(), port, sender.name.clone());
                        told.insert(key, opening.of(target, &sender.name));
                    }
                }
            }
            prop_assert_eq!(said, told);
            prop_assert!(matrix.text().lines().all(|line| line == line.trim_end()));
        }
    }

    #[test]
    fn names_are_wrapped_between_them() {
        let names = ["a", "bb", "a-name-that-is-long", "c"].map(str::to_owned);
        assert_eq!(wrapped(&names, 6), ["a, bb,", "a-name-that-is-long,", "c"]);
        assert_eq!(wrapped(&[], 6), Vec::<String>::new());
    }
}
