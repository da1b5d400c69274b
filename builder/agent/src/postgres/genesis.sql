-- What a new cluster has before anybody can connect to it. Run in database postgres, in single-user mode, where a
-- statement ends with a semicolon and an empty line.
CREATE SCHEMA rolesmith AUTHORIZATION postgres;

REVOKE ALL ON SCHEMA rolesmith FROM PUBLIC;

-- One row for each term of office, the first thing that its primary commits.
CREATE TABLE rolesmith.epoch (
    epoch bigint PRIMARY KEY CHECK (epoch > 0),
    node text NOT NULL,
    timeline bigint NOT NULL,
    switch_lsn pg_lsn NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row, written again and again: whether a commit is confirmed is found out before an application does.
CREATE TABLE rolesmith.heartbeat (
    id boolean PRIMARY KEY CHECK (id),
    beats bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- The other nodes: replication, repmgr, pg_rewind and a look at the lineage; never a superuser.
CREATE ROLE repmgr LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE;

GRANT pg_monitor, pg_checkpoint TO repmgr;

GRANT USAGE ON SCHEMA rolesmith TO repmgr;

GRANT SELECT ON rolesmith.epoch, rolesmith.heartbeat TO repmgr;

-- What pg_rewind(1) asks for; no more than a base backup contains.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO repmgr;

GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO repmgr;

GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO repmgr;

GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO repmgr;

CREATE DATABASE repmgr OWNER repmgr TEMPLATE template0;

