-- What pgbouncer needs, whoever leads it, and rolesmith-perf. The primary's agent runs it in database postgres, and in template1 for every database that is
-- created later, whenever it has changed; so it has to be safe to run again. It holds a password: it is never logged.
SET password_encryption = 'scram-sha-256';
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rolesmith_pooler') THEN
        CREATE ROLE rolesmith_pooler;
    END IF;
END
$$;
-- One connection of each pooler, and some of machines that were lost and are not missed yet.
ALTER ROLE rolesmith_pooler WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION CONNECTION LIMIT {{ members | length + 10 }}
    PASSWORD '{{ secret.database_pooler_password }}';
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

-- The agents of nodes without a database: they log in with the certificate of such a node, read the rows of epochs, and may do
-- nothing else. The table is in database postgres alone.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rolesmith_follower') THEN
        CREATE ROLE rolesmith_follower;
    END IF;
END
$$;
ALTER ROLE rolesmith_follower WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION CONNECTION LIMIT 20
    PASSWORD NULL;
GRANT USAGE ON SCHEMA rolesmith TO rolesmith_follower;
DO $$
BEGIN
    IF to_regclass('rolesmith.epoch') IS NOT NULL THEN
        GRANT SELECT ON rolesmith.epoch TO rolesmith_follower;
    END IF;
END
$$;

-- Asks for figures through the Unix socket of its node, by what the kernel says: it has no password.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rolesmith_monitor') THEN
        CREATE ROLE rolesmith_monitor;
    END IF;
END
$$;
ALTER ROLE rolesmith_monitor WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT NOREPLICATION CONNECTION LIMIT 3
    PASSWORD NULL;
GRANT pg_monitor TO rolesmith_monitor;
