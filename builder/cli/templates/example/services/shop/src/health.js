// Whether the service can work. /health is asked often and by many, so it only tells what a look every two seconds found.

import { setTimeout as sleep } from 'node:timers/promises';
import { Condition } from './log.js';

const PAUSE = 2_000;
// A primary, and with the tables that this version needs.
const LOOK = `SELECT FROM shop.migrations WHERE name = $1 AND NOT pg_is_in_recovery()`;

export class Health {
  #database;
  #cache;
  #migration;
  #patience;
  #lastGood = -Infinity;
  #condition = new Condition('the database cannot be used', 'the database can be used again');
  #stopping = new AbortController();
  #running;

  /**
   * `migration` is the name of the newest one that the service comes with; `patience` is how long requests wait for the
   * database (ms).
   */
  constructor(database, cache, { migration, patience }) {
    this.#database = database;
    this.#cache = cache;
    this.#migration = migration;
    this.#patience = patience;
  }

  start() {
    this.#running = this.#run();
  }

  /** From here on the answer is 503. */
  stop() {
    this.#stopping.abort();
  }

  /** Resolves when no look is under way. */
  async stopped() {
    await this.#running;
  }

  get stopping() {
    return this.#stopping.signal.aborted;
  }

  /**
   * What /health answers: 503 while stopping, or when the database was last reached longer ago than requests wait for it.
   * Until then they succeed, so a primary that is being replaced makes no node unhealthy. Without Redis the service is
   * slower and loses nothing, so that is told and changes no status.
   */
  report() {
    const database = performance.now() - this.#lastGood <= this.#patience;
    const status = this.stopping ? 'stopping' : database ? 'ok' : 'no database';
    return {
      code: status === 'ok' ? 200 : 503,
      body: { status, database, cache: this.#cache.works ? 'ok' : 'degraded' },
    };
  }

  async #run() {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#look();
      await sleep(PAUSE, undefined, { signal }).catch(() => {});
    }
  }

  async #look() {
    try {
      const { rowCount } = await this.#database.query(LOOK, [this.#migration], Date.now() + PAUSE);
      if (rowCount !== 1) {
        throw new Error(`a standby answers, or ${this.#migration} is not applied`);
      }
      this.#lastGood = performance.now();
      this.#condition.succeeded();
    } catch (error) {
      this.#condition.failed(error);
    }
  }
}
