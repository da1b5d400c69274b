//! role.toml as it is written: shapes and spans, nothing checked beyond them.
//!
//! The JSON Schema that editors use comes from these types, so their comments are what a person sees while typing.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "these comments name tables of TOML and are the descriptions of the JSON Schema"
)]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
pub use toml::Spanned;

use crate::{
    manifest::{OnChange, Protocol, Start, nothing},
    opening::Written,
    setting_kind::SettingKind,
};

/// A role: what a machine does, and everything Debian needs to know to do it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "role.toml")]
pub struct RoleFile {
    /// What the role is.
    pub role: Head,
    /// Debian packages it needs on every suite.
    #[serde(default)]
    pub dependencies: Dependencies,
    /// What differs between Debian releases, by code name: [suites.trixie], [suites.bookworm].
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, SuiteFacts>")]
    pub suites: BTreeMap<Spanned<String>, SuiteFacts>,
    /// Values that a fleet may set under [settings.<role>], with their defaults. Templates read them as `settings.NAME`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub settings: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    /// Least and largest value of settings that are whole numbers: perf_interval = [1, 3600].
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, [i64; 2]>")]
    pub setting_ranges: BTreeMap<Spanned<String>, Spanned<[i64; 2]>>,
    /// What the elements are of settings that are lists of text: never_banned = "networks".
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, SettingKind>")]
    pub setting_kinds: BTreeMap<Spanned<String>, Spanned<SettingKind>>,
    /// Files that the package ships, or that each node gets rendered for itself.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// Symbolic links that the package ships.
    #[serde(default)]
    pub links: Vec<LinkEntry>,
    /// Directories of the role that the package ships with everything in them.
    #[serde(default)]
    pub trees: Vec<TreeEntry>,
    /// Own systemd units.
    #[serde(default)]
    #[schemars(with = "Vec<UnitEntry>")]
    pub units: Vec<Spanned<UnitEntry>>,
    /// Drop-ins for units that belong to Debian's packages.
    #[serde(default)]
    pub drop_ins: Vec<DropInEntry>,
    /// Units of other roles or of Debian's packages that read this role's files, and take notice when these change.
    #[serde(default)]
    pub readers: Vec<ReaderEntry>,
    /// Units of Debian's packages that a fresh node masks, because the role runs its own instance instead. An existing
    /// machine keeps them as they are.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub masked_units: Vec<Spanned<String>>,
    /// Answers to what Debian's packages ask when they are configured, as lines of debconf-set-selections(1). A fresh node gives them
    /// before anything is installed; an existing machine keeps its own.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub debconf: Vec<Spanned<String>>,
    /// Users and groups, as lines of sysusers.d(5).
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub sysusers: Vec<Spanned<String>>,
    /// Directories and files made at boot, as lines of tmpfiles.d(5).
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub tmpfiles: Vec<Spanned<String>>,
    /// Ports that others may reach.
    #[serde(default)]
    pub firewall: Vec<FirewallEntry>,
    /// fail2ban jails.
    #[serde(default)]
    pub jails: Vec<JailEntry>,
    /// Kernel parameters, as sysctl.d(5) writes them: "vm.swappiness" = 10.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub sysctl: BTreeMap<String, Spanned<toml::Value>>,
    /// Log files that logrotate(8) keeps small.
    #[serde(default)]
    pub logs: Vec<LogEntry>,
    /// How the agent sees that the role works.
    #[serde(default)]
    pub health: Vec<HealthEntry>,
    /// The cluster that the role joins.
    #[serde(default)]
    #[schemars(with = "Option<ClusterEntry>")]
    pub cluster: Option<Spanned<ClusterEntry>>,
    /// Secrets of the fleet that nodes with this role receive.
    #[serde(default)]
    pub secrets: Vec<SecretEntry>,
    /// Shell fragments for the package's maintainer scripts.
    #[serde(default)]
    pub scripts: ScriptEntries,
    /// lintian tags that do not apply, each with its reason.
    #[serde(default)]
    pub lintian: Vec<LintianEntry>,
}

