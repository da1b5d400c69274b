//! The databases of the fleet's services: made by the primary, once, and never dropped.
//!
//! Each service has a role of its name that may log in and nothing else, and a database of its name that belongs to the role and
//! that no other service may connect to. What is there is brought to that state; a password is set where it is another
//! than the one that was set last. A database whose service is gone stays: what is in it is somebody's.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::settings::{DATABASES_FILE, SOCKET_DIR};
use super::wire::{Client, WireError, identifier, literal};
use crate::files::{self, Seen};

/// How long the server may take to let somebody in.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a statement may take. `CREATE DATABASE` copies some megabytes, and each commit waits for a standby.
const STATEMENT: Duration = Duration::from_secs(20);

/// [`DATABASES_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct List {
    /// The server's port, which names its socket.
    pub port: u16,
    /// What there shall be.
    pub databases: Vec<Database>,
}

/// A service's database and the role that owns it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Database {
    /// Name of both.
    pub name: String,
    /// The role's password.
    password: String,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// What was set, as a value that does not tell the password. It is kept where superusers alone can read it, since a password
    /// that a person chose could be guessed from it.
    fn digest(&self) -> String {
        files::digest(format!("{}\0{}", self.name, self.password).as_bytes())
    }
}

/// What of a database is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct There {
    role: bool,
    /// The role has the password of the list.
    password: bool,
    database: bool,
}

/// Why the databases could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DatabasesError {
    /// The list.
    #[error("{DATABASES_FILE}: {0}")]
    List(String),
    /// The server.
    #[error(transparent)]
    Server(#[from] WireError),
    /// A standby did not confirm.
    #[error("no standby confirmed what was changed: {0}")]
    Unconfirmed(String),
}

/// The statements that bring a role to its state. They run in one transaction.
fn role_statements(wanted: &Database, there: There) -> Vec<String> {
    let name = identifier(&wanted.name);
    let mut all = Vec::new();
    if !there.role {
        all.push(format!("CREATE ROLE {name}"));
    }
    if !there.password {
        // Everything about the role is said, so that one that somebody made is what it should be.
        all.push(format!(
            "ALTER ROLE {name} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT NOREPLICATION NOBYPASSRLS PASSWORD {}",
            literal(&wanted.password)
        ));
        all.push(format!(
            "INSERT INTO rolesmith.service_roles (name, digest) VALUES ({0}, {1}) \
             ON CONFLICT (name) DO UPDATE SET digest = EXCLUDED.digest",
            literal(&wanted.name),
            literal(&wanted.digest())
        ));
    }
    all
}

/// Who may connect: the owner, and who looks up passwords for the pooler.
fn access_statements(wanted: &Database) -> Vec<String> {
    let name = identifier(&wanted.name);
    vec![
        format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
        format!("GRANT CONNECT ON DATABASE {name} TO rolesmith_pooler"),
    ]
}

