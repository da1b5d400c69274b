// Brings views from Redis to PostgreSQL in batches. A batch is acknowledged after its commit, so a crash in between brings
// it once more, and the database knows the views by their ids: each is counted once.

import { setTimeout as sleep } from 'node:timers/promises';
import { Condition } from './log.js';
import { BATCH } from './views.js';

// ms. A pause lets a batch become full; a lost node's batches are taken over after 30 s (cache.js), so saving takes less.
const PAUSE = 1_000;
const SAVE_LIMIT = 10_000;
const FORGET_PAUSE = 3_600_000;

export class Flusher {
  #cache;
  #views;
  #stopping = new AbortController();
  #running;
  #condition = new Condition('views wait in Redis', 'views are flushed again');
  #forgetAt = Date.now() + FORGET_PAUSE;

  constructor(cache, views) {
    this.#cache = cache;
    this.#views = views;
  }

  start() {
    this.#running = this.#run();
  }

  /** Ends after one last flush, which other nodes complete should it fail. */
  async stop() {
    this.#stopping.abort();
    await this.#running;
    await this.#try();
  }

  /** Moves everything that waits; returns how many views. Throws when Redis or PostgreSQL fails; nothing is lost by that. */
  async flush() {
    let moved = 0;
    for (;;) {
      const { keys, views } = await this.#cache.take(BATCH);
      if (keys.length === 0) {
        return moved;
      }
      if (views.length > 0) {
        await this.#views.save(views, Date.now() + SAVE_LIMIT);
      }
      await this.#cache.acknowledge(keys);
      moved += views.length;
    }
  }

  async #run() {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#try();
      await sleep(PAUSE, undefined, { signal }).catch(() => {});
    }
  }

  async #try() {
    if (!this.#cache.ready) {
      return;
    }
    try {
      await this.flush();
      if (Date.now() >= this.#forgetAt) {
        const forgotten = await this.#views.forget(Date.now() + SAVE_LIMIT);
        // A full portion: there are more.
        this.#forgetAt = Date.now() + (forgotten < 1_000 ? FORGET_PAUSE : PAUSE);
      }
      this.#condition.succeeded();
    } catch (error) {
      this.#condition.failed(error);
    }
  }
}
