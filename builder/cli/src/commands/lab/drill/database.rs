//! The fleet's database as its own servers show it, asked without the agents: what is judged must not be the judge.

use rolesmith_lab::{Lab, RunState};
use rolesmith_model::manifest::{CLIENT_ROLE, WITNESS_ROLE};
use rolesmith_model::plan::Plan;

use super::super::lab_failure;
use crate::report::{Failure, Outcome};

/// The database, and the role that writes into it.
pub const DATABASE: &str = "rolesmith_drill";
/// How often up to 128 MiB of log are written at most until none is kept.
const OUTRUN: usize = 64;
/// The table of numbers.
pub const TABLE: &str = "ledger";

/// Where PostgreSQL is on which nodes.
#[derive(Debug, Clone)]
pub struct Database {
    /// Names of the nodes with data, sorted.
    pub nodes: Vec<String>,
    /// Names of the nodes without data that have a pooler, sorted.
    pub clients: Vec<String>,
    /// Names of the voters without data, sorted.
    pub witnesses: Vec<String>,
    /// PostgreSQL's port.
    pub port: u16,
    /// pgbouncer's port.
    pub pooler_port: u16,
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// It takes writes.
    pub primary: bool,
    /// How many standbys stream from it.
    pub streaming: usize,
    /// How many of these count for synchronous commits.
    pub synchronous: usize,
}

/// A cluster in which nothing is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formation {
    /// The primary's node.
    pub primary: String,
    /// The others with data, sorted.
    pub standbys: Vec<String>,
}

impl Database {
    /// What the plan says.
    pub fn of(plan: &Plan) -> Outcome<Database> {
        let with = |role: &str| -> Vec<String> {
            let has = plan
                .nodes
                .iter()
                .filter(|node| node.roles.iter().any(|name| name.as_str() == role));
            has.map(|node| node.name.to_string()).collect()
        };
        let nodes = with("db-primary-capable");
        if nodes.is_empty() {
            return Err(Failure::new(
                "no node of this fleet has a database",
                "drills write into it: give nodes the role db-primary-capable",
            ));
        }
        let mut clients = with(CLIENT_ROLE);
        clients.retain(|name| !nodes.contains(name));
        Ok(Database {
            nodes,
            clients,
            witnesses: with(WITNESS_ROLE),
            port: plan.fleet.services.database.port,
            pooler_port: plan.fleet.services.database.pooler_port,
        })
    }

    /// The nodes on which programs reach it.
    pub fn served(&self) -> impl Iterator<Item = &String> {
        self.nodes.iter().chain(&self.clients)
    }

    /// Runs SQL as the superuser on a node's own server; gives what was printed, or what went wrong.
    pub fn sql(
        &self,
        lab: &Lab,
        node: &str,
        database: &str,
        statement: &str,
    ) -> Outcome<Result<String, String>> {
        let port = self.port.to_string();
        let words = [
            "timeout",
            "20",
            "runuser",
            "-u",
            "postgres",
            "--",
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--host=/run/rolesmith-postgresql",
            "--port",
            &port,
            "--dbname",
            database,
            "--command",
            statement,
        ];
        let output = lab.output(node, &words).map_err(lab_failure)?;
        Ok(if output.code == 0 {
            Ok(output.stdout)
        } else {
            Err(output.stderr.trim().to_owned())
        })
    }

    /// What a node's server says; nothing where it does not answer.
    fn server(&self, lab: &Lab, node: &str) -> Option<Server> {
        let statement = "SELECT NOT pg_is_in_recovery(), \
            count(*) FILTER (WHERE state = 'streaming'), \
            count(*) FILTER (WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')) FROM pg_stat_replication";
        let said = self.sql(lab, node, "postgres", statement).ok()?.ok()?;
        parse_server(&said)
    }

    /// The cluster, when nothing is missing in it; else what is.
    pub fn formation(&self, lab: &Lab) -> Outcome<Result<Formation, String>> {
        let status = lab.status().map_err(lab_failure)?;
        let awake = |name: &str| {
            let node = status.nodes.iter().find(|node| node.name == name);
            node.is_some_and(|node| node.state == RunState::Running && !node.frozen)
        };
        if let Some(cut) = status.cuts.first() {
            return Ok(Err(format!("a cable is cut: {cut}")));
        }
        if let Some(node) = status.nodes.iter().find(|node| !awake(&node.name)) {
            return Ok(Err(format!("{} does not run", node.name)));
        }
        let mut servers = Vec::new();
        for node in &self.nodes {
            match self.server(lab, node) {
                Some(server) => servers.push((node.clone(), server)),
                None => return Ok(Err(format!("PostgreSQL of {node} does not answer"))),
            }
        }
        let formation = formed(&servers);
        if formation.is_ok() {
            for node in &status.nodes {
                if let Some(complaint) = unwell(lab, &node.name)? {
                    return Ok(Err(complaint));
                }
            }
        }
        Ok(formation)
    }