/// Brings all of them to their state where this server is the primary that applications are let in to. Gives the names of those
/// that were made or changed; `None` where it is a standby.
///
/// # Errors
/// [`DatabasesError`]; it may be called again.
pub async fn make() -> Result<Option<Vec<String>>, DatabasesError> {
    let list: List = match files::read_json(Path::new(DATABASES_FILE)) {
        Seen::Is(list) => list,
        Seen::Absent => return Err(DatabasesError::List("is not there".into())),
        Seen::Broken(why) => return Err(DatabasesError::List(why)),
    };
    let socket = format!("{SOCKET_DIR}/.s.PGSQL.{}", list.port);
    let parameters = [
        ("user", "postgres"),
        ("database", "postgres"),
        ("application_name", "rolesmith-databases"),
        // An error, or a wait for a lock, would log a statement with a password.
        ("log_statement", "none"),
        ("log_min_duration_statement", "-1"),
        ("log_min_error_statement", "panic"),
        ("password_encryption", "scram-sha-256"),
    ];
    let connect = Client::connect(Path::new(&socket), &parameters, CONNECT).await;
    let mut client = match connect {
        Ok(client) => client,
        // No server, or one that starts: whoever makes it the primary calls again.
        Err(WireError::Connection { .. }) => return Ok(None),
        Err(error) if error.is_not_yet() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Applications are let in by pg_hba.conf on the confirmed primary alone, so that tells a confirmed one from a former one.
    let open = client
        .query(
            "SELECT NOT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_hba_file_rules \
             WHERE type = 'host' AND auth_method = 'scram-sha-256')",
            STATEMENT,
        )
        .await?;
    if open.value(0) != Some("t") {
        return Ok(None);
    }
    if list.databases.is_empty() {
        return Ok(Some(Vec::new()));
    }
    client
        .query(
            "CREATE TABLE IF NOT EXISTS rolesmith.service_roles (name text PRIMARY KEY, digest text NOT NULL); \
             REVOKE ALL ON rolesmith.service_roles FROM PUBLIC",
            STATEMENT,
        )
        .await?;
    let mut changed = Vec::new();
    for wanted in &list.databases {
        if one(&mut client, wanted).await? {
            changed.push(wanted.name.clone());
        }
    }
    Ok(Some(changed))
}

/// Brings one to its state; whether something was missing.
async fn one(client: &mut Client, wanted: &Database) -> Result<bool, DatabasesError> {
    let (name, digest) = (literal(&wanted.name), literal(&wanted.digest()));
    let reply = client
        .query(
            &format!(
                "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}), \
                 EXISTS (SELECT FROM pg_roles r JOIN rolesmith.service_roles s ON s.name = r.rolname \
                         WHERE r.rolname = {name} AND s.digest = {digest}), \
                 EXISTS (SELECT FROM pg_database WHERE datname = {name})"
            ),
            STATEMENT,
        )
        .await?;
    let is = |column| reply.value(column) == Some("t");
    let there = There {
        role: is(0),
        password: is(1),
        database: is(2),
    };
    if there
        == (There {
            role: true,
            password: true,
            database: true,
        })
    {
        return Ok(false);
    }
    let statements = role_statements(wanted, there);
    if !statements.is_empty() {
        let text = format!("BEGIN; {}; COMMIT", statements.join("; "));
        confirmed(client, &text).await?;
    }
    if !there.database {
        // Not within a transaction: it cannot be.
        let name = identifier(&wanted.name);
        confirmed(client, &format!("CREATE DATABASE {name} OWNER {name}")).await?;
    }
    confirmed(client, &access_statements(wanted).join("; ")).await?;
    Ok(true)
}

/// A statement whose commit a standby has confirmed: a cancelled wait is told as a warning alone (rule 9).
async fn confirmed(client: &mut Client, sql: &str) -> Result<(), DatabasesError> {
    let reply = client.query(sql, STATEMENT).await?;
    match reply
        .notices
        .iter()
        .find(|notice| notice.severity == "WARNING")
    {
        Some(notice) => Err(DatabasesError::Unconfirmed(notice.message.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        Database {
            name: "big\"shop".into(),
            password: "it's \\ secret".into(),
        }
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let there = |role, password| There {
            role,
            password,
            database: true,
        };
        assert_eq!(
            role_statements(&database(), there(true, true)),
            Vec::<String>::new()
        );
        assert_eq!(role_statements(&database(), there(true, false)).len(), 2);
        assert_eq!(role_statements(&database(), there(false, false)).len(), 3);
    }

    #[test]
    fn names_and_passwords_stay_within_their_quotes() {
        let statements = role_statements(&database(), There::default());
        assert_eq!(statements[0], "CREATE ROLE \"big\"\"shop\"");
        assert!(
            statements[1].ends_with("PASSWORD E'it''s \\\\ secret'"),
            "{}",
            statements[1]
        );
    }

    #[test]
    fn neither_debug_nor_digest_tells_the_password() {
        assert!(!format!("{:?}", database()).contains("secret"));
        assert!(!database().digest().contains("secret"));
    }
}
