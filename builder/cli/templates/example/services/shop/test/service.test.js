// The service with PostgreSQL behind pgbouncer and Redis behind Sentinel: what it does, and what it survives.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Machine, until } from './support/machine.js';
import { Postgres } from './support/postgres.js';
import { RedisCluster } from './support/redis.js';
import { environment, migrate, Service } from './support/service.js';

const machine = new Machine();
let postgres;
let redis;
let env;
let service;

before(async () => {
  postgres = await Postgres.start(machine);
  redis = await RedisCluster.start(machine);
  env = environment(machine, postgres, redis);
  // Before its tables are there it cannot work, and says so.
  service = await Service.start(machine, env);
  const early = await service.get('/health');
  assert.deepEqual([early.status, early.body.status], [503, 'no database']);
  const { code, said } = await migrate(machine, env);
  assert.equal(code, 0, said);
  await service.ready();
});
after(() => machine.close());

const order = (more) => ({ id: randomUUID(), product: 1, quantity: 2, ...more });
const view = (more) => ({ id: randomUUID(), product: 2, ...more });
const taken = ({ status }) => status === 201 || status === 202;
// A view that is in Redis. On a slow machine one may go to the database; then it is another.
const cachedView = async () => {
  const mine = view({ product: 6 });
  return (await service.post('/api/views', mine)).status === 202 ? mine : cachedView();
};
const stored = async (table, ids) => {
  const rows = await postgres.sql(`SELECT id FROM shop.${table}`, 'shop');
  const there = new Set(rows.map(({ id }) => id));
  return ids.filter((id) => there.has(id)).length;
};
const viewsOf = async (product) => {
  const { body } = await service.get('/api/products');
  return body.find(({ id }) => id === product).views;
};
const waiting = () => redis.admin(0, (client) => client.xlen('shop:views'));
const drained = () => until('the stream is empty', async () => (await waiting()) === 0);

test('an order is placed once, however often it is sent', async () => {
  const mine = order();
  const before = (await service.get('/api/orders/count')).body.count;
  const [first, second] = await Promise.all([service.post('/api/orders', mine), service.post('/api/orders', mine)]);
  assert.deepEqual([first.status, second.status], [201, 201]);
  assert.deepEqual(first.body, second.body);
  assert.equal(first.headers.location, `/api/orders/${mine.id}`);
  const found = await service.get(`/api/orders/${mine.id}`);
  assert.equal(found.status, 200);
  assert.deepEqual(
    { ...found.body, created_at: undefined },
    { id: mine.id, product_id: 1, product_name: 'Cross-peen hammer', quantity: 2, price_cents: 4900, created_at: undefined });
  assert.equal((await service.get('/api/orders/count')).body.count, before + 1);
});

test('what is wrong is refused with its reason', async () => {
  const taken = order();
  await service.post('/api/orders', taken);
  const json = { 'Content-Type': 'application/json' };
  const cases = [
    [() => service.post('/api/orders', { ...taken, quantity: 3 }), 409],
    [() => service.post('/api/orders', order({ product: 99 })), 422],
    [() => service.post('/api/orders', order({ quantity: 0 })), 400],
    [() => service.post('/api/views', view({ id: "1'; DROP TABLE shop.views" })), 400],
    [() => service.send('/api/orders', '{"id":', json), 400],
    [() => service.send('/api/orders', JSON.stringify(order({ note: 'x'.repeat(9_000) })), json), 413],
    [() => service.send('/api/orders', JSON.stringify(order()), { 'Content-Type': 'text/plain' }), 400],
    [() => service.get(`/api/orders/${randomUUID()}`), 404],
    [() => service.get('/api/orders/latest'), 400],
    [() => service.get('/api'), 404],
  ];
  for (const [ask, status] of cases) {
    const reply = await ask();
    assert.equal(reply.status, status, JSON.stringify(reply.body));
    assert.equal(typeof reply.body.error, 'string');
    assert.equal(reply.headers['cache-control'], 'no-store');
    assert.equal(reply.headers['x-powered-by'], undefined);
  }
});

