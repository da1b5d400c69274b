//! A line as text, never longer than whoever carries it takes.

use std::collections::BTreeMap;

use rolesmith_model::perf::{Answer, PerfLine};

/// Most bytes of a line. rsyslog of the role base cuts lines at 60 kB (maxMessageSize), and JSON that was cut is none.
pub const LONGEST: usize = 48 * 1024;
/// Most entries of a list. Each round of shortening halves it.
const ENTRIES: usize = 128;

/// The line as compact JSON. Lists lose the entries of least weight until it is short enough; `left_out` says how many.
///
/// # Errors
/// What serde_json gives; a line is made of names and numbers, so there is nothing.
pub fn text(line: &PerfLine) -> serde_json::Result<String> {
    let mut entries = ENTRIES;
    loop {
        let mut short = line.clone();
        shorten(&mut short, entries);
        let text = serde_json::to_string(&short)?;
        if text.len() <= LONGEST || entries == 0 {
            return Ok(text);
        }
        entries /= 2;
    }
}

fn shorten(line: &mut PerfLine, entries: usize) {
    let mut left_out = BTreeMap::new();
    let mut note = |name: &str, count: usize| {
        if count > 0 {
            left_out.insert(name.to_owned(), count as u64);
        }
    };
    if let Some(cpu) = &mut line.cpu {
        note("cpu.cores", keep(&mut cpu.cores, entries, |_| 0.0));
    }
    if let Some(health) = &mut line.health {
        note(
            "health.failing",
            keep(&mut health.failing, entries, |_| 0.0),
        );
    }
    note(
        "mounts",
        keep(&mut line.mounts, entries, |mount| weight(mount.total)),
    );
    note(
        "disks",
        keep(&mut line.disks, entries, |disk| weight(disk.busy_ms)),
    );
    note(
        "interfaces",
        keep(&mut line.interfaces, entries, |interface| {
            weight(interface.rx_bytes) + weight(interface.tx_bytes)
        }),
    );
    // A gigabyte weighs as much as a whole core.
    note(
        "units",
        keep(&mut line.units, entries, |unit| {
            unit.cpu + weight(unit.rss) / 1e7
        }),
    );
    if let Some(Answer::Told(server)) = &mut line.postgresql {
        note(
            "postgresql.databases",
            keep(&mut server.databases, entries, |database| {
                weight(database.bytes.unwrap_or(0))
            }),
        );
        note(
            "postgresql.standbys",
            keep(&mut server.standbys, entries, |_| 0.0),
        );
    }
    line.left_out = left_out;
}

#[expect(
    clippy::cast_precision_loss,
    reason = "to compare is all that is done with it"
)]
fn weight(value: u64) -> f64 {
    value as f64
}

/// Keeps so many of the heaviest entries, and of equal ones the first, in their order. Gives how many went.
fn keep<T>(list: &mut Vec<T>, most: usize, weight: impl Fn(&T) -> f64) -> usize {
    let gone = list.len().saturating_sub(most);
    if gone > 0 {
        let mut order: Vec<usize> = (0..list.len()).collect();
        order.sort_by(|one, other| weight(&list[*other]).total_cmp(&weight(&list[*one])));
        let mut kept = vec![false; list.len()];
        for index in order.into_iter().take(most) {
            kept[index] = true;
        }
        let mut kept = kept.into_iter();
        list.retain(|_| kept.next().unwrap_or(false));
    }
    gone
}
