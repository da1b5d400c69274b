//! rolesmith recover

use rolesmith_host::{atomic, clusters::ClusterLock, enroll::Remote as _, secrets::Secrets};
use rolesmith_model::{
    recovery::Order,
    status::{FleetStatus, MemberStatus},
};

use crate::{
    app::{App, clock, line, out},
    args::Recover,
    clusters,
    project::{self, SECRETS_DIR},
    reach::{self, as_root},
    report::{Failure, Outcome},
};

/// Says what would be lost; with --accept-loss signs the order and brings it to the node.
pub fn run(app: &App, args: &Recover) -> Outcome {
    let plan = project::plan(app)?;
    let node = project::node(&plan, &args.node)?;
    let told = reach::ask(app, &plan, &args.reach, Some(node.name.as_str()))?;
    let lock = clusters::lock(app)?;
    let loss =
        Loss::of(&told.status, &args.node, &lock).map_err(|(why, help)| Failure::new(why, help))?;
    for text in loss.sentences() {
        app.say(text);
    }
    if !args.accept_loss {
        if app.json {
            line(serde_json::to_string_pretty(&told.status)?)?;
        }
        app.say(format_args!(
            "Nothing was done. To do it: rolesmith recover {} --accept-loss",
            args.node
        ));
        return Ok(());
    }
    let secrets = Secrets::open(&app.dir.join(SECRETS_DIR))?;
    secrets.check_fleet(&plan.fleet.name)?;
    // The node's clock is right, or nearly so, and a date from SOURCE_DATE_EPOCH would be long over.
    let signed = secrets
        .authorities()?
        .eldest()
        .sign_order(loss.order(&told.status, clock()?)?)?;
    let json = serde_json::to_string_pretty(&signed)? + "\n";
    if let Some(path) = &args.output {
        if path.as_os_str() == "-" {
            return out(json);
        }
        atomic::write(path, json.as_bytes())?;
        app.say(format_args!(
            "{} holds the order. On {}, as root: rolesmith-agent recover FILE. It is good for a day, and works once.",
            path.display(),
            args.node
        ));
        return Ok(());
    }
    let machine = told.machine.as_ref().ok_or_else(|| {
        Failure::new(
            "there is no connection to bring the order over",
            "name the node with --ssh HOST instead of --from, or write the order into a file: --output FILE",
        )
    })?;
    if told.status.asked != args.node {
        return Err(Failure::new(
            format!(
                "the machine that was asked is {}, and the order is for {}",
                told.status.asked, args.node
            ),
            "name the node itself with --ssh HOST, or write the order into a file: --output FILE",
        ));
    }
    let program = as_root("rolesmith-agent recover -", &json);
    let said = machine.run(&program).map_err(|error| {
        Failure::because(
            &error,
            "the node is as it was; look at it with `rolesmith status`",
        )
    })?;
    app.say(said.trim_end());
    Ok(())
}

/// What is lost when a node goes on alone.
#[derive(Debug)]
struct Loss<'a> {
    survivor: &'a MemberStatus,
    /// The configuration that the survivor knows.
    stamp: (u64, u64),
    system_id: &'a str,
    /// Voters that do not answer.
    silent: Vec<&'a str>,
    /// Voters that answer beside the survivor.
    answering: Vec<&'a str>,
}

