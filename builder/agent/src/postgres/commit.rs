//! Commits that wait for a standby.
//!
//! They have a connection of their own and no limit of time: a wait that is cancelled still answers COMMIT, with a
//! warning, and the row is visible although no standby has it (rule 9). The agent never cancels one. Where it gives one
//! up, because it ends or the core lost interest, the server goes on waiting and nobody takes the result for a success.

use super::wire::{Client, Reply, literal};
use super::{CONNECT, Problem, Server};
use crate::cluster::EpochRow;

/// The connection for synchronous commits.
#[derive(Debug, Default)]
pub(super) struct Committer {
    client: Option<Client>,
}

/// A commit counts only without any warning.
fn confirmed(reply: &Reply, tag: &str) -> Result<(), Problem> {
    if let Some(warning) = reply.notices.iter().find(|n| n.severity == "WARNING") {
        return Err(Problem::Later(format!(
            "the commit is not confirmed by a standby: {}",
            warning.message
        )));
    }
    if reply.tag.starts_with(tag) {
        Ok(())
    } else {
        Err(Problem::Later(format!("{tag} ended as {}", reply.tag)))
    }
}

impl Committer {
    async fn client(&mut self, server: &Server) -> Result<Client, Problem> {
        // A new one, or the old one if its last answer came. It is put back after the next answer.
        match self.client.take() {
            Some(client) if client.is_idle() => Ok(client),
            _ => {
                let parameters = [
                    ("user", "postgres"),
                    ("database", "postgres"),
                    ("application_name", "rolesmith-agent commit"),
                    ("synchronous_commit", "on"),
                ];
                Ok(Client::connect(&server.settings.socket(), &parameters, CONNECT).await?)
            }
        }
    }

    /// Commits the row of an epoch. Where it is there already, from an attempt whose end nobody saw, it is written
    /// again, so that this commit's place in the log comes after the row's.
    pub(super) async fn epoch(&mut self, server: &Server, row: &EpochRow) -> Result<(), Problem> {
        // The server was started anew since the last office of this node: what led to it then leads nowhere.
        self.client = None;
        let mut client = self.client(server).await?;
        let insert = format!(
            "BEGIN; INSERT INTO rolesmith.epoch AS e (epoch, node, timeline, switch_lsn) VALUES ({}, {}, {}, '{}') \
             ON CONFLICT (epoch) DO UPDATE SET at = clock_timestamp() \
             WHERE (e.node, e.timeline, e.switch_lsn) = (EXCLUDED.node, EXCLUDED.timeline, EXCLUDED.switch_lsn) \
             RETURNING 1",
            row.epoch,
            literal(row.node.as_str()),
            row.timeline,
            row.switch
        );
        let written = client.query_unbounded(&insert).await?;
        if written.rows.is_empty() {
            // The connection is dropped, and the transaction with it.
            return Err(Problem::Refused(format!(
                "another row stands for epoch {}",
                row.epoch
            )));
        }
        let reply = client.query_unbounded("COMMIT").await?;
        self.client = Some(client);
        confirmed(&reply, "COMMIT")
    }

    /// Commits a beat.
    pub(super) async fn heartbeat(&mut self, server: &Server) -> Result<(), Problem> {
        let mut client = self.client(server).await?;
        let beat = "INSERT INTO rolesmith.heartbeat AS h (id, beats) VALUES (true, 1) \
                    ON CONFLICT (id) DO UPDATE SET beats = h.beats + 1, at = clock_timestamp()";
        let reply = client.query_unbounded(beat).await?;
        self.client = Some(client);
        confirmed(&reply, "INSERT")
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Notice;
    use super::*;

    #[test]
    fn a_cancelled_wait_is_no_commit() {
        let mut reply = Reply {
            tag: "COMMIT".into(),
            ..Reply::default()
        };
        assert!(confirmed(&reply, "COMMIT").is_ok());
        reply.notices.push(Notice {
            severity: "WARNING".into(),
            code: "01000".into(),
            message: "canceling wait for synchronous replication due to user request".into(),
        });
        assert!(matches!(
            confirmed(&reply, "COMMIT"),
            Err(Problem::Later(_))
        ));
        reply.notices.clear();
        reply.tag = "ROLLBACK".into();
        assert!(confirmed(&reply, "COMMIT").is_err());
    }
}