/// [role]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// One line without a full stop, under 80 characters (Policy 3.4.1).
    #[schemars(with = "String")]
    pub summary: Spanned<String>,
    /// Some sentences for the package's description (Policy 3.4.2).
    #[schemars(with = "String")]
    pub description: Spanned<String>,
    /// Roles that every node with this role has too.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub requires: Vec<Spanned<String>>,
    /// Take everything of that role and add to it. A role may extend the built-in one of its own name.
    #[schemars(with = "Option<String>")]
    pub extends: Option<Spanned<String>>,
    /// Replace the built-in role of the same name.
    #[schemars(with = "Option<bool>")]
    pub replaces_builtin: Option<Spanned<bool>>,
}

impl Head {
    /// Whether it replaces the built-in role of the same name.
    #[must_use]
    pub fn replaces_builtin(&self) -> bool {
        self.replaces_builtin.as_ref().is_some_and(|r| *r.get_ref())
    }
}

/// [dependencies], in the syntax of Debian control files (Policy 7.1).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependencies {
    /// Has to be configured first. Templates may stand here: "postgresql-{{ suite.postgresql }}".
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub depends: Vec<Spanned<String>>,
    /// Usually wanted beside it. Nodes install without recommended packages.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub recommends: Vec<Spanned<String>>,
    /// Cannot be there at the same time.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub conflicts: Vec<Spanned<String>>,
    /// Packages from which this one takes files over (Policy 7.6.1), such as one of the fleet's that shipped them before:
    /// "{{ fleet.name }}-db-primary-capable".
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub replaces: Vec<Spanned<String>>,
}

/// [suites.<codename>]
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuiteFacts {
    /// Debian packages needed on this suite only.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub depends: Vec<Spanned<String>>,
    /// Values that templates read as `suite.NAME`, such as the major version of PostgreSQL.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub facts: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// Who gets a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// In the role's package, the same on every node.
    #[default]
    Package,
    /// Rendered for each node when the fleet is built, shipped in the facts package, installed by the agent below
    /// /var/lib/rolesmith/conf/<role>/ once the node is enrolled. May name secrets.
    Node,
}

/// [[files]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// A file of the role's directory, shipped as it is.
    #[schemars(with = "Option<String>")]
    pub source: Option<Spanned<String>>,
    /// A template of the role's directory.
    #[schemars(with = "Option<String>")]
    pub template: Option<Spanned<String>>,
    /// Where it goes: absolute, or relative to /var/lib/rolesmith/conf/<role>/ with scope "node". May hold template variables.
    #[schemars(with = "String")]
    pub path: Spanned<String>,
    /// Permissions in octal. Default "0644", or "0755" where the source is executable.
    #[schemars(with = "Option<String>")]
    pub mode: Option<Spanned<String>>,
    /// Owner as user:group; only with scope "node" (packages ship root:root, use tmpfiles for others).
    #[schemars(with = "Option<String>")]
    pub owner: Option<Spanned<String>>,
    /// Whether dpkg asks before it overwrites a local change. Default: true below /etc.
    pub conffile: Option<bool>,
    /// Who gets it.
    #[serde(default)]
    pub scope: Scope,
}

/// [[links]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkEntry {
    /// Where the link stands.
    #[schemars(with = "String")]
    pub path: Spanned<String>,
    /// What it points to.
    #[schemars(with = "String")]
    pub target: Spanned<String>,
}

/// [[trees]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TreeEntry {
    /// A directory of the role's directory.
    #[schemars(with = "String")]
    pub source: Spanned<String>,
    /// Where it goes. May hold template variables.
    #[schemars(with = "String")]
    pub path: Spanned<String>,
}

/// [[readers]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReaderEntry {
    /// The unit, such as nginx.service.
    #[schemars(with = "String")]
    pub unit: Spanned<String>,
    /// What happens to it, while it runs, when this role's package or its files of the node change.
    #[serde(default)]
    pub on_change: OnChange,
    /// What happens to it when the node's certificate or the list of trusted CAs changes.
    #[serde(default = "nothing")]
    pub on_certificate: OnChange,
}

