//! Alarms of the node as they are now, each with what makes it the same tomorrow.

use std::collections::BTreeMap;

use crate::health::DRAINED;
use crate::status::Status;

use super::queue;

/// Most characters of an alarm's text: a line of a mail may have 998 bytes (RFC 5322, 2.1.1).
const LONGEST: usize = 240;

/// What people have to be told of: texts by what makes an alarm the same.
///
/// Not that mail waits: that mail would wait, too. Not that the node is drained: whoever did it knows.
#[must_use]
pub fn current(status: &Status) -> BTreeMap<String, String> {
    let mut alarms = BTreeMap::new();
    if !status.enrolled {
        return alarms;
    }
    let mut lines = Vec::new();
    for check in &status.health.checks {
        if let Some(problem) = &check.problem {
            let name = format!("{}/{}", check.role, check.name);
            let line = format!("{name}: {problem}");
            alarms.insert(name, plain(&line));
            lines.push(line);
        }
    }
    let others = status.alarms.iter().filter(|alarm| {
        !lines.contains(alarm) && *alarm != DRAINED && !alarm.starts_with(queue::WAITS)
    });
    for alarm in others {
        alarms.insert(without_numbers(alarm), plain(alarm));
    }
    let links = status.cluster.iter().flat_map(|report| &report.net.links);
    // Where nobody knows its address, another alarm says so.
    for link in links.filter(|link| !link.connected && !link.addresses.is_empty()) {
        let why = link.problem.as_deref().unwrap_or("it does not answer");
        alarms.insert(
            format!("member {}", link.name),
            plain(&format!("{} is not reached: {why}", link.name)),
        );
    }
    alarms
}

/// An alarm that counts seconds or bytes is the same one when they change.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if !character.is_ascii_digit() {
            out.push(character);
        } else if !out.ends_with('#') {
            out.push('#');
        }
    }
    out
}

/// One line of bounded length.
fn plain(text: &str) -> String {
    let line: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line = line.join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    let mut short: String = line.chars().take(LONGEST - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guard;
    use crate::health::{Checked, Health};
    use crate::net::{LinkStatus, NetStatus};
    use crate::runtime::report::ClusterReport;

    fn status(alarms: &[&str], checks: &[(&str, Option<&str>)]) -> Status {
        let checks: Vec<Checked> = checks
            .iter()
            .map(|(name, problem)| Checked {
                role: "redis".to_owned(),
                name: (*name).to_owned(),
                problem: problem.map(str::to_owned),
            })
            .collect();
        let health = Health {
            enrolled: true,
            healthy: false,
            at: 1,
            problem: None,
            checks,
        };
        let mut all: Vec<String> = alarms.iter().map(|alarm| (*alarm).to_owned()).collect();
        all.extend(health.problems());
        Status {
            enrolled: true,
            incarnation: Some(1),
            report: None,
            health,
            firewall: "active",
            guard: Guard::default(),
            cluster: None,
            alarms: all,
        }
    }

    #[test]
    fn an_alarm_is_the_same_when_its_words_change() {
        let first = current(&status(
            &["the node's certificate ends in 30 days: publish"],
            &[
                ("unit", Some("rolesmith-redis.service is activating")),
                ("port", None),
            ],
        ));
        let second = current(&status(
            &["the node's certificate ends in 9 days: publish"],
            &[
                ("unit", Some("rolesmith-redis.service is failed")),
                ("port", None),
            ],
        ));
        assert!(first.keys().eq(second.keys()), "{first:?} {second:?}");
        assert_eq!(first.len(), 2, "a failed check is told once: {first:?}");
        assert_eq!(
            second["redis/unit"],
            "redis/unit: rolesmith-redis.service is failed"
        );
    }

    #[test]
    fn mail_that_waits_and_a_drained_node_are_no_news() {
        let waits = format!("{}3 messages", queue::WAITS);
        assert!(current(&status(&[DRAINED, &waits], &[])).is_empty());
        let mut strange = status(&["x"], &[]);
        strange.enrolled = false;
        assert!(current(&strange).is_empty());
    }

    #[test]
    fn a_lost_member_is_told_of() {
        let link = |name: &str, connected, addresses: &[&str]| LinkStatus {
            name: name.to_owned(),
            connected,
            facts: None,
            problem: Some("no answer".to_owned()),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        let mut seen = status(&[], &[]);
        seen.cluster = Some(ClusterReport {
            net: NetStatus {
                links: vec![
                    link("app-2", false, &["10.77.0.12"]),
                    link("app-3", true, &["10.77.0.13"]),
                    link("app-4", false, &[]),
                ],
                ..NetStatus::default()
            },
            ..ClusterReport::default()
        });
        let alarms = current(&seen);
        assert_eq!(alarms["member app-2"], "app-2 is not reached: no answer");
        assert_eq!(alarms.len(), 1);
    }

    #[test]
    fn a_text_is_one_line_of_bounded_length() {
        assert_eq!(plain("a\n\tb\u{7}c "), "a b c");
        let long = plain(&"ä".repeat(1000));
        assert!(long.chars().count() == LONGEST && long.ends_with('…'));
    }
}
