// One line of JSON for each event on standard output, where the journal takes it. The prefix <N> is the severity of
// syslog(3); journald reads it and takes it off (sd-daemon(3)).

const PREFIXES = { info: '<6>', warning: '<4>', error: '<3>' };
const toJournal = process.env.JOURNAL_STREAM !== undefined;

function write(level, message, fields) {
  const prefix = toJournal ? PREFIXES[level] : '';
  process.stdout.write(`${prefix}${JSON.stringify({ level, message, ...fields })}\n`);
}

export const log = {
  info: (message, fields) => write('info', message, fields),
  warning: (message, fields) => write('warning', message, fields),
  error: (message, fields) => write('error', message, fields),
};

/** Something that works or does not: logs when that changes, and not every failure in between. */
export class Condition {
  #bad;
  #good;
  #error;

  constructor(bad, good) {
    this.#bad = bad;
    this.#good = good;
  }

  get works() {
    return this.#error === undefined;
  }

  succeeded() {
    if (!this.works) {
      log.info(this.#good);
    }
    this.#error = undefined;
  }

  failed(error) {
    if (this.works) {
      log.warning(this.#bad, reason(error));
    }
    this.#error = error;
  }
}

/** What may be logged of an error: its code and its message. PostgreSQL's detail would show the values of a row. */
export function reason(error) {
  return { reason: error.message, code: error.code };
}
