//! A node without data asks the members who is the primary, and its pgbouncer follows; members keep such questions until
//! they have news.

use rolesmith_model::ids::NodeName;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Duration;

use super::deciders::cluster_facts;
use super::watch::{ANSWER, HOLD, Stance};
use super::{Decide, Executor, Runtime, boottime, json};
use crate::cluster::{
    Action, Envelope, EpochRow, Failure, Outcome, Reply, Request, RequestId, Response,
};
use crate::program::Programs;

/// "How are you?", with what need not be answered. Agents of older versions do not read that and answer at once.
#[derive(Debug, Serialize)]
struct Question {
    #[serde(flatten)]
    envelope: Envelope,
    unless: Option<Stance>,
}

/// What a member reads of it besides the envelope.
#[derive(Debug, Deserialize)]
struct Unless {
    /// `None` is another question; inside, nothing is known yet.
    #[serde(default, deserialize_with = "given")]
    unless: Option<Option<Stance>>,
}

/// Tells null from what is not there.
fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<Stance>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// A question that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    unless: Stance,
    /// When it is answered in any case (ms).
    until: u64,
    reply: oneshot::Sender<Vec<u8>>,
}

/// How far this node's pgbouncer has followed, where the loop leads it.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// There is one.
    leads: bool,
    /// Whom it follows, or is about to.
    led: Option<EpochRow>,
    busy: bool,
    /// Why it does not.
    problem: Option<String>,
}

impl Following {
    /// What a person should know.
    pub(super) fn alarm(&self, primary: Option<&EpochRow>) -> Option<String> {
        if !self.leads {
            return None;
        }
        match (primary, &self.problem) {
            (None, _) => Some(
                "no primary of the database is known: pgbouncer leads to whom it followed last"
                    .to_owned(),
            ),
            (Some(row), Some(problem)) => Some(format!(
                "failing: pgbouncer does not follow {}: {problem}",
                row.node
            )),
            (Some(_), None) => None,
        }
    }
}

impl<D: Decide, E: Executor, P: Programs> Runtime<'_, D, E, P> {
    /// Keeps a question that waits for news. Gives back the place of the answer where somebody else has to give it.
    pub(super) fn keep(
        &mut self,
        status: bool,
        body: &[u8],
        reply: oneshot::Sender<Vec<u8>>,
    ) -> Option<oneshot::Sender<Vec<u8>>> {
        let asked = status.then(|| serde_json::from_slice::<Unless>(body).ok());
        let Some(Unless {
            unless: Some(known),
        }) = asked.flatten()
        else {
            return Some(reply);
        };
        let Some((stance, answer)) = self.stance() else {
            return Some(reply);
        };
        match known {
            Some(unless) if unless == stance => {
                let until = boottime() + HOLD;
                self.kept.push(Kept {
                    unless,
                    until,
                    reply,
                });
            }
            _ => {
                // Who asked may have gone.
                let _ = reply.send(json(&answer));
            }
        }
        None
    }

    /// Answers questions for which there is news, and those that were kept for long enough. What it says is durable: nothing
    /// of a step is left to be done when the loop comes here.
    pub(super) fn answer_kept(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let Some((stance, answer)) = self.stance() else {
            return;
        };
        let now = boottime();
        let due = |kept: &mut Kept| kept.unless != stance || now >= kept.until;
        // The same for all of them, and news come to all at once.
        let mut body = None;
        for kept in self.kept.extract_if(.., due) {
            let body = body.get_or_insert_with(|| json(&answer)).clone();
            let _ = kept.reply.send(body);
        }
    }

    /// When the next of them is to be answered (ms).
    pub(super) fn kept_until(&self) -> Option<u64> {
        self.kept.iter().map(|kept| kept.until).min()
    }

    /// Every second: asks the members that are not asked yet, where nobody tells this node.
    pub(super) fn ask_members(&mut self) {
        let members = cluster_facts(&self.material.borrow().facts).members;
        let data = self.core.is_some() && members.get(&self.me).is_some_and(|member| member.data);
        let follows = self.executor.follows() && !data;
        if follows != self.following.leads {
            // What was there before may have been purged since.
            self.following = Following {
                leads: follows,
                ..Following::default()
            };
        }
        if self.core.is_some() && !follows {
            return;
        }
        for name in self.watch.second(&members) {
            if name != self.me {
                self.ask_member(&name);
            }
        }
        // What failed is tried again.
        self.lead_pooler();
    }

    fn ask_member(&mut self, name: &NodeName) {
        self.requests += 1;
        let question = Question {
            envelope: self.envelope(Request::Status),
            unless: self.watch.ask(name, self.requests, boottime()),
        };
        let limit = Duration::from_millis(HOLD + ANSWER);
        self.net
            .send(name.as_str(), self.requests, json(&question), limit);
    }

    /// A member's answer, or that there is none.
    pub(super) fn member_said(&mut self, name: &NodeName, id: RequestId, answer: Option<Reply>) {
        let again = self.watch.heard(name, id, answer, boottime());
        let own = self.stance().and_then(|(_, reply)| match reply.response {
            Response::Status(report) => Some((reply.incarnation, *report)),
            _ => None,
        });
        self.watch.learn(own);
        if again {
            self.ask_member(name);
        }
        self.lead_pooler();
    }

    /// Lets this node's pgbouncer follow (rule 13).
    fn lead_pooler(&mut self) {
        let following = &mut self.following;
        let primary = self.watch.primary();
        if !following.leads || following.busy || primary == following.led.as_ref() {
            return;
        }
        following.led = primary.cloned();
        following.busy = true;
        let primary = primary.cloned();
        self.requests += 1;
        self.act(self.requests, Action::Pooler { primary });
    }

    /// It follows, or it could not.
    pub(super) fn followed(&mut self, result: Result<Outcome, Failure>) {
        let following = &mut self.following;
        following.busy = false;
        following.problem = result.err().map(|failure| failure.to_string());
        if following.problem.is_some() {
            following.led = None;
        } else {
            // There may have been news meanwhile.
            self.lead_pooler();
        }
    }
}
