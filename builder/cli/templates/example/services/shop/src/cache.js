// Views wait in a stream of Redis until a flusher takes them. The stream has one consumer group for the service and a
// consumer in it for each node: what a consumer took and did not acknowledge stays on its list, or is given to another.

import { readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import { Condition, log, reason } from './log.js';

const STREAM = 'shop:views';
const GROUP = 'shop';
/** How long a batch may stay with a consumer before another takes it over, in ms; longer than saving it may take. */
const ABANDONED = 30_000;
// ms. Who waits longer for Redis is faster with PostgreSQL.
const COMMAND_TIMEOUT = 1_000;
const CONNECT_TIMEOUT = 2_000;

/** Options of ioredis for a master that Sentinel names, over mutual TLS. */
export function redisOptions(config) {
  const tls = tlsOptions(config);
  return {
    sentinels: config.sentinels,
    name: config.master,
    // The list of the unit is complete.
    updateSentinels: false,
    sentinelUsername: config.username,
    sentinelPassword: config.password,
    sentinelTLS: tls,
    sentinelCommandTimeout: COMMAND_TIMEOUT,
    sentinelRetryStrategy: () => 500,
    username: config.username,
    password: config.password,
    tls,
    enableTLSForSentinelMode: true,
    connectTimeout: CONNECT_TIMEOUT,
    commandTimeout: COMMAND_TIMEOUT,
    disconnectTimeout: 200,
    keepAlive: 5_000,
    retryStrategy: (attempt) => Math.min(attempt * 100, 1_000),
    reconnectOnError: askAgain(),
    // A command fails at once where there is no connection, and is never sent a second time behind our back.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    disableClientInfo: true,
  };
}

// READONLY is said by a replica, NOREPLICAS by a master that nobody follows: it may be one that hung and does not know of its
// successor. Ask Sentinel; but once a second, since the master without replicas may be the only one that is left.
function askAgain() {
  let last = -Infinity;
  return (error) => {
    const due = /^(READONLY|NOREPLICAS)/.test(error.message) && performance.now() - last > 1_000;
    if (due) {
      last = performance.now();
    }
    return due;
  };
}

// Read for each connection, since certificates are renewed while the service runs. A certificate names its node and not
// its address, by which Sentinel knows it: that the fleet's CA signed it is what counts.
function tlsOptions(config) {
  return {
    get ca() { return read(config.caFile); },
    get cert() { return read(config.certFile); },
    get key() { return read(config.keyFile); },
    checkServerIdentity: () => undefined,
  };
}

// ioredis does not survive an exception here. Without one of the files the handshake fails, and is tried again.
function read(file) {
  try {
    return readFileSync(file);
  } catch (error) {
    log.error('cannot read a file for TLS', reason(error));
    return undefined;
  }
}

export class Cache {
  #redis;
  #consumer;
  #condition = new Condition('Redis does not answer; views go to the database', 'Redis is back');
  #closing = false;

  /** `consumer` is this node's name; no other process that runs at the same time may have it. */
  constructor(config, consumer) {
    this.#consumer = consumer;
    this.#redis = new Redis(redisOptions(config));
    this.#redis.on('error', (error) => this.#condition.failed(error));
    this.#redis.on('ready', () => this.#condition.succeeded());
    // It gives up for ever when a connection is ended while it is being made.
    this.#redis.on('end', () => {
      if (!this.#closing) {
        setTimeout(() => this.#redis.connect().catch(() => {}), 500);
      }
    });
  }

  /** Whether there is a connection to the master. */
  get ready() {
    return this.#redis.status === 'ready';
  }

  /** Whether the last command succeeded, too. */
  get works() {
    return this.ready && this.#condition.works;
  }

  /** Whether Redis has taken the view. If not it may have it nevertheless, which does no harm. */
  async add(view) {
    if (!this.ready) {
      return false;
    }
    try {
      await this.#call((redis) =>
        redis.xadd(STREAM, '*', 'id', view.id, 'product', view.product, 'seenAt', view.seenAt));
      return true;
    } catch {
      return false;
    }
  }

  /** How many views wait, those that a consumer has taken included. */
  async length() {
    return this.#call((redis) => redis.xlen(STREAM));
  }

  /**
   * Up to `limit` entries as { keys, views }, which are this consumer's from then on: first what it took and did not
   * acknowledge, then what others have left, then new ones. There are fewer views than keys where an entry holds none.
   */
  async take(limit) {
    for (const source of [this.#own, this.#abandoned, this.#fresh]) {
      const entries = await this.#inGroup((redis) => source.call(this, redis, limit));
      if (entries.length > 0) {
        return { keys: entries.map(([key]) => key), views: entries.flatMap(([, fields]) => parse(fields)) };
      }
    }
    return { keys: [], views: [] };
  }

  /** Forgets entries whose views are committed in PostgreSQL. */
  async acknowledge(keys) {
    // In this order: what is deleted and not yet acknowledged comes once more, without fields. The other way round nobody
    // would ever delete it. Not in MULTI, which a full Redis refuses, whatever is in it.
    await this.#call((redis) => redis.xdel(STREAM, ...keys));
    await this.#call((redis) => redis.xack(STREAM, GROUP, ...keys));
  }

  close() {
    this.#closing = true;
    this.#redis.disconnect();
  }

  async #own(redis, limit) {
    const reply = await redis.xreadgroup('GROUP', GROUP, this.#consumer, 'COUNT', limit, 'STREAMS', STREAM, '0');
    return reply?.[0][1] ?? [];
  }

  async #abandoned(redis, limit) {
    const reply = await redis.xautoclaim(STREAM, GROUP, this.#consumer, ABANDONED, '0', 'COUNT', limit);
    return reply[1];
  }

  async #fresh(redis, limit) {
    const reply = await redis.xreadgroup('GROUP', GROUP, this.#consumer, 'COUNT', limit, 'STREAMS', STREAM, '>');
    return reply?.[0][1] ?? [];
  }

  // The group is made where it is missing, from the first entry on.
  async #inGroup(work) {
    try {
      return await this.#call(work);
    } catch (error) {
      if (!error.message.startsWith('NOGROUP')) {
        throw error;
      }
    }
    try {
      await this.#call((redis) => redis.xgroup('CREATE', STREAM, GROUP, '0', 'MKSTREAM'));
    } catch (error) {
      if (!error.message.startsWith('BUSYGROUP')) {
        throw error;
      }
    }
    return this.#call(work);
  }

  async #call(work) {
    try {
      const result = await work(this.#redis);
      this.#condition.succeeded();
      return result;
    } catch (error) {
      if (!/^(NOGROUP|BUSYGROUP)/.test(error.message)) {
        this.#condition.failed(error);
      }
      // A machine that vanished closes no connection: look for the master anew.
      if (error.message === 'Command timed out' && this.ready) {
        this.#redis.disconnect(true);
      }
      throw error;
    }
  }
}

// No view or one.
function parse(fields) {
  // Deleted, and so saved.
  if (fields === null) {
    return [];
  }
  const { id, product, seenAt } = Object.fromEntries(
    Array.from({ length: fields.length / 2 }, (_, i) => [fields[2 * i], fields[2 * i + 1]]));
  const view = { id, product: Number(product), seenAt: Number(seenAt) };
  if (id && Number.isInteger(view.product) && Number.isInteger(view.seenAt)) {
    return [view];
  }
  log.warning('an entry of the stream is no view', { fields });
  return [];
}
