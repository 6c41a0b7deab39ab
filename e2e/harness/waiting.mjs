// What comes in: a promise, a question, or things that arrive. What goes out: the thing awaited, or a failure that names it.
// It never sleeps in place of a condition.

/** How long anything may take that the specification gives no time for. */
export const DEADLINE = 5000;

export function deferred() {
  const d = {};
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
  return d;
}

/** Rejected once a gateway ends that no test has ended: nothing is worth waiting for then. */
export const death = deferred();
death.promise.catch(() => {});

/** Settles as `promise` does, or fails with what was awaited once the deadline has passed. */
export async function within(promise, what, ms = DEADLINE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${typeof what === 'function' ? what() : what} (waited ${ms} ms)`)), ms);
  });
  try {
    return await Promise.race([promise, late, death.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks again until the answer satisfies; for state that a test can only read, never be told of. */
export async function until(what, ask, ms = DEADLINE) {
  const end = Date.now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`${what} (asked for ${ms} ms)`);
    await new Promise((r) => setTimeout(r, 20));
  }
}

/** Things that arrive, each taken once, in order of arrival; whoever asks first is served first. */
export class Inbox {
  items = [];
  #waiting = [];

  push(item) {
    this.items.push(item);
    this.#waiting = this.#waiting.filter((w) => !w());
  }

  take(match) {
    const at = this.items.findIndex(match);
    return at < 0 ? undefined : { item: this.items.splice(at, 1)[0] };
  }

  next(match, what, ms = DEADLINE) {
    const found = this.take(match);
    if (found) return Promise.resolve(found.item);
    const d = deferred();
    const attempt = () => {
      const now = this.take(match);
      if (now) d.resolve(now.item);
      return Boolean(now);
    };
    this.#waiting.push(attempt);
    return within(d.promise, what, ms).finally(() => {
      this.#waiting = this.#waiting.filter((w) => w !== attempt);
    });
  }
}
