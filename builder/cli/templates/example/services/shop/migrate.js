// Brings the database to what this version needs: `node migrate.js`. Each file of migrations/ runs in a transaction that also
// records it, so this may be cut off anywhere, run again, and run twice at the same time.

import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { loadDatabaseConfig } from './src/config.js';
import { isTransient } from './src/database.js';
import { log, reason } from './src/log.js';
import { migrations } from './src/migrations.js';

// How long the primary may be away (ms).
const PATIENCE = 60_000;
// For pg_advisory_xact_lock: any number that nobody else uses in this database.
const LOCK = 7_467;

const RECORD = `
  CREATE SCHEMA IF NOT EXISTS shop;
  CREATE TABLE IF NOT EXISTS shop.migrations (
    name text PRIMARY KEY,
    digest text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz
  )`;

async function transaction(client, work) {
  await client.query('BEGIN');
  // Who waits for a lock makes all who come later wait, so not for long; and no limit to what runs with it.
  await client.query(`SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = 0`);
  await client.query(`SELECT pg_advisory_xact_lock(${LOCK})`);
  await client.query(RECORD);
  const result = await work();
  await client.query('COMMIT');
  return result;
}

async function apply(client, { name, sql, digest }) {
  const done = await client.query('SELECT digest FROM shop.migrations WHERE name = $1', [name]);
  if (done.rowCount > 0) {
    if (done.rows[0].digest !== digest) {
      throw new Error(`${name} was changed after it had been applied; write a new file instead`);
    }
    return false;
  }
  const before = await currentTransaction(client);
  await client.query(sql);
  if ((await currentTransaction(client)) !== before) {
    throw new Error(`${name} ends the transaction in which it runs`);
  }
  await client.query('INSERT INTO shop.migrations (name, digest) VALUES ($1, $2)', [name, digest]);
  return true;
}

async function currentTransaction(client) {
  const { rows } = await client.query('SELECT pg_current_xact_id()::text AS id');
  return rows[0].id;
}

async function run(config) {
  const client = new pg.Client({
    ...config, application_name: 'shop-migrate', connectionTimeoutMillis: 5_000, keepAlive: true, ssl: false,
  });
  // A connection that breaks also fails what is under way on it.
  client.on('error', () => {});
  await client.connect();
  try {
    for (const migration of migrations()) {
      if (await transaction(client, () => apply(client, migration))) {
        log.info('applied', { migration: migration.name });
      }
    }
    // Written even where nothing was to be done: this commit waits until a standby has all that an earlier run, which was
    // cut off, may have left on one server.
    await transaction(client, () => client.query('UPDATE shop.migrations SET confirmed_at = now()'));
  } finally {
    await client.end();
  }
}

async function main() {
  const config = loadDatabaseConfig(process.env);
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    try {
      await run(config);
      return;
    } catch (error) {
      if (!isTransient(error) || Date.now() >= deadline) {
        throw error;
      }
      log.info('trying again', reason(error));
      await sleep(500);
    }
  }
}

try {
  await main();
  log.info('the database is up to date');
} catch (error) {
  log.error('migration failed', reason(error));
  process.exitCode = 1;
}
