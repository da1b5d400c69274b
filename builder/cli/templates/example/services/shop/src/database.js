// PostgreSQL through pgbouncer. A statement is a transaction of its own here, without a name and without anything that
// outlives it, so it does not matter which connection pgbouncer lends for it.

import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Unavailable } from './errors.js';
import { log, reason } from './log.js';

// A machine that vanishes closes nothing, so every wait has an end (ms).
const CONNECT_TIMEOUT = 3_000;
const ANSWER_TIMEOUT = 4_000;
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 500;

// Connection exceptions, and all that pgbouncer says by itself (08); the server ends the session or starts (57P); conflicts
// between transactions (40); a server that is, or has become, a standby (25006), or that is primary no more and lets no
// program in (28000; a wrong password is 28P01); no connection left (53300); somebody holds a lock (55P03); the statement
// was cancelled (57014).
const TRANSIENT_STATE = /^(08...|57P..|40...|25006|28000|53300|55P03|57014)$/;
const TRANSIENT_SYSTEM = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH']);
// What the driver says without a code.
const TRANSIENT_MESSAGE = /^(Connection terminated|Query read timeout|timeout e|Client )/;

/** Whether the same statement may succeed a moment later, on a new connection. */
export function isTransient(error) {
  if (error instanceof Unconfirmed) {
    return true;
  }
  if (error.code !== undefined) {
    return TRANSIENT_STATE.test(error.code) || TRANSIENT_SYSTEM.has(error.code);
  }
  return TRANSIENT_MESSAGE.test(error.message);
}

// The commit is on the disk of one server, and nobody waits any more for a standby to confirm it.
class Unconfirmed extends Error {
  constructor() {
    super('the commit was not confirmed by a standby');
  }
}

export class Database {
  #pool;

  constructor(config) {
    this.#pool = new pg.Pool({
      ...config,
      application_name: 'shop',
      // Five serve hundreds of clients, and leave the machine's connections to others.
      max: 5,
      connectionTimeoutMillis: CONNECT_TIMEOUT,
      idleTimeoutMillis: 30_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 5_000,
      // pgbouncer is on this machine.
      ssl: false,
    });
    // An idle connection that broke; the pool has forgotten it already.
    this.#pool.on('error', (error) => log.info('lost an idle connection to the database', reason(error)));
  }

  /**
   * Runs one statement, again and again on fresh connections while it fails for a transient reason, until the deadline
   * (ms since 1970). It must be one that may run twice: a commit whose answer got lost may have happened.
   *
   * Throws Unavailable after the deadline, and at once what PostgreSQL says of a statement that cannot succeed.
   */
  async query(text, values, deadline) {
    for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      try {
        return await this.#attempt(text, values, deadline);
      } catch (error) {
        if (!isTransient(error)) {
          throw error;
        }
        // Half of it by chance: all who wait would come back at the same moment.
        const chosen = pause * (0.5 + Math.random() / 2);
        if (Date.now() + chosen >= deadline) {
          throw new Unavailable(error);
        }
        await sleep(chosen);
      }
    }
  }

  async #attempt(text, values, deadline) {
    const client = await this.#pool.connect();
    let unconfirmed = false;
    // The warning that takes back the promise of a synchronous commit has no code of its own, and words in any language.
    const onNotice = (notice) => {
      unconfirmed ||= notice.routine === 'SyncRepWaitForLSN';
    };
    // A connection that breaks says so twice: the statement fails, too.
    const onError = () => {};
    client.on('notice', onNotice);
    client.on('error', onError);
    let failure;
    try {
      const left = Math.max(deadline - Date.now(), 1);
      const result = await client.query({ text, values, query_timeout: Math.min(left, ANSWER_TIMEOUT) });
      if (unconfirmed) {
        throw new Unconfirmed();
      }
      return result;
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      client.off('notice', onNotice);
      // After a failure the connection is closed: nobody knows what state it is in.
      client.release(failure);
      client.off('error', onError);
    }
  }

  async close() {
    await this.#pool.end();
  }
}
