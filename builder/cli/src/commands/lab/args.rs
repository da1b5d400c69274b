//! The lab's commands.

#![allow(
    rustdoc::invalid_html_tags,
    reason = "these comments are the help that clap shows"
)]

use std::path::PathBuf;

use clap::Subcommand;

/// One variant a lab command.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Boot every node of the fleet
    Up {
        /// Build the minimal root tree anew
        #[arg(long)]
        fresh_tree: bool,
        /// New nodes have the trees of their images, with everything installed, instead of installing it at their first boot
        #[arg(long)]
        baked: bool,
        /// Seconds to wait for all nodes
        #[arg(long, default_value_t = 600)]
        timeout: u64,
        /// Boot these nodes alone
        nodes: Vec<String>,
    },
    /// Show the nodes
    Status,
    /// Run a command in a node
    Exec {
        /// The node
        node: String,
        /// The command
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Show a node's console and journal
    Logs {
        /// The node
        node: String,
    },
    /// Power off a node without a warning
    #[command(
        long_about = "Power off a node without a warning: every process is killed and not one frame leaves. Its disk stays; `lab start` boots it again."
    )]
    Kill {
        /// The node
        node: String,
        /// Let its kernel close its connections, as when everything in a running machine is killed
        #[arg(long)]
        crash: bool,
    },
    /// Boot a node again from its disk
    Start {
        /// The node
        node: String,
    },
    /// Stop all processes of a node where they stand
    Freeze {
        /// The node
        node: String,
    },
    /// Let the processes of a frozen node go on
    Thaw {
        /// The node
        node: String,
    },
    /// Cut a node off the network, in silence
    #[command(
        long_about = "Cut a node off the network, both its interfaces, from all others or from one. Nobody is told: frames are lost as in a broken switch. `lab mend` ends it."
    )]
    Cut {
        /// The node
        node: String,
        /// Cut it off from this node alone
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
        /// Lose only what the node sends; what is sent to it still arrives
        #[arg(long)]
        one_way: bool,
    },
    /// Mend the cuts of a node, or all
    Mend {
        /// The node [default: all]
        node: Option<String>,
    },
    /// Destroy a node and boot a new machine in its place
    #[command(
        long_about = "Destroy a node with its disk, make a new incarnation of it, publish, and boot a new machine under its name. The old incarnation is refused from then on. Refused while another replacement has not come to its end, and while another node is not healthy, unless the machine is lost already."
    )]
    Replace {
        /// The node
        node: String,
    },
    /// Break something and measure what clients see of it
    #[command(
        long_about = "Hold drills on the fleet that is up: writers insert numbers on every node with a database, something is broken and healed, and what they were told is compared with what is there. In some, visitors come through the load balancer besides. Without names it lists the drills."
    )]
    Drill {
        /// The drills
        names: Vec<String>,
        /// All that the fleet is large enough for
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// How often each
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// Seconds of control before each fault
        #[arg(long, default_value_t = 5, value_name = "SECONDS")]
        control: u64,
        /// Where ledgers and verdicts go [default: dist/drills/TIME]
        #[arg(long, value_name = "DIR")]
        artefacts: Option<PathBuf>,
    },
    /// Judge the ledgers of a drill
    #[command(
        long_about = "Judge the ledgers of a drill: every acknowledged row must be there exactly once, no refused one may be, and no two primaries may acknowledge at one time. It reads files alone."
    )]
    Verdict {
        /// The writers' ledgers: JSON lines
        #[arg(required = true, value_name = "LEDGER")]
        ledgers: Vec<PathBuf>,
        /// The numbers in the table after the heal, one a line, each as often as it is there
        #[arg(long, value_name = "FILE")]
        rows: PathBuf,
        /// When the control, the fault and the end were: JSON lines
        #[arg(long, value_name = "FILE")]
        events: PathBuf,
    },
    /// Judge what the visitors of a drill saw
    #[command(
        long_about = "Judge what the visitors of a drill saw: every order that was answered is there exactly once, and which attempts failed without a fault that excuses them. It reads files alone."
    )]
    Visits {
        /// The directory of one run
        directory: PathBuf,
    },
    /// End everything; nothing is left behind
    Down,
    /// Write numbers into the fleet's database
    #[command(name = "__write", hide = true)]
    Write {
        /// What to write: JSON
        plan: PathBuf,
    },
    /// Visit the fleet's site
    #[command(name = "__visit", hide = true)]
    Visit {
        /// What to ask for: JSON
        plan: PathBuf,
    },
    /// Lead ports of this machine's loopback address into the lab
    #[command(name = "__forward", hide = true)]
    Forward {
        /// The lab's network namespace
        #[arg(long)]
        namespace: PathBuf,
        /// From where to where
        #[arg(long = "forward", value_name = "PORT=ADDRESS:PORT")]
        forwards: Vec<rolesmith_lab::Forward>,
    },
    /// Serve the repository inside the lab
    #[command(name = "__serve", hide = true)]
    Serve {
        /// What to serve
        #[arg(long)]
        dir: PathBuf,
        /// Where to listen
        #[arg(long)]
        listen: String,
    },
    /// Answer the HTTP connection that is this process's standard input
    #[command(name = "__answer", hide = true)]
    Answer {
        /// What to serve
        #[arg(long)]
        dir: PathBuf,
    },
}
