//! A fleet's database cluster as its machines show it: files, servers, repmgr and the agents, each asked for itself and
//! held against the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::Fleet;

/// fleet.toml of machines that have these roles and no others, at 10.77.0.11 and above.
#[must_use]
pub fn fleet_toml(name: &str, suite: &str, nodes: &[&str], roles: &[&str]) -> String {
    let mut text = format!(
        r#"
[fleet]
name = "{name}"
suite = "{suite}"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "{name}.internal"

[repository]
url = "http://apt.{name}.internal"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@{name}.internal"]
"#
    );
    for (number, node) in nodes.iter().enumerate() {
        let _ = write!(
            text,
            "\n[nodes.{node}]\nroles = {roles:?}\naddress = \"10.77.0.{}\"\n",
            11 + number
        );
    }
    text
}

/// What a machine shows of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The system identifier on its disk, whether a server runs or not; empty where there is no database.
    pub identifier: String,
    /// Its server's answers by what was asked; nothing where it does not answer.
    pub server: BTreeMap<String, String>,
    /// Lines of `repmgr cluster show`: name, role, status, upstream.
    pub repmgr: Vec<[String; 4]>,
    /// `rolesmith-agent status --json`.
    pub status: Value,
}

impl Seen {
    /// An answer of the server, empty where there is none.
    #[must_use]
    pub fn said(&self, what: &str) -> &str {
        self.server.get(what).map_or("", String::as_str)
    }

    /// Names of a field of the active configuration.
    fn names(&self, field: &str) -> BTreeSet<String> {
        let config = &self.status["cluster"]["cluster"]["config"];
        match &config[field] {
            Value::Object(map) => map.keys().cloned().collect(),
            Value::Array(list) => list
                .iter()
                .filter_map(|name| name.as_str().map(ToOwned::to_owned))
                .collect(),
            _ => BTreeSet::new(),
        }
    }
}

