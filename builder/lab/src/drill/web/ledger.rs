//! The visitors' ledgers: one JSON object a line.

use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use super::super::ledger::{LedgerError, Moment, lines};

/// What a visitor asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Places an order, which is answered when it is committed.
    Order,
    /// Tells of a view, which the write cache may take.
    View,
}

/// What the visitor knows about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is about to be sent. Where no later line tells more, the visitor was ended before it knew.
    Sent,
    /// 201: committed in PostgreSQL.
    Ok,
    /// 202: the write cache has it.
    Accepted,
    /// It was never sent, or refused (4xx).
    Failed,
    /// Nobody told: the connection ended, time ran out, or the answer was 5xx, from which nothing follows.
    Unknown,
}

/// One attempt at a request. A request that was not answered is tried a second time, as the same order or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// Who asked.
    pub visitor: String,
    /// For what.
    pub kind: Kind,
    /// The request; no other one has the number.
    pub number: u64,
    /// The id of the order or the view, in the database too.
    pub id: String,
    /// 1, or 2 when it was tried again.
    pub attempt: u32,
    /// When the attempt began.
    pub sent: Moment,
    /// When its outcome was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<Moment>,
    /// What is known.
    pub answer: Answer,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it is not answered as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The visitor's end of the connection, by which the load balancer's log knows it; nothing where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<SocketAddrV4>,
    /// When the connection was begun; before the attempt, where it served others before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Moment>,
}

/// The id of a request as the shop takes it, a UUID. `run` tells drills apart that write into one database.
#[must_use]
pub fn visit_id(run: u32, number: u64) -> String {
    format!(
        "{run:08x}-0000-4000-8000-{:012x}",
        number & 0xffff_ffff_ffff
    )
}

/// Reads a visitor's ledger: the last line about each attempt counts.
///
/// # Errors
/// The first line that is no visit.
pub fn parse_visits(text: &str) -> Result<Vec<Visit>, LedgerError> {
    let mut visits: Vec<Visit> = Vec::new();
    for visit in lines::<Visit>(text)? {
        match visits.last_mut() {
            // A visitor has one attempt in the air at a time.
            Some(last) if (last.number, last.attempt) == (visit.number, visit.attempt) => {
                *last = visit;
            }
            _ => visits.push(visit),
        }
    }
    Ok(visits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, attempt: u32, answer: Answer) -> String {
        let at = Moment {
            monotonic: number * 10 + u64::from(attempt),
            realtime: 1,
        };
        let visit = Visit {
            visitor: "order-1".into(),
            kind: Kind::Order,
            number,
            id: visit_id(7, number),
            attempt,
            sent: at,
            returned: (answer != Answer::Sent).then_some(at),
            answer,
            status: None,
            error: None,
            client: None,
            opened: None,
        };
        serde_json::to_string(&visit).expect("JSON") + "\n"
    }

    #[test]
    fn the_last_line_about_an_attempt_counts_and_a_torn_one_does_not() {
        let text = line(1, 1, Answer::Sent)
            + &line(1, 1, Answer::Unknown)
            + &line(1, 2, Answer::Sent)
            + &line(1, 2, Answer::Ok)
            + &line(2, 1, Answer::Sent)
            + &line(2, 1, Answer::Ok)[..20];
        let visits = parse_visits(&text).expect("a ledger");
        let short: Vec<_> = visits
            .iter()
            .map(|visit| (visit.number, visit.attempt, visit.answer))
            .collect();
        assert_eq!(
            short,
            [
                (1, 1, Answer::Unknown),
                (1, 2, Answer::Ok),
                (2, 1, Answer::Sent)
            ]
        );
        assert_eq!(parse_visits("{}\n").expect_err("no visit").line, 1);
    }

    #[test]
    fn ids_are_those_that_the_shop_takes() {
        assert_eq!(
            visit_id(0x6950_0001, 0x1_0000_0002),
            "69500001-0000-4000-8000-000100000002"
        );
    }
}
