// Views on their way into PostgreSQL. Both ways there, from Redis (flusher.js) and without it (WriteThrough), save batches
// with the same statement, which takes a view that is there already for what it is.

import { isTransient } from './database.js';
import { Unavailable } from './errors.js';

/** Rows in a batch. */
export const BATCH = 100;
const KEEP_DAYS = 31;

// Rows are locked in the order of their keys, so batches of several nodes cannot block each other in a circle.
const SAVE = `
  WITH arrived AS (
    INSERT INTO shop.views (id, product_id, seen_at)
    SELECT v.id, p.id, v.seen_at
    FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[]) AS v (id, product_id, seen_at)
      JOIN shop.products p ON p.id = v.product_id
    ORDER BY v.id
    ON CONFLICT (id) DO NOTHING
    RETURNING product_id
  ), counted AS (
    INSERT INTO shop.view_counts (product_id, views)
    SELECT product_id, count(*) FROM arrived GROUP BY product_id ORDER BY product_id
    ON CONFLICT (product_id) DO UPDATE SET views = view_counts.views + excluded.views
  )
  INSERT INTO shop.flushes (node, batches, views, last_at)
  SELECT $4, 1, (SELECT count(*) FROM arrived), now()
  ON CONFLICT (node) DO UPDATE
    SET batches = flushes.batches + 1, views = flushes.views + excluded.views, last_at = excluded.last_at`;

const FORGET = `
  DELETE FROM shop.views WHERE id IN (
    SELECT id FROM shop.views WHERE seen_at < now() - make_interval(days => ${KEEP_DAYS}) LIMIT 1000
  )`;

export class Views {
  #database;
  #node;

  constructor(database, node) {
    this.#database = database;
    this.#node = node;
  }

  /** Saves each view once, however often it is brought. A view of a product that does not exist is dropped. */
  async save(views, deadline) {
    const columns = [views.map((v) => v.id), views.map((v) => v.product), views.map((v) => new Date(v.seenAt))];
    await this.#database.query(SAVE, [...columns, this.#node], deadline);
  }

  async count(deadline) {
    const { rows } = await this.#database.query(
      'SELECT coalesce(sum(views), 0)::float8 AS count FROM shop.view_counts', [], deadline);
    return rows[0].count;
  }

  /** Deletes views that are too old to come again; returns how many. */
  async forget(deadline) {
    const { rowCount } = await this.#database.query(FORGET, [], deadline);
    return rowCount;
  }
}

/**
 * The way of views while Redis is away: whoever comes while one batch is being saved shares the next, so that they need one
 * connection to the database and not one each.
 */
export class WriteThrough {
  #views;
  #waiting = [];
  #running = false;

  constructor(views) {
    this.#views = views;
  }

  /** Resolves when the view is committed; rejects with Unavailable after its deadline (ms since 1970). */
  add(view, deadline) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ view, deadline, resolve, reject });
      if (!this.#running) {
        this.#run();
      }
    });
  }

  async #run() {
    this.#running = true;
    while (this.#waiting.length > 0) {
      await this.#save(this.#waiting.splice(0, BATCH));
    }
    this.#running = false;
  }

  async #save(batch) {
    try {
      const first = Math.min(...batch.map((entry) => entry.deadline));
      await this.#views.save(batch.map((entry) => entry.view), first);
      batch.forEach((entry) => entry.resolve());
    } catch (error) {
      // Only the time of the first one is over; the others go on.
      const patient = (entry) => error instanceof Unavailable && isTransient(error.cause) && entry.deadline > Date.now() + 100;
      batch.filter((entry) => !patient(entry)).forEach((entry) => entry.reject(error));
      this.#waiting.unshift(...batch.filter(patient));
    }
  }
}
