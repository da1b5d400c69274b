-- Every table is in the service's own schema, which migrate.js makes together with its record of migrations.

CREATE TABLE shop.products (
    id integer PRIMARY KEY,
    name text NOT NULL,
    description text NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents > 0)
);

-- The client chooses the id, so an order that is sent twice is one order.
CREATE TABLE shop.orders (
    id uuid PRIMARY KEY,
    product_id integer NOT NULL REFERENCES shop.products,
    quantity integer NOT NULL CHECK (quantity BETWEEN 1 AND 100),
    price_cents integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Who looked at what, out of Redis. A view that arrives twice is found by its id; rows are deleted after a month.
CREATE TABLE shop.views (
    id uuid PRIMARY KEY,
    product_id integer NOT NULL REFERENCES shop.products,
    seen_at timestamptz NOT NULL
);
CREATE INDEX views_seen_at ON shop.views (seen_at);

-- What the page shows; it outlives the rows above.
CREATE TABLE shop.view_counts (
    product_id integer PRIMARY KEY REFERENCES shop.products,
    views bigint NOT NULL
);

-- What each node has brought from Redis. Every batch writes here, so no batch commits without something to replicate.
CREATE TABLE shop.flushes (
    node text PRIMARY KEY,
    batches bigint NOT NULL,
    views bigint NOT NULL,
    last_at timestamptz NOT NULL
);

-- Settings of the role instead of the session: pgbouncer lends a connection for one transaction, and whoever has it next
-- would find what a SET left behind.
ALTER ROLE CURRENT_USER SET statement_timeout = '5s';
ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout = '30s';
