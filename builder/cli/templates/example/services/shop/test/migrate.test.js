// migrate.js against PostgreSQL behind pgbouncer.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { migrations } from '../src/migrations.js';
import { Machine, until } from './support/machine.js';
import { Postgres } from './support/postgres.js';
import { environment, migrate, startNode } from './support/service.js';

const ALL = migrations().map(({ name }) => name);
const machine = new Machine();
let postgres;
let env;

before(async () => {
  postgres = await Postgres.start(machine);
  env = environment(machine, postgres);
});
after(() => machine.close());

async function applied() {
  const rows = await postgres.sql('SELECT name FROM shop.migrations ORDER BY name', 'shop');
  return rows.map(({ name }) => name);
}

async function products() {
  const [{ count }] = await postgres.sql('SELECT count(*)::int AS count FROM shop.products', 'shop');
  return count;
}

test('two that run at the same time do it once', async () => {
  const results = await Promise.all([migrate(machine, env), migrate(machine, env)]);
  const said = results.map((result) => result.said).join('');
  assert.deepEqual(results.map(({ code }) => code), [0, 0], said);
  assert.equal(said.split('"applied"').length - 1, ALL.length, said);
  assert.deepEqual(await applied(), ALL);
});

test('it sets limits for the sessions of the service', async () => {
  const [{ rolconfig }] = await postgres.sql(`SELECT rolconfig FROM pg_roles WHERE rolname = 'shop'`);
  assert.ok(rolconfig.includes('statement_timeout=5s'), String(rolconfig));
});

test('what was cut off in the middle is done whole by the next run', async (t) => {
  const whole = await products();
  await postgres.sql(`DELETE FROM shop.migrations WHERE name = '${ALL[1]}'; DELETE FROM shop.products`, 'shop');
  const gate = await postgres.session(t);
  await gate.query('BEGIN; LOCK TABLE shop.products');
  const cut = startNode(machine, 'migrate.js', env);
  await until('it waits in the second migration', async () => {
    const waiting = await postgres.sql(
      `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO shop.products%'`);
    return waiting.length === 1;
  });
  await machine.end(cut, 'SIGKILL');
  await gate.query('COMMIT');
  await until('its session ends', async () => {
    const left = await postgres.sql(`SELECT FROM pg_stat_activity WHERE usename = 'shop' AND state <> 'idle'`);
    return left.length === 0;
  });
  assert.deepEqual([await applied(), await products()], [[ALL[0]], 0]);

  const { code, said } = await migrate(machine, env);
  assert.equal(code, 0, said);
  assert.deepEqual([await applied(), await products()], [ALL, whole]);
});

test('a file that was changed after it was applied is refused', async () => {
  await postgres.sql(`UPDATE shop.migrations SET digest = 'x' || digest WHERE name = '${ALL[0]}'`, 'shop');
  const { code, said } = await migrate(machine, env);
  assert.equal(code, 1);
  assert.match(said, /was changed after it had been applied/);
  assert.doesNotMatch(said, /not-a-secret/);
  await postgres.sql(`UPDATE shop.migrations SET digest = substr(digest, 2) WHERE name = '${ALL[0]}'`, 'shop');
});

test('it waits for a primary', async () => {
  await postgres.halt('SIGINT');
  const { logins } = postgres;
  const waiting = startNode(machine, 'migrate.js', env);
  await until('it asks', () => postgres.logins > logins);
  assert.equal(waiting.exitCode, null);
  await postgres.boot();
  const [code] = await waiting.ended;
  assert.equal(code, 0, waiting.said);
});
