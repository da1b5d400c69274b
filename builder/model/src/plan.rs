//! The plan: the fleet resolved to packages and nodes, nothing left to choose.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    facts::NodeFile,
    fleet::Fleet,
    ids::{NodeName, PackageName, RoleName, SecretName},
    image::Image,
    manifest::{ClusterKind, HealthCheck, ManagedUnit},
    opening::Opening,
};

/// Where a packaged file came from, for the manifest and for people who ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file of a role's directory, by the path that people know it under.
    Source(String),
    /// Rendered from a template of a role's directory.
    Template(String),
    /// Made by the builder from entries of role.toml or fleet.toml; the text says which.
    Generated(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Source(path) | Origin::Template(path) => f.write_str(path),
            Origin::Generated(from) => f.write_str(from),
        }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File(Arc<[u8]>),
    /// A symbolic link to the target.
    Symlink(String),
}

/// A file that a package ships, owned by root:root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedFile {
    /// Absolute path.
    pub path: String,
    /// What stands there.
    pub content: Content,
    /// Permission bits; 0o777 for links.
    pub mode: u32,
    /// dpkg asks before it overwrites a local change.
    pub conffile: bool,
    /// Where it came from.
    pub origin: Origin,
}

/// A role's part in the maintainer scripts; the fixed part comes from the templates in debian/.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maintainer {
    /// Own units: name, whether enabled, whether started at install.
    pub units: Vec<PackagedUnit>,
    /// Whether the package ships a sysusers.d file (of its own name).
    pub sysusers: bool,
    /// Whether the package ships a tmpfiles.d file (of its own name).
    pub tmpfiles: bool,
    /// Whether the package ships a sysctl.d file.
    pub sysctl: bool,
    /// The role whose package this is.
    pub role: Option<RoleName>,
    /// Shell fragments, each ending in a line break.
    pub preinst: Vec<String>,
    /// See `preinst`.
    pub postinst: Vec<String>,
    /// See `preinst`.
    pub prerm: Vec<String>,
    /// Run at purge.
    pub purge: Vec<String>,
}

/// A unit as the maintainer scripts see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedUnit {
    /// Its name.
    pub name: String,
    /// Whether it is enabled when installed first.
    pub enable: bool,
    /// Whether it starts when the package is configured.
    pub start: bool,
}

/// A lintian tag that does not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The tag.
    pub tag: String,
    /// Its context, where the tag alone would hide too much.
    pub context: Option<String>,
    /// Why it does not apply.
    pub reason: String,
}

/// A package before it has a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: PackageName,
    /// Archive section (Policy 2.4).
    pub section: &'static str,
    /// Synopsis.
    pub summary: String,
    /// Extended description; paragraphs are separated by an empty line.
    pub description: String,
    /// Maintainer field.
    pub maintainer: String,
    /// Relations by field name, such as `Depends`.
    pub relations: BTreeMap<&'static str, Vec<String>>,
    /// What it ships, sorted by path.
    pub files: Vec<PackagedFile>,
    /// What its maintainer scripts do.
    pub scripts: Maintainer,
    /// Overrides, shipped below /usr/share/lintian/overrides.
    pub lintian: Vec<Override>,
}

/// A secret that a role needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub name: SecretName,
    /// What it is for.
    pub description: String,
    /// Made at random where it does not exist yet.
    pub generate: bool,
}

/// A file of scope "node" with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedFile {
    /// As facts describe it.
    pub file: NodeFile,
    /// Its bytes, with placeholders for secrets.
    pub bytes: Arc<[u8]>,
    /// Where it came from.
    pub origin: Origin,
}

/// A fail2ban jail, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jail {
    /// Its name.
    pub name: String,
    /// Options by name, in the order in which they are written.
    pub options: Vec<(&'static str, String)>,
}

/// One machine, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct NodePlan {
    /// Its name.
    pub name: NodeName,
    /// Its roles with those they require, each after what it needs.
    pub roles: Vec<RoleName>,
    /// The fleet's packages that it installs.
    pub packages: Vec<PackageName>,
    /// Files rendered for it.
    pub files: Vec<RenderedFile>,
    /// Ports that its roles open.
    pub openings: Vec<Opening>,
    /// Jails of its roles.
    pub jails: Vec<Jail>,
    /// Health checks by role.
    pub health: BTreeMap<RoleName, Vec<HealthCheck>>,
    /// Secrets that it receives.
    pub secrets: Vec<SecretName>,
    /// Units of Debian's packages that a fresh machine masks.
    pub masked_units: Vec<String>,
    /// Answers to questions of Debian's packages that a fresh machine gives (debconf-set-selections(1)).
    pub debconf: Vec<String>,
}

/// A role, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct RolePlan {
    /// Its name.
    pub name: RoleName,
    /// Its package.
    pub package: PackageName,
    /// Debian packages that it depends on directly (first alternatives included), for the mirror.
    pub debian: Vec<String>,
    /// Its units.
    pub units: Vec<ManagedUnit>,
    /// What its members form together, where agents know how.
    pub cluster: Option<ClusterKind>,
    /// Its secrets.
    pub secrets: Vec<Secret>,
}

/// Everything that is built and where it goes. The facts package and the archive keyring are made from it later, because
/// they hold versions and keys.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The checked fleet.
    pub fleet: Fleet,
    /// The roles' packages, by name.
    pub packages: Vec<Package>,
    /// The roles, by name.
    pub roles: Vec<RolePlan>,
    /// The machines, by name.
    pub nodes: Vec<NodePlan>,
    /// The images that can be baked, by name.
    pub images: Vec<Image>,
    /// Secrets that no role asks for, but the fleet itself: every node receives them.
    pub common_secrets: Vec<Secret>,
}

impl Plan {
    /// Name of the package that carries the facts.
    #[must_use]
    pub fn facts_package(&self) -> String {
        format!("{}-facts", self.fleet.name)
    }

    /// Name of the package that carries the repository's keys and its .sources file.
    #[must_use]
    pub fn keyring_package(&self) -> String {
        format!("{}-archive-keyring", self.fleet.name)
    }

    /// The machine of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodePlan> {
        self.nodes.iter().find(|n| n.name.as_str() == name)
    }

    /// The image of that name.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<&Image> {
        self.images.iter().find(|i| i.name.as_str() == name)
    }

    /// Every secret of the fleet, by name.
    #[must_use]
    pub fn secrets(&self) -> BTreeMap<&SecretName, &Secret> {
        self.roles
            .iter()
            .flat_map(|r| &r.secrets)
            .chain(&self.common_secrets)
            .map(|s| (&s.name, s))
            .collect()
    }
}