/// [[units]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnitEntry {
    /// A unit of the role's directory, shipped as it is; its file name is the unit's name.
    #[schemars(with = "Option<String>")]
    pub source: Option<Spanned<String>>,
    /// A template of the role's directory; its file name is the unit's name.
    #[schemars(with = "Option<String>")]
    pub template: Option<Spanned<String>>,
    /// Whether it starts at boot.
    #[serde(default = "yes")]
    pub enable: bool,
    /// When it starts first.
    #[serde(default)]
    pub start: Start,
    /// What happens to it when its package or the node's files of this role change.
    #[serde(default)]
    pub on_change: OnChange,
    /// What happens to it, while it runs, when the node's certificate, that of its applications or the list of trusted
    /// CAs changes (tls.cert, tls.application_cert, tls.ca).
    #[serde(default = "nothing")]
    pub on_certificate: OnChange,
}

/// [[drop_ins]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropInEntry {
    /// The unit that it adds to, such as nginx.service.
    #[schemars(with = "String")]
    pub unit: Spanned<String>,
    /// A file of the role's directory.
    #[schemars(with = "Option<String>")]
    pub source: Option<Spanned<String>>,
    /// A template of the role's directory.
    #[schemars(with = "Option<String>")]
    pub template: Option<Spanned<String>>,
    /// When that unit is started by the agent.
    #[serde(default)]
    pub start: Start,
    /// What happens to that unit on a change.
    #[serde(default)]
    pub on_change: OnChange,
    /// What happens to that unit when the node's certificate, that of its applications or the list of trusted CAs changes.
    #[serde(default = "nothing")]
    pub on_certificate: OnChange,
}

/// A port by its number or by a template that gives one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PortValue {
    /// 1 to 65535.
    Number(i64),
    /// Such as "{{ redis.port }}".
    Template(String),
}

/// [[firewall]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallEntry {
    /// What listens there, for the plan and the rule's comment.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// The port.
    #[schemars(with = "PortValue")]
    pub port: Spanned<PortValue>,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Who may reach it: "public", "load-balancer", "fleet", or the members with one of some roles: ["role:app", "role:redis"].
    #[schemars(with = "Written")]
    pub from: Spanned<Written>,
    /// Most new connections a minute from one address; more are dropped. Default: no limit.
    #[schemars(with = "Option<PortValue>")]
    pub per_minute: Option<Spanned<PortValue>>,
}

/// [[jails]]: a fail2ban jail.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JailEntry {
    /// The jail's name.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// A filter of Debian's fail2ban, or one that the role's files put into /etc/fail2ban/filter.d.
    #[schemars(with = "String")]
    pub filter: Spanned<String>,
    /// Matches within find_time that lead to a ban. May be a template.
    #[serde(default = "five")]
    #[schemars(with = "PortValue")]
    pub max_retry: Spanned<PortValue>,
    /// In the syntax of fail2ban: 10m, 1h.
    #[serde(default = "ten_minutes")]
    #[schemars(with = "String")]
    pub find_time: Spanned<String>,
    /// How long the first ban of an address is; each later one is twice as long. In the syntax of fail2ban: 1h, 1d.
    #[serde(default = "one_day")]
    #[schemars(with = "String")]
    pub ban_time: Spanned<String>,
    /// Log files that it reads; without, it reads the journal with `journal_match`.
    #[serde(default)]
    pub log_path: Vec<String>,
    /// As journalctl takes it, such as "_SYSTEMD_UNIT=ssh.service".
    pub journal_match: Option<String>,
    /// What a ban does, by files of /etc/fail2ban/action.d: "rolesmith-ipset" (default) closes all ports to the address,
    /// "rolesmith-requests" has the edge refuse its requests. May be templates.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub action: Vec<Spanned<String>>,
    /// Ports that a ban closes.
    #[schemars(with = "String")]
    pub port: Spanned<String>,
}

