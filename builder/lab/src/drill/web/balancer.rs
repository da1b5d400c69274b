//! The load balancer's log: which connections broke and whose they were, and when it took nodes out and back.
//!
//! haproxy logs each connection that did not end as it should (`option dontlog-normal`), in the format `tcplog` (its configuration
//! manual, 8.2.2), and each change of a server. It knows by itself where it sent a connection; clients do not.

use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use super::super::ledger::LedgerError;

/// What haproxy calls the ports' backends; the one of port 443.
const HTTPS: &str = "https";

/// A connection that broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The client's end.
    pub client: SocketAddrV4,
    /// The node that had it; nothing where none took it.
    pub node: Option<String>,
    /// How it ended, in haproxy's two letters: who ended it (C, S: client, server; c, s: time ran out for one), and when.
    pub state: String,
    /// When that was logged, in nanoseconds since 1970.
    pub at: u64,
}

/// A node was taken out, or back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The node.
    pub node: String,
    /// Whether it gets connections from now on.
    pub up: bool,
    /// Why, in haproxy's words; nothing where its other port's check speaks for this one.
    pub reason: Option<String>,
    /// When that was logged, in nanoseconds since 1970.
    pub at: u64,
}

impl Change {
    /// Whether the node itself said that it is to be left alone: it answered the check with 503.
    #[must_use]
    pub fn was_asked_for(&self) -> bool {
        self.reason
            .as_ref()
            .is_some_and(|reason| reason.starts_with("Layer7 wrong status, code: 503"))
    }
}

/// What the load balancer did, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BalancerLog {
    /// Connections to port 443 that broke.
    pub broken: Vec<Broken>,
    /// Nodes out and back.
    pub changes: Vec<Change>,
}

/// Reads the unit's journal as `journalctl --output=json` writes it.
///
/// # Errors
/// The first line that is none of a journal.
pub fn parse_balancer(text: &str) -> Result<BalancerLog, LedgerError> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "__REALTIME_TIMESTAMP")]
        microseconds: String,
        #[serde(rename = "MESSAGE")]
        message: serde_json::Value,
    }
    let mut log = BalancerLog::default();
    for (at, line) in text.lines().enumerate() {
        let wrong = |reason: String| LedgerError {
            line: at + 1,
            reason,
        };
        let line: Line = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let at = line
            .microseconds
            .parse::<u64>()
            .map_err(|_| wrong(format!("{:?} is no time", line.microseconds)))?
            .saturating_mul(1000);
        // What is no text is bytes of somebody else's.
        let Some(message) = line.message.as_str() else {
            continue;
        };
        if let Some(change) = change(message, at) {
            log.changes.push(change);
        } else if let Some(broken) = broken(message, at) {
            log.broken.push(broken);
        }
    }
    Ok(log)
}

/// `Server http/NODE is DOWN, reason: ..., check duration: ...` of the port that is checked; the other one follows it.
fn change(message: &str, at: u64) -> Option<Change> {
    let (node, rest) = message.strip_prefix("Server http/")?.split_once(" is ")?;
    let (word, rest) = rest.split_once(", reason: ")?;
    let reason = rest.split(", check duration").next().unwrap_or(rest);
    let up = match word {
        "UP" => true,
        "DOWN" => false,
        _ => return None,
    };
    Some(Change {
        node: node.to_owned(),
        up,
        reason: Some(reason.to_owned()),
        at,
    })
}

/// `CLIENT [TIME] https https/NODE TIMES BYTES STATE COUNTS QUEUE`.
fn broken(message: &str, at: u64) -> Option<Broken> {
    let mut words = message.split(' ');
    let client = words.next()?.parse().ok()?;
    let mut words = words.skip(1);
    (words.next()? == HTTPS).then_some(())?;
    let (_, node) = words.next()?.split_once('/')?;
    let state = words.nth(2)?;
    Some(Broken {
        client,
        node: (node != "<NOSRV>").then(|| node.to_owned()),
        state: state.to_owned(),
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As haproxy 3.0 of trixie wrote it.
    const LOG: &[&str] = &[
        "127.1.0.7:57941 [30/Nov/2026:21:40:11.748] https https/app-1 1/0/1001 0 CD 2/2/1/0/0 0/0",
        "127.1.0.7:33381 [30/Nov/2026:21:40:12.750] https https/<NOSRV> -1/-1/0 0 SC 1/1/0/0/0 0/0",
        "10.77.0.1:33381 [30/Nov/2026:21:40:12.750] http http/app-2 1/0/0 0 SD 1/1/0/0/0 0/0",
        "Server http/app-1 is DOWN, reason: Layer7 wrong status, code: 503, info: \"Service Unavailable\", check duration: 0ms. 1 active and 0 backup servers left. 0 sessions active, 0 requeued, 0 remaining in queue.",
        "Server https/app-1 is DOWN via http/app-1. 1 active and 0 backup servers left. 0 sessions active, 0 requeued, 0 remaining in queue.",
        "Server http/app-1 is UP, reason: Layer7 check passed, code: 200, check duration: 0ms. 2 active and 0 backup servers online. 0 sessions requeued, 0 total in queue.",
        "Server http/app-1 is DOWN, reason: Layer4 timeout, check duration: 1001ms. 1 active and 0 backup servers left.",
        "[WARNING]  (8744) : Server http/app-1 is DOWN, reason: Layer4 timeout, check duration: 1001ms. 1 active and 0 backup servers left.",
        "backend https has no server available!",
    ];

    fn journal() -> String {
        let numbered = LOG.iter().enumerate();
        let lines = numbered.map(|(at, message)| {
            serde_json::json!({"__REALTIME_TIMESTAMP": format!("{}", at + 1), "MESSAGE": message})
                .to_string()
                + "\n"
        });
        lines.collect()
    }

    #[test]
    fn connections_that_broke_are_told_by_their_client() {
        let log = parse_balancer(&journal()).expect("a journal");
        let broken = |client: &str, node: Option<&str>, state: &str, at| Broken {
            client: client.parse().expect("an address"),
            node: node.map(str::to_owned),
            state: state.to_owned(),
            at,
        };
        assert_eq!(
            log.broken,
            [
                broken("127.1.0.7:57941", Some("app-1"), "CD", 1000),
                broken("127.1.0.7:33381", None, "SC", 2000),
            ]
        );
    }

    #[test]
    fn a_node_that_asked_to_be_left_alone_is_told_from_one_that_is_silent() {
        let log = parse_balancer(&journal()).expect("a journal");
        let short: Vec<_> = log
            .changes
            .iter()
            .map(|change| (change.up, change.was_asked_for(), change.at))
            .collect();
        assert_eq!(
            short,
            [
                (false, true, 4000),
                (true, false, 6000),
                (false, false, 7000)
            ]
        );
    }

    #[test]
    fn what_is_no_text_is_passed_over_and_what_is_no_journal_is_an_error() {
        let bytes = r#"{"__REALTIME_TIMESTAMP": "5", "MESSAGE": [1, 2]}"#;
        assert_eq!(parse_balancer(bytes), Ok(BalancerLog::default()));
        assert_eq!(
            parse_balancer("-- No entries --").expect_err("none").line,
            1
        );
    }
}
