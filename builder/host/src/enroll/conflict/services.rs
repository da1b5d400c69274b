//! Databases and other services that the node would stand beside.

use super::{
    Conflict, Expectations, Probe,
    Weight::{Blocks, Note},
    add, list,
};

/// Where Debian's redis-server listens.
const REDIS_PORT: u16 = 6379;

/// Packages of which Debian lets one of a kind be installed: that of the roles, those that apt removes for it, what they do,
/// and where it is told more. systemd-timesyncd gives way too, which nobody misses. (Virtual packages time-daemon,
/// system-log-daemon and mail-transport-agent.)
const ONE_OF_A_KIND: [(&str, &[&str], &str, &str); 3] = [
    (
        "chrony",
        &["ntpsec", "openntpd"],
        "the clock is kept",
        "/etc/chrony/sources.d",
    ),
    (
        "rsyslog",
        &[
            "syslog-ng-core",
            "inetutils-syslogd",
            "busybox-syslogd",
            "socklog-run",
        ],
        "the system's log is written",
        "/etc/rsyslog.d",
    ),
    (
        "postfix",
        &[
            "exim4-daemon-light",
            "exim4-daemon-heavy",
            "sendmail-bin",
            "courier-mta",
            "opensmtpd",
            "msmtp-mta",
            "nullmailer",
            "dma",
            "ssmtp",
            "esmtp-run",
        ],
        "mail is sent",
        "[mail] of fleet.toml",
    ),
];

pub(super) fn find(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    databases(probe, wanted, found);
    redis(probe, wanted, found);
    masked(probe, wanted, found);
    replaced(probe, wanted, found);
    mail(probe, wanted, found);
}

fn databases(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    let Some(port) = wanted.database_port else {
        return;
    };
    for cluster in &probe.clusters {
        let (major, name) = cluster.name.split_once('/').unwrap_or_default();
        if name == wanted.fleet {
            add(
                found,
                "database-port",
                Blocks,
                format!(
                    "there is a PostgreSQL cluster {} already, in {}",
                    cluster.name, cluster.directory
                ),
                "the fleet's cluster has that name; the node does not take over one that it did not make, and stays without a database",
                format!(
                    "rename it (`pg_renamecluster {major} {name} NEW`), or drop it if its data are of no use"
                ),
            );
            continue;
        }
        let data = match cluster.databases {
            0 => "no database of its own".to_owned(),
            1 => "1 database".to_owned(),
            count => format!("{count} databases"),
        };
        let running = if cluster.online { "runs" } else { "is stopped" };
        if cluster.port == port {
            add(
                found,
                "database-port",
                Blocks,
                format!(
                    "the PostgreSQL cluster {} has port {port}, {running} and holds {data}",
                    cluster.name
                ),
                format!(
                    "the fleet's database is to listen on {port}: the node makes no cluster while another has the port. {} is never touched",
                    cluster.name
                ),
                format!(
                    "set another `port` under [database] in fleet.toml, or move the cluster: `pg_conftool {major} {name} set port 5433` and restart it"
                ),
            );
        } else {
            add(
                found,
                "postgresql",
                Note,
                format!(
                    "the PostgreSQL cluster {} on port {} {running} and holds {data}",
                    cluster.name, cluster.port
                ),
                "it is left alone; the fleet's database is another cluster beside it and takes its memory in addition",
                "nothing to do; move its data into the fleet's database with pg_dump when that is ready",
            );
        }
    }
}

fn redis(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    let Some(port) = wanted.redis_port else {
        return;
    };
    let own = probe
        .listeners
        .iter()
        .any(|listener| listener.tcp && listener.port == REDIS_PORT);
    // With the fleet's Redis on the same port another conflict tells.
    if own && port != REDIS_PORT {
        add(
            found,
            "redis",
            Note,
            format!("something listens on port {REDIS_PORT}, as Debian's own Redis does"),
            format!(
                "it is left alone; the fleet's Redis is another instance on port {port} and takes its memory in addition"
            ),
            "nothing to do",
        );
    }
}

/// A fresh machine never starts Debian's own instances; here somebody may use them.
fn masked(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    let used: Vec<&str> = wanted
        .masked_units
        .iter()
        .map(String::as_str)
        .filter(|unit| is_used(probe, unit))
        .collect();
    if !used.is_empty() {
        add(
            found,
            "masked-units",
            Note,
            format!(
                "{} {} in use",
                list(used.iter().copied()),
                if used.len() == 1 { "is" } else { "are" }
            ),
            "a fresh node would mask them; here they go on and take their memory",
            "stop and disable what you do not need",
        );
    }
}

/// A fresh machine has none of these; here one may have been chosen and set up with care.
fn replaced(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    for (ours, others, done, place) in ONE_OF_A_KIND {
        let there: Vec<&str> = others
            .iter()
            .copied()
            .filter(|name| probe.has(name))
            .collect();
        if !wanted.packages.contains(ours) || there.is_empty() {
            continue;
        }
        add(
            found,
            "replaced-packages",
            Blocks,
            format!("{} is installed", list(there.iter().copied())),
            format!(
                "apt removes it for {ours}, by which {done} on a node; its configuration has no effect any more"
            ),
            format!(
                "accept it, and once the packages are there bring what is set up there into {place}"
            ),
        );
    }
}

/// A fresh machine's postfix has no configuration but the fleet's.
fn mail(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    if !wanted.packages.contains("postfix") || !probe.own_postfix {
        return;
    }
    add(
        found,
        "mail-configuration",
        Blocks,
        "postfix has a configuration of this machine's own, /etc/postfix/main.cf",
        "it stays: what this machine mails, the alarms of its agent included, goes as it says and not as [mail] does",
        "accept it; or move that file away before the packages are installed, then the node brings the fleet's",
    );
}

/// Whether a unit runs or is there by somebody's will.
pub(in crate::enroll) fn is_used(probe: &Probe, unit: &str) -> bool {
    let state = probe.unit_files.get(unit).map(String::as_str);
    probe.is_active(unit) || matches!(state, Some("enabled" | "enabled-runtime" | "linked"))
}
