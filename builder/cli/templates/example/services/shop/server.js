// The service: puts its parts together, listens, and ends in order on SIGTERM.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createApp } from './src/app.js';
import { Cache } from './src/cache.js';
import { loadConfig } from './src/config.js';
import { Database } from './src/database.js';
import { Flusher } from './src/flusher.js';
import { Health } from './src/health.js';
import { log } from './src/log.js';
import { migrations } from './src/migrations.js';
import { Shop } from './src/shop.js';
import { Views, WriteThrough } from './src/views.js';

process.on('uncaughtException', (error) => {
  log.error('crashed', { reason: error.stack });
  process.exit(1);
});

const config = loadConfig(process.env);
const database = new Database(config.database);
const cache = new Cache(config.redis, config.node);
const views = new Views(database, config.node);
const flusher = new Flusher(cache, views);
const { patience } = config;
const health = new Health(database, cache, { migration: migrations().at(-1).name, patience });
const writeThrough = new WriteThrough(views);
const app = createApp({ shop: new Shop(database), views, cache, writeThrough, health, patience });

const server = createServer(app);
// nginx closes a connection that it does not use after 60 s; were it us, a request could be on its way just then.
server.keepAliveTimeout = 75_000;
server.headersTimeout = 80_000;
// Each may hold a request that waits for the database.
server.maxConnections = 1_000;
server.listen(config.port, config.host);
await once(server, 'listening');
health.start();
flusher.start();
log.info('listening', { address: config.host, port: server.address().port, node: config.node });

let stopping = false;
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    if (!stopping) {
      stopping = true;
      stop();
    }
  });
}

async function stop() {
  log.info('stopping');
  // Requests end by their deadlines and the last flush by its own, so this is for what nobody thought of.
  setTimeout(() => {
    log.error('did not end in time');
    process.exit(1);
  }, config.drain + patience + 12_000).unref();
  // Who asks sends us nothing new from now on; who has not asked yet is still served.
  health.stop();
  await sleep(config.drain);
  const closed = once(server, 'close');
  server.close();
  // Connections between two requests are closed, now and when they become so.
  const idle = setInterval(() => server.closeIdleConnections(), 100);
  server.closeIdleConnections();
  await closed;
  clearInterval(idle);
  await flusher.stop();
  await health.stopped();
  cache.close();
  await database.close();
  log.info('stopped');
  // An attempt to reach Redis may still be under way.
  process.exit(0);
}
