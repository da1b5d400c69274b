//! The matrix with equals put together: what one line or column says, it says of all that it names.

use std::collections::BTreeMap;

use rolesmith_model::manifest::Protocol;

use super::{
    matrix::{Matrix, Source},
    rules::word,
};

/// Whether somebody is let in, over IPv4 and over IPv6.
type Cell = (bool, bool);

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
    pub(super) cells: Vec<Cell>,
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

/// Members that may reach the same.
struct Class<'a> {
    may: Vec<Cell>,
    recorded: bool,
    names: Vec<String>,
    /// One of them.
    source: &'a Source,
}

/// Each column with one of its senders, which stands for all of them.
fn columns(matrix: &Matrix) -> Vec<(Column, &Source)> {
    let mut columns = Vec::new();
    let mut classes: Vec<Class<'_>> = Vec::new();
    for sender in &matrix.sources {
        let source = &sender.name;
        let Source::Member(name) = source else {
            columns.push((Column::Other(source.clone()), source));
            continue;
        };
        let may: Vec<Cell> = matrix
            .nodes
            .iter()
            .flat_map(|target| target.openings.iter().map(move |o| o.of(target, source)))
            .collect();
        let recorded = sender.address.is_some();
        let same = |class: &&mut Class<'_>| class.may == may && class.recorded == recorded;
        match classes.iter_mut().find(same) {
            Some(class) => class.names.push(name.clone()),
            None => classes.push(Class {
                may,
                recorded,
                names: vec![name.clone()],
                source,
            }),
        }
    }
    let all = classes.len() == 1;
    columns.extend(classes.into_iter().map(|class| {
        let column = Column::Members {
            all: all && class.names.len() > 1,
            names: class.names,
            recorded: class.recorded,
        };
        (column, class.source)
    }));
    columns
}

fn lines(matrix: &Matrix, columns: &[(Column, &Source)]) -> Vec<Line> {
    let mut lines: BTreeMap<(Protocol, u16, &str), Vec<Line>> = BTreeMap::new();
    for target in &matrix.nodes {
        for opening in &target.openings {
            let cells: Vec<Cell> = columns
                .iter()
                .map(|(_, source)| opening.of(target, source))
                .collect();
            let same = lines
                .entry((opening.protocol, opening.port, &opening.name))
                .or_default();
            match same.iter_mut().find(|line| line.cells == cells) {
                Some(line) => line.on.push(target.name.clone()),
                None => same.push(Line {
                    port: format!("{}/{}", word(opening.protocol), opening.port),
                    name: opening.name.clone(),
                    on: vec![target.name.clone()],
                    cells,
                }),
            }
        }
    }
    let nodes = matrix.nodes.len();
    let mut lines: Vec<Line> = lines.into_values().flatten().collect();
    for line in &mut lines {
        if line.on.len() == nodes && nodes > 1 {
            line.on.clear();
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
pub(super) const fn cell(access: Cell) -> &'static str {
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

    /// A port, whom it is open to over IPv4 and over IPv6, and whether it is to the node itself.
    type Open = (u16, Vec<Source>, Vec<Source>, Cell);

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
