//! [cluster]

use std::collections::BTreeMap;

use tera::Context;

use crate::{
    finding::Findings,
    manifest::{Cluster, ClusterKind, WITNESS_ROLE},
    plan::PackagedFile,
    resolve::files::inline,
    role::{Layer, Role},
};

/// Whether its machines may be the primary, which makes the databases of the fleet's services.
pub(in crate::resolve) fn makes_databases(role: &Role) -> bool {
    let kind = |layer: &Layer| layer.file.cluster.as_ref()?.get_ref().kind.clone();
    role.name.as_str() != WITNESS_ROLE
        && role
            .layers
            .iter()
            .rev()
            .find_map(kind)
            .is_some_and(|kind| kind.get_ref() == "postgresql")
}

/// How the role joins its cluster; the uppermost layer that says so counts.
pub(in crate::resolve) fn cluster(
    role: &Role,
    files: &BTreeMap<String, PackagedFile>,
    context: &Context,
    findings: &mut Findings,
) -> Option<Cluster> {
    let (layer, entry) = role
        .layers
        .iter()
        .rev()
        .find_map(|l| l.file.cluster.as_ref().map(|c| (l, c)))?;
    match (&entry.get_ref().kind, &entry.get_ref().join) {
        (Some(kind), None) => match kind.get_ref().as_str() {
            "postgresql" => Some(Cluster::Kind(ClusterKind::Postgresql)),
            "redis" => Some(Cluster::Kind(ClusterKind::Redis)),
            "rsyslog" => Some(Cluster::Kind(ClusterKind::Rsyslog)),
            other => {
                findings.error(
                    "role::cluster-kind",
                    layer.place(kind.span()),
                    format!("there is no cluster kind {other:?}"),
                    "the agent does not know it",
                    "write postgresql, redis or rsyslog; for anything else name a program of your own with `join`",
                );
                None
            }
        },
        (None, Some(join)) => {
            let path = inline(layer, join, context, findings)?;
            let Some(shipped) = files.get(&path) else {
                findings.error(
                    "role::join-missing",
                    layer.place(join.span()),
                    format!("the role ships no file {path:?}"),
                    "`join` names a program of the role's own package by its absolute path",
                    "add it under [[files]] with mode = \"0755\"",
                );
                return None;
            };
            if shipped.mode & 0o111 == 0 {
                findings.error(
                    "role::join-not-executable",
                    layer.place(join.span()),
                    format!("{path} has mode {:04o} and cannot be run", shipped.mode),
                    "`join` names a program that the agent runs",
                    "set mode = \"0755\" for it under [[files]]",
                );
                return None;
            }
            Some(Cluster::Join(path))
        }
        (Some(span), Some(_)) => {
            findings.error(
                "role::cluster-both",
                layer.place(span.span()),
                "[cluster] has both `kind` and `join`",
                "either the agent knows how to join, or the role does",
                "keep one of them",
            );
            None
        }
        (None, None) => {
            findings.error(
                "role::cluster-none",
                layer.place(entry.span()),
                "[cluster] has neither `kind` nor `join`",
                "nothing says how the role joins",
                "add one of them, or remove [cluster]",
            );
            None
        }
    }
}