/// Everything in one command, since each costs a part of a second.
const LOOK: &str = r#"
data=$(ls -d /var/lib/postgresql/*/$FLEET 2>/dev/null)
[ -z "$data" ] || /usr/lib/postgresql/*/bin/pg_controldata -D "$data" | sed -n 's/^Database system identifier: */identifier=/p'
timeout 10 runuser -u postgres -- psql -qAtX -F= -d repmgr -v ON_ERROR_STOP=1 -c "
    SELECT 'recovery', pg_is_in_recovery()::text
    UNION ALL SELECT 'standbys', coalesce(string_agg(concat_ws(':', application_name, state, sync_state), ' '), '')
        FROM pg_stat_replication
    UNION ALL SELECT 'slots', coalesce(string_agg(slot_name, ' '), '') FROM pg_replication_slots
    UNION ALL SELECT 'sync', current_setting('synchronous_standby_names')
    UNION ALL SELECT 'nodes', coalesce(string_agg(node_name, ' '), '') FROM repmgr.nodes
    UNION ALL SELECT 'paused', CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() ELSE '' END" 2>/dev/null
timeout 20 runuser -u postgres -- repmgr cluster show --compact 2>/dev/null | sed -n 's/^ [0-9 ]*|/repmgr=/p'
echo "status=$(timeout 10 rolesmith-agent status --json 2>/dev/null | tr -d '\n')"
"#;

/// Looks at a machine of the fleet of this name.
#[must_use]
pub fn look(fleet: &Fleet, name: &str, node: &str) -> Seen {
    let (_, told) = fleet.shell(node, &format!("FLEET={name}\n{LOOK}"));
    let mut seen = Seen::default();
    for (key, value) in told.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "identifier" => value.clone_into(&mut seen.identifier),
            "status" => seen.status = serde_json::from_str(value).unwrap_or_default(),
            "repmgr" => {
                let mut cells = value.split('|').map(|cell| cell.trim().to_owned());
                seen.repmgr
                    .push(std::array::from_fn(|_| cells.next().unwrap_or_default()));
            }
            _ => {
                seen.server.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    seen
}

/// A cluster in which nothing is missing: its primary, and its system identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The primary's node.
    pub primary: String,
    /// The one system identifier.
    pub identifier: String,
}

/// What is told about: its words, sorted, so that they can be compared.
fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == ':'))
        .filter(|word| !word.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

fn same(what: &str, found: &BTreeSet<String>, wanted: BTreeSet<String>) -> Result<(), String> {
    if *found == wanted {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, wanted {wanted:?}"))
}

/// The cluster of these machines, where every view of it is the same and nothing is missing; else what is.
///
/// # Errors
/// The first thing that is not as it has to be.
pub fn whole(fleet: &Fleet, name: &str, nodes: &[&str]) -> Result<Whole, String> {
    let seen: BTreeMap<&str, Seen> = nodes
        .iter()
        .map(|node| (*node, look(fleet, name, node)))
        .collect();
    judge(&seen)
}

fn judge(seen: &BTreeMap<&str, Seen>) -> Result<Whole, String> {
    let all: BTreeSet<String> = seen.keys().map(|node| (*node).to_owned()).collect();
    let identifiers: BTreeSet<&str> = seen.values().map(|seen| &*seen.identifier).collect();
    let mut one = identifiers.into_iter();
    let (Some(identifier), None) = (one.next(), one.next()) else {
        let each: Vec<_> = seen
            .iter()
            .map(|(node, seen)| (node, &seen.identifier))
            .collect();
        return Err(format!("system identifiers: {each:?}"));
    };
    let primaries: Vec<&str> = seen
        .iter()
        .filter(|(_, seen)| seen.said("recovery") == "false")
        .map(|(node, _)| *node)
        .collect();
    let [primary] = primaries[..] else {
        return Err(format!("primaries: {primaries:?}"));
    };
    let others = || seen.keys().filter(move |node| **node != primary);
    let server = &seen[primary];
    same(
        "standbys",
        &words(server.said("standbys")),
        others()
            .map(|node| format!("{node}:streaming:quorum"))
            .collect(),
    )?;
    same(
        "slots",
        &words(server.said("slots")),
        others()
            .map(|node| format!("rolesmith_{}", node.replace('-', "_")))
            .collect(),
    )?;
    let mut waited_for: BTreeSet<String> = others().map(|node| (*node).to_owned()).collect();
    waited_for.extend(["ANY".to_owned(), "1".to_owned()]);
    same(
        "synchronous_standby_names",
        &words(server.said("sync")),
        waited_for,
    )?;
    for (node, seen) in seen {
        same(
            &format!("repmgr.nodes on {node}"),
            &words(seen.said("nodes")),
            all.clone(),
        )?;
        shown(node, primary, seen, &all)?;
        for field in ["voters", "data"] {
            same(
                &format!("{field} of the configuration on {node}"),
                &seen.names(field),
                all.clone(),
            )?;
        }
        let report = &seen.status["cluster"]["cluster"];
        let chosen = report["config"]["system_id"].as_u64();
        if report["config"]["k"] != 1 || chosen != identifier.parse().ok() {
            return Err(format!("configuration on {node}: {}", report["config"]));
        }
        let alarms = alarms(&seen.status);
        if seen.status["health"]["healthy"] != true || !alarms.is_empty() {
            return Err(format!(
                "{node}: healthy {}, alarms {alarms:?}",
                seen.status["health"]["healthy"]
            ));
        }
        if !matches!(seen.said("paused"), "" | "not paused") {
            return Err(format!("replay on {node} is {}", seen.said("paused")));
        }
    }
    Ok(Whole {
        primary: primary.to_owned(),
        identifier: identifier.to_owned(),
    })
}

/// What a machine complains of; not that it turned away one that is a member no more, as it should.
fn alarms(status: &Value) -> Vec<&str> {
    let all = status["alarms"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter()
        .map(|alarm| alarm.as_str().unwrap_or("an alarm that is no text"))
        .filter(|alarm| {
            !alarm.contains("was removed from the fleet")
                && !alarm.contains("which was replaced by")
        })
        .collect()
}

/// `repmgr cluster show` on a machine tells the truth.
fn shown(node: &str, primary: &str, seen: &Seen, all: &BTreeSet<String>) -> Result<(), String> {
    let names: BTreeSet<String> = seen.repmgr.iter().map(|[name, ..]| name.clone()).collect();
    same(
        &format!("repmgr cluster show on {node}"),
        &names,
        all.clone(),
    )?;
    for [name, role, status, upstream] in &seen.repmgr {
        let fits = match name == primary {
            true => role == "primary" && status == "* running" && upstream.is_empty(),
            false => role == "standby" && status == "running" && upstream == primary,
        };
        if !fits || seen.repmgr.len() != all.len() {
            return Err(format!(
                "repmgr cluster show on {node}, where {primary} is primary: {:?}",
                seen.repmgr
            ));
        }
    }
    Ok(())
}

/// Waits for [`whole`]; gives the time that it took too.
///
/// # Panics
/// When that is not so in time.
pub fn await_whole(
    fleet: &Fleet,
    name: &str,
    nodes: &[&str],
    limit: Duration,
) -> (Whole, Duration) {
    let begun = Instant::now();
    loop {
        match whole(fleet, name, nodes) {
            Ok(whole) => return (whole, begun.elapsed()),
            Err(missing) => assert!(
                begun.elapsed() < limit,
                "no whole cluster after {limit:?}: {missing}"
            ),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
