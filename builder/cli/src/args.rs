//! The command line.

#![allow(
    rustdoc::invalid_html_tags,
    reason = "these comments are the help that clap shows"
)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use crate::commands::lab::args::LabCommand;

/// Compiles role definitions into signed Debian packages, a signed apt repository and cloud-init user-data.
#[derive(Debug, Parser)]
#[command(
    name = "rolesmith",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "Exit status: 0 done, 1 the work failed, 2 the call was wrong.")]
pub struct Cli {
    /// The fleet's directory
    #[arg(
        short = 'C',
        long = "directory",
        value_name = "DIR",
        global = true,
        default_value = "."
    )]
    pub dir: PathBuf,
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// One variant a command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new fleet with its keys
    Init(Init),
    /// Report everything that is wrong or could be better, with file, line, reason and help
    Check(Check),
    /// Show what would be built and installed where
    Plan(Plan),
    /// Make the packages: dist/packages and dist/manifest.json
    Build(Build),
    /// Build, then publish the signed repository
    Publish(Publish),
    /// Pin the roles' Debian packages into the repository
    Mirror(Mirror),
    /// Print a node's seed as cloud-config
    UserData(UserData),
    /// Bring an existing machine into the fleet over ssh
    Enroll(Enroll),
    /// Write an address that was learnt after the machine was made into fleet.toml
    Record(Record),
    /// Show the fleet as its members see it
    Status(Status),
    /// Replace the fleet's CA in three steps, without dropping connections
    #[command(
        long_about = "Replace the fleet's CA: `ca next`, publish, `ca switch`, publish, `ca retire`, publish. Members take facts at different times, so `switch` and `retire` are refused until all of them have taken the step before, which is asked of the fleet. docs/fleet.md tells it step by step."
    )]
    Ca(Ca),
    /// End a lost majority: one node goes on alone
    #[command(
        long_about = "End a lost majority: NODE alone is the database's cluster afterwards, and what only the lost nodes had is lost. Without --accept-loss it only says what that would be. The order is signed with the key of the fleet's CA and is good for that node, its present configuration and one day."
    )]
    Recover(Recover),
    /// Find lines of all nodes in the aggregated log
    #[command(
        long_about = "Find lines of all nodes in the aggregated log: `rolesmith-agent logs grep` on the first log server that answers over ssh. Lines come in the order of their times, and times are read as journalctl reads them, in that machine's time zone. Exit status 0: something was found; 1: nothing, or it failed."
    )]
    Logs(Logs),
    /// Make a bootable image with roles in it
    #[command(
        long_about = "Make a bootable image: Debian, and the packages of its roles from dist/repo, on a disk that starts from a BIOS and from UEFI. Nothing in it is a machine's own; a machine that boots from it becomes a node by its seed (`rolesmith user-data`). Nothing needs root. What is there already is not made again. docs/images.md tells more."
    )]
    Bake(Bake),
    /// Boot the fleet as real Debian machines on this one
    Lab(Lab),
    /// Print the JSON Schema of fleet.toml, role.toml, image.toml or of a performance line
    Schema(Schema),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    ManPages {
        /// Where to
        dir: PathBuf,
    },
}

/// rolesmith init
#[derive(Debug, Args)]
pub struct Init {
    /// Where to make it
    #[arg(default_value = ".")]
    pub target: PathBuf,
    /// A complete fleet of three nodes, ready for the lab
    #[arg(long)]
    pub example: bool,
    /// The fleet's name [default: the directory's name]
    #[arg(long)]
    pub name: Option<String>,
    /// The Debian release of its nodes
    #[arg(long, default_value = "trixie")]
    pub suite: String,
    /// Who answers for it: "Name <address>" [default: $DEBFULLNAME <$DEBEMAIL>]
    #[arg(long)]
    pub maintainer: Option<String>,
    /// DNS domain of its machines
    #[arg(long, default_value = "example.internal")]
    pub domain: String,
}

/// rolesmith check
#[derive(Debug, Args)]
pub struct Check {
    /// Have every seed executed by the cloud-init of its node's own release, in namespaces: all four stages, without a machine
    #[arg(long)]
    pub execute: bool,
    /// Fail on warnings too
    #[arg(long)]
    pub strict: bool,
}

/// rolesmith plan
#[derive(Debug, Args)]
pub struct Plan {
    /// Show this package's or node's part alone, with every file
    pub name: Option<String>,
    /// Show who may reach which port of which node
    #[arg(long)]
    pub firewall: bool,
    /// With --firewall: draw it into this file (-: print the picture)
    #[arg(long, value_name = "FILE", requires = "firewall")]
    pub svg: Option<PathBuf>,
}

