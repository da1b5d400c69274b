//! repmgr's view of the cluster: its configuration on each node, its table of nodes and the replication slots.
//!
//! repmgr writes its table with `synchronous_commit = local`, and knows nothing of the active configuration, so the
//! primary's agent makes the rows what they should be again and again (rule 14). A person who logs in sees the truth in
//! `repmgr cluster show`.

use std::path::Path;

use rolesmith_model::ids::NodeName;

use super::conf::slot;
use super::role::make_slot;
use super::settings::{PEER_ROLE, REPMGR_DATABASE};
use super::wire::literal;
use super::{ANSWER, Problem, Server};
use crate::files;

/// repmgr's number for a node: the same on every machine, whoever is asked and whatever else is a member. 31 bits of the
/// name's SHA-256, never 0.
#[must_use]
pub fn node_id(node: &NodeName) -> u32 {
    let digest = files::digest(node.as_str().as_bytes());
    let number = u32::from_str_radix(&digest[..8], 16).unwrap_or_default() & 0x7fff_ffff;
    number.max(1)
}

impl Server {
    /// The connection string that repmgr on any node uses for this member.
    fn repmgr_conninfo(&self, node: &NodeName) -> Result<String, Problem> {
        let address = self.address(node)?;
        Ok(self
            .settings
            .conninfo(node, &address, &[("dbname", REPMGR_DATABASE)]))
    }

    /// Writes repmgr.conf of this node, which /etc/repmgr.conf includes.
    pub(super) fn write_repmgr_conf(&self) -> Result<(), Problem> {
        self.write_repmgr_conf_for("repmgr.conf", &self.settings.data())
    }

    /// Writes one for another data directory: `repmgr standby clone` takes the directory from there alone.
    pub(super) fn write_repmgr_conf_for(&self, name: &str, data: &Path) -> Result<(), Problem> {
        let node = &self.settings.node;
        let quoted = |text: String| text.replace('\'', "''");
        let text = format!(
            "# Written by rolesmith-agent, which elects, promotes and registers; repmgrd only watches (failover=manual).\n\
             node_id={}\n\
             node_name='{node}'\n\
             conninfo='{}'\n\
             data_directory='{}'\n\
             pg_bindir='/usr/lib/postgresql/{}/bin'\n\
             replication_user='{PEER_ROLE}'\n\
             use_replication_slots=no\n\
             failover=manual\n\
             monitoring_history=no\n\
             log_level=NOTICE\n",
            node_id(node),
            quoted(self.repmgr_conninfo(node)?),
            data.display(),
            self.settings.major,
        );
        let path = self.settings.state(name);
        self.give(&path, &text)
    }

    /// Makes `repmgr.nodes` and the slots those of these members. Only on the primary.
    pub(super) async fn reconcile(
        &self,
        members: &[NodeName],
        primary: &NodeName,
    ) -> Result<(), Problem> {
        let mut wanted = Vec::new();
        for node in members {
            let is_primary = node == primary;
            wanted.push(format!(
                "({}, {}, true, {}, {}, 'default', 100, {}, {}, {}, {})",
                node_id(node),
                if is_primary {
                    "NULL::integer".to_owned()
                } else {
                    node_id(primary).to_string()
                },
                literal(node.as_str()),
                literal(if is_primary { "primary" } else { "standby" }),
                literal(&self.repmgr_conninfo(node)?),
                literal(PEER_ROLE),
                literal(&slot(node)),
                literal(&self.settings.state("repmgr.conf").display().to_string()),
            ));
        }
        let columns = "node_id, upstream_node_id, active, node_name, type, location, priority, conninfo, repluser, \
                       slot_name, config_file";
        // Only rows that differ are written: this runs often, and nothing must be logged when nothing changed.
        let sql = format!(
            "BEGIN; SET CONSTRAINTS ALL DEFERRED; \
             CREATE TEMPORARY TABLE wanted ON COMMIT DROP AS SELECT * FROM (VALUES {}) AS w ({columns}); \
             DELETE FROM repmgr.nodes n WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.node_id = n.node_id); \
             INSERT INTO repmgr.nodes AS n ({columns}) SELECT {columns} FROM wanted \
             ORDER BY upstream_node_id NULLS FIRST \
             ON CONFLICT (node_id) DO UPDATE SET ({columns}) = \
             (SELECT {columns} FROM wanted w WHERE w.node_id = EXCLUDED.node_id) \
             WHERE n IS DISTINCT FROM EXCLUDED; COMMIT",
            wanted.join(", ")
        );
        let mut client = self.connect(REPMGR_DATABASE).await?;
        let reply = client.query("SELECT pg_is_in_recovery()", ANSWER).await?;
        if reply.value(0) != Some("f") {
            return Err(Problem::Later("it is no primary".into()));
        }
        client.query(&sql, ANSWER).await?;

        // A slot that lost its log lets nobody follow, not even who has been copied anew since.
        client
            .query(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                 WHERE slot_name LIKE 'rolesmith\\_%' AND NOT active AND wal_status = 'lost'",
                ANSWER,
            )
            .await?;
        for node in members.iter().filter(|node| *node != &self.settings.node) {
            make_slot(&mut client, node).await?;
        }
        let keep: Vec<String> = members.iter().map(|node| literal(&slot(node))).collect();
        let gone = format!(
            "slot_name LIKE 'rolesmith\\_%' AND slot_name NOT IN ({})",
            keep.join(", ")
        );
        // A machine that was taken out of the fleet while it runs streams on over its old connection, and would keep its slot.
        // pg_ident.conf lets it in no more, and without the slot its receiver has nothing to begin with.
        client
            .query(
                &format!(
                    "SELECT pg_terminate_backend(active_pid, 1000) FROM pg_replication_slots WHERE active AND {gone}"
                ),
                ANSWER,
            )
            .await?;
        client
            .query(
                &format!(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active AND {gone}"
                ),
                ANSWER,
            )
            .await?;
        let left =
            format!("SELECT string_agg(slot_name, ', ') FROM pg_replication_slots WHERE {gone}");
        match client.query(&left, ANSWER).await?.value(0) {
            // Nobody asks again once this has succeeded.
            Some(names) => Err(Problem::Later(format!(
                "somebody who is no member streams still: {names}"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_repmgrs_integer_and_differ() {
        let ids: std::collections::BTreeSet<u32> = (0..1000)
            .map(|n| node_id(&NodeName::new(format!("app-{n}")).unwrap()))
            .collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| (1..=0x7fff_ffff).contains(id)));
    }
}
