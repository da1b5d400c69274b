// What the shop knows: every statement but those that bring views (views.js).

import { Refusal } from './errors.js';

const PRODUCTS = `
  SELECT p.id, p.name, p.description, p.price_cents, coalesce(c.views, 0)::float8 AS views
  FROM shop.products p LEFT JOIN shop.view_counts c ON c.product_id = p.id
  ORDER BY p.id`;

// An order that is there already is written once more, unchanged, instead of only being read: this commit, too, then waits
// until a standby has everything up to it. Reading could find a row whose first commit no standby has confirmed.
const PLACE_ORDER = `
  INSERT INTO shop.orders (id, product_id, quantity, price_cents)
  SELECT $1, p.id, $3, p.price_cents FROM shop.products p WHERE p.id = $2
  ON CONFLICT (id) DO UPDATE SET id = excluded.id
    WHERE orders.product_id = excluded.product_id AND orders.quantity = excluded.quantity
  RETURNING id, product_id, quantity, price_cents, created_at`;

const FIND_ORDER = `
  SELECT o.id, o.product_id, p.name AS product_name, o.quantity, o.price_cents, o.created_at
  FROM shop.orders o JOIN shop.products p ON p.id = o.product_id
  WHERE o.id = $1`;

export class Shop {
  #database;

  constructor(database) {
    this.#database = database;
  }

  async products(deadline) {
    const { rows } = await this.#database.query(PRODUCTS, [], deadline);
    return rows;
  }

  /** Returns the order once it is committed; placing it again, by the same id, changes nothing and returns it again. */
  async placeOrder({ id, product, quantity }, deadline) {
    const { rows } = await this.#database.query(PLACE_ORDER, [id, product, quantity], deadline);
    if (rows.length > 0) {
      return rows[0];
    }
    const other = await this.#database.query('SELECT FROM shop.orders WHERE id = $1', [id], deadline);
    throw other.rowCount > 0
      ? new Refusal(409, 'another order has this id')
      : new Refusal(422, 'there is no such product');
  }

  async findOrder(id, deadline) {
    const { rows } = await this.#database.query(FIND_ORDER, [id], deadline);
    if (rows.length === 0) {
      throw new Refusal(404, 'there is no such order');
    }
    return rows[0];
  }

  async countOrders(deadline) {
    const { rows } = await this.#database.query('SELECT count(*)::float8 AS count FROM shop.orders', [], deadline);
    return rows[0].count;
  }
}
