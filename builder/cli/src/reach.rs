//! A node that tells how the fleet is: over ssh, or from what somebody else asked it.

use std::{
    io::{ErrorKind, Read as _},
    path::Path,
};

use rolesmith_host::enroll::{Remote as _, Ssh, Target};
use rolesmith_model::{
    plan::Plan,
    status::{FleetStatus, STATUS_FORMAT},
};

use crate::{
    app::App,
    args::Reach,
    report::{Failure, Outcome},
};

/// Seconds for a node that does not answer: there are others.
const PATIENCE: u32 = 5;

/// How the fleet is, and the connection to the node that told it, where there is one.
pub struct Told {
    /// How it is.
    pub status: FleetStatus,
    /// The connection.
    pub machine: Option<Ssh>,
}

/// A program of sh that runs a command as root, who logged in being anybody, and gives it this input. The braces make sh
/// read the program to its end before the command reads the rest of what sh reads.
pub fn as_root(command: &str, input: &str) -> String {
    format!(
        "{{\n\
         if [ \"$(id -u)\" = 0 ]; then exec {command}; fi\n\
         exec sudo -n {command}\n\
         }} <<'END OF INPUT'\n\
         {input}END OF INPUT\n"
    )
}

/// Asks the node of that name, or the first that answers.
pub fn ask(app: &App, plan: &Plan, reach: &Reach, only: Option<&str>) -> Outcome<Told> {
    let told = match &reach.from {
        Some(path) => Told {
            status: read(path)?,
            machine: None,
        },
        None => over_ssh(app, plan, reach, only)?,
    };
    if told.status.fleet != plan.fleet.name.as_str() {
        return Err(Failure::new(
            format!(
                "this is how the fleet {:?} is, and fleet.toml describes {:?}",
                told.status.fleet,
                plan.fleet.name.as_str()
            ),
            "name a node of this fleet with --ssh HOST, or the fleet's directory with -C DIR",
        ));
    }
    Ok(told)
}

fn read(path: &Path) -> Outcome<FleetStatus> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| {
        let help = match error.kind() {
            ErrorKind::NotFound => {
                "make it on a node: rolesmith-agent status --fleet --json > FILE"
            }
            _ => "see whether it may be read",
        };
        Failure::new(format!("{}: {error}", path.display()), help)
    })?;
    parse(&text).map_err(|why| {
        Failure::new(
            format!("{}{why}", path.display()),
            "give what `rolesmith-agent status --fleet --json` prints on a node",
        )
    })
}

fn parse(text: &str) -> Result<FleetStatus, String> {
    let status: FleetStatus = serde_json::from_str(text)
        .map_err(|error| format!(":{}: this is no fleet's status: {error}", error.line()))?;
    if status.format > STATUS_FORMAT {
        return Err(format!(
            ": format {} is not known to this rolesmith",
            status.format
        ));
    }
    Ok(status)
}

fn over_ssh(app: &App, plan: &Plan, reach: &Reach, only: Option<&str>) -> Outcome<Told> {
    let mut failed = Vec::new();
    let wanted = |node: &str| only.is_none_or(|only| node == only);
    for (host, port) in hosts(plan, reach, wanted)? {
        app.say(format_args!("Asking {host}."));
        match ask_one(reach, &host, port) {
            Ok((status, machine)) => {
                return Ok(Told {
                    status,
                    machine: Some(machine),
                });
            }
            Err(why) => {
                app.say(format_args!("  {why}"));
                failed.push(host);
            }
        }
    }
    Err(Failure::new(
        format!(
            "no node told how the fleet is; asked: {}",
            failed.join(", ")
        ),
        "see whether ssh with the same options gets there, as root or as a user whom sudo asks for no password (--user USER, --ssh \
         USER@HOST); without ssh: --from FILE",
    ))
}

/// Connects to the first of the wanted nodes that answers.
pub fn connect(
    app: &App,
    plan: &Plan,
    reach: &Reach,
    wanted: impl Fn(&str) -> bool,
) -> Outcome<Ssh> {
    let mut failed = Vec::new();
    for (host, port) in hosts(plan, reach, wanted)? {
        match open(reach, &host, port) {
            Ok(machine) => return Ok(machine),
            Err(why) => {
                app.say(format_args!("{host}: {why}"));
                failed.push(host);
            }
        }
    }
    Err(Failure::new(
        format!("no node answered; tried: {}", failed.join(", ")),
        "see whether ssh with the same options gets there (--user USER, --ssh USER@HOST)",
    ))
}

/// Where to try, in this order.
fn hosts(
    plan: &Plan,
    reach: &Reach,
    wanted: impl Fn(&str) -> bool,
) -> Outcome<Vec<(String, Option<u16>)>> {
    if let Some(host) = &reach.ssh {
        return Ok(vec![(host.clone(), reach.port)]);
    }
    let user = reach
        .user
        .as_ref()
        .map(|user| format!("{user}@"))
        .unwrap_or_default();
    let known: Vec<(String, Option<u16>)> = plan
        .nodes
        .iter()
        .filter(|node| wanted(node.name.as_str()))
        .filter_map(|node| {
            let node = &plan.fleet.nodes[&node.name];
            let port = reach.port.unwrap_or(node.ssh_port);
            Some((format!("{user}{}", node.address?), Some(port)))
        })
        .collect();
    if known.is_empty() {
        return Err(Failure::new(
            "fleet.toml knows no address to ask",
            "name a node with --ssh HOST, or write down its address: rolesmith record NODE ADDRESS",
        ));
    }
    Ok(known)
}

fn open(reach: &Reach, host: &str, port: Option<u16>) -> Result<Ssh, String> {
    Ssh::connect(Target {
        host: host.to_owned(),
        port,
        options: reach.ssh_options.clone(),
        sudo: false,
        patience: PATIENCE,
    })
    .map_err(|error| error.to_string())
}

fn ask_one(reach: &Reach, host: &str, port: Option<u16>) -> Result<(FleetStatus, Ssh), String> {
    let machine = open(reach, host, port)?;
    let text = machine
        .run(&as_root("rolesmith-agent status --fleet --json", ""))
        .map_err(|error| error.to_string())?;
    let status = parse(&text).map_err(|why| format!("{host}{why}"))?;
    Ok((status, machine))
}
