//! Decisions over whatever may be observed, said and done: they are total (nothing makes a core panic), pure (the same
//! inputs give the same steps), and what is promised is never taken back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use rolesmith_model::facts::Genesis;
use rolesmith_model::ids::NodeName;

use super::*;

/// One thing that happens to a core.
#[derive(Debug, Clone)]
enum Input {
    Tick,
    Observed(Box<Observed>),
    /// From one of the peers, or from itself.
    Request(NodeName, Box<Envelope>),
    /// To one of the requests that it sent, or to none.
    Response(usize, Option<Box<Reply>>),
    /// Of one of the actions that it began, or of none.
    Done(usize, Result<Outcome, Failure>),
    Facts(Box<ClusterFacts>),
    /// The agent dies and starts with what it had made durable.
    Restart,
}

fn name() -> impl Strategy<Value = NodeName> {
    (1_u32..=4)
        .prop_map(|n| NodeName::new(format!("n{n}")).expect("a valid name"))
        .boxed()
}

fn epoch() -> impl Strategy<Value = Epoch> {
    prop_oneof![8 => 0_u64..6, 1 => Just(u64::MAX), 1 => any::<u64>(),]
        .prop_map(Epoch)
        .boxed()
}

fn lsn() -> impl Strategy<Value = Lsn> {
    prop_oneof![8 => 0_u64..100, 1 => any::<u64>(),]
        .prop_map(Lsn)
        .boxed()
}

fn timeline() -> impl Strategy<Value = Timeline> {
    prop_oneof![8 => 0_u32..5, 1 => any::<u32>(),]
        .prop_map(Timeline)
        .boxed()
}

fn system_id() -> impl Strategy<Value = SystemId> {
    (1_u64..3).prop_map(SystemId).boxed()
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    (1_u64..3, 1_u64..3)
        .prop_map(|(number, id)| Incarnation { number, id })
        .boxed()
}

fn position() -> impl Strategy<Value = Position> {
    (timeline(), lsn())
        .prop_map(|(timeline, lsn)| Position { timeline, lsn })
        .boxed()
}

fn row() -> impl Strategy<Value = EpochRow> {
    (epoch(), name(), timeline(), lsn())
        .prop_map(|(epoch, node, timeline, switch)| EpochRow {
            epoch,
            node,
            timeline,
            switch,
        })
        .boxed()
}

fn start() -> impl Strategy<Value = TimelineStart> {
    (timeline(), lsn())
        .prop_map(|(timeline, begins)| TimelineStart { timeline, begins })
        .boxed()
}

fn sync() -> impl Strategy<Value = SyncSetting> {
    (0_usize..4, btree_set(name(), 0..4))
        .prop_map(|(k, names)| SyncSetting { k, names })
        .boxed()
}

fn config() -> impl Strategy<Value = Config> {
    (
        (epoch(), 0_u64..5),
        btree_map(name(), incarnation(), 0..5),
        btree_set(name(), 0..4),
        0_usize..4,
        option::weighted(0.2, name()),
        (system_id(), option::of(name())),
    )
        .prop_map(
            |((epoch, version), voters, data, k, alone, (system_id, founder))| Config {
                stamp: Stamp { epoch, version },
                voters,
                data,
                k,
                alone,
                system_id,
                founder,
            },
        )
        .boxed()
}

fn facts() -> impl Strategy<Value = ClusterFacts> {
    let member =
        (1_u64..3, any::<bool>()).prop_map(|(incarnation, data)| Declared { incarnation, data });
    (
        1_u64..8,
        any::<bool>(),
        option::weighted(0.5, system_id()),
        btree_map(name(), member, 0..5),
        0_usize..4,
    )
        .prop_map(
            |(version, open, system_id, members, synchronous)| ClusterFacts {
                version,
                genesis: match open {
                    true => Genesis::Open,
                    false => Genesis::Closed,
                },
                system_id,
                members,
                synchronous,
            },
        )
        .boxed()
}

fn data_state() -> impl Strategy<Value = DataState> {
    prop_oneof![
        1 => Just(DataState::Empty),
        1 => epoch().prop_map(DataState::Cloning),
        1 => epoch().prop_map(DataState::Rewinding),
        1 => epoch().prop_map(DataState::Copied),
        1 => Just(DataState::Founding),
        4 => Just(DataState::Complete),
    ]
    .boxed()
}

