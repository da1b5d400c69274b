//! Where things are, and who the other database nodes are, as the role rendered it for this node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rolesmith_model::ids::NodeName;
use serde::Deserialize;

use super::Problem;
use crate::files::{self, Seen};

/// Rendered by the role db-primary-capable for each of its nodes.
pub const SETTINGS_FILE: &str = "/var/lib/rolesmith/conf/db-primary-capable/cluster.json";
/// What this module keeps for the server to read, and its own marks. Root's, readable by postgres.
pub const STATE_DIR: &str = "/var/lib/rolesmith/db-primary-capable";
/// Directory of the node's key and certificate as libpq wants them, readable by postgres and nobody else. In memory.
pub const KEY_DIR: &str = "/run/rolesmith-database";
/// The server's socket that no other cluster uses.
pub const SOCKET_DIR: &str = "/run/rolesmith-postgresql";
/// The unit that runs the server.
pub const UNIT: &str = "rolesmith-postgresql.service";
/// The unit that makes the databases of the fleet's services.
pub const DATABASES_UNIT: &str = "rolesmith-databases.service";
/// What it makes, rendered by the role db-primary-capable for each of its nodes.
pub const DATABASES_FILE: &str = "/var/lib/rolesmith/conf/db-primary-capable/databases.json";
/// The PostgreSQL role of replication, repmgr and the agents of other nodes; it needs a certificate of the fleet.
pub const PEER_ROLE: &str = "repmgr";
/// The database of repmgr's extension.
pub const REPMGR_DATABASE: &str = "repmgr";

/// Another database node, or this one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Its private address; facts may not know it.
    #[serde(default)]
    pub address: Option<String>,
}

/// [`SETTINGS_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// The fleet, and Debian's name of the cluster.
    pub fleet: String,
    /// This node.
    pub node: NodeName,
    /// PostgreSQL's major version.
    pub major: u32,
    /// The server's port.
    pub port: u16,
    /// Where the fleet's role files of this node are.
    pub conf: PathBuf,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The fleet's CA.
    pub ca: PathBuf,
    /// The node's private key.
    pub key: PathBuf,
    /// The nodes with a database, this one included.
    pub members: Vec<Peer>,
}

impl Settings {
    /// Reads what the role rendered; `None` where this node has no database.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn load(path: &Path) -> Result<Option<Self>, Problem> {
        match files::read_json(path) {
            Seen::Absent => Ok(None),
            Seen::Is(settings) => Ok(Some(settings)),
            Seen::Broken(why) => Err(Problem::Refused(format!("{}: {why}", path.display()))),
        }
    }

    /// PGDATA.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.data_parent().join(&self.fleet)
    }

    /// The directory of this version's clusters.
    #[must_use]
    pub fn data_parent(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/postgresql/{}", self.major))
    }

    /// Debian's configuration directory of the cluster.
    #[must_use]
    pub fn etc(&self) -> PathBuf {
        PathBuf::from(format!("/etc/postgresql/{}/{}", self.major, self.fleet))
    }

    /// A program of this version.
    #[must_use]
    pub fn program(&self, name: &str) -> String {
        format!("/usr/lib/postgresql/{}/bin/{name}", self.major)
    }

    /// The server's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(format!("{SOCKET_DIR}/.s.PGSQL.{}", self.port))
    }

    /// What the role wants of the server's roles and their rights, as SQL.
    #[must_use]
    pub fn roles(&self) -> PathBuf {
        self.conf.join("roles.sql")
    }

    /// A file of [`STATE_DIR`].
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        Path::new(STATE_DIR).join(name)
    }

    /// The node's key as libpq wants it.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        Path::new(KEY_DIR).join("node.key")
    }

    /// The node's certificate beside its key: repmgr's table holds one path for all nodes.
    #[must_use]
    pub fn client_certificate(&self) -> PathBuf {
        Path::new(KEY_DIR).join("node.pem")
    }

    /// How libpq reaches a node's server as [`PEER_ROLE`]: encrypted, both sides' certificates checked, and given up
    /// within seconds when the other machine vanishes.
    #[must_use]
    pub fn conninfo(&self, node: &NodeName, address: &str, more: &[(&str, &str)]) -> String {
        let port = self.port.to_string();
        let certificate = self.client_certificate().display().to_string();
        let (key, ca) = (
            self.client_key().display().to_string(),
            self.ca.display().to_string(),
        );
        let mut pairs = BTreeMap::from([
            ("host", node.as_str()),
            ("hostaddr", address),
            ("port", &port),
            ("user", PEER_ROLE),
            ("sslmode", "verify-full"),
            ("sslcert", &certificate),
            ("sslkey", &key),
            ("sslrootcert", &ca),
            ("gssencmode", "disable"),
            ("connect_timeout", "2"),
            ("keepalives_idle", "5"),
            ("keepalives_interval", "2"),
            ("keepalives_count", "3"),
            ("tcp_user_timeout", "5000"),
        ]);
        pairs.extend(more.iter().copied());
        let words: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={}", conninfo_value(value)))
            .collect();
        words.join(" ")
    }
}

/// A value of a libpq connection string.
fn conninfo_value(value: &str) -> String {
    let plain = !value.is_empty()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"./-_:".contains(&byte));
    if plain {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

/// The `host` of a connection string that [`Settings::conninfo`] made.
#[must_use]
pub fn conninfo_node(conninfo: &str) -> Option<NodeName> {
    let host = conninfo
        .split_whitespace()
        .find_map(|word| word.strip_prefix("host="))?;
    NodeName::try_from(host.to_owned()).ok()
}

/// Numeric user and group of the system's user postgres, from the text of `/etc/passwd`.
#[must_use]
pub fn postgres_ids(passwd: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != "postgres" {
            return None;
        }
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some((user, group))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        serde_json::from_str(
            r#"{"fleet": "acme", "node": "app-1", "major": 17, "port": 5432, "conf": "/c", "certificate": "/cert.pem",
                "ca": "/ca.pem", "key": "/k", "members": [{"name": "app-1"}, {"name": "app-2", "address": "10.0.0.2"}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_connection_string_names_its_node_and_quotes() {
        let node = NodeName::try_from("app-2".to_owned()).unwrap();
        let text = settings().conninfo(&node, "10.0.0.2", &[("application_name", "it's a \\")]);
        assert_eq!(conninfo_node(&text), Some(node));
        assert!(text.contains(r"application_name='it\'s a \\'"), "{text}");
        assert!(text.contains("sslmode=verify-full"), "{text}");
        assert!(text.contains("sslkey=/run/rolesmith-database/node.key"));
        assert_eq!(conninfo_node(""), None);
    }

    #[test]
    fn the_users_numbers_are_found() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\npostgres:x:103:106:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(postgres_ids(passwd), Some((103, 106)));
        assert_eq!(postgres_ids("root:x:0:0::/root:/bin/sh\n"), None);
    }
}
