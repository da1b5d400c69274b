//! Out of service while an upgrade restarts what requests pass through.
//!
//! apt installs packages on one node after the other. The agent then restarts the units of the roles that came in another version;
//! before it does, the node says 503 to the load balancer's health check for as long as that needs to see it. What changes on all
//! nodes at a time, such as settings and certificates in the facts, is no reason to leave: all of them would.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use rolesmith_model::facts::Member;

use crate::decide::{Action, Decision, Observed, Verb};
use crate::drain;
use crate::edge::{ROLE, SETTINGS_FILE, Settings, UPGRADING};
use crate::files::{self, Access, Root, Seen};
use crate::guard::GUARDED_ROLE;

/// Whether what is to be done restarts something that requests pass through, for a package that came in another version. A node that
/// has no other edge to leave the requests to stays: it would only be away for longer. Declared edges count, whether they are in service
/// or not: agents do not ask each other for that, and who upgrades one node after the other waits for each.
#[must_use]
pub fn disturbs(seen: &Observed, decision: &Decision) -> bool {
    let (Seen::Is(identity), Seen::Is(facts)) = (&seen.identity, &seen.facts) else {
        return false;
    };
    let edge = |member: &&Member| member.roles.iter().any(|role| role == ROLE);
    let edges = facts.members.iter().filter(edge);
    let (own, others): (Vec<_>, Vec<_>) = edges.partition(|member| member.name == identity.node);
    if own.is_empty() || others.is_empty() {
        return false;
    }
    let upgraded = |role: &str| {
        let before = seen
            .memory
            .roles
            .get(role)
            .and_then(|role| role.version.as_ref());
        let now = seen
            .roles
            .get(role)
            .and_then(|role| role.configured.as_ref());
        before.is_some() && before != now
    };
    decision.actions.iter().any(|action| match action {
        // The base logs and measures; nobody waits for it.
        Action::Unit {
            role,
            verb: Verb::Restart,
            own: true,
            ..
        } => role != GUARDED_ROLE && upgraded(role),
        _ => false,
    })
}

/// Says 503 from now on, and comes back when the load balancer has seen it. Where it does not ask this node, or its operator took that
/// out of service before, there is nothing to wait for.
///
/// # Errors
/// The mark cannot be made.
pub fn leave(root: &Root) -> io::Result<()> {
    let settings: Seen<Settings> = files::read_json(&root.join(SETTINGS_FILE));
    let seconds = match settings {
        Seen::Is(settings) => settings.leave_seconds,
        Seen::Absent | Seen::Broken(_) => 0,
    };
    files::write(&root.join(UPGRADING), b"", Access::PUBLIC)?;
    if drain::since(root).is_none() {
        // The load balancer tells nobody what it has seen: its own time is all that there is to go by.
        sleep(Duration::from_secs(seconds));
    }
    Ok(())
}

/// Ends what [`leave`] began.
///
/// # Errors
/// The mark is there and cannot be removed.
pub fn back(root: &Root) -> io::Result<()> {
    files::remove(&root.join(UPGRADING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::decide;
    use crate::decide::tests::machines::{done, facts};

    /// A machine of which everything is done, in a fleet of two edges, with the role `app` in the next version.
    fn upgraded() -> Observed {
        let (mut seen, _) = done();
        let facts = facts(&mut seen);
        facts.members[0].roles.push(ROLE.to_owned());
        let other = Member {
            name: "other".to_owned(),
            ..facts.members[0].clone()
        };
        facts.members.push(other);
        seen.roles.get_mut("app").unwrap().configured = Some("2".to_owned());
        seen
    }

    fn answer(seen: &Observed) -> bool {
        disturbs(seen, &decide(seen))
    }

    #[test]
    fn a_restart_for_another_version_is_a_reason_to_leave() {
        let seen = upgraded();
        let restart = |action: &Action| {
            matches!(
                action,
                Action::Unit {
                    verb: Verb::Restart,
                    ..
                }
            )
        };
        assert!(decide(&seen).actions.iter().any(restart));
        assert!(answer(&seen));
    }

    #[test]
    fn a_restart_for_what_came_with_the_facts_is_none() {
        let mut seen = upgraded();
        let app = seen.roles.get_mut("app").unwrap();
        app.configured = Some("1".to_owned());
        app.files[0].wanted = Ok(crate::decide::tests::machines::spec("newer"));
        let restart = |action: &Action| {
            matches!(
                action,
                Action::Unit {
                    verb: Verb::Restart,
                    ..
                }
            )
        };
        assert!(decide(&seen).actions.iter().any(restart));
        assert!(!answer(&seen));
    }

    #[test]
    fn who_has_nobody_to_leave_it_to_stays() {
        let mut seen = upgraded();
        facts(&mut seen).members.pop();
        assert!(!answer(&seen), "the only edge");
        let mut seen = upgraded();
        facts(&mut seen).members[0].roles.pop();
        assert!(!answer(&seen), "no edge");
        // Nothing was in service before.
        let mut seen = upgraded();
        seen.memory.roles.get_mut("app").unwrap().version = None;
        assert!(!answer(&seen), "the first version");
    }

    #[test]
    fn the_mark_is_there_until_the_work_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        back(&root).unwrap();
        leave(&root).unwrap();
        assert!(root.join(UPGRADING).exists());
        back(&root).unwrap();
        assert!(!root.join(UPGRADING).exists());
    }
}