fn observed() -> impl Strategy<Value = Observed> {
    let process = prop_oneof![
        1 => Just(Process::Stopped),
        1 => Just(Process::Starting),
        3 => Just(Process::Running),
    ];
    let data = prop_oneof![
        1 => Just(Data::Absent),
        1 => Just(Data::Incomplete),
        4 => system_id().prop_map(Data::Complete),
    ];
    let receiver = (option::of(name()), timeline(), any::<bool>()).prop_map(
        |(upstream, timeline, streaming)| Receiver {
            upstream,
            timeline,
            streaming,
        },
    );
    let standby =
        (any::<bool>(), lsn()).prop_map(|(streaming, flush)| StandbySeen { streaming, flush });
    (
        (process, data, any::<bool>(), option::of(name())),
        (
            option::of(receiver),
            option::of(position()),
            option::of(position()),
        ),
        (vec(start(), 0..4), vec(row(), 0..4)),
        btree_map(name(), standby, 0..4),
        (any::<bool>(), sync(), option::of(name())),
        (lsn(), any::<bool>(), any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |(
                (process, data, in_recovery, conninfo),
                (receiver, position, end_of_wal),
                (history, rows),
                standbys,
                (open, sync, pooler),
                (kept_from, slot_lost, halted, nameless),
            )| Observed {
                process,
                data,
                in_recovery,
                conninfo,
                receiver,
                position,
                end_of_wal,
                history,
                rows,
                standbys,
                access: match open {
                    true => Access::Open,
                    false => Access::Closed,
                },
                sync,
                pooler,
                kept_from,
                slot_lost,
                halted,
                nameless,
            },
        )
        .boxed()
}

fn ballot() -> impl Strategy<Value = Ballot> {
    let round = prop_oneof![4 => 0_u64..4, 1 => Just(u64::MAX - 1),];
    (round, name())
        .prop_map(|(round, node)| Ballot { round, node })
        .boxed()
}

fn founding() -> impl Strategy<Value = Founding> {
    (name(), system_id(), config())
        .prop_map(|(founder, system_id, config)| Founding {
            founder,
            system_id,
            config,
        })
        .boxed()
}

fn accepted() -> impl Strategy<Value = Accepted> {
    (ballot(), founding())
        .prop_map(|(ballot, founding)| Accepted { ballot, founding })
        .boxed()
}

fn bid() -> impl Strategy<Value = Bid> {
    (epoch(), epoch(), lsn(), option::of(epoch()))
        .prop_map(|(epoch, row, lsn, handed_over)| Bid {
            epoch,
            row,
            lsn,
            handed_over,
        })
        .boxed()
}

fn beat() -> impl Strategy<Value = Beat> {
    (
        (epoch(), any::<bool>(), any::<bool>()),
        (vec(row(), 0..4), vec(start(), 0..4)),
        (sync(), any::<u64>(), lsn()),
    )
        .prop_map(
            |((epoch, attach, confirmed), (lineage, history), (sync, sent, kept_from))| Beat {
                epoch,
                attach,
                confirmed,
                lineage,
                history,
                kept_from,
                sync,
                sent,
            },
        )
        .boxed()
}

fn request() -> impl Strategy<Value = Request> {
    let stamp = (epoch(), 0_u64..5).prop_map(|(epoch, version)| Stamp { epoch, version });
    prop_oneof![
        4 => beat().prop_map(Request::Beat),
        2 => bid().prop_map(Request::PreVote),
        4 => bid().prop_map(Request::Grant),
        1 => (epoch(), option::of(position())).prop_map(|(epoch, end)| Request::HandOver { epoch, end }),
        1 => ballot().prop_map(Request::GenesisPrepare),
        1 => accepted().prop_map(Request::GenesisAccept),
        1 => founding().prop_map(Request::GenesisChosen),
        1 => name().prop_map(|to| Request::Switchover { to }),
        1 => (name(), stamp).prop_map(|(survivor, replaces)| Request::Recover { survivor, replaces }),
        1 => Just(Request::Status),]
.boxed()
}

fn response() -> impl Strategy<Value = Response> {
    let report = (epoch(), position()).prop_map(|(row, end)| Report { row, end });
    let given_up =
        (epoch(), any::<bool>()).prop_map(|(epoch, attached)| GivenUp { epoch, attached });
    let granted = (epoch(), option::of(report), option::of(given_up)).prop_map(
        |(epoch, report, given_up)| Granted {
            epoch,
            report,
            given_up,
        },
    );
    prop_oneof![
        3 => (any::<u64>(), data_state(), any::<bool>()).prop_map(|(sent, data, streaming)| {
            Response::Followed {
                sent,
                data,
                streaming,
            }
        }),
        2 => Just(Response::Favour),
        1 => Just(Response::Pending),
        4 => granted.prop_map(Response::Granted),
        1 => Just(Response::Ok),
        1 => option::of(accepted()).prop_map(|accepted| Response::GenesisPromise { accepted }),
        1 => ballot().prop_map(Response::GenesisAccepted),
        1 => option::of(ballot()).prop_map(Response::GenesisRefused),
        1 => Just(Response::Formed),
        1 => Just(Response::Refused(Refusal::StaleConfig)),
        1 => Just(Response::Refused(Refusal::StaleEpoch)),
        1 => name().prop_map(|holder| Response::Refused(Refusal::PrimaryAlive { holder })),
        1 => (epoch(), lsn()).prop_map(|(row, lsn)| Response::Refused(Refusal::Newer { row, lsn })),
        1 => Just(Response::Refused(Refusal::NoVoter)),
        1 => Just(Response::Refused(Refusal::NotNow)),]
    .boxed()
}

fn reply() -> impl Strategy<Value = Reply> {
    (
        incarnation(),
        1_u64..8,
        option::weighted(0.2, config()),
        epoch(),
        response(),
    )
        .prop_map(|(incarnation, facts, config, promised, response)| Reply {
            incarnation,
            facts,
            config,
            promised,
            response,
        })
        .boxed()
}

fn input() -> impl Strategy<Value = Input> {
    let envelope = (incarnation(), 1_u64..8, config(), request()).prop_map(
        |(incarnation, facts, config, request)| {
            Box::new(Envelope {
                incarnation,
                facts,
                config,
                request,
            })
        },
    );
    let result = prop_oneof![
        4 => Just(Ok(Outcome::Done)),
        1 => system_id().prop_map(|id| Ok(Outcome::Created(id))),
        1 => Just(Err(Failure::Later("later".into()))),
        1 => Just(Err(Failure::Refused("no".into()))),];
    prop_oneof![
        2 => Just(Input::Tick),
        4 => observed().prop_map(|seen| Input::Observed(Box::new(seen))),
        4 => (name(), envelope).prop_map(|(from, envelope)| Input::Request(from, envelope)),
        4 => (0_usize..8, option::weighted(0.9, reply().prop_map(Box::new)))
            .prop_map(|(at, reply)| Input::Response(at, reply)),
        4 => (0_usize..4, result).prop_map(|(at, result)| Input::Done(at, result)),
        1 => facts().prop_map(|facts| Input::Facts(Box::new(facts))),
        1 => Just(Input::Restart),]
    .boxed()
}

fn durable() -> impl Strategy<Value = Durable> {
    let promise = (epoch(), name()).prop_map(|(epoch, holder)| Promise { epoch, holder });
    (
        incarnation(),
        option::of(promise),
        option::of(epoch()),
        config(),
        data_state(),
    )
        .prop_map(|(incarnation, promise, followed, config, data)| Durable {
            promise,
            followed,
            config,
            data,
            ..Durable::fresh(incarnation)
        })
        .boxed()
}

/// A core with what its runtime would know of it.
#[derive(Debug, Clone)]
struct Life {
    core: Core,
    facts: ClusterFacts,
    disk: Durable,
    sent: Vec<RequestId>,
    begun: BTreeMap<ActionId, Action>,
}

impl Life {
    fn new(facts: &ClusterFacts, disk: &Durable, now: u64) -> Self {
        let me = NodeName::new("n1").expect("a valid name");
        let timing = Timing::default();
        Self {
            core: Core::new(me, facts.clone(), timing, disk.clone(), now, 7),
            facts: facts.clone(),
            disk: disk.clone(),
            sent: Vec::new(),
            begun: BTreeMap::new(),
        }
    }

    fn feed(&mut self, now: u64, input: &Input) -> Step {
        match input.clone() {
            Input::Tick => self.core.tick(now),
            Input::Observed(seen) => self.core.observed(now, *seen),
            Input::Request(from, envelope) => self.core.request(now, &from, *envelope),
            Input::Response(at, reply) => {
                let id = self.sent.iter().rev().nth(at).copied();
                let reply = reply.map(|reply| *reply).ok_or(Unreachable);
                self.core.response(now, id.unwrap_or(u64::MAX), reply)
            }
            Input::Done(at, result) => {
                let id = self.begun.keys().nth(at).copied();
                let id = id.unwrap_or(u64::MAX);
                self.begun.remove(&id);
                self.core.done(now, id, result)
            }
            Input::Facts(facts) => {
                if facts.version > self.facts.version {
                    self.facts = (*facts).clone();
                }
                self.core.facts(now, *facts)
            }
            Input::Restart => {
                *self = Self::new(&self.facts, &self.disk, now);
                Step::default()
            }
        }
    }

    /// What must hold of every step.
    fn check(&mut self, input: &Input, step: &Step) -> Result<(), TestCaseError> {
        let before = std::mem::replace(&mut self.disk, self.core.durable().clone());
        if step.persist.is_none() {
            prop_assert_eq!(&before, &self.disk, "what changed was not made durable");
        }
        if let Some(durable) = &step.persist {
            prop_assert_eq!(&**durable, &self.disk);
        }
        let promised = |durable: &Durable| durable.promised();
        prop_assert!(
            promised(&before) <= promised(&self.disk),
            "a promise is taken back"
        );
        prop_assert!(before.config.stamp <= self.disk.config.stamp);
        prop_assert!(
            before.incarnation == self.disk.incarnation && before.facts <= self.disk.facts
        );
        if promised(&before) == promised(&self.disk)
            && !matches!(input, Input::Request(_, envelope) if matches!(envelope.request, Request::Beat(_)))
        {
            // Only who won an epoch, and says so, takes it from whom it was promised to.
            let holder = before.promise.is_none() || before.promise == self.disk.promise;
            prop_assert!(holder, "one epoch is promised twice");
        }
        let mut replies = 0;
        for effect in &step.effects {
            match effect {
                Effect::Reply(reply) => {
                    replies += 1;
                    // After it was written the core may have promised itself a higher one.
                    prop_assert!(reply.promised <= promised(&self.disk));
                    if let Response::Granted(granted) = &reply.response {
                        prop_assert_eq!(granted.epoch, promised(&self.disk));
                        prop_assert!(granted.report.is_none() || granted.given_up.is_none());
                    }
                }
                Effect::Send { id, to, .. } => {
                    prop_assert!(to.as_str() != "n1", "it talks to itself");
                    self.sent.push(*id);
                }
                Effect::Act { id, action } => {
                    if *action == Action::Promote {
                        let holder = self.disk.promise.as_ref().map(|promise| &promise.holder);
                        prop_assert_eq!(holder.map(NodeName::as_str), Some("n1"));
                    }
                    self.begun.insert(*id, action.clone());
                }
                Effect::Abandon { id } => {
                    prop_assert!(self.begun.contains_key(id), "an action that does not run");
                }
                Effect::Log(_) => {}
            }
        }
        let asked = usize::from(matches!(input, Input::Request(..)));
        prop_assert_eq!(replies, asked, "one answer to one request");
        // A commit that hung may be forgotten; nothing else runs twice beside itself.
        let mut lanes = BTreeSet::new();
        for action in self.begun.values() {
            let lane = action.lane();
            prop_assert!(
                lanes.insert(lane) || lane == Lane::Commit,
                "{lane:?} is busy"
            );
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn decisions_are_pure_and_total(
        facts in facts(),
        durable in durable(),
        inputs in vec((0_u64..3_000, input()), 1..60),
    ) {
        let mut now = 10_000;
        let mut life = Life::new(&facts, &durable, now);
        life.disk = life.core.durable().clone();
        for (pause, input) in &inputs {
            now += pause;
            let mut twin = life.clone();
            let step = life.feed(now, input);
            prop_assert_eq!(&step, &twin.feed(now, input), "not pure");
            prop_assert_eq!(life.core.durable(), twin.core.durable());
            prop_assert_eq!(life.core.wake(now), twin.core.wake(now));
            prop_assert!(life.core.wake(now) > now);
            if matches!(input, Input::Restart) {
                life.disk = life.core.durable().clone();
                continue;
            }
            life.check(input, &step)?;
        }
    }
}
