// The service as its unit starts it: the same environment, the same credentials.

import { mkdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from './machine.js';
import { MASTER, PASSWORD as REDIS_PASSWORD } from './redis.js';
import { PASSWORD as DATABASE_PASSWORD } from './postgres.js';

const DIRECTORY = fileURLToPath(new URL('../..', import.meta.url));

export function environment(machine, postgres, redis) {
  const credentials = join(machine.dir, 'credentials');
  mkdirSync(credentials, { recursive: true });
  machine.write('credentials/database-password', `${DATABASE_PASSWORD}\n`);
  const environment = {
    PATH: process.env.PATH,
    NODE_ENV: 'production',
    PORT: '0',
    HOST: '127.0.0.1',
    DRAIN_SECONDS: '1',
    ROLESMITH_NODE: 'app-1',
    CREDENTIALS_DIRECTORY: credentials,
    DATABASE_URL: `postgresql://shop@127.0.0.1:${postgres.port}/shop`,
  };
  if (redis) {
    machine.write('credentials/redis-password', `${REDIS_PASSWORD}\n`);
    machine.write('credentials/application.key', readFileSync(join(machine.dir, 'service.key')));
    Object.assign(environment, {
      REDIS_SENTINELS: `127.0.0.1:${redis.sentinelPort}`,
      REDIS_MASTER: MASTER,
      REDIS_USERNAME: 'app',
      REDIS_TLS_CA: join(machine.dir, 'ca.pem'),
      REDIS_TLS_CERT: join(machine.dir, 'service.pem'),
    });
  }
  return environment;
}

/** Runs migrate.js; resolves to { code, said }. */
export async function migrate(machine, env) {
  const child = startNode(machine, 'migrate.js', env);
  const [code] = await child.ended;
  return { code, said: child.said };
}

export function startNode(machine, file, env) {
  // As whoever runs the tests, since that user's files it reads.
  return machine.start(process.execPath, [join(DIRECTORY, file)], { env, uid: process.getuid(), gid: process.getgid() });
}

export class Service {
  #machine;
  #child;

  static async start(machine, env) {
    const service = new Service();
    service.#machine = machine;
    service.#child = startNode(machine, 'server.js', env);
    const port = () => /"message":"listening".*"port":(\d+)/.exec(service.said)?.[1];
    await until('the service listens or ends', () => port() ?? service.#child.exitCode !== null);
    if (!port()) {
      throw new Error(`the service ended: ${service.said}`);
    }
    service.port = port();
    return service;
  }

  /** Waits until it can work, Redis included. */
  async ready() {
    await until('the service is ready', async () => {
      const { status, body } = await this.get('/health');
      return status === 200 && body.cache === 'ok';
    });
    return this;
  }

  /** Its log. */
  get said() {
    return this.#child.said;
  }

  get(path) {
    return this.#request('GET', path);
  }

  post(path, body) {
    return this.#request('POST', path, JSON.stringify(body));
  }

  send(path, body, headers) {
    return this.#request('POST', path, body, headers);
  }

  signal(signal) {
    this.#child.kill(signal);
  }

  /** Resolves to [code, signal] when it has ended. */
  get ended() {
    return this.#child.ended;
  }

  async kill() {
    await this.#machine.end(this.#child, 'SIGKILL');
  }

  #request(method, path, body, headers = { 'Content-Type': 'application/json' }) {
    return new Promise((resolve, reject) => {
      const call = request({ host: '127.0.0.1', port: this.port, method, path, agent: false, headers: body ? headers : {} });
      call.on('error', reject);
      call.on('response', (response) => {
        let text = '';
        response.on('data', (data) => (text += data));
        response.on('error', reject);
        response.on('end', () => {
          resolve({ status: response.statusCode, headers: response.headers, body: text ? JSON.parse(text) : undefined });
        });
      });
      call.end(body);
    });
  }
}
