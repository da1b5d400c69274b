-- Run in database repmgr after genesis.sql, in the same way.
CREATE EXTENSION repmgr;

GRANT USAGE ON SCHEMA repmgr TO repmgr;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA repmgr TO repmgr;

GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA repmgr TO repmgr;

