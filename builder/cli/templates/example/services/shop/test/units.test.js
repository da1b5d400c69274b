// What needs no other program.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadConfig } from '../src/config.js';
import { isTransient } from '../src/database.js';
import { Refusal, Unavailable } from '../src/errors.js';
import { migrations } from '../src/migrations.js';
import * as validate from '../src/validate.js';
import { BATCH, WriteThrough } from '../src/views.js';

const ID = '0190a1b2-0000-7000-8000-00000000abcd';

const credentials = mkdtempSync(join(tmpdir(), 'shop-credentials-'));
after(() => rmSync(credentials, { recursive: true }));
writeFileSync(join(credentials, 'database-password'), 'one\n');
writeFileSync(join(credentials, 'redis-password'), 'two\n');

const ENVIRONMENT = {
  PORT: '3000',
  HOST: '127.0.0.1',
  CREDENTIALS_DIRECTORY: credentials,
  DATABASE_URL: 'postgresql://web_shop@127.0.0.1:6432/web_shop',
  REDIS_SENTINELS: '10.77.0.11:26380,[fd00::12]:26380',
  REDIS_MASTER: 'acme',
  REDIS_USERNAME: 'app',
  REDIS_TLS_CA: '/ca.pem',
  REDIS_TLS_CERT: '/node.crt',
};

test('the configuration is what the unit says', () => {
  const config = loadConfig({ ...ENVIRONMENT, ROLESMITH_NODE: 'app-1' });
  assert.equal(config.port, 3000);
  assert.equal(config.node, 'app-1');
  assert.deepEqual(config.database, {
    host: '127.0.0.1', port: 6432, user: 'web_shop', database: 'web_shop', password: 'one',
  });
  assert.deepEqual(config.redis.sentinels, [{ host: '10.77.0.11', port: 26380 }, { host: 'fd00::12', port: 26380 }]);
  assert.equal(config.redis.password, 'two');
  assert.equal(config.redis.keyFile, join(credentials, 'application.key'));
});

test('a configuration that is wrong names what is wrong', () => {
  for (const name of ['PORT', 'CREDENTIALS_DIRECTORY', 'DATABASE_URL', 'REDIS_SENTINELS', 'REDIS_MASTER', 'REDIS_TLS_CA']) {
    const { [name]: _, ...rest } = ENVIRONMENT;
    assert.throws(() => loadConfig(rest), { message: `${name} is not set` });
  }
  assert.throws(() => loadConfig({ ...ENVIRONMENT, PORT: 'http' }), /PORT is not a whole number/);
  assert.throws(() => loadConfig({ ...ENVIRONMENT, DATABASE_URL: 'shop' }), /DATABASE_URL is not a URL/);
  assert.throws(() => loadConfig({ ...ENVIRONMENT, REDIS_SENTINELS: '10.77.0.11' }), /REDIS_SENTINELS holds "10.77.0.11"/);
});

test('orders and views are checked', () => {
  assert.deepEqual(validate.order({ id: ID.toUpperCase(), product: 1, quantity: 100, more: true }),
    { id: ID, product: 1, quantity: 100 });
  assert.deepEqual(validate.view({ id: ID, product: 2, seenAt: 0 }, 5), { id: ID, product: 2, seenAt: 5 });
  const wrong = [
    undefined, null, [], 'text', {},
    { id: 'x', product: 1, quantity: 1 },
    { id: `${ID}0`, product: 1, quantity: 1 },
    { id: ID, product: '1', quantity: 1 },
    { id: ID, product: 2 ** 31, quantity: 1 },
    { id: ID, product: 1, quantity: 0 },
    { id: ID, product: 1, quantity: 101 },
    { id: ID, product: 1, quantity: 1.5 },
  ];
  for (const body of wrong) {
    assert.throws(() => validate.order(body), (error) => error instanceof Refusal && error.status === 400);
  }
});

test('what may succeed a moment later is told from what never will', () => {
  const transient = ['57P01', '57P03', '08006', '08P01', '25006', '28000', '40001', '40P01', '53300', 'ECONNRESET', 'ECONNREFUSED'];
  for (const code of transient) {
    assert.ok(isTransient(Object.assign(new Error('any'), { code })), code);
  }
  for (const code of ['23505', '42P01', '22P02', '28P01', '53100', 'XX000', 'ENOENT']) {
    assert.ok(!isTransient(Object.assign(new Error('any'), { code })), code);
  }
  assert.ok(isTransient(new Error('Connection terminated unexpectedly')));
  assert.ok(isTransient(new Error('timeout exceeded when trying to connect')));
  assert.ok(!isTransient(new TypeError('x is not a function')));
});

test('migrations are numbered without a gap', () => {
  const names = migrations().map(({ name }) => name);
  assert.deepEqual(names.map((name) => Number(name.slice(0, 3))), names.map((_, i) => i + 1));
});

// A place for views that fails as it is told.
class Shelf {
  batches = [];
  failures = [];

  async save(views, deadline) {
    this.batches.push({ views, deadline });
    await new Promise((resolve) => setImmediate(resolve));
    const failure = this.failures.shift();
    if (failure) {
      throw failure;
    }
  }
}

test('views that come together without Redis are saved together', async () => {
  const shelf = new Shelf();
  const writeThrough = new WriteThrough(shelf);
  const views = Array.from({ length: 2 * BATCH + 2 }, (_, i) => i);
  await Promise.all(views.map((view) => writeThrough.add(view, Date.now() + 1_000)));
  // The first finds nobody at work and goes alone.
  assert.deepEqual(shelf.batches.map((batch) => batch.views.length), [1, BATCH, BATCH, 1]);
  assert.deepEqual(shelf.batches.flatMap((batch) => batch.views), views);
});

test('a batch fails for whom the time is over, and for the others it is tried again', async () => {
  const shelf = new Shelf();
  const writeThrough = new WriteThrough(shelf);
  const now = Date.now();
  const lost = Object.assign(new Error('gone'), { code: '57P01' });
  shelf.failures = [undefined, new Unavailable(lost)];
  const results = await Promise.allSettled(
    [['first', 9_000], ['short', 0], ['long', 9_000]].map(([view, time]) => writeThrough.add(view, now + time)));
  assert.deepEqual(results.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled']);
  assert.ok(results[1].reason instanceof Unavailable);
  assert.deepEqual(shelf.batches.map((batch) => batch.views), [['first'], ['short', 'long'], ['long']]);
  assert.equal(shelf.batches[1].deadline, now);

  shelf.failures = [new TypeError('a mistake')];
  await assert.rejects(writeThrough.add('next', now + 9_000), TypeError);
  await writeThrough.add('after it', now + 9_000);
});
