//! Answers of real servers of both suites.

use rolesmith_model::perf::{Postgres, Redis};

use super::super::{bouncer, postgres, redis};
use crate::postgres::wire::Reply;

pub(super) const POSTGRES_17: &str = include_str!("samples/postgresql-17-primary.json");
const POSTGRES_15: &str = include_str!("samples/postgresql-15-standby.json");
pub(super) const INFO_8: &str = include_str!("samples/redis-8-master.txt");
const INFO_7: &str = include_str!("samples/redis-7-replica.txt");

pub(super) fn postgres() -> Postgres {
    postgres::parse(POSTGRES_17).unwrap()
}

#[test]
fn a_primary_tells() {
    let server = postgres();
    assert!(!server.in_recovery);
    assert_eq!((server.version / 10_000, server.connections.max), (17, 40));
    assert_eq!(server.wal.as_ref().unwrap().written_bytes, Some(50_523_176));
    let [standby] = &server.standbys[..] else {
        panic!("{:?}", server.standbys);
    };
    assert_eq!(
        (standby.name.as_str(), standby.state.as_str()),
        ("app-2", "streaming")
    );
    assert_eq!(
        (standby.behind_bytes, standby.replay_lag_ms),
        (Some(0), Some(24.0))
    );
    assert_eq!((server.slots.total, server.slots.lost), (1, 0));
    assert!(server.receiver.is_none());
    let names: Vec<_> = server
        .databases
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["postgres", "shop"]);
}

#[test]
fn a_standby_tells() {
    let server = postgres::parse(POSTGRES_15).unwrap();
    assert!(server.in_recovery && server.wal.is_none() && server.standbys.is_empty());
    assert_eq!(server.version / 10_000, 15);
    let receiver = server.receiver.unwrap();
    assert_eq!(receiver.state.as_deref(), Some("streaming"));
    assert_eq!(
        (receiver.behind_bytes, receiver.last_commit_s),
        (Some(0), Some(1.5))
    );
    assert_eq!(server.slots.retained_bytes, None);
}

#[test]
fn counts_of_a_server_are_those_since_the_line_before() {
    let before = postgres();
    let mut now = before.clone();
    now.commits = Some(1_000);
    // pg_stat_reset().
    now.deadlocks = Some(3);
    now.blocks_hit = Some(7);
    now.wal.as_mut().unwrap().written_bytes = Some(50_523_276);
    let told = postgres::since(Some(&before), &now);
    assert_eq!(
        (told.commits, told.deadlocks, told.blocks_hit),
        (Some(82), Some(3), Some(7))
    );
    assert_eq!(told.wal.as_ref().unwrap().written_bytes, Some(100));
    // It had not answered before: what it has counted in its life is no count of a minute.
    let told = postgres::since(None, &now);
    assert_eq!(
        (told.commits, told.wal.unwrap().written_bytes),
        (None, None)
    );
    // It became the primary.
    let standby = postgres::parse(POSTGRES_15).unwrap();
    let told = postgres::since(Some(&standby), &now);
    assert_eq!(told.wal.unwrap().written_bytes, None);
}

#[test]
fn a_master_of_redis_tells() {
    let server = redis::parse(INFO_8, 0.5);
    assert_eq!(
        (server.version.as_str(), server.role.as_str()),
        ("8.0.2", "master")
    );
    assert_eq!((server.keys, server.replicas), (2, 1));
    assert_eq!((server.hits, server.misses), (Some(1), Some(1)));
    assert_eq!(server.memory_max, 64 << 20);
    assert!(server.aof_enabled && server.aof_ok && server.aof_bytes.is_some());
    assert_eq!((server.link_up, server.link_silent_s), (None, None));
    assert_eq!(server.replicas_behind_bytes, Some(0));
    let mut more = server.clone();
    more.commands = server.commands.map(|commands| commands + 5);
    assert_eq!(redis::since(Some(&server), &more).commands, Some(5));
    assert_eq!(redis::since(None, &more).commands, None);
}