test('views go to the database in batches of at most a hundred, each once', async () => {
  const before = await viewsOf(2);
  const [{ batches }] = await postgres.sql('SELECT coalesce(sum(batches), 0)::int AS batches FROM shop.flushes', 'shop');
  const views = Array.from({ length: 250 }, () => view());
  const unknown = view({ product: 77 });
  const replies = await Promise.all([...views, ...views.slice(0, 50), unknown].map((v) => service.post('/api/views', v)));
  assert.ok(replies.every(taken));
  await drained();
  assert.equal(await viewsOf(2), before + 250);
  assert.equal(await stored('views', [...views, unknown].map(({ id }) => id)), 250);
  const [after] = await postgres.sql('SELECT sum(batches)::int AS batches FROM shop.flushes', 'shop');
  const made = after.batches - batches;
  assert.ok(made >= 4 && made < 100, `${made} batches for 301 views`);
  assert.deepEqual((await service.get('/api/views/count')).body.waiting, 0);
});

test('an entry that is no view is dropped and holds up nothing', async () => {
  await redis.admin(0, (client) => client.xadd('shop:views', '*', 'id', 'x', 'product', 'y'));
  const mine = await cachedView();
  await drained();
  assert.equal(await stored('views', [mine.id]), 1);
  assert.match(service.said, /an entry of the stream is no view/);
});

test('killed between commit and acknowledgement, it counts nothing twice', async (t) => {
  await drained();
  const gate = await postgres.session(t);
  await gate.query('BEGIN; LOCK TABLE shop.views');
  const views = await Promise.all(Array.from({ length: 20 }, cachedView));
  await until('the flusher waits for the table', async () => {
    const held = await postgres.sql(`SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'shop'`);
    return held.length > 0;
  });
  // Nothing can be acknowledged from here on.
  await redis.admin(0, (client) => client.client('PAUSE', 60_000, 'WRITE'));
  await gate.query('COMMIT');
  // At least those of the batch in hand.
  const committed = await until('a batch is committed', () => stored('views', views.map(({ id }) => id)));
  await service.kill();
  await redis.admin(0, (client) => client.client('UNPAUSE'));
  assert.ok((await waiting()) >= views.length, 'Redis still has all of them');

  service = await (await Service.start(machine, env)).ready();
  await drained();
  assert.equal(await stored('views', views.map(({ id }) => id)), views.length, `${committed} were committed before`);
  const [{ rows }] = await postgres.sql('SELECT count(*)::int AS rows FROM shop.views WHERE product_id = 6', 'shop');
  assert.equal(await viewsOf(6), rows);
});

test('a batch that another node left is taken over', async () => {
  const { Cache } = await import('../src/cache.js');
  const other = new Cache(redis.config, 'app-2');
  await until('the other node has Redis', () => other.ready);
  // This one must not take it first.
  service.signal('SIGSTOP');
  const left = view();
  await other.add({ ...left, seenAt: Date.now() });
  const { keys: [key], views: [mine] } = await other.take(100);
  assert.equal(mine.id, left.id);
  other.close();
  await redis.admin(0, (client) => client.xclaim('shop:views', 'shop', 'app-2', 0, key, 'IDLE', 60_000));
  service.signal('SIGCONT');
  await drained();
  assert.equal(await stored('views', [left.id]), 1);
});

// Places orders, several at a time, until told to stop; resolves to the replies.
function customers() {
  const replies = [];
  let open = true;
  const customer = async () => {
    while (open) {
      const mine = order();
      replies.push([mine.id, (await service.post('/api/orders', mine)).status]);
    }
  };
  const all = Promise.all(Array.from({ length: 8 }, customer));
  return {
    replies,
    async stop() {
      open = false;
      await all;
      return replies;
    },
  };
}

