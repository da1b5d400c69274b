//! rolesmith enroll

use rolesmith_formats::seed::Seed;
use rolesmith_host::enroll::{
    self, Change, Confirmation, Conflict, EnrollError, Expectations, Probe, Progress, Ssh, Target,
    Weight, probe::Enrolled,
};
use rolesmith_model::facts::Origin;

use crate::{
    app::{App, clock, line},
    args::Enroll,
    project,
    report::{Failure, Outcome},
};

/// Looks, names every conflict, and only then changes the machine, saying each thing that it changes.
pub fn run(app: &App, args: &Enroll) -> Outcome {
    let plan = project::plan(app)?;
    let node = project::node(&plan, &args.node)?;
    let keys = project::keys(app, &plan)?;
    let seed = project::seed(&plan, &keys, node, Origin::Enroll)?;
    app.say(format_args!("Connecting to {}.", args.ssh));
    let machine = Ssh::connect(Target {
        host: args.ssh.clone(),
        port: args.port,
        options: args.ssh_options.clone(),
        sudo: args.sudo,
        patience: 20,
    })
    .map_err(|e| {
        Failure::because(
            &e,
            "see whether `ssh` with the same options gets there, as root or with --sudo",
        )
    })?;
    let probe = enroll::look(&machine).map_err(failure)?;
    if args.secrets {
        return secrets(app, args, &machine, &seed, &probe);
    }
    let wanted = Expectations::new(&plan, node, &seed, clock()?);
    let conflicts = enroll::conflicts(&probe, &wanted);
    show(app, &conflicts)?;
    let stopping = enroll::stopping(&conflicts, &args.accept).map_err(|e| {
        Failure::because(&e, "the codes are shown in brackets beside each conflict")
    })?;
    let changes = enroll::changes(&seed, &probe);
    if args.dry_run {
        app.say("Nothing was changed. Without --dry-run these would be done:");
        for change in changes
            .iter()
            .chain(args.install.then(|| enroll::installation(&seed)).iter())
        {
            app.say(format_args!("  {}", change.sentence()));
        }
    }
    if !stopping.is_empty() {
        let codes: Vec<&str> = stopping.iter().map(|c| c.code).collect();
        return Err(Failure::new(
            format!(
                "{} is as it was: {} in the way ({})",
                args.ssh,
                in_the_way(codes.len()),
                codes.join(", ")
            ),
            "do what each of them says; to go on in spite of one: --accept CODE",
        ));
    }
    if args.dry_run {
        return Ok(());
    }
    apply(app, &machine, &changes)?;
    if args.install {
        install(app, &machine, &seed, &probe, &wanted)?;
    } else {
        let missing: Vec<&str> = seed
            .packages
            .iter()
            .map(String::as_str)
            .filter(|package| !probe.has(package))
            .collect();
        let before = is_node(&probe.enrolled, &seed.fleet, &seed.node, seed.incarnation).is_ok();
        app.say(format_args!(
            "{} is enrolled as {}. {}",
            args.ssh,
            args.node,
            next(&missing, before)
        ));
    }
    Ok(())
}

/// What is left to do on a machine that lacks these packages of its node and was this node `before`.
fn next(missing: &[&str], before: bool) -> String {
    const CONFIRM: &str = "confirm it over a new connection: rolesmith-agent firewall confirm";
    match (missing, before) {
        ([], true) => {
            "It has all its packages, and the agent is at work: rolesmith-agent status tells how it is."
                .to_owned()
        }
        ([], false) => format!(
            "It has all its packages, and the agent is at work.\n\
             Its firewall goes on trial now, for two minutes; {CONFIRM}"
        ),
        (missing, before) => {
            let install = format!(
                "Next, on the machine: apt-get update && apt-get install {}",
                missing.join(" ")
            );
            if before {
                install
            } else {
                format!("{install}\nIts firewall is then on trial for two minutes; {CONFIRM}")
            }
        }
    }
}

/// Brings secrets to the machine that is this node, and to no other: they would be anybody's there.
fn secrets(app: &App, args: &Enroll, machine: &Ssh, seed: &Seed, probe: &Probe) -> Outcome {
    if let Err(found) = is_node(&probe.enrolled, &seed.fleet, &seed.node, seed.incarnation) {
        return Err(Failure::new(
            format!(
                "{} is not {} of the fleet {} (incarnation {}): {found}; it gets no secrets",
                args.ssh, seed.node, seed.fleet, seed.incarnation
            ),
            format!(
                "see whether --ssh names the right machine; one that is not enrolled yet: rolesmith enroll {} --ssh {}",
                seed.node, args.ssh
            ),
        ));
    }
    let changes = enroll::secret_changes(seed);
    if args.dry_run {
        app.say("Nothing was changed. Without --dry-run these would be done, where they are not so already:");
        for change in &changes {
            app.say(format_args!("  {}", change.sentence()));
        }
        return Ok(());
    }
    apply(app, machine, &changes)
}

