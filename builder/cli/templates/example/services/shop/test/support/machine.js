// What the tests need of the machine: a directory, free ports, and real programs that run as an unprivileged user and end
// with the test.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

// PostgreSQL and pgbouncer refuse to run as root: nobody, then.
const USER = process.getuid() === 0 ? { uid: 65534, gid: 65534 } : {};
// Where packages were unpacked instead of installed, if they were.
const UNPACKED = process.env.TEST_ROOT;

/** Waits until `probe` resolves to something true; its errors count as no. */
export async function until(what, probe, limit = 30_000) {
  const end = Date.now() + limit;
  let last;
  while (Date.now() < end) {
    try {
      const value = await probe();
      if (value) {
        return value;
      }
    } catch (error) {
      last = error;
    }
    await sleep(30);
  }
  throw new Error(`${what}: not within ${limit} ms`, { cause: last });
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

export class Machine {
  dir = mkdtempSync(join(tmpdir(), 'shop-test-'));
  #roots = ['/'];
  #processes = new Set();

  constructor() {
    this.#own(this.dir);
    if (UNPACKED && existsSync(UNPACKED)) {
      // It may be in a directory that is closed to others than its owner.
      const copy = join(this.dir, 'root');
      cpSync(UNPACKED, copy, { recursive: true });
      this.#roots.unshift(copy);
    }
  }

  /** A program of a Debian package by its path; `*` stands for a version, and the newest is taken. */
  program(packageName, path) {
    const [before, after] = path.split('*');
    for (const root of this.#roots) {
      const base = join(root, before);
      let found = [base];
      if (after !== undefined) {
        const versions = existsSync(base) ? readdirSync(base) : [];
        found = versions.sort((a, b) => b - a).map((version) => join(base, version, after));
      }
      const usable = found.find((file) => existsSync(file));
      if (usable) {
        return usable;
      }
    }
    throw new Error(`these tests need Debian's package ${packageName}`);
  }

  /** Writes a file that the programs can read. */
  write(name, text, mode = 0o600) {
    const path = join(this.dir, name);
    writeFileSync(path, text, { mode });
    this.#own(path);
    return path;
  }

  /** Runs a program to its end. */
  async run(file, args) {
    const child = spawn(file, args, { ...USER, cwd: this.dir, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stdout.on('data', (data) => (said += data));
    child.stderr.on('data', (data) => (said += data));
    const [code] = await once(child, 'close');
    if (code !== 0) {
      throw new Error(`${file} ended with ${code}: ${said}`);
    }
    return said;
  }

  /** Starts a program that stays; what it says is kept in `said`. */
  start(file, args, options = {}) {
    const child = spawn(file, args, { ...USER, cwd: this.dir, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    child.said = '';
    child.stdout.on('data', (data) => (child.said += data));
    child.stderr.on('data', (data) => (child.said += data));
    child.ended = once(child, 'exit');
    this.#processes.add(child);
    child.once('exit', () => this.#processes.delete(child));
    return child;
  }

  async end(child, signal) {
    child.kill(signal);
    await child.ended;
  }

  async close() {
    // A stopped process takes SIGKILL as well.
    await Promise.all([...this.#processes].map((child) => this.end(child, 'SIGKILL')));
    await until('the directory is gone', () => {
      rmSync(this.dir, { recursive: true, force: true });
      return !existsSync(this.dir);
    });
  }

  #own(path) {
    if (USER.uid !== undefined) {
      chownSync(path, USER.uid, USER.gid);
    }
  }
}