#[test]
fn a_replica_of_redis_tells() {
    let server = redis::parse(INFO_7, 0.5);
    assert_eq!(
        (server.role.as_str(), server.link_up),
        ("slave", Some(true))
    );
    assert!(server.version.starts_with("7.0."));
    assert!(server.link_silent_s.is_some() && server.replicas_behind_bytes.is_none());
    assert!(!server.aof_enabled && server.aof_ok && !server.loading);
    let broken = INFO_7
        .replace("master_link_status:up", "master_link_status:down")
        .replace("aof_last_write_status:ok", "aof_last_write_status:err");
    let server = redis::parse(&broken, 0.5);
    assert_eq!((server.link_up, server.aof_ok), (Some(false), false));
    // Nothing at all is a server of which nothing is known.
    let Redis {
        role,
        keys,
        commands,
        ..
    } = redis::parse("", 0.0);
    assert_eq!((role.as_str(), keys, commands), ("", 0, None));
}

fn reply(text: &str) -> Reply {
    let mut lines = text.lines();
    let columns = lines
        .next()
        .unwrap()
        .split(',')
        .map(str::to_owned)
        .collect();
    let value = |word: &str| Some(word.to_owned());
    Reply {
        columns,
        rows: lines
            .map(|line| line.split(',').map(value).collect())
            .collect(),
        ..Reply::default()
    }
}

#[test]
fn pgbouncers_of_both_suites_tell() {
    const POOLS_1_24: &str = "\
database,user,cl_active,cl_waiting,cl_active_cancel_req,cl_waiting_cancel_req,sv_active,sv_active_cancel,sv_being_canceled,sv_idle,sv_used,sv_tested,sv_login,maxwait,maxwait_us,pool_mode,load_balance_hosts
pgbouncer,pgbouncer,1,0,0,0,0,0,0,0,0,0,0,0,0,statement,
shop,shop,3,2,0,0,2,0,0,1,1,0,1,1,250000,transaction,
app,app,1,0,0,0,1,0,0,0,0,0,0,0,100,transaction,";
    const TOTALS_1_24: &str = "\
database,server_assignment_count,xact_count,query_count,bytes_received,bytes_sent,xact_time,query_time,wait_time,client_parse_count,server_parse_count,bind_count
pgbouncer,0,2,2,0,0,0,0,0,0,0,0
shop,2,20,30,540,1730,121297,111297,13320,0,0,0
app,0,1,1,2,3,4000,5000,6000,0,0,0";
    const POOLS_1_18: &str = "\
database,user,cl_active,cl_waiting,cl_active_cancel_req,cl_waiting_cancel_req,sv_active,sv_active_cancel,sv_being_canceled,sv_idle,sv_used,sv_tested,sv_login,maxwait,maxwait_us,pool_mode
shop,postgres,0,0,0,0,0,0,0,1,0,0,0,0,0,transaction";
    const TOTALS_1_18: &str = "\
database,xact_count,query_count,bytes_received,bytes_sent,xact_time,query_time,wait_time
pgbouncer,2,2,0,0,0,0,0
shop,2,2,54,173,110889,110889,8300";
    let new = bouncer::parse(&reply(POOLS_1_24), &reply(TOTALS_1_24), 0.5);
    let servers = (new.servers_active, new.servers_idle, new.servers_login);
    assert_eq!(
        (new.clients_active, new.clients_waiting, servers),
        (4, 2, (3, 2, 1))
    );
    assert_eq!(new.longest_wait_ms, 1250.0);
    assert_eq!((new.transactions, new.queries), (Some(21), Some(31)));
    assert_eq!((new.transaction_ms, new.wait_ms), (Some(125), Some(19)));
    let old = bouncer::parse(&reply(POOLS_1_18), &reply(TOTALS_1_18), 0.5);
    assert_eq!(
        (old.servers_idle, old.queries, old.query_ms),
        (1, Some(2), Some(110))
    );
    let since = bouncer::since(Some(&old), &new);
    assert_eq!((since.transactions, since.clients_active), (Some(19), 4));
    assert_eq!(bouncer::since(None, &new).transactions, None);
}