    /// Makes the database, its role and an empty table. Where it is there already it keeps its role, which poolers know.
    pub fn prepare(&self, lab: &Lab, primary: &str, password: &str) -> Outcome {
        let must = |database: &str, statement: &str| -> Outcome<String> {
            self.sql(lab, primary, database, statement)?
                .map_err(|error| Failure::new(error, "see `rolesmith lab logs NODE`"))
        };
        let there = |table: &str, column: &str| {
            format!("SELECT count(*) FROM {table} WHERE {column} = '{DATABASE}'")
        };
        if must("postgres", &there("pg_roles", "rolname"))?.trim() == "0" {
            must(
                "postgres",
                &format!("CREATE ROLE {DATABASE} LOGIN PASSWORD '{password}'"),
            )?;
        }
        if must("postgres", &there("pg_database", "datname"))?.trim() == "0" {
            must(
                "postgres",
                &format!("CREATE DATABASE {DATABASE} OWNER {DATABASE}"),
            )?;
        }
        // Without a key, so that a row that is there twice can be seen.
        must(
            DATABASE,
            &format!(
                "DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (number bigint NOT NULL); ALTER TABLE {TABLE} OWNER TO {DATABASE}"
            ),
        )?;
        Ok(())
    }

    /// Has a primary write so much log that none is kept for who is away: files of 16 MiB that are ended early.
    pub fn outrun(&self, lab: &Lab, primary: &str) -> Outcome {
        let ask = |statement: &str| -> Outcome<String> {
            self.sql(lab, primary, "postgres", statement)?
                .map_err(|error| Failure::new(error, "see `rolesmith lab logs NODE`"))
        };
        let begin = ask("SELECT pg_current_wal_lsn()")?;
        // The agent makes a slot that has lost its log anew within a second: it then keeps what comes from there on.
        let lost = format!(
            "SELECT count(*) FROM pg_replication_slots \
             WHERE NOT active AND (wal_status = 'lost' OR restart_lsn > '{}')",
            begin.trim()
        );
        for _ in 0..OUTRUN {
            ask(
                "DO $$ BEGIN FOR file IN 1..8 LOOP PERFORM pg_logical_emit_message(false, 'drill', 'next'); \
                 PERFORM pg_switch_wal(); END LOOP; END $$",
            )?;
            ask("CHECKPOINT")?;
            if ask(&lost)?.trim() != "0" {
                return Ok(());
            }
        }
        Err(Failure::new(
            format!("{primary} keeps its log for who is away, however much it is"),
            "see max_slot_wal_keep_size",
        ))
    }

    /// The numbers that are there, one a line.
    pub fn rows(&self, lab: &Lab, primary: &str) -> Outcome<String> {
        self.sql(
            lab,
            primary,
            DATABASE,
            &format!("SELECT number FROM {TABLE}"),
        )?
        .map_err(|error| Failure::new(error, "see `rolesmith lab logs NODE`"))
    }
}

/// What the agent of a node complains of.
fn unwell(lab: &Lab, node: &str) -> Outcome<Option<String>> {
    let output = lab
        .output(
            node,
            &["timeout", "10", "rolesmith-agent", "status", "--json"],
        )
        .map_err(lab_failure)?;
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&output.stdout) else {
        return Ok(Some(format!("the agent of {node} does not answer")));
    };
    let healthy = value
        .pointer("/health/healthy")
        .and_then(serde_json::Value::as_bool);
    Ok((healthy != Some(true)).then(|| format!("{node} does not call itself healthy")))
}

fn parse_server(said: &str) -> Option<Server> {
    let mut fields = said.trim().split('|');
    Some(Server {
        primary: fields.next()? == "t",
        streaming: fields.next()?.parse().ok()?,
        synchronous: fields.next()?.parse().ok()?,
    })
}

/// The cluster that these servers are, in which every standby streams from the one primary.
fn formed(servers: &[(String, Server)]) -> Result<Formation, String> {
    let primaries: Vec<&(String, Server)> = servers
        .iter()
        .filter(|(_, server)| server.primary)
        .collect();
    let [(primary, server)] = primaries[..] else {
        let names: Vec<&str> = primaries.iter().map(|(name, _)| name.as_str()).collect();
        return Err(match names.len() {
            0 => "no server is primary".to_owned(),
            _ => format!("{} are primaries: they are no cluster", names.join(" and ")),
        });
    };
    let standbys: Vec<String> = servers
        .iter()
        .filter(|(name, _)| name != primary)
        .map(|(name, _)| name.clone())
        .collect();
    if server.streaming != standbys.len() {
        return Err(format!(
            "{} of {} standbys stream from {primary}",
            server.streaming,
            standbys.len()
        ));
    }
    if !standbys.is_empty() && server.synchronous == 0 {
        return Err(format!("no commit on {primary} waits for a standby"));
    }
    Ok(Formation {
        primary: primary.clone(),
        standbys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(said: &[&str]) -> Vec<(String, Server)> {
        let named = said.iter().enumerate();
        named
            .map(|(at, said)| (format!("n{at}"), parse_server(said).expect("an answer")))
            .collect()
    }

    #[test]
    fn a_cluster_has_one_primary_from_which_all_others_stream() {
        let whole = formed(&servers(&["f|0|0\n", "t|2|2\n", "f|0|0\n"])).expect("formed");
        assert_eq!(whole.primary, "n1");
        assert_eq!(whole.standbys, ["n0", "n2"]);
        let alone = formed(&servers(&["t|0|0"])).expect("formed");
        assert!(alone.standbys.is_empty());
        for (said, why) in [
            (["t|0|0", "t|0|0", "f|0|0"], "n0 and n1 are primaries"),
            (["f|0|0", "f|0|0", "f|0|0"], "no server is primary"),
            (["t|1|1", "f|0|0", "f|0|0"], "1 of 2 standbys stream"),
            (["t|2|0", "f|0|0", "f|0|0"], "no commit on n0 waits"),
        ] {
            let error = formed(&servers(&said)).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(parse_server(""), None);
    }
}