impl<'a> Loss<'a> {
    /// Or why the node cannot go on alone, and what to do.
    fn of(
        status: &'a FleetStatus,
        node: &str,
        lock: &ClusterLock,
    ) -> Result<Self, (String, String)> {
        let refuse = |why: String, help: &str| Err((why, help.to_owned()));
        let Some(survivor) = status.member(node).filter(|member| member.reachable) else {
            return refuse(
                format!("{node} does not answer {}", status.asked),
                "only a node that runs can go on: name one that answers (`rolesmith status`)",
            );
        };
        let Some(configuration) = &status.configuration else {
            return refuse(
                "no member knows a configuration: the database was never formed".to_owned(),
                "there is nothing to recover; `rolesmith status` says what the members wait for",
            );
        };
        if status.has_majority() {
            return refuse(
                format!(
                    "{} of {} voters answer, which is a majority: the fleet decides by itself",
                    status.voters_heard().len(),
                    configuration.voters.len()
                ),
                "wait, and look at `rolesmith status`: an order would throw away what they have",
            );
        }
        if let Some(primary) = status.primary() {
            return refuse(
                format!("{} says that it is the primary", primary.name),
                "look again in some seconds: a primary without a majority stops by itself",
            );
        }
        let database = survivor.database.as_ref();
        let (Some(database), Some(stamp), Some(system_id)) = (
            database.filter(|database| database.data == "complete"),
            database.and_then(|database| database.configuration),
            database.and_then(|database| database.formed.as_deref()),
        ) else {
            return refuse(
                format!("{node} holds no whole copy of the data"),
                "choose a node that does: `rolesmith-agent status` on it says \"standby\"",
            );
        };
        if stamp != (configuration.epoch, configuration.version) {
            return refuse(
                format!(
                    "{node} knows configuration {}.{}, and another member a newer one, {}.{}",
                    stamp.0, stamp.1, configuration.epoch, configuration.version
                ),
                "see whether it reaches the others, and ask again in some seconds",
            );
        }
        if database.system_id.as_deref() != Some(system_id) {
            return refuse(
                format!("the data on {node} are not those of the database {system_id}"),
                "choose another node",
            );
        }
        if let Some(known) = &lock.database
            && known.system_id != system_id
        {
            return refuse(
                format!(
                    "{node} holds the database {system_id}, and cluster.lock names {}",
                    known.system_id
                ),
                "see whether this is the right fleet, and the right node",
            );
        }
        let newer = |member: &&MemberStatus| {
            member.name != node
                && member.database.as_ref().is_some_and(|other| {
                    other.data == "complete"
                        && other.system_id.as_deref() == Some(system_id)
                        && (other.row, other.position) > (database.row, database.position)
                })
        };
        if let Some(better) = status.members.iter().find(newer) {
            return refuse(
                format!("{} answers and has newer data than {node}", better.name),
                "recover that one; nothing of what it has would be lost",
            );
        }
        let heard = status.voters_heard();
        let voters = configuration.voters.keys().map(String::as_str);
        Ok(Self {
            survivor,
            stamp,
            system_id,
            silent: voters.filter(|voter| !heard.contains(voter)).collect(),
            answering: heard.into_iter().filter(|name| *name != node).collect(),
        })
    }

    fn sentences(&self) -> Vec<String> {
        let node = &self.survivor.name;
        let database = self.survivor.database.as_ref();
        let row = database
            .and_then(|database| database.row)
            .unwrap_or_default();
        let end = database
            .and_then(|database| database.position)
            .unwrap_or_default();
        let (epoch, version) = self.stamp;
        let mut text = vec![
            format!(
                "{node} would go on alone, with the database {} as it has it: epoch {row}, up to {:X}/{:X}.",
                self.system_id,
                end >> 32,
                end & 0xffff_ffff
            ),
            format!("Configuration {epoch}.{version} would end."),
        ];
        if !self.silent.is_empty() {
            text.push(format!(
                "These do not answer: {}. Commits that only they have are lost, though clients were told that they are safe.",
                self.silent.join(", ")
            ));
        }
        let others: Vec<&str> = self.silent.iter().chain(&self.answering).copied().collect();
        if !others.is_empty() {
            text.push(format!(
                "{} must not come back with their data: make them anew with `rolesmith user-data NODE --replace`.",
                others.join(", ")
            ));
        }
        text
    }

    fn order(&self, status: &FleetStatus, now: u64) -> Outcome<Order> {
        let machine = self.survivor.machine.clone().ok_or_else(|| {
            Failure::new(
                format!("{} does not say which machine it is", self.survivor.name),
                "its agent is too old: upgrade rolesmith-agent on it",
            )
        })?;
        let (epoch, version) = self.stamp;
        Ok(Order {
            fleet: status.fleet.clone(),
            survivor: self.survivor.name.clone(),
            incarnation: self.survivor.incarnation,
            machine,
            epoch,
            version,
            system_id: self.system_id.to_owned(),
            issued: now,
        })
    }
}
