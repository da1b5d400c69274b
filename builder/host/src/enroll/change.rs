//! What is changed on the machine: an ordered list, made before the first of them is.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rolesmith_formats::seed::{Seed, SeedFile};
use rolesmith_model::facts::SECRETS_DIR;

use super::{conflict::is_used, probe::Probe};

/// Functions that the scripts of changes call.
const FUNCTIONS: &str = include_str!("functions.sh");

/// Ends a here-document; base64 has no such line.
const END: &str = "-----";

/// Where root's keys stand (sshd_config(5), AuthorizedKeysFile).
const ROOT_KEYS: &str = "/root/.ssh/authorized_keys";
/// Where a unit is masked (systemctl(1)).
const UNITS: &str = "/etc/systemd/system";
/// Where it is noted which masks are the fleet's; the roles' preinst and purge scripts have it too.
const MASKS: &str = "/var/lib/rolesmith/masks";

/// One change: a sentence for people, and the program that makes it. Making it twice changes nothing the second time.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    sentence: String,
    call: String,
}

impl std::fmt::Debug for Change {
    /// Without the program: it may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Change({})", self.sentence)
    }
}

impl Change {
    /// What it does, in the present tense and without a full stop: "writes /etc/rolesmith/node.json".
    #[must_use]
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// The program for `sh -s`, to be run as root. It may hold secrets: it belongs on a standard input and nowhere else.
    #[must_use]
    pub fn script(&self) -> String {
        format!(
            "{FUNCTIONS}\nmain() {{\n{}\n}}\nmain </dev/null\nprintf '%s\\n' \"$result\"\n",
            self.call
        )
    }

    /// Writes a file. Its directory is made if it is missing: for root alone where secrets stand.
    #[must_use]
    pub fn file(file: &SeedFile) -> Self {
        let directory = if file.path.starts_with(SECRETS_DIR) {
            "0700"
        } else {
            "0755"
        };
        let mut body = String::new();
        for line in STANDARD.encode(&file.bytes).as_bytes().chunks(76) {
            body.push_str(&String::from_utf8_lossy(line));
            body.push('\n');
        }
        let what = if file.secret { ", which is secret" } else { "" };
        Self {
            sentence: format!("writes {}{what}", file.path),
            call: format!(
                "bytes() {{\nbase64 -d <<'{END}'\n{body}{END}\n}}\nput_file {} {:04o} {} {directory}",
                quote(&file.path),
                file.mode,
                quote(file.owner),
            ),
        }
    }

    /// Adds a line to a file of authorized keys.
    #[must_use]
    pub fn key(path: &str, line: &str) -> Self {
        let mut words = line.split_whitespace();
        // Options may stand before the type; the key itself is the first long word of base64.
        let key = words
            .clone()
            .find(|word| word.starts_with("AAAA"))
            .unwrap_or(line);
        let comment = words
            .next_back()
            .filter(|word| *word != key)
            .unwrap_or("without a comment");
        Self {
            sentence: format!("lets the key {comment} log in ({path})"),
            call: format!("put_key {} {} {}", quote(path), quote(line), quote(key)),
        }
    }

    fn host_name(seed: &Seed) -> Self {
        Self {
            sentence: format!("names the machine {}", seed.node),
            call: format!(
                "rename_host {} {} /etc/hosts",
                quote(&seed.node),
                quote(&seed.fqdn)
            ),
        }
    }

    fn mask(unit: &str) -> Self {
        Self {
            sentence: format!("masks {unit}: the node has an instance of its own"),
            call: format!("mask_unit {UNITS} {} {MASKS}", quote(unit)),
        }
    }

    /// A line of debconf-set-selections(1), as roles have it: package, question, type, value.
    fn answer(line: &str) -> Self {
        let mut words = line.splitn(4, ' ');
        let mut next = || words.next().unwrap_or_default();
        let (package, question, _, value) = (next(), next(), next(), next());
        Self {
            sentence: format!("answers {question} of {package}: {value}"),
            call: format!(
                "answer {} {} {} {}",
                quote(package),
                quote(question),
                quote(value),
                quote(line)
            ),
        }
    }

    fn update(seed: &Seed) -> Self {
        Self {
            sentence: "reads the package lists (apt-get update)".to_owned(),
            call: format!("update_lists {}", words(&seed.packages)),
        }
    }

    fn install(seed: &Seed) -> Self {
        Self {
            sentence: format!("installs {}", seed.packages.join(" ")),
            // Installed already, they do not wake the agent for files that are new.
            call: format!("install_packages {}\npoke", words(&seed.packages)),
        }
    }

    fn poke() -> Self {
        Self {
            sentence: "wakes the agent".to_owned(),
            call: "poke".to_owned(),
        }
    }
}

/// What makes the machine the node of that seed, in order, packages aside: their lists are read last.
#[must_use]
pub fn changes(seed: &Seed, probe: &Probe) -> Vec<Change> {
    let mut changes = vec![Change::host_name(seed)];
    changes.extend(
        seed.admin_ssh_keys
            .iter()
            .map(|line| Change::key(ROOT_KEYS, line)),
    );
    let unused = seed
        .masked_units
        .iter()
        .filter(|unit| !is_used(probe, unit));
    changes.extend(unused.map(|unit| Change::mask(unit)));
    // What is installed has asked, and somebody has answered.
    let unasked = seed.debconf.iter().filter(|line| {
        let package = line.split(' ').next().unwrap_or_default();
        !probe.has(package)
    });
    changes.extend(unasked.map(|line| Change::answer(line)));
    changes.extend(seed.files.iter().map(Change::file));
    changes.push(Change::update(seed));
    // Packages that were installed before have waited for the identity; no installation will tell the agent.
    if probe.has("rolesmith-agent") {
        changes.push(Change::poke());
    }
    changes
}

/// Installs the node's packages: what a person would do by `apt install` after [`changes`].
#[must_use]
pub fn installation(seed: &Seed) -> Change {
    Change::install(seed)
}

/// Brings changed and added secrets to a machine that is the node already.
#[must_use]
pub fn secret_changes(seed: &Seed) -> Vec<Change> {
    let secrets = seed
        .files
        .iter()
        .filter(|file| file.path.starts_with(SECRETS_DIR));
    let mut changes: Vec<_> = secrets.map(Change::file).collect();
    if !changes.is_empty() {
        changes.push(Change::poke());
    }
    changes
}

fn words(items: &[String]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| quote(item)).collect();
    quoted.join(" ")
}

/// A word that the shell takes as it is (POSIX, 2.2.2).
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
