// The numbered files in migrations/. A file that has run somewhere is never changed; the next change is the next file.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';

const DIRECTORY = new URL('../migrations/', import.meta.url);

/** All migrations in order: { name, sql, digest }. */
export function migrations(directory = DIRECTORY) {
  return readdirSync(directory)
    .filter((name) => /^\d{3}_\w+\.sql$/.test(name))
    .sort()
    .map((name) => {
      const sql = readFileSync(new URL(name, directory), 'utf8');
      return { name, sql, digest: createHash('sha256').update(sql).digest('hex') };
    });
}
