//! The line by which a console, a provider's log or a boot test knows that the machine is what its fleet says.
//!
//! `apply` has no console: its unit sees no devices. It leaves the line in a file, rolesmith-joined.path sees that, and
//! rolesmith-joined.service brings it to the journal and the console, once a boot.

use std::io;

use crate::files::{self, Access, Root};
use crate::state::{Phase, Report, RolePhase};

/// Where the line is, from the moment on in which the machine converged for the first time since it was started.
pub const JOINED_FILE: &str = "/run/rolesmith/joined";

/// Leaves the line, where it is true and has not been left since the machine was started.
///
/// # Errors
/// A file that cannot be written.
pub fn tell(root: &Root, report: &Report) -> io::Result<()> {
    let path = root.join(JOINED_FILE);
    match line(report) {
        Some(line) if !path.exists() => files::write(&path, line.as_bytes(), Access::PUBLIC),
        _ => Ok(()),
    }
}

/// `app-1 has joined acme: facts 7, 5 roles ready`; nothing while the machine is anything but converged.
fn line(report: &Report) -> Option<String> {
    let (Phase::Converged, Some(fleet), Some(node)) = (&report.phase, &report.fleet, &report.node)
    else {
        return None;
    };
    let facts = report.facts_version?;
    let ready = report
        .roles
        .iter()
        .filter(|role| role.phase == RolePhase::Ready);
    let roles = match ready.count() {
        1 => "1 role".to_owned(),
        roles => format!("{roles} roles"),
    };
    Some(format!(
        "{node} has joined {fleet}: facts {facts}, {roles} ready\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::RoleReport;

    fn converged() -> Report {
        let base = RoleReport {
            name: "base".into(),
            version: Some("1".into()),
            phase: RolePhase::Ready,
            join: None,
            cluster: None,
            units: Vec::new(),
        };
        Report {
            phase: Phase::Converged,
            fleet: Some("acme".into()),
            node: Some("app-1".into()),
            facts_version: Some(7),
            roles: vec![base],
            ..Report::default()
        }
    }

    #[test]
    fn a_machine_says_once_a_boot_that_it_has_joined() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let file = root.join(JOINED_FILE);
        let waiting = Report {
            phase: Phase::Waiting {
                why: "no facts".into(),
            },
            ..converged()
        };
        tell(&root, &waiting).unwrap();
        assert!(!file.exists());
        tell(&root, &converged()).unwrap();
        let said = "app-1 has joined acme: facts 7, 1 role ready\n";
        assert_eq!(std::fs::read_to_string(&file).unwrap(), said);
        let later = Report {
            facts_version: Some(8),
            ..converged()
        };
        tell(&root, &later).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), said);
    }

    #[test]
    fn who_has_no_identity_has_not_joined() {
        let nobody = Report {
            node: None,
            ..converged()
        };
        assert_eq!(line(&nobody), None);
    }
}
