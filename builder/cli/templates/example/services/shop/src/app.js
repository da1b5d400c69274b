// The HTTP interface. TLS, rate limits, access logs and headers against misuse are nginx's part.

import express from 'express';
import { Refusal, Unavailable } from './errors.js';
import { log, reason } from './log.js';
import * as validate from './validate.js';

/** `patience` is how long a request may wait for the database (ms). */
export function createApp({ shop, views, cache, writeThrough, health, patience }) {
  const app = express();
  app.disable('x-powered-by');
  app.use((request, response, next) => {
    response.set('Cache-Control', 'no-store');
    if (health.stopping) {
      // The next request of this client finds another node, or this one after its restart.
      response.set('Connection', 'close');
    }
    request.deadline = Date.now() + patience;
    next();
  });
  app.use(express.json({ limit: '8kb' }));

  app.get('/health', (request, response) => {
    const { code, body } = health.report();
    response.status(code).json(body);
  });

  app.get('/api/products', async (request, response) => {
    response.json(await shop.products(request.deadline));
  });

  // Answered after the commit. Whoever gets no answer sends the same order, with the same id, again.
  app.post('/api/orders', async (request, response) => {
    const order = await shop.placeOrder(validate.order(request.body), request.deadline);
    response.status(201).location(`/api/orders/${order.id}`).json(order);
  });

  app.get('/api/orders/count', async (request, response) => {
    response.json({ count: await shop.countOrders(request.deadline) });
  });

  app.get('/api/orders/:id', async (request, response) => {
    response.json(await shop.findOrder(validate.uuid(request.params.id), request.deadline));
  });

  // 202: Redis has it, and loses it if its master is lost before a replica has it, too. 201: it is committed.
  app.post('/api/views', async (request, response) => {
    const view = validate.view(request.body, Date.now());
    const cached = await cache.add(view);
    if (!cached) {
      await writeThrough.add(view, request.deadline);
    }
    response.status(cached ? 202 : 201).json({ id: view.id });
  });

  // Those in the database, and those that wait in Redis (null: it does not answer).
  app.get('/api/views/count', async (request, response) => {
    const waiting = await cache.length().catch(() => null);
    response.json({ count: await views.count(request.deadline), waiting });
  });

  app.use(() => {
    throw new Refusal(404, 'there is nothing here');
  });

  // Express knows an error handler by its four arguments.
  app.use((error, request, response, next) => {
    if (response.headersSent) {
      next(error);
      return;
    }
    // The parser of bodies has errors with a status of their own.
    const status = error instanceof Unavailable ? 503 : (error.status ?? 500);
    if (status >= 500) {
      log.error('request failed', { method: request.method, path: request.path, status, ...reason(error) });
    }
    if (status === 503) {
      response.set('Retry-After', '1');
    }
    const message = status === 503 ? 'try again in a moment' : status >= 500 ? 'internal error' : error.message;
    response.status(status).json({ error: message });
  });

  return app;
}
