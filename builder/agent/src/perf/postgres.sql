-- One object, with the members of `postgresql` of a performance line (docs/perf.md); what counts is told as it stands.
WITH activity AS (
    SELECT datid, state, xact_start, wait_event_type,
           backend_type = 'client backend' AS client, backend_type = 'autovacuum worker' AS autovacuum,
           pid = pg_backend_pid() AS own
    FROM pg_stat_activity
), here AS (
    SELECT pg_is_in_recovery() AS standby, pg_last_wal_replay_lsn() AS replayed,
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END AS position
), totals AS (
    SELECT sum(xact_commit) AS commits, sum(xact_rollback) AS rollbacks, sum(blks_hit) AS blocks_hit,
           sum(blks_read) AS blocks_read, sum(tup_returned) AS rows_returned, sum(tup_fetched) AS rows_fetched,
           sum(tup_inserted) AS rows_inserted, sum(tup_updated) AS rows_updated, sum(tup_deleted) AS rows_deleted,
           sum(deadlocks) AS deadlocks, sum(conflicts) AS conflicts, sum(temp_files) AS temp_files,
           sum(temp_bytes) AS temp_bytes,
           (SELECT failed_count FROM pg_stat_archiver) AS archive_failures,
           (SELECT max(age(datfrozenxid)) FROM pg_database) AS oldest_xid_age
    FROM pg_stat_database
)
SELECT to_jsonb(totals) || jsonb_build_object(
    'took_ms', 0,
    'version', current_setting('server_version_num')::int,
    'uptime_s', round(extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::numeric, 1),
    'in_recovery', here.standby,
    'connections', (
        SELECT jsonb_build_object(
            'max', current_setting('max_connections')::int,
            'total', count(*) FILTER (WHERE client),
            'active', count(*) FILTER (WHERE client AND state IN ('active', 'fastpath function call')),
            'idle', count(*) FILTER (WHERE client AND state = 'idle'),
            'idle_in_transaction', count(*) FILTER (WHERE client AND state LIKE 'idle in transaction%'),
            'waiting_for_locks', count(*) FILTER (WHERE client AND wait_event_type = 'Lock'),
            'longest_transaction_s', round(extract(epoch FROM
                clock_timestamp() - min(xact_start) FILTER (WHERE client AND NOT own))::numeric, 1),
            'autovacuum_workers', count(*) FILTER (WHERE autovacuum))
        FROM activity),
    'databases', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('name', datname, 'connections',
            (SELECT count(*) FROM activity WHERE client AND datid = oid)) ORDER BY datname), '[]')
        FROM pg_database WHERE datallowconn AND NOT datistemplate),
    'wal', CASE WHEN NOT here.standby THEN jsonb_build_object(
        'position', here.position, 'written_bytes', here.position - '0/0'::pg_lsn) END,
    'standbys', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', application_name, 'state', state, 'sync', sync_state,
            -- It may have gone on since `here` was looked at.
            'unflushed_bytes', CASE WHEN flush_lsn < here.position THEN here.position - flush_lsn ELSE flush_lsn - flush_lsn END,
            'behind_bytes', CASE WHEN replay_lsn < here.position THEN here.position - replay_lsn ELSE replay_lsn - replay_lsn END,
            'replay_lag_ms', round(extract(epoch FROM replay_lag)::numeric * 1000, 1)) ORDER BY application_name, pid), '[]')
        FROM pg_stat_replication),
    'receiver', CASE WHEN here.standby THEN jsonb_build_object(
        'state', (SELECT status FROM pg_stat_wal_receiver),
        'received', here.position,
        'replayed', here.replayed,
        'behind_bytes', CASE WHEN here.replayed < here.position THEN here.position - here.replayed
                             ELSE here.replayed - here.replayed END,
        'last_commit_s', round(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::numeric, 1)) END,
    'slots', (
        SELECT jsonb_build_object(
            'total', count(*), 'inactive', count(*) FILTER (WHERE NOT active),
            'lost', count(*) FILTER (WHERE wal_status = 'lost'),
            'retained_bytes', CASE WHEN min(restart_lsn) < here.position THEN here.position - min(restart_lsn)
                                   ELSE min(restart_lsn) - min(restart_lsn) END)
        FROM pg_replication_slots))
FROM totals, here