for (const [name, signal] of [['is restarted', 'SIGINT'], ['crashes', 'SIGKILL']]) {
  test(`PostgreSQL ${name} under load: no request fails`, async () => {
    const [{ count }] = await postgres.sql('SELECT count(*)::int AS count FROM shop.orders', 'shop');
    const shopping = customers();
    await until('orders come in', () => shopping.replies.length > 50);
    await postgres.halt(signal);
    await sleep(1_000);
    assert.equal((await service.get('/health')).status, 200, 'requests only wait, so it is healthy');
    await postgres.boot();
    const sofar = shopping.replies.length;
    await until('orders come in again', () => shopping.replies.length > sofar + 50);
    const replies = await shopping.stop();
    assert.deepEqual(replies.filter(([, status]) => status !== 201), []);
    assert.equal(await stored('orders', replies.map(([id]) => id)), replies.length);
    const [after] = await postgres.sql('SELECT count(*)::int AS count FROM shop.orders', 'shop');
    assert.equal(after.count, count + replies.length, 'and no other orders');
  });
}

test('a server that only reads is waited for', async (t) => {
  // For sessions that begin from here on.
  const switchTo = (setting) => postgres.sql(`ALTER ROLE shop ${setting};
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'`);
  await switchTo('SET default_transaction_read_only = on');
  t.after(() => switchTo('RESET default_transaction_read_only'));
  const mine = order();
  const reply = service.post('/api/orders', mine);
  await until('it is refused there', () => postgres.said.includes('cannot execute INSERT in a read-only transaction'));
  await switchTo('RESET default_transaction_read_only');
  assert.equal((await reply).status, 201);
});

test('a commit that no standby has confirmed is not answered', async (t) => {
  t.after(() => postgres.waitForStandby(''));
  await postgres.waitForStandby('nobody');
  const mine = order();
  let answered = false;
  const reply = service.post('/api/orders', mine).finally(() => (answered = true));
  // The wait is broken off twice: of the first attempt, and of the second, which finds the row.
  for (const attempt of ['the first', 'the second']) {
    await until(`${attempt} attempt waits for a standby`, async () => (await postgres.breakOff()) > 0);
  }
  assert.equal(await stored('orders', [mine.id]), 1, 'it is on this server');
  assert.equal(answered, false);
  await postgres.waitForStandby('');
  assert.equal((await reply).status, 201);
});

test('SIGTERM: health fails first, requests under way are answered, and it ends with 0', async (t) => {
  const gate = await postgres.session(t);
  await gate.query('BEGIN; LOCK TABLE shop.orders');
  const mine = order();
  const reply = service.post('/api/orders', mine);
  const late = view();
  await until('the order waits', async () => {
    const held = await postgres.sql(`SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'shop'`);
    return held.length > 0;
  });
  service.signal('SIGTERM');
  const health = await until('health fails', async () => {
    const answer = await service.get('/health');
    return answer.status === 503 && answer;
  });
  assert.equal(health.body.status, 'stopping');
  assert.ok(taken(await service.post('/api/views', late)), 'who comes late is served');
  await until('nobody new gets in', () => service.get('/health').then(() => false, (error) => error.code === 'ECONNREFUSED'));
  await gate.query('COMMIT');
  const answer = await reply;
  assert.deepEqual([answer.status, answer.headers.connection], [201, 'close']);
  assert.deepEqual(await service.ended, [0, null], service.said);
  assert.equal(await stored('orders', [mine.id]), 1);
  assert.equal(await stored('views', [late.id]), 1, 'what waited in Redis was flushed');
});

test('without the database, requests end with 503 in time, and so does health', async () => {
  service = await (await Service.start(machine, { ...env, PATIENCE_SECONDS: '3' })).ready();
  await postgres.halt('SIGINT');
  const start = Date.now();
  const reply = await service.post('/api/orders', order());
  assert.deepEqual([reply.status, reply.headers['retry-after']], [503, '1']);
  assert.ok(Date.now() - start < 8_000);
  await until('health fails', async () => (await service.get('/health')).status === 503);
  // It still ends in order.
  service.signal('SIGTERM');
  assert.deepEqual(await service.ended, [0, null], service.said);
  assert.doesNotMatch(service.said, /not-a-secret|another-that/);
});
