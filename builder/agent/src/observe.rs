//! Reading the machine into an [`Observed`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rolesmith_model::facts::{
    FACTS_FILE, Facts, IDENTITY_FILE, Identity, NODES_DIR, NodeFacts, NodeFile, SECRETS_DIR,
};
use rolesmith_model::ids::{NodeName, RoleName};
use rolesmith_model::manifest::{CONF_DIR, CONFIGURED_DIR, MANIFEST_DIR, RoleManifest};

use crate::decide::{FileSpec, Observed, RoleSeen, UnitSeen, WantedFile};
use crate::files::{self, Root, Seen, digest, read_json, stays_below};
use crate::guard::Guard;
use crate::inputs::{self, Missing};
use crate::program::{Call, ProgramError, Programs};
use crate::state::Memory;

/// Bytes of the files to install, by role and path. They hold secrets: not shown by `{:?}`.
#[derive(Clone, Default)]
pub struct Contents(BTreeMap<(String, String), Vec<u8>>);

impl Contents {
    /// The bytes of one file.
    #[must_use]
    pub fn get(&self, role: &str, path: &str) -> Option<&[u8]> {
        self.0
            .get(&(role.to_owned(), path.to_owned()))
            .map(Vec::as_slice)
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why the machine could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A file or directory.
    #[error("{path}: {error}")]
    Io {
        /// Which one.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// A program that was asked.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The guard's state.
    #[error("{0}")]
    Guard(String),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ObserveError {
    let path = path.display().to_string();
    move |error| ObserveError::Io { path, error }
}

/// The node's secrets by name, without the newline at their end.
///
/// # Errors
/// What the system calls return; no secrets at all are none.
pub fn secrets(root: &Root) -> Result<BTreeMap<String, Vec<u8>>, ObserveError> {
    let dir = root.join(SECRETS_DIR);
    let mut secrets = BTreeMap::new();
    for name in files::list(&dir).map_err(at(&dir))? {
        let path = dir.join(&name);
        if let Some(mut value) = files::read(&path).map_err(at(&path))? {
            if value.last() == Some(&b'\n') {
                value.pop();
            }
            secrets.insert(name, value);
        }
    }
    Ok(secrets)
}

/// The identity of this machine.
#[must_use]
pub fn identity(root: &Root) -> Seen<Identity> {
    match read_json::<Identity>(&root.join(IDENTITY_FILE)) {
        // The name becomes part of paths.
        Seen::Is(identity) => match NodeName::new(identity.node.clone()) {
            Ok(_) => Seen::Is(identity),
            Err(error) => Seen::Broken(format!("the name {:?} {error}", identity.node)),
        },
        other => other,
    }
}

/// The fleet's facts.
#[must_use]
pub fn facts(root: &Root) -> Seen<Facts> {
    match read_json::<Facts>(&root.join(FACTS_FILE)) {
        Seen::Is(facts) => {
            let roles = facts.members.iter().flat_map(|member| &member.roles);
            match roles
                .map(|role| RoleName::new(role.clone()))
                .find_map(Result::err)
            {
                None => Seen::Is(facts),
                Some(error) => Seen::Broken(format!("a role's name {error}")),
            }
        }
        other => other,
    }
}

/// What the facts say about a node.
#[must_use]
pub fn node(root: &Root, name: &str) -> Seen<NodeFacts> {
    read_json(&root.join(NODES_DIR).join(name).join("node.json"))
}

/// The address of the private interface, if it has one.
pub fn address(programs: &impl Programs, interface: &str) -> Option<String> {
    let call = Call::new(["ip", "-json", "-4", "address", "show", "dev", interface]);
    programs
        .output(&call)
        .ok()
        .as_deref()
        .and_then(inputs::first_address)
}

/// Observes the machine. `memory` is what the state holds; failures of this run are for the caller to add.
///
/// # Errors
/// What has nothing to do with the fleet: a disk that cannot be read, systemd that does not answer.
pub fn observe(
    root: &Root,
    programs: &impl Programs,
    memory: &Memory,
) -> Result<(Observed, Contents), ObserveError> {
    let guard = Guard::load(root).map_err(ObserveError::Guard)?;
    let boot = files::read(&root.join("/proc/sys/kernel/random/boot_id"))
        .ok()
        .flatten()
        .unwrap_or_default();
    let mut seen = Observed {
        identity: identity(root),
        facts: facts(root),
        facts_unsettled: None,
        node: Seen::Absent,
        roles: BTreeMap::new(),
        guard,
        memory: memory.clone(),
        boot: String::from_utf8_lossy(&boot).trim().to_owned(),
        failures: BTreeMap::new(),
    };
    let mut contents = Contents::default();
    let Seen::Is(identity) = &seen.identity else {
        return Ok((seen, contents));
    };
    let (fleet, name) = (identity.fleet.clone(), identity.node.clone());
    seen.node = node(root, &name);

    let mut roles: BTreeSet<String> = memory.roles.keys().cloned().collect();
    if let Seen::Is(facts) = &seen.facts {
        let own = facts.members.iter().find(|member| member.name == name);
        roles.extend(
            own.into_iter()
                .flat_map(|member| member.roles.iter().cloned()),
        );
    }
    let packages = packages(programs, &fleet, &roles);
    let word = packages
        .get(&format!("{fleet}-facts"))
        .map(|package| package.status.as_str());
    seen.facts_unsettled = word
        .filter(|word| *word == "half-installed")
        .map(str::to_owned);

    let node_facts = match &seen.node {
        Seen::Is(node) => Some(node),
        _ => None,
    };
    let mut source = Source::new(root, programs, &name, node_facts)?;
    for role in roles {
        let package = packages.get(&format!("{fleet}-{role}"));
        let observed = source.role(&role, package, &mut contents)?;
        seen.roles.insert(role, observed);
    }
    let names: BTreeSet<&str> = seen
        .roles
        .values()
        .filter_map(manifest_of)
        .flat_map(|m| &m.units)
        .map(|unit| unit.name.as_str())
        .collect();
    let units = units(programs, &names)?;
    for role in seen.roles.values_mut() {
        let names: Vec<String> = manifest_of(role)
            .map(|m| m.units.iter().map(|unit| unit.name.clone()).collect())
            .unwrap_or_default();
        role.units = names
            .into_iter()
            .filter_map(|name| units.get(&name).cloned().map(|unit| (name, unit)))
            .collect();
    }
    Ok((seen, contents))
}

fn manifest_of(role: &RoleSeen) -> Option<&RoleManifest> {
    match &role.manifest {
        Seen::Is(manifest) if role.configured.is_some() => Some(manifest),
        _ => None,
    }
}

/// A package in dpkg's words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    /// `${db:Status-Status}`, see dpkg-query(1).
    status: String,
    version: String,
}

impl Package {
    /// dpkg's word while the package is between two versions. `marker` is the version that its postinst wrote last.
    ///
    /// A postinst writes its marker and wakes the agent while dpkg still says half-configured: that counts as configured.
    fn unsettled(&self, marker: &str) -> Option<String> {
        let settled = match self.status.as_str() {
            "half-configured" => self.version == marker,
            "unpacked" | "half-installed" => false,
            _ => true,
        };
        (!settled).then(|| self.status.clone())
    }
}

/// dpkg's word for the fleet's packages; those that it does not know are missing. Without dpkg there is none.
fn packages(
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

/// Where the files of roles come from.
struct Source<'a> {
    root: &'a Root,
    node: &'a str,
    files: &'a [NodeFile],
    interface: &'a str,
    address: Option<String>,
    secrets: BTreeMap<String, Vec<u8>>,
    passwd: String,
    group: String,
}

impl<'a> Source<'a> {
    fn new(
        root: &'a Root,
        programs: &impl Programs,
        node: &'a str,
        facts: Option<&'a NodeFacts>,
    ) -> Result<Self, ObserveError> {
        let text = |path: &str| -> Result<String, ObserveError> {
            let path = root.join(path);
            let bytes = files::read(&path).map_err(at(&path))?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let interface = facts.map_or("", |facts| facts.private_interface.as_str());
        Ok(Self {
            root,
            node,
            files: facts.map_or(&[], |facts| facts.files.as_slice()),
            interface,
            address: if interface.is_empty() {
                None
            } else {
                address(programs, interface)
            },
            secrets: secrets(root)?,
            passwd: text("/etc/passwd")?,
            group: text("/etc/group")?,
        })
    }

    fn role(
        &mut self,
        role: &str,
        package: Option<&Package>,
        contents: &mut Contents,
    ) -> Result<RoleSeen, ObserveError> {
        let marker = self.root.join(CONFIGURED_DIR).join(role);
        let configured = files::read(&marker)
            .map_err(at(&marker))?
            .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        let unsettled = configured
            .as_ref()
            .and_then(|marker| package.and_then(|package| package.unsettled(marker)));
        let dir = self.root.join(CONF_DIR).join(role);
        let mut wanted = Vec::new();
        for file in self.files.iter().filter(|file| file.role == role) {
            let spec = self.render(file).map(|(spec, bytes)| {
                contents
                    .0
                    .insert((role.to_owned(), file.path.clone()), bytes);
                spec
            });
            let installed = if stays_below(&file.path) {
                spec_of(&dir.join(&file.path)).map_err(at(&dir))?
            } else {
                None
            };
            wanted.push(WantedFile {
                path: file.path.clone(),
                wanted: spec,
                installed,
            });
        }
        wanted.sort_by(|a, b| a.path.cmp(&b.path));
        let listed = |path: &String| wanted.iter().any(|file| file.path == *path);
        let strays = files::list(&dir)
            .map_err(at(&dir))?
            .into_iter()
            .filter(|path| !listed(path))
            .collect();
        Ok(RoleSeen {
            configured,
            unsettled,
            manifest: read_json(&self.root.join(MANIFEST_DIR).join(format!("{role}.json"))),
            files: wanted,
            strays,
            units: BTreeMap::new(),
        })
    }

    fn render(&self, file: &NodeFile) -> Result<(FileSpec, Vec<u8>), Missing> {
        if !stays_below(&file.path) {
            return Err(Missing::Path);
        }
        let path = self
            .root
            .join(NODES_DIR)
            .join(self.node)
            .join("files")
            .join(&file.role)
            .join(&file.path);
        let template = files::read(&path)
            .map_err(|error| Missing::Content(error.to_string()))?
            .ok_or_else(|| Missing::Content(path.display().to_string()))?;
        let bytes = inputs::fill(
            &template,
            &file.secrets,
            &self.secrets,
            self.address.as_deref(),
            self.interface,
        )?;
        let number = |name: &str, table: &str| {
            inputs::number_of(name, table).ok_or_else(|| Missing::Owner(name.to_owned()))
        };
        let owner = (
            number(&file.user, &self.passwd)?,
            number(&file.group, &self.group)?,
        );
        Ok((
            FileSpec {
                digest: digest(&bytes),
                mode: file.mode,
                owner,
            },
            bytes,
        ))
    }
}

/// What stands at a path; something else than a file counts as nothing and is replaced.
fn spec_of(path: &Path) -> io::Result<Option<FileSpec>> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(None);
    };
    if !found.is_file() {
        return Ok(None);
    }
    Ok(files::read(path)?.map(|bytes| FileSpec {
        digest: digest(&bytes),
        mode: found.mode() & 0o7777,
        owner: (found.uid(), found.gid()),
    }))
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
