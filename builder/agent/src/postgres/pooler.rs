//! pgbouncer of this node follows the primary by pulling (rule 13): nobody tells it, and it is told nothing that was not
//! read on the new primary itself.

use std::collections::BTreeMap;
use std::path::Path;

use rolesmith_model::ids::NodeName;

use super::remote::{self, Proof};
use super::settings::{PEER_ROLE, SOCKET_DIR};
use super::wire::{Client, Reply, WireError, identifier, literal};
use super::{ANSWER, CONNECT, Problem, Server, run};
use crate::cluster::EpochRow;
use crate::files::{self, Access};
use crate::program::Call;

/// Which server pgbouncer connects to; its main configuration includes this. Nothing in it is secret.
pub const DATABASES_FILE: &str = "/var/lib/rolesmith/pooler/databases.ini";
/// Where members are, by name: pgbouncer has it in the place of /etc/hosts, from its start on.
const HOSTS_FILE: &str = "/var/lib/rolesmith/pooler/hosts";
/// The unit that runs pgbouncer.
const UNIT: &str = "rolesmith-pgbouncer.service";
/// pgbouncer's own socket directory.
const CONSOLE_DIR: &str = "/run/rolesmith-pgbouncer";
/// How the first line names the node that is followed.
const FOLLOWS: &str = "; follows ";
/// The text of [`DATABASES_FILE`]: which node is followed and at which host its server is, or nobody.
#[must_use]
pub fn databases(primary: Option<(&NodeName, &str)>, port: u16) -> String {
    match primary {
        // No socket is ever there: clients wait in the queue until a primary is known.
        None => format!(
            "[databases]\n* = host=/run/rolesmith-nowhere port={port} auth_user=rolesmith_pooler\n"
        ),
        Some((node, host)) => format!(
            "{FOLLOWS}{node}\n[databases]\n* = host={host} port={port} auth_user=rolesmith_pooler\n"
        ),
    }
}

/// The text of [`HOSTS_FILE`].
fn hosts(members: &BTreeMap<NodeName, String>) -> String {
    let local = "127.0.0.1 localhost\n".to_owned();
    let lines = members.iter();
    lines.fold(local, |text, (name, address)| {
        text + &format!("{address} {name}\n")
    })
}

/// The node that pgbouncer follows, as it stands on disk.
pub(super) fn target() -> Option<NodeName> {
    let text = std::fs::read_to_string(DATABASES_FILE).ok()?;
    let name = text.lines().next()?.strip_prefix(FOLLOWS)?;
    NodeName::new(name).ok()
}

/// Asks a server whether it is the primary of that row.
pub(super) fn question(row: &EpochRow) -> String {
    format!(
        "SELECT NOT pg_is_in_recovery() AND EXISTS (SELECT FROM rolesmith.epoch WHERE epoch = {} AND node = {} \
         AND timeline = {} AND switch_lsn = '{}')",
        row.epoch,
        literal(row.node.as_str()),
        row.timeline,
        row.switch
    )
}

/// What the answer to [`question`] says.
pub(super) fn answered(row: &EpochRow, reply: &Reply) -> Result<(), Problem> {
    if reply.value(0) == Some("t") {
        return Ok(());
    }
    Err(Problem::Later(format!(
        "{} is no primary of epoch {}",
        row.node, row.epoch
    )))
}

/// Where the server is that pgbouncer is led to.
pub(super) enum Place {
    /// On this machine, reached through its socket.
    Here,
    /// On another one, at this address.
    There(String),
}

/// What pgbouncer calls it.
fn host<'a>(node: &'a NodeName, place: &Place) -> &'a str {
    match place {
        Place::Here => SOCKET_DIR,
        // Its certificate has to show that name.
        Place::There(_) => node.as_str(),
    }
}

/// Lets pgbouncer follow a node's server, or nobody. Whoever calls it has read there that it is the primary.
pub(super) async fn lead(
    primary: Option<(&NodeName, &Place)>,
    port: u16,
    members: &BTreeMap<NodeName, String>,
) -> Result<(), Problem> {
    let path = Path::new(HOSTS_FILE);
    let names = hosts(members);
    if files::read(path).ok().flatten().as_deref() != Some(names.as_bytes()) {
        files::write_over(path, names.as_bytes()).map_err(Problem::file(path))?;
    }
    let path = Path::new(DATABASES_FILE);
    let text = databases(primary.map(|(node, place)| (node, host(node, place))), port);
    files::write(path, text.as_bytes(), Access::PUBLIC).map_err(Problem::file(path))?;
    let mut console = match console().await {
        Ok(console) => console,
        Err(Problem::Wire(WireError::Connection { .. })) if rests().await? => return Ok(()),
        Err(error) => return Err(error),
    };
    console.query("RELOAD", ANSWER).await?;
    let place = match primary {
        None => "",
        Some((_, Place::Here)) => "unix",
        Some((_, Place::There(address))) => address,
    };
    end_others(&mut console, place).await
}

impl Server {
    /// Reads on that node that it is the primary and has the row. Where that is.
    async fn confirm_primary(&self, row: &EpochRow) -> Result<Place, Problem> {
        let question = question(row);
        if row.node == self.settings.node {
            let mut client = self.connect("postgres").await?;
            answered(row, &client.query(&question, ANSWER).await?)?;
            return Ok(Place::Here);
        }
        let address = self.address(&row.node)?;
        let proof = Proof {
            user: PEER_ROLE,
            certificate: &self.settings.certificate,
            ca: &self.settings.ca,
            key: &self.settings.key,
        };
        let place = (address.as_str(), self.settings.port);
        let reply = remote::ask(&row.node, place, &proof, &question).await?;
        answered(row, &reply)?;
        Ok(Place::There(address))
    }