/// Values that build and publish share.
#[derive(Debug, Args)]
pub struct Build {
    /// How packages are compressed; lintian of both suites reads gzip and xz, but not zstd
    #[arg(long, value_enum, default_value_t = Compression::Xz)]
    pub compression: Compression,
    /// The package of rolesmith-agent [default: where rolesmith was installed or built]
    #[arg(
        long,
        value_name = "FILE",
        env = "ROLESMITH_AGENT_DEB",
        conflicts_with = "without_agent"
    )]
    pub agent: Option<PathBuf>,
    /// Leave out rolesmith-agent: nodes can read the packages but not install them
    #[arg(long)]
    pub without_agent: bool,
}

/// A compression that dpkg of both suites reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Fast everywhere
    Gzip,
    /// Small
    Xz,
    /// Fast and small
    Zstd,
}

/// rolesmith publish
#[derive(Debug, Args)]
pub struct Publish {
    /// What to build with
    #[command(flatten)]
    pub build: Build,
    /// The repository's directory [default: dist/repo]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Publish the content of an earlier generation again
    #[arg(long, value_name = "ID")]
    pub rollback: Option<u64>,
    /// Let a database be made anew: the one of this system identifier, which cluster.lock names, is gone for good
    #[arg(long, value_name = "SYSTEM_ID", conflicts_with_all = ["rollback", "generations"])]
    pub abandon_database: Option<String>,
    /// List the generations that are kept
    #[arg(long, conflicts_with = "rollback")]
    pub generations: bool,
}

/// rolesmith mirror
#[derive(Debug, Args)]
pub struct Mirror {
    /// Take Debian from these sources (deb822 file) instead of this machine's
    #[arg(long, value_name = "FILE")]
    pub sources: Option<PathBuf>,
    /// Fetch what the mirror's lock names, without looking for newer versions
    #[arg(long)]
    pub locked: bool,
}

/// rolesmith user-data
#[derive(Debug, Args)]
pub struct UserData {
    /// The node
    pub node: String,
    /// Write a NoCloud data source into a directory, or into an image where the name ends in .iso
    #[arg(long, value_name = "DIR|ISO")]
    pub nocloud: Option<PathBuf>,
    /// The same as a ConfigDrive data source, as DigitalOcean and OpenStack have it
    #[arg(long, value_name = "DIR|ISO", conflicts_with = "nocloud")]
    pub configdrive: Option<PathBuf>,
    /// Write the seed into a file that only you can read
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["nocloud", "configdrive"])]
    pub output: Option<PathBuf>,
    /// Make a new incarnation: the machine that has this name now is refused once facts are published
    #[arg(long)]
    pub replace: bool,
}

/// rolesmith enroll
#[derive(Debug, Args)]
pub struct Enroll {
    /// The node
    pub node: String,
    /// Where ssh finds it: host or user@host
    #[arg(long, value_name = "HOST")]
    pub ssh: String,
    /// Port of its sshd [default: the node's ssh_port]
    #[arg(long)]
    pub port: Option<u16>,
    /// Options for ssh, such as -i FILE or -o ProxyJump=HOST
    #[arg(long = "ssh-option", value_name = "OPTION", allow_hyphen_values = true)]
    pub ssh_options: Vec<String>,
    /// Become root with sudo
    #[arg(long)]
    pub sudo: bool,
    /// Go on in spite of a conflict, by its code
    #[arg(long, value_name = "CODE")]
    pub accept: Vec<String>,
    /// Only look, and say what would be changed
    #[arg(long)]
    pub dry_run: bool,
    /// Bring changed or added secrets to a node that is enrolled already, and nothing else
    #[arg(long, conflicts_with = "install")]
    pub secrets: bool,
    /// Install the node's packages too, and confirm its firewall over a new connection
    #[arg(long)]
    pub install: bool,
}

/// rolesmith record
#[derive(Debug, Args)]
pub struct Record {
    /// The node
    pub node: String,
    /// Its private IPv4 address
    pub address: String,
}

/// How a node is reached that tells how the fleet is.
#[derive(Debug, Args)]
pub struct Reach {
    /// Where ssh finds a node: host or user@host [default: the nodes' addresses, one after the other]
    #[arg(long, value_name = "HOST")]
    pub ssh: Option<String>,
    /// User on the nodes, where --ssh does not say it [default: as ssh is configured]
    #[arg(long, value_name = "USER", conflicts_with = "ssh")]
    pub user: Option<String>,
    /// Port of its sshd [default: the node's ssh_port; with --ssh as ssh is configured]
    #[arg(long)]
    pub port: Option<u16>,
    /// Options for ssh, such as -i FILE or -o ProxyJump=HOST
    #[arg(long = "ssh-option", value_name = "OPTION", allow_hyphen_values = true)]
    pub ssh_options: Vec<String>,
    /// Read what `rolesmith-agent status --fleet --json` printed on a node; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ssh", "user", "port", "ssh_options"])]
    pub from: Option<PathBuf>,
}

/// rolesmith status
#[derive(Debug, Args)]
pub struct Status {
    /// Whom to ask
    #[command(flatten)]
    pub reach: Reach,
}

