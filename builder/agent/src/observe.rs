//! Reading the machine into an [`Observed`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;

use rolesmith_model::facts::{
    APPLICATION_CERTIFICATE, CA_FILE, FACTS_FILE, Facts, IDENTITY_FILE, Identity, NODES_DIR,
    NodeFacts, SECRETS_DIR,
};
use rolesmith_model::ids::{NodeName, RoleName};
use rolesmith_model::manifest::{CONFIGURED_DIR, RoleManifest};

use crate::decide::{FileSpec, Observed, RoleSeen};
use crate::files::{self, Root, Seen, read_json};
use crate::firewall::{Set, SetFile, keeps_way_in, read_set};
use crate::guard::{GUARDED_ROLE, Guard, is_guarded};
use crate::inputs;
use crate::program::{Call, ProgramError, Programs};
use crate::state::Memory;

mod asked;
mod source;

use asked::packages;
pub use asked::units;
use source::Source;

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

    /// The guarded files among these, as a set.
    ///
    /// # Errors
    /// The file that is not UTF-8, in words.
    pub fn set<'a>(
        &self,
        files: impl Iterator<Item = (&'a str, &'a FileSpec)>,
    ) -> Result<Set, String> {
        let mut set = Set::default();
        for (path, spec) in files.filter(|(path, _)| is_guarded(GUARDED_ROLE, path)) {
            let bytes = self.get(GUARDED_ROLE, path).unwrap_or_default();
            let text =
                String::from_utf8(bytes.to_vec()).map_err(|_| format!("{path} is not UTF-8"))?;
            set.files.push(SetFile {
                path: path.to_owned(),
                mode: spec.mode,
                owner: spec.owner,
                text,
            });
        }
        Ok(set)
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

/// The certificates of a node and of its applications, and the CAs that are trusted, as one value. Another key of either is
/// among what it tells: the certificate is another one then, too.
fn certificates(root: &Root, name: &str) -> Result<String, ObserveError> {
    let own = root.join(NODES_DIR).join(name).join("cert.pem");
    let mut text = String::new();
    for path in [own, root.join(CA_FILE)] {
        let bytes = files::read(&path).map_err(at(&path))?.unwrap_or_default();
        text.push_str(&files::digest(&bytes));
    }
    // Facts of older builders hold none, and without it the value is what it was.
    if let Some(bytes) = application_certificate(root, name)? {
        text.push_str(&files::digest(&bytes));
    }
    Ok(files::digest(text.as_bytes()))
}

/// The certificate of a node's applications.
fn application_certificate(root: &Root, name: &str) -> Result<Option<Vec<u8>>, ObserveError> {
    let path = root
        .join(NODES_DIR)
        .join(name)
        .join(APPLICATION_CERTIFICATE);
    files::read(&path).map_err(at(&path))
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
    // A damaged state is replaced by the next set that is put in force, which on a machine that was there before awaits
    // confirmation as its first one did.
    let guard = Guard::load(root).unwrap_or_default();
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
        application_key: None,
        certificates: String::new(),
        guard,
        keeps_way_in: false,
        memory: memory.clone(),
        boot: String::from_utf8_lossy(&boot).trim().to_owned(),
        failures: BTreeMap::new(),
    };
    let mut contents = Contents::default();
    let Seen::Is(identity) = &seen.identity else {
        return Ok((seen, contents));
    };
    let identity = identity.clone();
    let (fleet, name) = (identity.fleet.clone(), identity.node.clone());
    seen.node = node(root, &name);
    seen.certificates = certificates(root, &name)?;

    let mut roles: BTreeSet<String> = memory.roles.keys().cloned().collect();
    if let Seen::Is(facts) = &seen.facts {
        let own = facts.members.iter().find(|member| member.name == name);
        roles.extend(
            own.into_iter()
                .flat_map(|member| member.roles.iter().cloned()),
        );
    }
    // A role that was taken from this node, or came without being given to it, is there all the same.
    let markers = root.join(CONFIGURED_DIR);
    let markers = files::list(&markers).map_err(at(&markers))?;
    roles.extend(
        markers
            .into_iter()
            .filter(|name| RoleName::new(name.clone()).is_ok()),
    );
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
    if application_certificate(root, &name)?.is_some() {
        seen.application_key = Some(source.application_key(&identity)?);
    }
    for role in roles {
        let package = packages.get(&format!("{fleet}-{role}"));
        let observed = source.role(&role, package, &mut contents)?;
        seen.roles.insert(role, observed);
    }
    seen.keeps_way_in = way_in_is_kept(root, &seen, &contents);
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

/// Whether the guarded files that are wanted leave the way in as the confirmed ones have it; a set that cannot be read is
/// none to compare with.
fn way_in_is_kept(root: &Root, seen: &Observed, contents: &Contents) -> bool {
    let Some(confirmed) = &seen.guard.confirmed else {
        return false;
    };
    let files = seen
        .roles
        .get(GUARDED_ROLE)
        .map_or(&[][..], |base| &base.files);
    let wanted: Option<Vec<_>> = files
        .iter()
        .map(|file| Some((file.path.as_str(), file.wanted.as_ref().ok()?)))
        .collect();
    let wanted = wanted.and_then(|files| contents.set(files.into_iter()).ok());
    match (read_set(root, confirmed), wanted) {
        (Seen::Is(confirmed), Some(wanted)) => keeps_way_in(&confirmed, &wanted),
        _ => false,
    }
}

fn manifest_of(role: &RoleSeen) -> Option<&RoleManifest> {
    match &role.manifest {
        Seen::Is(manifest) if role.configured.is_some() => Some(manifest),
        _ => None,
    }
}
