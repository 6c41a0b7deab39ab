// What comes in: a running gateway. What goes out: official clients whose events are taken one by one, and raw peers that
// speak only what the test writes. None of them reconnects.
import assert from 'node:assert/strict';
import { io } from 'socket.io-client';
import WebSocket from 'ws';
import { http } from './http.mjs';
import { DEADLINE, Inbox, deferred, within } from './waiting.mjs';

/** How each contract lets a client ask "has everything sent to me before arrived?" without anybody else hearing. */
const BARRIERS = {
  codx: (c) => c.call('codx-junior-ping'),
  'coding-assistant': async (c) => {
    await c.call('test:ping');
    await c.next('test:pong');
  },
  'agent-stream': (c) => c.call('workflow:unsubscribe', { workflowId: 'barrier' }),
  toolbox: (c) => c.call('ping'),
  debug: (c) => c.call('rooms'),
  'security-gate': async (c) => {
    await c.call('request_health_check', {});
    await c.next('health_status');
  },
};

/** An official client on one namespace: what it was sent is kept until a test takes it. */
export class Client {
  inbox = new Inbox();

  constructor(socket, barrier) {
    this.socket = socket;
    this.barrier = barrier;
    socket.onAny((event, ...args) => this.inbox.push({ event, args }));
    socket.on('disconnect', (reason) => (this.gone = reason));
  }

  get id() {
    return this.socket.id;
  }

  /** Sends without an ack. */
  send(event, ...args) {
    this.socket.emit(event, ...args);
  }

  /** Sends and returns the first argument of the ack. */
  async call(event, ...args) {
    return (await this.callAll(event, ...args))[0];
  }

  callAll(event, ...args) {
    const d = deferred();
    this.socket.emit(event, ...args, (...answer) => d.resolve(answer));
    return within(d.promise, () => `the ack of ${event}${this.gone ? `; disconnected: ${this.gone}` : ''}`, this.deadline ?? DEADLINE);
  }

  /** The payload (first argument) of the next event of that name, where `match` accepts it. */
  async next(event, match = () => true, ms = DEADLINE) {
    return (await this.nextArgs(event, (args) => match(args[0]), ms))[0];
  }

  async nextArgs(event, match = () => true, ms = DEADLINE) {
    const what = () => `event ${event}; in the inbox: ${JSON.stringify(this.inbox.items).slice(0, 1500)}`;
    return (await this.inbox.next((i) => i.event === event && match(i.args), what, ms)).args;
  }

  /** Everything that was sent to this client before now has arrived once this returns. */
  async settle() {
    await this.barrier(this);
  }

  /** Settles and fails when any of these events (or, with none named, any event) is there. */
  async quiet(...events) {
    await this.settle();
    const found = this.inbox.items.filter((i) => events.length === 0 || events.includes(i.event));
    assert.deepEqual(found, [], `unexpected at this client: ${JSON.stringify(found)}`);
  }

  /** Settles and forgets what has come so far. */
  async clear() {
    await this.settle();
    this.inbox.items.length = 0;
  }

  disconnected(ms = DEADLINE) {
    if (this.gone) return Promise.resolve(this.gone);
    const d = deferred();
    this.socket.once('disconnect', d.resolve);
    return within(d.promise, 'the disconnect', ms);
  }

  close() {
    this.socket.disconnect();
  }
}

function socketTo(gw, namespace, { token, auth, barrier, ...options } = {}) {
  const credentials = token === undefined ? auth : { ...auth, token };
  return io(gw.url + namespace, {
    forceNew: true,
    reconnection: false,
    transports: ['websocket'],
    auth: credentials,
    ...options,
  });
}

/** Connects; `contract` says which barrier the namespace has. Fails with the `connect_error` if refused. */
export async function connect(gw, namespace, contract, options = {}) {
  const barrier = BARRIERS[contract];
  assert.ok(barrier, `no barrier for ${contract}`);
  const socket = socketTo(gw, namespace, options);
  const client = new Client(socket, barrier);
  gw.clients.add(client);
  const d = deferred();
  socket.once('connect', d.resolve);
  socket.once('connect_error', (e) => d.reject(new Error(`connect_error: ${e.message} ${e.description ?? ''}`, { cause: e })));
  await within(d.promise, `connecting to ${namespace}`);
  return client;
}

/** Connects where that must be refused; returns the `connect_error`. */
export async function refused(gw, namespace, options = {}) {
  const socket = socketTo(gw, namespace, options);
  const d = deferred();
  socket.once('connect', () => d.reject(new Error(`${namespace} let us in`)));
  socket.once('connect_error', d.resolve);
  try {
    return await within(d.promise, `the refusal at ${namespace}`);
  } finally {
    socket.disconnect();
  }
}

/** A WebSocket that speaks no protocol but what the test writes. */
export class Raw {
  inbox = new Inbox();

  static async open(gw, { path = '/socket.io/', query = 'EIO=4&transport=websocket', headers = {} } = {}) {
    const raw = new Raw();
    raw.ws = new WebSocket(`ws://${gw.public}${path}?${query}`, { headers, perMessageDeflate: false });
    raw.closed = new Promise((resolve) => raw.ws.on('close', (code) => resolve(code)));
    raw.ws.on('error', () => {}); // what matters of an error is the close that follows
    raw.ws.on('message', (data, isBinary) => raw.inbox.push(isBinary ? data : data.toString()));
    const d = deferred();
    raw.ws.on('open', d.resolve);
    raw.ws.on('close', () => d.reject(new Error('closed before it was open')));
    await within(d.promise, 'the raw WebSocket');
    raw.handshake = JSON.parse((await raw.next(/^0/)).slice(1));
    return raw;
  }

  send(data) {
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(data);
  }

  next(pattern, ms = DEADLINE) {
    const match = (m) => (pattern === Buffer ? Buffer.isBuffer(m) : typeof m === 'string' && pattern.test(m));
    return this.inbox.next(match, () => `a packet ${pattern}; got ${JSON.stringify(this.inbox.items).slice(0, 800)}`, ms);
  }

  /** Joins a namespace with a CONNECT packet. */
  async join(namespace = '/', auth) {
    const nsp = namespace === '/' ? '' : `${namespace},`;
    this.send(`40${nsp}${auth ? JSON.stringify(auth) : ''}`);
    return this.next(new RegExp(`^40${nsp}`));
  }

  close() {
    this.ws.terminate();
  }
}

/** Engine.IO long-polling by hand. */
export class Poll {
  static async open(gw, { path = '/socket.io/', headers = {} } = {}) {
    const p = new Poll();
    Object.assign(p, { gw, path, headers });
    const answer = await http(gw.public, { path: `${path}?EIO=4&transport=polling`, headers });
    assert.equal(answer.status, 200, `handshake: ${answer.status} ${answer.body}`);
    p.handshake = JSON.parse(answer.body.slice(1));
    p.sid = p.handshake.sid;
    return p;
  }

  get query() {
    return `${this.path}?EIO=4&transport=polling&sid=${encodeURIComponent(this.sid)}`;
  }

  post(body, headers = {}) {
    return http(this.gw.public, { method: 'POST', path: this.query, headers: { 'content-type': 'text/plain;charset=UTF-8', ...this.headers, ...headers }, body });
  }

  poll() {
    return http(this.gw.public, { path: this.query, headers: this.headers });
  }
}
