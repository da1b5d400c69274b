// Views while Redis fails in every way: none is refused, and which may be lost is known.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { redisOptions } from '../src/cache.js';
import { Machine, until } from './support/machine.js';
import { Postgres } from './support/postgres.js';
import { RedisCluster, strangeAuthority } from './support/redis.js';
import { environment, migrate, Service } from './support/service.js';

const machine = new Machine();
let postgres;
let redis;
let service;

before(async () => {
  postgres = await Postgres.start(machine);
  redis = await RedisCluster.start(machine, { replicas: 2 });
  const env = environment(machine, postgres, redis);
  await migrate(machine, env);
  service = await (await Service.start(machine, env)).ready();
});
after(() => machine.close());

const see = async () => {
  const id = randomUUID();
  const sent = performance.now();
  const { status } = await service.post('/api/views', { id, product: 3 });
  return { id, status, sent };
};
const missing = async (views) => {
  const rows = await postgres.sql('SELECT id FROM shop.views', 'shop');
  const there = new Set(rows.map(({ id }) => id));
  return views.filter(({ id }) => !there.has(id));
};
const drained = () => until('nothing waits', async () => (await service.get('/api/views/count')).body.waiting === 0);
const cached = (limit) => until('Redis takes views again', async () => (await see()).status === 202, limit);

test('a full Redis refuses, so the database takes over, and what waits is flushed', async () => {
  await see();
  await drained();
  const early = await Promise.all(Array.from({ length: 30 }, see));
  await redis.admin(0, (client) => client.config('SET', 'maxmemory', '1'));
  const late = await Promise.all(Array.from({ length: 30 }, see));
  assert.ok(late.every(({ status }) => status === 201), JSON.stringify(late));
  await drained();
  await redis.admin(0, (client) => client.config('SET', 'maxmemory', '0'));
  assert.deepEqual(await missing([...early, ...late]), []);
  await cached();
});

test('a master that hangs costs a second', async () => {
  const master = await redis.master();
  redis.signal(master, 'SIGSTOP');
  const start = Date.now();
  const mine = await see();
  assert.equal(mine.status, 201);
  assert.ok(Date.now() - start < 5_000, `${Date.now() - start} ms`);
  assert.deepEqual(await missing([mine]), []);
  assert.equal((await service.get('/health')).status, 200);
  await until('another is master', async () => (await redis.master()) !== master);
  redis.signal(master, 'SIGCONT');
  // It believes to be the master until Sentinel tells it otherwise, eight seconds later.
  await cached(8_000);
  await until('the one that hung follows', async () => (await redis.admin(master, (client) => client.role()))[0] === 'slave');
  await cached();
});

test('the master is lost under load: every view is answered, and 201 means that it is there', async () => {
  const views = [];
  let open = true;
  const visitors = Promise.all(Array.from({ length: 4 }, async () => {
    while (open) {
      views.push(await see());
      await sleep(5);
    }
  }));
  const master = await redis.master();
  await until('views come in', () => views.length > 100);
  // Replication keeps the order: once both replicas have the mark, they have every view that was answered before it.
  const safe = await redis.admin(master, async (client) => {
    const before = views.length;
    await client.set('mark', before);
    await until('both have the mark', async () => await client.wait(2, 500) === 2);
    return before;
  });
  await redis.kill(master);
  const dead = performance.now();
  await until('another is master', async () => (await redis.master()) !== master);
  await redis.restart(master, await redis.master());
  await until('Redis takes views again', () => views.at(-1).status === 202);
  open = false;
  await visitors;
  await drained();
  assert.ok(views.every(({ status }) => status === 201 || status === 202), 'none is refused');
  assert.ok(views.some(({ status }) => status === 201), 'some came while Redis was away');
  const lost = new Set(await missing(views));
  const mayBeLost = ({ status, sent }, i) => status === 202 && i >= safe && sent < dead;
  assert.deepEqual(views.filter((view, i) => lost.has(view) && !mayBeLost(view, i)), [],
    `${lost.size} of ${views.length} were only in the master's memory`);
});

test('without Redis and Sentinel it works, and /health tells', async () => {
  await redis.killAll();
  const mine = await until('the database takes it', async () => {
    const seen = await see();
    return seen.status === 201 && seen;
  });
  assert.deepEqual(await missing([mine]), []);
  const { status, body } = await service.get('/health');
  assert.deepEqual([status, body.cache], [200, 'degraded']);
  assert.equal((await service.get('/api/views/count')).body.waiting, null);
  service.signal('SIGTERM');
  assert.deepEqual(await service.ended, [0, null], service.said);
});

test('a Redis of another authority gets no password', async () => {
  await redis.restart(0);
  const caFile = await strangeAuthority(machine);
  for (const [why, config, expected] of [
    ["the fleet's CA", redis.config, /^ready$/],
    ['another CA', { ...redis.config, caFile }, /certificate/],
    ['no certificate of its own', { ...redis.config, certFile: join(machine.dir, 'none') }, /closed|certificate|ECONNRESET|EPIPE/],
  ]) {
    const client = new Redis({
      ...redisOptions(config), sentinels: undefined, host: '127.0.0.1', port: redis.ports[0], retryStrategy: null,
    });
    const outcome = await new Promise((resolve) => {
      client.once('ready', () => resolve('ready'));
      client.once('error', (error) => resolve(error.message));
      client.once('end', () => resolve('Connection is closed'));
    });
    client.disconnect();
    assert.match(outcome, expected, why);
  }
});