/// rolesmith ca
#[derive(Debug, Args)]
pub struct Ca {
    /// What to do
    #[command(subcommand)]
    pub command: CaCommand,
}

/// One variant a step, and a look.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Show the CAs, until when they last, and which step comes next
    Status,
    /// Make a successor: once published, members trust it beside the present CA
    Next,
    /// Let the successor issue: the next publish brings its certificates to all nodes, whose keys stay
    Switch(CaStep),
    /// Let go of the former CA: once published, members trust its successor alone
    Retire(CaStep),
}

/// How a step finds out that members have taken the one before.
#[derive(Debug, Args)]
pub struct CaStep {
    /// Do not wait for this node: if it has not taken the step before, it is cut off from the others until it takes newer facts.
    /// Where all nodes are named, nobody is asked
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub unseen: Vec<String>,
    /// Whom to ask
    #[command(flatten)]
    pub reach: Reach,
}

/// rolesmith recover
#[derive(Debug, Args)]
pub struct Recover {
    /// The node that goes on alone
    pub node: String,
    /// Do it: what only the other nodes have is lost
    #[arg(long)]
    pub accept_loss: bool,
    /// Write the signed order into a file (-: print it) instead of bringing it to the node; there, `rolesmith-agent recover FILE`
    /// takes it
    #[arg(long, short, value_name = "FILE", requires = "accept_loss")]
    pub output: Option<PathBuf>,
    /// How to reach the node
    #[command(flatten)]
    pub reach: Reach,
}

/// rolesmith logs; the node's agent has the same options.
#[derive(Debug, Args)]
pub struct Logs {
    /// What the text of a line has to match: a regular expression (without it, every line)
    pub pattern: Option<String>,
    /// Not earlier than, such as "2026-03-01 10:00", 10:00, yesterday or -1h
    #[arg(long, short = 'S', value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Not later than
    #[arg(long, short = 'U', value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Lines of this node; * and ? stand for others
    #[arg(long, short, value_name = "NAME")]
    pub node: Vec<String>,
    /// Lines of this program, such as nginx or rolesmith-*
    #[arg(long, short = 't', value_name = "NAME")]
    pub service: Vec<String>,
    /// Lines of this severity or worse, such as err; or a range, such as err..warning
    #[arg(long, short = 'p', value_name = "SEVERITY")]
    pub severity: Option<String>,
    /// Do not tell upper from lower case
    #[arg(long, short)]
    pub ignore_case: bool,
    /// The pattern is a plain text
    #[arg(long, short = 'F')]
    pub fixed_strings: bool,
    /// Lines that do not match the pattern
    #[arg(long, short = 'v', requires = "pattern")]
    pub invert_match: bool,
    /// The lines as they stand in the files
    #[arg(long, conflicts_with_all = ["count", "json"])]
    pub raw: bool,
    /// Only how many lines there are
    #[arg(long, conflicts_with = "json")]
    pub count: bool,
    /// Go on with the lines that come
    #[arg(long, short, conflicts_with_all = ["until", "count"])]
    pub follow: bool,
    /// Ask a log server of the lab
    #[arg(long, conflicts_with_all = ["ssh", "user", "port", "ssh_options"])]
    pub lab: bool,
    /// Where ssh finds a log server: host or user@host [default: the log servers' addresses, one after the other]
    #[arg(long, value_name = "HOST")]
    pub ssh: Option<String>,
    /// User on the log servers, where --ssh does not say it [default: as ssh is configured]
    #[arg(long, value_name = "USER", conflicts_with = "ssh")]
    pub user: Option<String>,
    /// Port of its sshd [default: the node's ssh_port; with --ssh as ssh is configured]
    #[arg(long)]
    pub port: Option<u16>,
    /// Options for ssh, such as -i FILE or -o ProxyJump=HOST
    #[arg(long = "ssh-option", value_name = "OPTION", allow_hyphen_values = true)]
    pub ssh_options: Vec<String>,
}

/// rolesmith bake
#[derive(Debug, Args)]
pub struct Bake {
    /// The image: a directory in images/, or one that is built in
    #[arg(required_unless_present = "lints")]
    pub image: Option<String>,
    /// List what a finished tree is judged by, and do nothing
    #[arg(long, conflicts_with = "image")]
    pub lints: bool,
    /// How it is booted
    #[command(flatten)]
    pub boot: crate::commands::bake::boot::Boot,
}

/// rolesmith lab
#[derive(Debug, Args)]
pub struct Lab {
    /// What to do
    #[command(subcommand)]
    pub command: LabCommand,
}

/// rolesmith schema
#[derive(Debug, Args)]
pub struct Schema {
    /// Whose
    #[arg(value_enum)]
    pub of: SchemaOf,
}

/// What has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// fleet.toml
    Fleet,
    /// role.toml
    Role,
    /// image.toml
    Image,
    /// The lines that `rolesmith-agent perf` writes to the log
    Perf,
}

/// rolesmith completions
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}
