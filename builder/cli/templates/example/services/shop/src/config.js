// What the unit of the service hands over: environment variables, and secrets as files in $CREDENTIALS_DIRECTORY
// (systemd.exec(5), LoadCredential). Read once, at the start.

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

/** Reads everything that the service is told; times are in ms. Throws an Error whose message names what is missing or wrong. */
export function loadConfig(env) {
  return {
    host: env.HOST ?? '127.0.0.1',
    port: wholeNumber(env, 'PORT', 0, 65535),
    node: env.ROLESMITH_NODE ?? hostname(),
    // How long a request may wait for the database: longer than another server needs to take over.
    patience: 1_000 * wholeNumber({ PATIENCE_SECONDS: '15', ...env }, 'PATIENCE_SECONDS', 1, 60),
    // How long requests are still served after SIGTERM while /health says 503 already.
    drain: 1_000 * wholeNumber({ DRAIN_SECONDS: '2', ...env }, 'DRAIN_SECONDS', 0, 60),
    database: loadDatabaseConfig(env),
    redis: loadRedisConfig(env),
  };
}

/** The part that migrate.js needs. */
export function loadDatabaseConfig(env) {
  let url;
  try {
    url = new URL(required(env, 'DATABASE_URL'));
  } catch (error) {
    throw error.code === 'ERR_INVALID_URL' ? new Error('DATABASE_URL is not a URL') : error;
  }
  return {
    host: url.hostname,
    port: Number(url.port || 5432),
    user: decodeURIComponent(url.username),
    database: decodeURIComponent(url.pathname.slice(1)),
    password: readFileSync(credential(env, 'database-password'), 'utf8').trimEnd(),
  };
}

function loadRedisConfig(env) {
  return {
    sentinels: required(env, 'REDIS_SENTINELS').split(',').map(endpoint),
    master: required(env, 'REDIS_MASTER'),
    username: required(env, 'REDIS_USERNAME'),
    password: readFileSync(credential(env, 'redis-password'), 'utf8').trimEnd(),
    caFile: required(env, 'REDIS_TLS_CA'),
    certFile: required(env, 'REDIS_TLS_CERT'),
    keyFile: credential(env, 'application.key'),
  };
}

function required(env, name) {
  if (!env[name]) {
    throw new Error(`${name} is not set`);
  }
  return env[name];
}

function wholeNumber(env, name, least, most) {
  const value = Number(required(env, name));
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new Error(`${name} is not a whole number from ${least} to ${most}`);
  }
  return value;
}

function credential(env, name) {
  return join(required(env, 'CREDENTIALS_DIRECTORY'), name);
}

// 10.77.0.11:26380 or [fd00::11]:26380
function endpoint(text) {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d+)$/i.exec(text.trim());
  if (!match) {
    throw new Error(`REDIS_SENTINELS holds "${text.trim()}", which is not ADDRESS:PORT`);
  }
  return { host: match[1] ?? match[2], port: Number(match[3]) };
}
