//! What the operator of this machine asks, and how the loop answers.

use rolesmith_model::recovery::SignedOrder;
use rolesmith_model::status::MachineStatus;
use tokio::sync::oneshot;
use tokio::time::Duration;

use super::control::{Asked, Question, Verdict};
use super::survey::{self, Survey, Told};
use super::{Decide, Executor, Runtime, RuntimeError, boottime, json};
use crate::cluster::{Reply, Request, RequestId, Response};
use crate::files::digest;
use crate::net::{Peer, Unreachable};
use crate::program::Programs;
use crate::recovery::{Here, judge};

/// How long a member may take to say how it is; the operator waits for the slowest.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how long what the machine said about itself is good (ms): nodes without a part in the cluster ask every second.
const GOOD: u64 = 1000;

/// What the machine said about itself, and when.
#[derive(Debug, Default)]
pub(super) struct Said {
    at: u64,
    status: Option<MachineStatus>,
}

impl<D: Decide, E: Executor, P: Programs> Runtime<'_, D, E, P> {
    /// Answers the operator.
    pub(super) fn control(&mut self, asked: Asked) -> Result<(), RuntimeError> {
        let Asked { question, reply } = asked;
        match question {
            Question::Fleet => self.survey(reply),
            Question::Recovery(order) => {
                let verdict = self.recovery(&order)?;
                let _ = reply.send(json(&verdict));
            }
            Question::Request(request) => {
                if let Some(answer) = self.ask_core(request)? {
                    let _ = reply.send(json(&answer));
                }
            }
        }
        Ok(())
    }

    /// Asks the core in this node's own name. Without an order that was verified, nobody recovers.
    fn ask_core(&mut self, request: Request) -> Result<Option<Reply>, RuntimeError> {
        if matches!(request, Request::Recover { .. }) {
            return Ok(None);
        }
        self.put(request)
    }

    fn put(&mut self, request: Request) -> Result<Option<Reply>, RuntimeError> {
        let envelope = self.envelope(request);
        match &mut self.core {
            Some(core) => {
                let step = core.request(boottime(), &self.me, envelope);
                self.carry(step, None)
            }
            None => Ok(Some(self.bystander())),
        }
    }

    fn recovery(&mut self, order: &SignedOrder) -> Result<Verdict, RuntimeError> {
        let material = self.material.borrow().clone();
        let Some(core) = &self.core else {
            return Ok(Err(
                "this node has no part in the database's cluster: bring the order to the node that it names".to_owned(),
            ));
        };
        let status = core.status(boottime());
        let here = Here {
            identity: &material.identity,
            machine: self.machine.incarnation,
            authorities: material.book.authorities(),
            status: &status,
            now: (self.setup.clock)(),
        };
        if let Err(why) = judge(order, here) {
            return Ok(Err(why.to_string()));
        }
        (self.setup.log)(&format!(
            "an order signed by the fleet's CA ends configuration {}.{}: this node alone is to survive",
            order.order.epoch, order.order.version
        ));
        let request = Request::Recover {
            survivor: self.me.clone(),
            replaces: status.config.stamp,
        };
        Ok(match self.put(request)?.map(|reply| reply.response) {
            Some(Response::Ok) => Ok(()),
            _ => Err(
                "not now: the node has to hold a whole copy of the data, must not be primary, and must hear no primary".to_owned(),
            ),
        })
    }

    /// Asks every member how it is.
    fn survey(&mut self, reply: oneshot::Sender<Vec<u8>>) {
        let material = self.material.borrow().clone();
        let now = (self.setup.clock)();
        let mut survey = Survey::new(&material.facts, self.me.as_str(), now, reply);
        let own = match &self.core {
            Some(core) => Reply {
                response: Response::Status(Box::new(core.status(boottime()))),
                ..self.bystander()
            },
            None => self.bystander(),
        };
        let told = self.told(own);
        survey.told(self.me.as_str(), self.machine.incarnation, told);
        let envelope = json(&self.envelope(Request::Status));
        for name in material.others() {
            self.requests += 1;
            survey.sent(self.requests, name);
            self.net
                .send(name, self.requests, envelope.clone(), PATIENCE);
        }
        self.surveys.push(survey);
        self.finish_surveys();
    }

    /// Gives a survey what it waits for; gives back what none does.
    pub(super) fn surveyed(
        &mut self,
        number: RequestId,
        result: Result<(Peer, Vec<u8>), Unreachable>,
    ) -> Option<Result<(Peer, Vec<u8>), Unreachable>> {
        let mut surveys = self.surveys.iter_mut();
        let Some(survey) = surveys.find(|survey| survey.waits_for(number)) else {
            return Some(result);
        };
        survey.heard(number, result);
        self.finish_surveys();
        None
    }

    fn finish_surveys(&mut self) {
        let (complete, waiting) = std::mem::take(&mut self.surveys)
            .into_iter()
            .partition(Survey::is_complete);
        self.surveys = waiting;
        let complete: Vec<Survey> = complete;
        complete.into_iter().for_each(Survey::finish);
    }

    /// An answer to "how are you?", with what the machine says beside it.
    pub(super) fn told(&mut self, reply: Reply) -> Told {
        let now = boottime();
        if self.said.status.is_none() || self.said.at + GOOD <= now {
            self.said = Said {
                at: now,
                status: Some(survey::machine(&self.setup.root, (self.setup.clock)())),
            };
        }
        let material = self.material.borrow();
        let own = material.own();
        let machine = self.said.status.clone().map(|status| MachineStatus {
            certificate: own.map(|member| member.certificate.clone()),
            authorities: material
                .book
                .authorities()
                .iter()
                .map(|certificate| digest(certificate))
                .collect(),
            ..status
        });
        Told { reply, machine }
    }
}
