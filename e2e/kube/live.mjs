// What comes in: the address of a gateway. What goes out: pairs of official clients that talk while something is done to
// the cluster, and what became of every message. Clients reconnect by themselves, as in an application; nothing here helps them.
import { randomUUID } from 'node:crypto';
import { io } from 'socket.io-client';
import { until, within } from '../harness/waiting.mjs';

/** How often each sender sends; far below every limit. */
const EVERY = 200;
/** How long an ack may take before the message is sent again. */
const ACK = 3000;
/** A receiver counts as there for a message if it still was this long after the ack. */
const MARGIN = 500;

class Pair {
  windows = [];
  received = new Map();
  acked = [];
  resent = new Set();
  gone = [];
  seq = 0;
  disorder = 0;

  constructor(url, name, options) {
    this.channel = `live-${name}`;
    this.sender = this.#socket(url, options);
    this.receiver = this.#socket(url, options, true);
    let last = 0;
    this.receiver.on('collaboration_message', ({ seq }) => {
      this.received.set(seq, (this.received.get(seq) ?? 0) + 1);
      if (seq < last && !this.resent.has(seq)) this.disorder += 1;
      last = Math.max(last, seq);
    });
  }

  #socket(url, options, isReceiver = false) {
    const socket = io(`${url}/toolbox`, { transports: ['websocket'], forceNew: true, ...options });
    socket.on('connect', () => this.#subscribe(socket, isReceiver));
    socket.on('disconnect', (reason) => {
      socket.subscribed = false;
      this.gone.push({ at: Date.now(), reason, socket });
      const window = this.windows.at(-1);
      if (isReceiver && window && !window.end) window.end = Date.now();
    });
    return socket;
  }

  async #subscribe(socket, isReceiver) {
    const { id } = socket;
    try {
      const answer = await socket.timeout(ACK).emitWithAck('subscribe', { channel: this.channel });
      if (!answer.ok || socket.id !== id) return;
    } catch {
      return; // gone again; the next connect subscribes anew
    }
    socket.subscribed = true;
    const back = this.gone.findLast((g) => g.socket === socket && !g.back);
    if (back) back.back = Date.now();
    if (isReceiver) this.windows.push({ start: Date.now() });
  }

  get isThere() {
    return this.sender.subscribed && this.receiver.subscribed;
  }

  /** Sends until told to stop; a message without an ack is sent again until it has one. */
  async talk(signal) {
    while (!signal.aborted) {
      this.seq += 1;
      await this.#deliver(this.seq);
      await new Promise((resolve) => setTimeout(resolve, EVERY));
    }
  }

  async #deliver(seq) {
    for (;;) {
      const sent = Date.now();
      try {
        await until('the sender is connected', () => this.sender.subscribed, 60000);
        const answer = await this.sender.timeout(ACK).emitWithAck('collaboration_message', { channel: this.channel, seq });
        if (answer.ok) {
          this.acked.push({ seq, sent, at: Date.now() });
          return;
        }
        this.refusals = (this.refusals ?? 0) + 1;
      } catch (error) {
        if (!this.sender.active) throw error; // nobody will connect it again
      }
      this.resent.add(seq);
    }
  }

  /** Acknowledged while the receiver was there all along, and never received. */
  get lost() {
    const wasThere = ({ sent, at }) => this.windows.some((w) => w.start <= sent && (w.end ?? Infinity) >= at + MARGIN);
    return this.acked.filter((message) => wasThere(message) && !this.received.has(message.seq));
  }

  get doubled() {
    return [...this.received].filter(([seq, times]) => times > 1 && !this.resent.has(seq)).length;
  }
}

/** Pairs of clients over all pods, talking from `start` to `stop`. */
export class Crowd {
  static async start(url, pairs, options = {}) {
    const crowd = new Crowd();
    crowd.stopping = new AbortController();
    // Channels of its own, so that a crowd hears no other.
    const name = randomUUID();
    crowd.pairs = Array.from({ length: pairs }, (_, n) => new Pair(url, `${name}-${n}`, options));
    await until('everybody is connected', () => crowd.pairs.every((p) => p.isThere), 60000);
    crowd.talking = crowd.pairs.map((p) => p.talk(crowd.stopping.signal));
    // A talk that fails is told by `stop`, and by nobody if the test has failed before.
    for (const talk of crowd.talking) talk.catch(() => {});
    return crowd;
  }

  /** Everybody is connected again. */
  back(ms = 60000) {
    return until(`everybody is back; missing ${this.pairs.filter((p) => !p.isThere).length}`, () => this.pairs.every((p) => p.isThere), ms);
  }

  /** Ends the talk, waits for what is on its way, and says what became of it. */
  async stop() {
    this.stopping.abort();
    await within(Promise.all(this.talking), 'the last acks', 90000);
    const last = () => this.pairs.every((p) => p.lost.length === 0);
    await until('the last messages', last, 5000).catch(() => {}); // what is missing then is lost, and said so
    const gone = this.pairs.flatMap((p) => p.gone);
    const report = {
      clients: this.pairs.length * 2,
      acknowledged: sum(this.pairs, (p) => p.acked.length),
      received: sum(this.pairs, (p) => p.received.size),
      lost: sum(this.pairs, (p) => p.lost.length),
      doubled: sum(this.pairs, (p) => p.doubled),
      outOfOrder: sum(this.pairs, (p) => p.disorder),
      sentAgain: sum(this.pairs, (p) => p.resent.size),
      reconnects: gone.length,
      reasons: [...new Set(gone.map((g) => g.reason))],
      mostInOneSecond: busiest(gone.map((g) => g.at)),
      longestAway: Math.max(0, ...gone.map((g) => (g.back ?? Infinity) - g.at)),
    };
    this.leave();
    return report;
  }

  /** Everybody goes, whatever is on its way. */
  leave() {
    this.stopping.abort();
    for (const p of this.pairs) {
      p.sender.disconnect();
      p.receiver.disconnect();
    }
  }
}

const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);

/** The most of these times that lie within one second. */
function busiest(times) {
  const sorted = times.toSorted((a, b) => a - b);
  let most = 0;
  for (let from = 0, to = 0; to < sorted.length; to++) {
    while (sorted[to] - sorted[from] >= 1000) from += 1;
    most = Math.max(most, to - from + 1);
  }
  return most;
}
