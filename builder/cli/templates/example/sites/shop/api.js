// The service's interface, as seen from a browser. Whatever is asked may be asked twice: orders and views have an id of
// their own. So a node that fails in the middle of a request costs a moment and nothing else.

const ATTEMPTS = 5;
// ms; the service itself gives up after 15 s.
const LIMIT = 20_000;
const AGAIN = new Set([429, 502, 503, 504]);

/** An answer that stays the same when asked again. */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Resolves to what the service answers; rejects with an Error whose message people can read. */
export async function ask(method, path, body) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await once(method, path, body);
    } catch (error) {
      if (error instanceof Refused) {
        throw error;
      }
      if (attempt === ATTEMPTS) {
        throw new Error('The shop cannot be reached. Nothing is lost; please try again.');
      }
    }
    // Half of it by chance: all who lost a node at the same time would come back at the same time.
    await new Promise((resolve) => setTimeout(resolve, attempt * 300 * (0.5 + Math.random() / 2)));
  }
}

async function once(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(LIMIT),
  });
  if (AGAIN.has(response.status)) {
    throw new Error(`status ${response.status}`);
  }
  const answer = await response.json();
  if (!response.ok) {
    throw new Refused(response.status, answer.error);
  }
  return answer;
}

/** A new id for something that is to be there once. */
export function newId() {
  return crypto.randomUUID();
}
