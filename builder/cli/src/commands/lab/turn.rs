//! Whether it is a machine's turn to be replaced: one after the other, each when the one before is a member in full.
//!
//! Two that are new at a time would be a majority of a fleet of three that has forgotten everything.

use rolesmith_lab::{Lab, RunState};
use rolesmith_model::plan::Plan;
use serde_json::Value;

use super::{drill::Database, lab_failure};
use crate::{
    app::App,
    project,
    report::{Failure, Outcome},
};

/// Another node of the fleet than the one that is to be replaced.
#[derive(Debug, Clone)]
struct Other {
    name: String,
    /// Which incarnation of it the operator made last.
    incarnation: u64,
    /// It votes in the database's cluster.
    votes: bool,
    /// It holds the database too.
    data: bool,
    /// What its agent says; nothing where it does not.
    status: Option<Value>,
}

/// Fails where something else has to be whole first.
pub fn check(app: &App, plan: &Plan, lab: &Lab, node: &str) -> Outcome {
    let keys = project::kept(app, plan)?;
    let database = Database::of(plan).ok();
    let holds = |name: &str| {
        let nodes = database.as_ref().map(|database| &database.nodes);
        nodes.is_some_and(|nodes| nodes.iter().any(|node| node == name))
    };
    let watches = |name: &str| {
        let nodes = database.as_ref().map(|database| &database.witnesses);
        nodes.is_some_and(|nodes| nodes.iter().any(|node| node == name))
    };
    let nodes = lab.status().map_err(lab_failure)?.nodes;
    let runs = |name: &str| {
        let known = nodes.iter().find(|known| known.name == name);
        known.is_some_and(|known| known.state == RunState::Running && !known.frozen)
    };
    let mut others = Vec::new();
    for other in plan
        .nodes
        .iter()
        .filter(|other| other.name.as_str() != node)
    {
        let name = other.name.to_string();
        let asked = ["timeout", "10", "rolesmith-agent", "status", "--json"];
        let status = match runs(&name) {
            true => {
                serde_json::from_str(&lab.output(&name, &asked).map_err(lab_failure)?.stdout).ok()
            }
            false => None,
        };
        others.push(Other {
            incarnation: keys
                .certificates
                .get(&name)
                .map_or(0, |certificate| certificate.incarnation),
            votes: holds(&name) || watches(&name),
            data: holds(&name),
            name,
            status,
        });
    }
    match obstacle(runs(node), &others) {
        None => Ok(()),
        Some(why) => Err(Failure::new(
            format!("{node} is not replaced: {why}"),
            "machines are replaced one after the other: wait until the rest of the fleet is whole (`rolesmith lab status`), or replace \
             what is broken in it first",
        )),
    }
}

/// What stands in the way. A machine that `runs` still serves, and its end must not be the second loss at a time; one that is
/// lost already waits for replacements that have begun, and for nothing else.
fn obstacle(runs: bool, others: &[Other]) -> Option<String> {
    let config = others
        .iter()
        .filter_map(|other| other.status.as_ref()?.pointer("/cluster/cluster/config"))
        .max_by_key(|config| {
            let number = |field: &str| config["stamp"][field].as_u64().unwrap_or(0);
            (number("epoch"), number("version"))
        });
    for other in others {
        let name = &other.name;
        if other.votes {
            let Some(config) = config else {
                return Some(
                    "nobody tells who the members of the database's cluster are".to_owned(),
                );
            };
            let voter = config["voters"][name.as_str()]["number"].as_u64();
            let holds = config["data"]
                .as_array()
                .is_some_and(|data| data.iter().any(|data| data == name));
            if voter != Some(other.incarnation) || (other.data && !holds) {
                return Some(format!(
                    "{name} (incarnation {}) is not a member of the database's cluster yet",
                    other.incarnation
                ));
            }
        }
        let healthy = other
            .status
            .as_ref()
            .is_some_and(|status| status["health"]["healthy"] == true);
        if runs && !healthy {
            return Some(format!("{name} is not healthy"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Two other members, as each sees both.
    fn fleet() -> Vec<Other> {
        let status = |version: u64| {
            json!({
                "health": { "healthy": true },
                "cluster": { "cluster": { "config": {
                    "stamp": { "epoch": 4, "version": version },
                    "voters": {
                        "n1": { "number": 1, "id": 7 },
                        "n2": { "number": 2, "id": 8 },
                        "n3": { "number": 1, "id": 9 },
                    },
                    "data": ["n1", "n2", "n3"],
                } } },
            })
        };
        let other = |name: &str, incarnation, status| Other {
            name: name.to_owned(),
            incarnation,
            votes: true,
            data: true,
            status: Some(status),
        };
        vec![other("n1", 1, status(9)), other("n2", 2, status(9))]
    }

    #[test]
    fn of_a_whole_fleet_each_may_be_replaced() {
        assert_eq!(obstacle(true, &fleet()), None);
        // It may have no database at all.
        let mut others = fleet();
        for other in &mut others {
            (other.votes, other.data) = (false, false);
            other.status = Some(json!({ "health": { "healthy": true } }));
        }
        assert_eq!(obstacle(true, &others), None);
    }

    #[test]
    fn a_replacement_that_has_begun_comes_to_its_end_first() {
        for runs in [true, false] {
            // Made, perhaps not even published.
            let mut others = fleet();
            others[1].incarnation = 3;
            let why = obstacle(runs, &others).expect("refused");
            assert!(why.contains("n2 (incarnation 3)"), "{why}");
            // A voter that still copies. Of two configurations the newer one counts.
            let mut others = fleet();
            let config = "/cluster/cluster/config";
            let status = others[1].status.as_mut().expect("one");
            let newer = status.pointer_mut(config).expect("one");
            newer["stamp"]["version"] = json!(10);
            newer["data"] = json!(["n1", "n3"]);
            let why = obstacle(runs, &others).expect("refused");
            assert!(why.contains("n2 (incarnation 2)"), "{why}");
        }
        let mut others = fleet();
        for other in &mut others {
            other.status = None;
        }
        assert!(obstacle(false, &others).is_some());
    }

    #[test]
    fn a_lost_machine_may_be_replaced_while_another_one_is_lost() {
        let mut others = fleet();
        others[1].status = None;
        let why = obstacle(true, &others).expect("refused");
        assert!(why.contains("n2 is not healthy"), "{why}");
        assert_eq!(obstacle(false, &others), None);
    }
}
