-- What pgbouncer needs in the database; run after each start of PostgreSQL and safe to run again.
-- The unit that runs it keeps it out of the log: it holds a password.
\set ON_ERROR_STOP on
SET password_encryption = 'scram-sha-256';

-- A standby has it from its primary.
SELECT pg_is_in_recovery() AS standby \gset
\if :standby
\quit
\endif

SELECT count(*) = 0 AS missing FROM pg_roles WHERE rolname = 'rolesmith_pooler' \gset
\if :missing
CREATE ROLE rolesmith_pooler;
\endif
ALTER ROLE rolesmith_pooler WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION CONNECTION LIMIT 10
    PASSWORD '{{ secret.database_pooler_password }}';
{% for database in ["postgres", "template1"] %}
-- In template1 for every database that is created later.
\connect {{ database }}
CREATE SCHEMA IF NOT EXISTS rolesmith AUTHORIZATION postgres;
REVOKE ALL ON SCHEMA rolesmith FROM PUBLIC;
GRANT USAGE ON SCHEMA rolesmith TO rolesmith_pooler;

-- The stored SCRAM verifier of a login role, never a superuser's, for the pooler alone.
CREATE OR REPLACE FUNCTION rolesmith.pooler_lookup(name text)
RETURNS TABLE (usename name, passwd text)
LANGUAGE sql STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog
AS $$
    SELECT rolname, rolpassword FROM pg_authid
    WHERE rolname = $1 AND rolcanlogin AND NOT rolsuper AND NOT rolreplication
      AND (rolvaliduntil IS NULL OR rolvaliduntil > now())
$$;
REVOKE ALL ON FUNCTION rolesmith.pooler_lookup(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rolesmith.pooler_lookup(text) TO rolesmith_pooler;
{% endfor %}