/// Whether a machine is this incarnation of the node; otherwise what it is instead.
fn is_node(enrolled: &Enrolled, fleet: &str, node: &str, incarnation: u64) -> Result<(), String> {
    match enrolled {
        Enrolled::No => Err("it belongs to no fleet".into()),
        Enrolled::Unreadable => Err("its identity file cannot be read".into()),
        Enrolled::As(identity)
            if identity.fleet == fleet
                && identity.node == node
                && identity.incarnation == incarnation =>
        {
            Ok(())
        }
        Enrolled::As(identity) => Err(format!(
            "it is {} of the fleet {} (incarnation {})",
            identity.node, identity.fleet, identity.incarnation
        )),
    }
}

fn failure(error: EnrollError) -> Failure {
    let help = match &error {
        EnrollError::LockedOut(_) | EnrollError::TakenBack => {
            "mend what keeps new connections out (the node's ssh_port, [network] public_interface), then `rolesmith-agent firewall load` on the machine"
        }
        _ => "run the same command again: what is done already is left alone",
    };
    Failure::because(&error, help)
}

fn in_the_way(count: usize) -> String {
    if count == 1 {
        "one conflict is".into()
    } else {
        format!("{count} conflicts are")
    }
}

fn show(app: &App, conflicts: &[Conflict]) -> Outcome {
    if app.json {
        let list: Vec<_> = conflicts
            .iter()
            .map(|c| {
                serde_json::json!({
                    "code": c.code,
                    "weight": word(c.weight),
                    "what": c.what,
                    "consequence": c.consequence,
                    "help": c.help,
                })
            })
            .collect();
        line(format_args!(
            "{}",
            serde_json::to_string_pretty(&serde_json::json!({ "conflicts": list }))?
        ))?;
        return Ok(());
    }
    if conflicts.is_empty() {
        app.say("Nothing on the machine collides with what the node will be.");
    }
    for conflict in conflicts {
        app.say(format_args!(
            "{}: {} [{}]\n  then: {}\n  help: {}",
            word(conflict.weight),
            conflict.what,
            conflict.code,
            conflict.consequence,
            conflict.help
        ));
    }
    Ok(())
}

fn word(weight: Weight) -> &'static str {
    match weight {
        Weight::Note => "note",
        Weight::Blocks => "conflict",
        Weight::Impossible => "impossible",
    }
}

fn apply(app: &App, machine: &Ssh, changes: &[Change]) -> Outcome {
    enroll::apply(machine, changes, |change, progress| match progress {
        Progress::Begins => {}
        Progress::Changed => app.say(format_args!("changed: {}", change.sentence())),
        Progress::Unchanged => app.say(format_args!("as it is: {}", change.sentence())),
    })
    .map_err(failure)
}

fn install(app: &App, machine: &Ssh, seed: &Seed, probe: &Probe, wanted: &Expectations) -> Outcome {
    app.say(format_args!("Installing {}.", seed.packages.join(", ")));
    apply(app, machine, &[enroll::installation(seed)])?;
    match enroll::confirm(machine, probe, wanted).map_err(failure)? {
        Confirmation::Confirmed => {
            app.say("The firewall let a new connection in and is confirmed.")
        }
        Confirmation::InForce => app.say("The firewall is in force."),
    }
    app.say(format_args!(
        "{} is a node now: rolesmith-agent status tells how it is.",
        seed.node
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use rolesmith_model::facts::Identity;

    use super::*;

    #[test]
    fn what_is_next_depends_on_what_is_there() {
        for (missing, before, installs, confirms) in [
            (&["acme-base", "acme-app"][..], false, true, true),
            (&["acme-app"], true, true, false),
            (&[], false, false, true),
            (&[], true, false, false),
        ] {
            let text = next(missing, before);
            let command = format!("apt-get install {}", missing.join(" "));
            assert_eq!(text.contains(command.trim_end()), installs, "{text}");
            assert_eq!(text.contains("firewall confirm"), confirms, "{text}");
        }
    }

    #[test]
    fn secrets_are_for_this_incarnation_of_this_node_of_this_fleet() {
        let machine = |fleet: &str, node: &str, incarnation| {
            Enrolled::As(Identity {
                fleet: fleet.into(),
                node: node.into(),
                incarnation,
                origin: Origin::Enroll,
            })
        };
        assert_eq!(
            is_node(&machine("acme", "app-1", 2), "acme", "app-1", 2),
            Ok(())
        );
        for other in [
            machine("acne", "app-1", 2),
            machine("acme", "app-2", 2),
            machine("acme", "app-1", 1),
            machine("acme", "app-1", 3),
            Enrolled::No,
            Enrolled::Unreadable,
        ] {
            assert!(is_node(&other, "acme", "app-1", 2).is_err(), "{other:?}");
        }
    }
}
