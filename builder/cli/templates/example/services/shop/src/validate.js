// What clients may send. Each function returns clean values, or throws a Refusal.

import { Refusal } from './errors.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const LARGEST_INTEGER = 2 ** 31 - 1;

export function uuid(value) {
  if (typeof value !== 'string' || !UUID.test(value)) {
    throw new Refusal(400, 'id is not a UUID');
  }
  return value.toLowerCase();
}

export function order(body) {
  const { id, product, quantity } = object(body);
  return {
    id: uuid(id),
    product: wholeNumber('product', product, LARGEST_INTEGER),
    quantity: wholeNumber('quantity', quantity, 100),
  };
}

/** A view; when it was seen is the service's own time. */
export function view(body, now) {
  const { id, product } = object(body);
  return { id: uuid(id), product: wholeNumber('product', product, LARGEST_INTEGER), seenAt: now };
}

function object(body) {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) {
    throw new Refusal(400, 'the body is not a JSON object');
  }
  return body;
}

function wholeNumber(name, value, most) {
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw new Refusal(400, `${name} is not a whole number from 1 to ${most}`);
  }
  return value;
}
