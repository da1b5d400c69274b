// Redis and Sentinel over mutual TLS with users, set up as on a node.

import { join } from 'node:path';
import { Redis } from 'ioredis';
import { redisOptions } from '../../src/cache.js';
import { freePort, until } from './machine.js';

export const PASSWORD = 'another-that-is-not-secret';
const CLUSTER_PASSWORD = 'of-the-cluster';
export const MASTER = 'acme';

// A certificate carries its node's names, and no address.
async function certificate(machine, name, authority) {
  const openssl = (...args) => machine.run(machine.program('openssl', '/usr/bin/openssl'), args);
  machine.write(`${name}.ext`, `subjectAltName=DNS:${name}.example.com,DNS:${name}\nextendedKeyUsage=serverAuth,clientAuth\n`);
  await openssl('genpkey', '-algorithm', 'ed25519', '-out', `${name}.key`);
  await openssl('req', '-new', '-key', `${name}.key`, '-subj', `/CN=${name}`, '-out', `${name}.csr`);
  await openssl('x509', '-req', '-in', `${name}.csr`, '-CA', `${authority}.pem`, '-CAkey', `${authority}.key`,
    '-CAcreateserial', '-days', '1', '-extfile', `${name}.ext`, '-out', `${name}.pem`);
}

async function authority(machine, name) {
  const openssl = (...args) => machine.run(machine.program('openssl', '/usr/bin/openssl'), args);
  await openssl('genpkey', '-algorithm', 'ed25519', '-out', `${name}.key`);
  await openssl('req', '-x509', '-new', '-key', `${name}.key`, '-subj', `/CN=${name}`, '-days', '1', '-out', `${name}.pem`);
}

function tls(node) {
  return `port 0
bind 127.0.0.1
tls-cert-file ${node}.pem
tls-key-file ${node}.key
tls-ca-cert-file ca.pem
tls-auth-clients yes
tls-replication yes
protected-mode no
`;
}

export class RedisCluster {
  #machine;
  #processes = [];
  #watch;
  ports = [];

  /** A master and `replicas` replicas, and one Sentinel. */
  static async start(machine, { replicas = 0 } = {}) {
    const cluster = new RedisCluster(machine);
    await authority(machine, 'ca');
    const names = Array.from({ length: replicas + 1 }, (_, i) => `redis-${i}`);
    for (const name of [...names, 'sentinel', 'service']) {
      await certificate(machine, name, 'ca');
    }
    for (const i of names.keys()) {
      await cluster.#startServer(i, replicas);
    }
    await cluster.#startSentinel();
    await until('Sentinel knows the replicas', async () => {
      const replies = await cluster.sentinel((client) => client.call('SENTINEL', 'REPLICAS', MASTER));
      return replies.length === replicas;
    });
    return cluster;
  }

  constructor(machine) {
    this.#machine = machine;
  }

  /** What the service's cache is configured with. */
  get config() {
    const file = (name) => join(this.#machine.dir, name);
    return {
      sentinels: [{ host: '127.0.0.1', port: this.sentinelPort }],
      master: MASTER,
      username: 'app',
      password: PASSWORD,
      caFile: file('ca.pem'),
      certFile: file('service.pem'),
      keyFile: file('service.key'),
    };
  }

  /** Does something as administrator on a server. */
  async admin(i, work) {
    return this.#connected(this.ports[i], 'admin', work);
  }

  async sentinel(work) {
    return this.#connected(this.sentinelPort, 'app', work);
  }

  signal(i, signal) {
    this.#processes[i].kill(signal);
  }

  /** SIGKILL, and gone when this returns. */
  async kill(i) {
    await this.#machine.end(this.#processes[i], 'SIGKILL');
  }

  /** SIGKILL for the servers and Sentinel. */
  async killAll() {
    await Promise.all([...this.#processes, this.#watch].map((child) => this.#machine.end(child, 'SIGKILL')));
  }

  /** Starts a server that was killed, as replica of another if it is told which; it has its data again. */
  async restart(i, master) {
    const follow = master === undefined ? [] : ['--replicaof', '127.0.0.1', String(this.ports[master])];
    this.#processes[i] = this.#start('redis-server', `redis-${i}.conf`, ...follow);
    await until('Redis is back', () => this.admin(i, (client) => client.ping()));
  }

  /** Which server takes writes, as Sentinel says. */
  async master() {
    const [, port] = await this.sentinel((client) => client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', MASTER));
    return this.ports.indexOf(Number(port));
  }

  async #startServer(i, replicas) {
    const port = await freePort();
    this.#machine.write(`users-${i}.acl`, `user default off
user app on >${PASSWORD} ~* &* +@all -@admin -@dangerous +info
user cluster on >${CLUSTER_PASSWORD} ~* &* +@all
user admin on >${PASSWORD} ~* &* +@all
`);
    const follow = i === 0 ? '' : `replicaof 127.0.0.1 ${this.ports[0]}\n`;
    const guard = replicas > 0 ? 'min-replicas-to-write 1\nmin-replicas-max-lag 3\n' : '';
    this.#machine.write(`redis-${i}.conf`, `${tls(`redis-${i}`)}tls-port ${port}
aclfile users-${i}.acl
masteruser cluster
masterauth ${CLUSTER_PASSWORD}
maxmemory-policy noeviction
appendonly yes
appenddirname log-${i}
dbfilename dump-${i}.rdb
save ""
repl-diskless-sync-delay 0
repl-ping-replica-period 1
${follow}${guard}`);
    this.ports[i] = port;
    await this.restart(i);
  }

  async #startSentinel() {
    this.sentinelPort = await freePort();
    this.#machine.write('sentinel.conf', `${tls('sentinel')}tls-port ${this.sentinelPort}
user default off
user app on >${PASSWORD} resetkeys allchannels -@all +ping +info +role +sentinel|get-master-addr-by-name +sentinel|replicas
sentinel monitor ${MASTER} 127.0.0.1 ${this.ports[0]} 1
sentinel auth-user ${MASTER} cluster
sentinel auth-pass ${MASTER} ${CLUSTER_PASSWORD}
sentinel down-after-milliseconds ${MASTER} 1000
sentinel failover-timeout ${MASTER} 4000
`);
    this.#watch = this.#start('redis-sentinel', 'sentinel.conf');
    await until('Sentinel answers', () => this.sentinel((client) => client.ping()));
  }

  // One program, which its name tells what to be; Debian's redis-server holds no more than links to it.
  #start(name, ...args) {
    return this.#machine.start(this.#machine.program('redis-tools', '/usr/bin/redis-check-rdb'), args, { argv0: name });
  }

  async #connected(port, username, work) {
    const client = new Redis({
      ...redisOptions(this.config), sentinels: undefined, host: '127.0.0.1', port, username,
      retryStrategy: null, enableReadyCheck: false, lazyConnect: true,
    });
    client.on('error', () => {});
    try {
      await client.connect();
      return await work(client);
    } finally {
      client.disconnect();
    }
  }
}

/** A certificate authority that is not the fleet's; resolves to the file of its certificate. */
export async function strangeAuthority(machine) {
  await authority(machine, 'strange');
  return join(machine.dir, 'strange.pem');
}