/// [[logs]]: a file that logrotate(8) rotates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    /// The file, or a pattern of files.
    #[schemars(with = "String")]
    pub path: Spanned<String>,
    /// How often.
    #[serde(default)]
    pub rotate: Rotate,
    /// How many old ones are kept. May be a template: "{{ logs.retention_days }}".
    #[schemars(with = "PortValue")]
    pub keep: Spanned<PortValue>,
    /// Rotated early at that size, in logrotate's syntax: 100M.
    #[schemars(with = "Option<String>")]
    pub max_size: Option<Spanned<String>>,
    /// Who owns a file made after the rotation, as "mode user group" (logrotate's create).
    #[schemars(with = "Option<String>")]
    pub create: Option<Spanned<String>>,
    /// Who logrotate acts as where the directory is not root's, as "user group" (logrotate's su).
    #[schemars(with = "Option<String>")]
    pub su: Option<Spanned<String>>,
    /// A unit that gets SIGHUP after the rotation, so that it opens its log anew.
    #[schemars(with = "Option<String>")]
    pub signal: Option<Spanned<String>>,
}

/// How often a log is rotated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rotate {
    /// Once a day.
    #[default]
    Daily,
    /// Once a week.
    Weekly,
    /// Once a month.
    Monthly,
}

/// [[health]]: exactly one of unit, tcp, http, command.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthEntry {
    /// What is looked at, for `rolesmith-agent status`.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// A unit that has to be active.
    #[schemars(with = "Option<String>")]
    pub unit: Option<Spanned<String>>,
    /// An address that has to accept connections: "127.0.0.1:6432". May hold template variables.
    #[schemars(with = "Option<String>")]
    pub tcp: Option<Spanned<String>>,
    /// A plain-HTTP URL on this machine that has to answer below 400: "http://127.0.0.1:80/health". May hold template variables.
    #[schemars(with = "Option<String>")]
    pub http: Option<Spanned<String>>,
    /// A program that has to exit with 0 within five seconds, run as the unprivileged user of the agent.
    #[schemars(with = "Option<Vec<String>>")]
    pub command: Option<Spanned<Vec<String>>>,
}

/// [cluster]: exactly one of kind, join.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterEntry {
    /// A kind of cluster that the agent knows: postgresql, redis, rsyslog.
    #[schemars(with = "Option<String>")]
    pub kind: Option<Spanned<String>>,
    /// A program of the role that makes this node a member: idempotent, run as root before the role's units start, again
    /// after each change; exit 0 done, 75 (EX_TEMPFAIL) not yet, anything else an error that status shows.
    #[schemars(with = "Option<String>")]
    pub join: Option<Spanned<String>>,
}

/// [[secrets]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretEntry {
    /// Its name; templates with scope "node" read it as `secret.NAME` with hyphens as underscores.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// What it is for.
    pub description: String,
    /// Made at random by `init` (and by `build` where a new role asks for it); otherwise the operator sets it.
    #[serde(default = "yes")]
    pub generate: bool,
}

/// [scripts]: files of the role's directory with shell code, put into the maintainer scripts at their proper place.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptEntries {
    /// Before unpacking (install, upgrade).
    #[schemars(with = "Option<String>")]
    pub preinst: Option<Spanned<String>>,
    /// After configuring (configure).
    #[schemars(with = "Option<String>")]
    pub postinst: Option<Spanned<String>>,
    /// Before removal (remove, upgrade).
    #[schemars(with = "Option<String>")]
    pub prerm: Option<Spanned<String>>,
    /// After purge; may rely on essential packages alone.
    #[schemars(with = "Option<String>")]
    pub purge: Option<Spanned<String>>,
}

/// [[lintian]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LintianEntry {
    /// The tag.
    #[schemars(with = "String")]
    pub tag: Spanned<String>,
    /// Its context, with * as wildcard.
    #[serde(default)]
    pub context: Option<String>,
    /// Why it does not apply.
    #[schemars(with = "String")]
    pub reason: Spanned<String>,
}

const fn yes() -> bool {
    true
}
// Defaults stand nowhere; nothing is ever said about them.
fn five() -> Spanned<PortValue> {
    Spanned::new(0..0, PortValue::Number(5))
}
fn ten_minutes() -> Spanned<String> {
    Spanned::new(0..0, "10m".into())
}
fn one_day() -> Spanned<String> {
    Spanned::new(0..0, "1d".into())
}
