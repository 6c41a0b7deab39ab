// What comes in: pods, and a room. What goes out: official clients that reconnect, talk all the time, and remember what each heard of
// whom: nothing twice, nothing out of order, nothing lost between two on one pod, and who was said to come and go.
import assert from 'node:assert/strict';
import { io } from 'socket.io-client';
import { user } from './tokens.mjs';
import { until } from './waiting.mjs';

const PROJECT = 'crowd';
const EVERY = 40;

/** One person, in one room, by one connection at a time. */
class Person {
  /** The last number heard of each speaker. */
  heard = new Map();
  faults = [];
  /** Comings and goings that it was told of. */
  told = [];
  said = 0;
  slowest = 0;
  reasons = [];

  constructor(name, address) {
    this.name = name;
    this.socket = io(`http://${address}/`, {
      forceNew: true,
      transports: ['websocket'],
      reconnectionDelay: 50,
      reconnectionDelayMax: 500,
      auth: { token: user(name) },
    });
    this.socket.on('connect', () => this.#enter());
    this.socket.on('disconnect', (reason) => {
      this.inside = false;
      this.reasons.push(reason);
    });
    this.socket.on('project:updated', ({ update, userId }) => this.#hear(userId ?? update.by, update));
    for (const event of ['user:joined', 'user:left', 'file:locked', 'file:unlocked']) {
      this.socket.on(event, (p) => this.told.push({ event, who: p.user?.id ?? p.userId ?? p.lock?.userId, at: Date.now() }));
    }
  }

  async #enter() {
    const answer = await this.socket.timeout(10_000).emitWithAck('project:join', { projectId: PROJECT }).catch(() => ({ ok: false }));
    this.inside = answer.ok === true;
    this.times = (this.times ?? 0) + 1;
  }

  #hear(who, update) {
    const last = this.heard.get(who);
    if (last !== undefined && update.n <= last) this.faults.push(`${this.name} heard ${update.n} of ${who} after ${last}`);
    this.heard.set(who, update.n);
    if (this.near?.has(who)) {
      this.slowest = Math.max(this.slowest, Date.now() - update.at);
      if (last !== undefined && update.n !== last + 1) this.faults.push(`${this.name} lost ${who}'s ${last + 1} to ${update.n - 1}, on its own pod`);
    }
  }

  say() {
    if (!this.inside || !this.socket.connected) return;
    this.said += 1;
    this.socket.emit('project:update', { projectId: PROJECT, update: { type: 'n', by: this.name, n: this.said, at: Date.now() } });
  }

  lock(filePath) {
    return this.socket.timeout(6000).emitWithAck('file:lock', { projectId: PROJECT, filePath, lockType: 'exclusive' });
  }
}

/** People in one room, `each` of them at every address. */
export class Crowd {
  static async at(addresses, each = 2) {
    const crowd = new Crowd();
    crowd.people = addresses.flatMap((address, pod) => Array.from({ length: each }, (_, i) => Object.assign(new Person(`p${pod}-${i}`, address), { pod })));
    await until('everybody is in', () => crowd.people.every((p) => p.inside), 15_000);
    crowd.timer = setInterval(() => crowd.people.forEach((p) => p.say()), EVERY);
    await crowd.hears('everybody at first');
    for (const p of crowd.people) p.told.length = 0;
    return crowd;
  }

  at(pod) {
    return this.people.filter((p) => p.pod === pod);
  }

  /** From now on nothing may be lost between those who are on one pod, and nothing be late. */
  watchNeighbours(pods) {
    for (const p of this.people) {
      p.slowest = 0;
      p.near = pods.includes(p.pod) ? new Set(this.at(p.pod).map((n) => n.name).filter((n) => n !== p.name)) : undefined;
    }
  }

  /** Waits until each hears something that each other says after now. */
  async hears(what, people = this.people, ms = 15_000) {
    const since = new Map(people.map((p) => [p.name, p.said]));
    const deaf = () => people.flatMap((p) => people.filter((q) => q !== p && (p.heard.get(q.name) ?? 0) <= since.get(q.name)).map((q) => `${p.name}<-${q.name}`));
    await until(what, () => deaf().length === 0, ms).catch((error) => {
      throw new Error(`${error.message}: ${deaf().slice(0, 12)}`);
    });
  }

  /** Waits until every pod says that just these are in the room, each once. */
  async lists(pods, people, ms = 10_500) {
    const names = people.map((p) => p.name).sort();
    for (const gw of pods) {
      let last;
      await until(`the list of ${names}`, async () => {
        const answers = await Promise.all([`/v1/presence/project:${PROJECT}`, `/v1/rooms/project:${PROJECT}/members`].map((path) => gw.api('GET', path)));
        last = JSON.stringify(answers.map((answer) => answer.body));
        if (answers.some((answer) => answer.status !== 200)) return false; // what it needs is not back yet
        const [{ users, missing }, { members }] = answers.map((answer) => answer.body);
        last = JSON.stringify({ users: users.map((u) => [u.id, u.connections]), members: members.map((m) => m.user?.id), missing });
        const same = (list) => JSON.stringify(list.sort()) === JSON.stringify(names);
        return !missing && same(users.map((u) => u.id)) && users.every((u) => u.connections === 1) && same(members.map((m) => m.user?.id));
      }, ms).catch((error) => {
        throw new Error(`${error.message}; last: ${last}`);
      });
    }
  }

  /** Nothing came twice, out of order, or was lost where it must not be. */
  check({ late = 3000 } = {}) {
    assert.deepEqual(this.people.flatMap((p) => p.faults).slice(0, 20), []);
    for (const p of this.people) assert.ok(p.slowest < late, `${p.name} heard its neighbours ${p.slowest} ms late`);
  }

  /** How often each person was told this of that one. */
  told(event, who, people) {
    return people.map((p) => p.told.filter((t) => t.event === event && t.who === who).length);
  }

  end() {
    clearInterval(this.timer);
    for (const p of this.people) p.socket.disconnect();
  }
}
