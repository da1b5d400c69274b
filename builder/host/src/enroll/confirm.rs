//! The end of an enrolment: the node's firewall is on trial, and somebody who still gets in confirms it.

use std::{thread, time::Duration};

use rolesmith_model::manifest::POKE_FILE;
use serde::Deserialize;

use super::{EnrollError, Expectations, Probe, Remote as _, RemoteError, Ssh};

/// Seconds in which an installed agent puts the node's firewall on trial.
pub(super) const TRIAL: u32 = 180;

/// Seconds in which the agent has put rules in force of which it says that they are pending: it says so before it begins, and
/// a connection made before they are there would prove nothing.
const LOADING: u32 = 20;
/// Attempts at a new connection, a second apart: sshd opens a new port a moment after it was told.
const ATTEMPTS: u32 = 5;

/// What confirming came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// The firewall was on trial, a new connection came through, and it stays.
    Confirmed,
    /// It was in force already.
    InForce,
}

/// The part of `rolesmith-agent status --json` that counts here.
#[derive(Deserialize)]
struct Status {
    firewall: String,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Confirm,
    /// Nothing was to be confirmed.
    InForce,
    TryAgain,
    TakenBack,
    Wait,
}

/// `settled`: the agent has nothing before it, so that what it says is its answer to what was changed on the machine and not
/// an older one. `pending`: for how many seconds it has said so. A set that was taken back is tried again once: whoever left it unconfirmed, here is somebody who does.
fn next(firewall: &str, settled: bool, pending: u32, tried_again: bool) -> Next {
    match (firewall, settled) {
        ("pending", true) => Next::Confirm,
        // It is at other roles already.
        ("pending", false) if pending >= LOADING => Next::Confirm,
        ("active", true) => Next::InForce,
        ("taken-back", true) if tried_again => Next::TakenBack,
        ("taken-back", true) => Next::TryAgain,
        _ => Next::Wait,
    }
}

/// Tells whether the agent is settled, then what it says. Its request stands until it has begun, so there is no moment in
/// between at which neither shows.
fn question() -> String {
    format!(
        "settled=no\n\
         if [ ! -e {POKE_FILE} ]; then\n\
         \x20   case $(systemctl show --property ActiveState --value rolesmith-apply.service) in\n\
         \x20       inactive | failed) settled=yes ;;\n\
         \x20   esac\n\
         fi\n\
         echo \"$settled\"\n\
         rolesmith-agent status --json\n"
    )
}

fn answer(output: &str) -> Result<(String, bool), EnrollError> {
    let (settled, status) = output.split_once('\n').unwrap_or_default();
    let status: Status =
        serde_json::from_str(status).map_err(|error| EnrollError::Status(error.to_string()))?;
    Ok((status.firewall, settled == "yes"))
}

/// Waits until the agent has put the node's firewall on trial, then confirms it over a new connection: on the port that
/// the fleet expects, unless sshd listens there already and the way to it may lead through a forwarded port.
///
/// The agent was woken before.
///
/// # Errors
/// [`EnrollError`].
pub fn confirm(
    machine: &Ssh,
    probe: &Probe,
    wanted: &Expectations,
) -> Result<Confirmation, EnrollError> {
    let (mut tried_again, mut pending) = (false, 0);
    for _ in 0..TRIAL {
        let (firewall, settled) = answer(&machine.run(&question())?)?;
        match next(&firewall, settled, pending, tried_again) {
            Next::InForce => return Ok(Confirmation::InForce),
            Next::TakenBack => return Err(EnrollError::TakenBack),
            Next::TryAgain => {
                machine.run("rolesmith-agent firewall load\n")?;
                tried_again = true;
            }
            Next::Confirm => {
                let moved = !probe.ssh.ports.contains(&wanted.ssh_port);
                let port = moved.then_some(wanted.ssh_port);
                confirm_anew(machine, port).map_err(EnrollError::LockedOut)?;
                return Ok(Confirmation::Confirmed);
            }
            // Not there yet: the machine is far away, so there is no event to wait for.
            Next::Wait => {
                pending += u32::from(firewall == "pending");
                thread::sleep(Duration::from_secs(1));
            }
        }
    }
    Err(EnrollError::NoTrial)
}

fn confirm_anew(machine: &Ssh, port: Option<u16>) -> Result<(), RemoteError> {
    let mut attempt = 1;
    loop {
        match machine.run_anew(port, "rolesmith-agent firewall confirm\n") {
            Ok(_) => return Ok(()),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => {
                attempt += 1;
                thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_said_before_it_looked_counts_for_nothing() {
        for (firewall, settled, pending, tried_again, expected) in [
            ("none", false, 0, false, Next::Wait),
            ("none", true, 0, false, Next::Wait),
            // An earlier set is in force, and the new one comes.
            ("active", false, 0, false, Next::Wait),
            ("active", true, 0, false, Next::InForce),
            // The rules may not be there yet.
            ("pending", false, 0, false, Next::Wait),
            ("pending", false, LOADING, false, Next::Confirm),
            ("pending", true, 0, true, Next::Confirm),
            ("taken-back", false, 0, false, Next::Wait),
            ("taken-back", true, 0, false, Next::TryAgain),
            ("taken-back", true, 0, true, Next::TakenBack),
        ] {
            let found = next(firewall, settled, pending, tried_again);
            assert_eq!(
                found, expected,
                "{firewall} {settled} {pending} {tried_again}"
            );
        }
    }

    #[test]
    fn answers_are_read() {
        let (firewall, settled) =
            answer("yes\n{\"firewall\": \"pending\", \"alarms\": []}\n").unwrap();
        assert_eq!((firewall.as_str(), settled), ("pending", true));
        assert!(!answer("no\n{\"firewall\": \"active\"}").unwrap().1);
        for broken in ["", "yes", "yes\n", "yes\n{}"] {
            assert!(
                matches!(answer(broken), Err(EnrollError::Status(_))),
                "{broken}"
            );
        }
    }
}