    /// Lets pgbouncer follow the primary of that row, or nobody.
    pub(super) async fn point_pooler(&self, row: Option<&EpochRow>) -> Result<(), Problem> {
        let place = match row {
            None => None,
            Some(row) => Some((&row.node, self.confirm_primary(row).await?)),
        };
        let primary = place.as_ref().map(|(node, place)| (*node, place));
        let members = self.addresses();
        lead(primary, self.settings.port, &members).await
    }
}

/// Whether pgbouncer does not run, and so reads the file when it starts. One that is starting may have read it before it was
/// written, and listens only afterwards: at a machine's boot both happen at the same time.
async fn rests() -> Result<bool, Problem> {
    let call = Call::new([
        "systemctl",
        "show",
        "--property=ActiveState",
        "--value",
        UNIT,
    ]);
    let state = run(call).await?;
    Ok(matches!(state.trim(), "inactive" | "failed"))
}

/// The console, as root by what the kernel says.
async fn console() -> Result<Client, Problem> {
    let socket = std::fs::read_dir(CONSOLE_DIR)
        .ok()
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(".s.PGSQL.") && !name.ends_with(".lock")
        })
        .unwrap_or_else(|| Path::new(CONSOLE_DIR).join(".s.PGSQL.6432"));
    let parameters = [("user", "root"), ("database", "pgbouncer")];
    Ok(Client::connect(&socket, &parameters, CONNECT).await?)
}

/// A connection that pgbouncer holds to a server.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// The client that it is lent to.
    client: String,
    database: String,
}

/// The connections to servers at another place than this.
fn elsewhere(servers: &Reply, place: &str) -> Vec<Held> {
    let links = servers.column("link").zip(servers.column("database"));
    links
        .zip(servers.column("addr"))
        .filter(|(_, address)| *address != place)
        .map(|((link, database), _)| Held {
            client: link.to_owned(),
            database: database.to_owned(),
        })
        .collect()
}

/// Ends connections to servers at other places: idle ones at once, and those in use with their clients. RECONNECT alone
/// waits for the latter, and a vanished server keeps them waiting.
async fn end_others(console: &mut Client, place: &str) -> Result<(), Problem> {
    if elsewhere(&console.query("SHOW SERVERS", ANSWER).await?, place).is_empty() {
        return Ok(());
    }
    console.query("RECONNECT", ANSWER).await?;
    let held = elsewhere(&console.query("SHOW SERVERS", ANSWER).await?, place);
    let clients = console.query("SHOW CLIENTS", ANSWER).await?;
    for held in held {
        let known = clients.column("ptr").zip(clients.column("id"));
        let id = known
            .filter(|(pointer, _)| *pointer == held.client)
            .map(|(_, id)| id)
            .find(|id| !id.is_empty());
        match id {
            Some(id) => {
                let kill = format!("KILL_CLIENT {id}");
                if console.query(&kill, ANSWER).await.is_ok() {
                    continue;
                }
            }
            // Not lent: it closes by itself.
            None if held.client.is_empty() => continue,
            None => {}
        }
        // Before pgbouncer 1.24 only all clients of a database together.
        let database = identifier(&held.database);
        let killed = console.query(&format!("KILL {database}"), ANSWER).await;
        let _ = console.query(&format!("RESUME {database}"), ANSWER).await;
        killed?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_elsewhere_is_ended() {
        let text = |text: &str| Some(text.to_owned());
        let servers = Reply {
            columns: ["database", "addr", "link"].map(str::to_owned).to_vec(),
            rows: vec![
                vec![text("app"), text("10.0.0.1"), text("0x1")],
                vec![text("app"), text("10.0.0.2"), text("0x2")],
            ],
            ..Reply::default()
        };
        let held = |client: &str| Held {
            client: client.into(),
            database: "app".into(),
        };
        assert_eq!(elsewhere(&servers, "10.0.0.2"), [held("0x1")]);
        assert_eq!(elsewhere(&servers, "unix"), [held("0x1"), held("0x2")]);
    }

    #[test]
    fn the_primarys_own_pooler_uses_the_socket() {
        let node = NodeName::new("app-1").unwrap();
        let there = Place::There("10.0.0.1".to_owned());
        let text = |place| databases(Some((&node, host(&node, place))), 5432);
        assert!(text(&Place::Here).contains("host=/run/rolesmith-postgresql port=5432"));
        assert!(text(&there).starts_with("; follows app-1\n[databases]\n* = host=app-1 "));
        assert!(databases(None, 5432).contains("rolesmith-nowhere"));
        // Every member's name leads to it, whoever is followed: answers to names are kept for a while.
        let members = ["10.0.0.1", "10.0.0.2"].map(|address| {
            let name = format!("app-{}", &address[7..]);
            (NodeName::new(name).unwrap(), address.to_owned())
        });
        assert_eq!(
            hosts(&members.into()),
            "127.0.0.1 localhost\n10.0.0.1 app-1\n10.0.0.2 app-2\n"
        );
    }
}
