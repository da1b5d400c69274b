// PostgreSQL behind pgbouncer, set up as on a node: transaction pooling, SCRAM, few connections.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { freePort, until } from './machine.js';

export const PASSWORD = 'not-a-secret-outside-of-this-test';

export class Postgres {
  #machine;
  #server;
  #pooler;
  #admin;

  static async start(machine) {
    const postgres = new Postgres(machine);
    await machine.run(machine.program('postgresql', '/usr/lib/postgresql/*/bin/initdb'), [
      '--pgdata=data', '--username=postgres', '--auth-local=trust', '--encoding=UTF8', '--locale=C.UTF-8', '--no-sync',
    ]);
    machine.write('data/pg_hba.conf', 'local all postgres trust\nlocal all all scram-sha-256\n');
    await postgres.boot();
    await postgres.sql(`CREATE ROLE shop LOGIN PASSWORD '${PASSWORD}'`);
    await postgres.sql('CREATE DATABASE shop OWNER shop');
    await postgres.#startPooler();
    return postgres;
  }

  constructor(machine) {
    this.#machine = machine;
  }

  /** Starts the server and waits until it answers. */
  async boot() {
    this.#server = this.#machine.start(this.#machine.program('postgresql', '/usr/lib/postgresql/*/bin/postgres'), [
      '-D', 'data', '-k', this.#machine.dir, '-c', 'listen_addresses=', '-c', 'fsync=off', '-c', 'max_connections=20',
      '-c', 'shared_buffers=16MB', '-c', 'autovacuum=off', '-c', 'jit=off', '-c', 'lc_messages=C',
    ]);
    await until('PostgreSQL starts', () => this.sql('SELECT 1'));
  }

  /** Ends the server: SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL a crash. */
  async halt(signal) {
    const admin = this.#admin;
    this.#admin = undefined;
    await admin?.end();
    await this.#machine.end(this.#server, signal);
  }

  /** The server's log since its start. */
  get said() {
    return this.#server.said;
  }

  /** How many clients have logged in to pgbouncer. */
  get logins() {
    return this.#pooler.said.split('login attempt').length - 1;
  }

  /** Runs a statement as superuser, by the side of pgbouncer. */
  async sql(text, database) {
    if (database) {
      const client = this.#client(database);
      await client.connect();
      const { rows } = await client.query(text);
      await client.end();
      return rows;
    }
    if (!this.#admin) {
      const client = this.#client('postgres');
      await client.connect();
      client.once('error', () => {
        this.#admin = undefined;
      });
      this.#admin = client;
    }
    return (await this.#admin.query(text)).rows;
  }

  /** A connection of its own to the service's database, for locks; it ends with the test. */
  async session(test) {
    const client = this.#client('shop');
    await client.connect();
    await client.query(`SET lock_timeout = '30s'`);
    test.after(() => client.end());
    return client;
  }

  /** Lets commits wait for these standbys; when it returns, they do. An empty text: for none. */
  async waitForStandby(names) {
    await this.sql(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`);
    await this.sql('SELECT pg_reload_conf()');
    await until('the server has taken the setting', async () => {
      let waits = 0;
      const probe = this.sql('CREATE TABLE IF NOT EXISTS probe (); DROP TABLE probe', 'shop').then(() => true);
      while (!(await Promise.race([probe, sleep(30, false)]))) {
        waits += await this.breakOff();
      }
      return (waits > 0) === (names !== '');
    });
  }

  /** Ends the waits for a standby, as pg_cancel_backend does; returns how many there were. */
  async breakOff() {
    const rows = await this.sql(`SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`);
    return rows.length;
  }

  #client(database) {
    const client = new pg.Client({ host: this.#machine.dir, user: 'postgres', database, application_name: 'test' });
    // The server is ended on purpose; what runs on the connection fails besides.
    client.on('error', () => {});
    return client;
  }

  async #startPooler() {
    const [{ rolpassword }] = await this.sql(`SELECT rolpassword FROM pg_authid WHERE rolname = 'shop'`);
    this.#machine.write('userlist.txt', `"shop" "${rolpassword}"\n`);
    this.port = await freePort();
    this.#machine.write('pgbouncer.ini', `
[databases]
* = host=${this.#machine.dir}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${this.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${join(this.#machine.dir, 'userlist.txt')}
pool_mode = transaction
default_pool_size = 3
ignore_startup_parameters = extra_float_digits
server_connect_timeout = 2
server_login_retry = 0.1
query_wait_timeout = 60
`);
    this.#pooler = this.#machine.start(this.#machine.program('pgbouncer', '/usr/sbin/pgbouncer'), ['pgbouncer.ini']);
    await until('pgbouncer answers', async () => {
      const client = new pg.Client({ host: '127.0.0.1', port: this.port, user: 'shop', database: 'shop', password: PASSWORD });
      await client.connect();
      await client.end();
      return true;
    });
  }
}
