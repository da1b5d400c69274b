//! What dpkg and systemd are asked, and how they answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::UnitSeen;
use crate::program::{Call, ProgramError, Programs};

/// A package in dpkg's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// `${db:Status-Status}`, see dpkg-query(1).
    pub(super) status: String,
    version: String,
}

impl Package {
    /// dpkg's word while the package is between two versions. `marker` is the version that its postinst wrote last.
    ///
    /// A postinst writes its marker and wakes the agent while dpkg still says half-configured: that counts as configured.
    pub(super) fn unsettled(&self, marker: &str) -> Option<String> {
        let settled = match self.status.as_str() {
            "half-configured" => self.version == marker,
            "unpacked" | "half-installed" => false,
            _ => true,
        };
        (!settled).then(|| self.status.clone())
    }
}

/// dpkg's word for the fleet's packages; those that it does not know are missing. Without dpkg there is none.
pub(super) fn packages(
    programs: &impl Programs,
    fleet: &str,
    roles: &BTreeSet<String>,
) -> BTreeMap<String, Package> {
    let names: Vec<String> = roles
        .iter()
        .map(String::as_str)
        .chain(["facts"])
        .map(|name| format!("{fleet}-{name}"))
        .collect();
    let call = Call::new([
        "dpkg-query",
        "--show",
        "--showformat=${Package} ${db:Status-Status} ${Version}\\n",
        "--",
    ])
    .args(names.iter().map(String::as_str));
    // It exits with 1 when it does not know one of them, and tells about the others all the same.
    let Ok(ended) = programs.run(&call) else {
        return BTreeMap::new();
    };
    ended
        .stdout
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, status) = (words.next()?.to_owned(), words.next()?.to_owned());
            Some((
                name,
                Package {
                    status,
                    version: words.next().unwrap_or_default().to_owned(),
                },
            ))
        })
        .collect()
}

/// Asks systemd about units.
///
/// # Errors
/// systemctl's.
pub fn units(
    programs: &impl Programs,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, UnitSeen>, ProgramError> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let call = Call::new([
        "systemctl",
        "show",
        "--property=LoadState,ActiveState,UnitFileState",
        "--",
    ])
    .args(names.iter().copied());
    let output = programs.output(&call)?;
    // One block a unit, in the order asked for, with an empty line between two.
    let blocks = output.trim().split("\n\n");
    Ok(names
        .iter()
        .zip(blocks)
        .map(|(name, block)| ((*name).to_owned(), unit_seen(block)))
        .collect())
}

fn unit_seen(block: &str) -> UnitSeen {
    let mut unit = UnitSeen::default();
    for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "LoadState" => {
                unit.masked = value == "masked";
                unit.known = !matches!(value, "not-found" | "masked" | "");
            }
            "ActiveState" => {
                unit.running = matches!(value, "active" | "activating" | "reloading" | "refreshing")
            }
            "UnitFileState" => {
                unit.enabled =
                    matches!(value, "enabled" | "enabled-runtime" | "alias" | "generated")
            }
            _ => {}
        }
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_between_two_versions_are_left_alone() {
        for (status, version, marker, unsettled) in [
            ("installed", "1", "1", false),
            ("half-configured", "2", "2", false),
            ("half-configured", "2", "1", true),
            ("unpacked", "2", "1", true),
            ("half-installed", "1", "1", true),
            ("triggers-pending", "1", "1", false),
        ] {
            let package = Package {
                status: status.into(),
                version: version.into(),
            };
            assert_eq!(
                package.unsettled(marker).is_some(),
                unsettled,
                "{status} {version} {marker}"
            );
        }
    }

    #[test]
    fn units_are_read_as_systemctl_writes_them() {
        let on = unit_seen("LoadState=loaded\nActiveState=activating\nUnitFileState=enabled");
        assert_eq!(
            on,
            UnitSeen {
                known: true,
                masked: false,
                running: true,
                enabled: true
            }
        );
        let masked = unit_seen("LoadState=masked\nActiveState=inactive\nUnitFileState=masked");
        assert_eq!(
            masked,
            UnitSeen {
                masked: true,
                ..UnitSeen::default()
            }
        );
        let missing = unit_seen("LoadState=not-found\nActiveState=inactive\nUnitFileState=");
        assert_eq!(missing, UnitSeen::default());
    }
}
