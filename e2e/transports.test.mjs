// The core of every application over each way an official client connects: polling, WebSocket, and one then the other.
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import { Gateway, Poll, Raw, assert, assertOk, connect, deferred, http, user, within } from './harness.mjs';

const require = createRequire(import.meta.url);
const WAYS = [['polling'], ['websocket'], ['polling', 'websocket']];

describe('transports', () => {
  let gw;
  before(async () => {
    gw = await Gateway.start();
  });
  after(() => gw?.stop());

  /** Connects and, where the client upgrades, waits until it has. */
  async function open(nsp, contract, transports, options = {}) {
    const c = await connect(gw, nsp, contract, { transports, ...options });
    const { engine } = c.socket.io;
    const last = transports.at(-1);
    if (engine.transport.name !== last) {
      const d = deferred();
      engine.once('upgrade', d.resolve);
      if (engine.transport.name !== last) await within(d.promise, 'the upgrade');
    }
    assert.equal(engine.transport.name, last);
    return c;
  }

  for (const transports of WAYS) {
    const name = transports.join(' then ');

    test(`${name}: acks, events, order, binary in both directions`, async () => {
      const a = await open('/', 'coding-assistant', transports);
      assertOk(await a.call('test:ping'), 'test:ping');
      await a.next('test:pong');
      for (let i = 0; i < 40; i++) a.send('test:event', { i });
      for (let i = 0; i < 40; i++) assert.equal((await a.next('test:response')).i, i);
      const blob = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 256));
      assertOk(await a.call('test:event', { blob, more: [Buffer.alloc(0), Buffer.from('x')] }), 'test:event');
      const got = await a.next('test:response');
      assert.deepEqual(Buffer.from(got.blob), blob);
      assert.deepEqual([Buffer.from(got.more[0]).length, Buffer.from(got.more[1]).toString()], [0, 'x']);
      a.close();
    });

    test(`${name}: rooms, relays and acks with binary between two clients`, async () => {
      const [a, b] = [await open('/toolbox', 'toolbox', transports), await open('/toolbox', 'toolbox', transports)];
      for (const c of [a, b]) assertOk(await c.call('subscribe', { channel: name }), 'subscribe');
      for (let i = 0; i < 40; i++) a.send('collaboration_message', { channel: name, i, blob: Buffer.from([i]) });
      for (let i = 0; i < 40; i++) {
        const got = await b.next('collaboration_message');
        assert.deepEqual([got.i, Buffer.from(got.blob)[0]], [i, i]);
      }
      await a.quiet('collaboration_message');
      const d = await open('/debug', 'debug', transports);
      assert.deepEqual(Buffer.from(await d.call('echo', Buffer.from([7, 0]))), Buffer.from([7, 0]));
      assert.equal(await d.call('echo', 'é🚀\u2028'), 'é🚀\u2028');
      for (const c of [a, b, d]) c.close();
    });

    test(`${name}: the server API reaches it, and a disconnect is heard on both sides`, async () => {
      const a = await open('/agents', 'agent-stream', transports, { token: user('ann') });
      await gw.emit('/agents', 'agent:thought', { workflowId: 'w', data: { content: 'x' } }, { sids: [a.id] });
      assert.equal((await a.next('agent:thought')).data.content, 'x');
      await gw.ok('POST', '/v1/disconnect', { namespace: '/agents', to: { sids: [a.id] } });
      assert.equal(await a.disconnected(), 'io server disconnect');
      const b = await open('/codx', 'codx', transports);
      const c = await open('/codx', 'codx', transports);
      const gone = b.id;
      await b.call('codx-junior-login', { username: 'b' });
      await c.next('codx-junior-online-users', (m) => gone in m);
      b.close();
      await c.next('codx-junior-online-users', (m) => !(gone in m));
      c.close();
    });

    test(`${name}: a large message passes whole`, async () => {
      const d = await open('/debug', 'debug', transports);
      const text = 'ü'.repeat(400_000);
      assert.equal(await d.call('echo', text), text);
      const blob = Buffer.alloc(700_000, 3);
      assert.equal(Buffer.compare(Buffer.from(await d.call('echo', blob)), blob), 0);
      d.close();
    });
  }

  test('several namespaces share one connection, and leave it one by one', async () => {
    const { Manager } = await import('socket.io-client');
    const manager = new Manager(gw.url, { transports: ['websocket'], reconnection: false });
    const [root, codx] = [manager.socket('/'), manager.socket('/codx')];
    await Promise.all([root, codx].map((s) => within(new Promise((resolve) => s.once('connect', resolve)), 'a namespace')));
    root.disconnect();
    assert.equal(await within(codx.emitWithAck('codx-junior-ping'), 'the ack'), true);
    codx.disconnect();
  });

  for (const path of ['/socket.io', '/socket.io/', '/ws/socket.io', '/ws/socket.io/']) {
    test(`${path}: the handshake on both transports`, async () => {
      const { handshake } = await Poll.open(gw, { path });
      assert.ok(handshake.upgrades.includes('websocket'));
      assert.equal(handshake.maxPayload, 1000000);
      const raw = await Raw.open(gw, { path });
      assert.match(await raw.join('/'), /^40\{"sid":"/);
      raw.close();
    });
  }

  test('polling by hand: connect, event, ack, and the upgrade with a probe', async () => {
    const p = await Poll.open(gw);
    assert.equal((await p.post('40')).status, 200);
    let joined = '';
    while (!joined.includes('40{"sid":"')) joined += (await p.poll()).body; // a ping may come first
    assert.equal((await p.post('420["test:ping"]\u001e421["test:ping"]')).status, 200);
    let body = '';
    while (!/431\[/.test(body)) body += `${(await p.poll()).body}\u001e`;
    assert.ok(body.indexOf('430[') < body.indexOf('431['), body);
    const raw = new Raw();
    const { default: WebSocket } = await import('ws');
    raw.ws = new WebSocket(`ws://${gw.public}/socket.io/?EIO=4&transport=websocket&sid=${p.sid}`);
    raw.ws.on('message', (data) => raw.inbox.push(data.toString()));
    await new Promise((resolve) => raw.ws.on('open', resolve));
    raw.send('2probe');
    assert.equal(await raw.next(/^3/), '3probe');
    raw.send('5');
    raw.send('422["test:ping"]');
    await raw.next(/^432\[/);
    raw.close();
  });

  test('a ping comes every interval and a client that answers stays', async () => {
    const quick = await Gateway.start({ contracts: ['codx@/'], env: { SOCKET_PING_INTERVAL: '300', SOCKET_PING_TIMEOUT: '500' } });
    try {
      const raw = await Raw.open(quick);
      await raw.join('/');
      for (let i = 0; i < 3; i++) {
        await raw.next(/^2$/);
        raw.send('3');
      }
      const mute = await Raw.open(quick);
      await mute.join('/');
      await within(mute.closed, 'the end of a client that answers no ping', 4000);
      await raw.next(/^2$/);
      raw.close();
    } finally {
      await quick.stop();
    }
  });

  test('socket.io-client 2 (Engine.IO 3) connects, acks and is told', async () => {
    const io2 = require('socket.io-client-v2');
    for (const transports of [['websocket'], ['polling']]) {
      const socket = io2(`${gw.url}/codx`, { transports, forceNew: true, reconnection: false });
      try {
        await within(new Promise((resolve, reject) => (socket.on('connect', resolve), socket.on('connect_error', (e) => reject(new Error(`${e}`))), socket.on('error', (e) => reject(new Error(`${JSON.stringify(e)}`))))), `a version 2 client over ${transports}`);
        assert.equal(await within(new Promise((resolve) => socket.emit('codx-junior-ping', resolve)), 'its ack'), true);
        const told = within(new Promise((resolve) => socket.on('codx-junior-online-users', resolve)), 'its event');
        socket.emit('codx-junior-login', { username: 'old' });
        assert.ok(Object.values(await told).some((u) => u.username === 'old'));
      } finally {
        socket.close();
      }
    }
  });

  test('any origin may ask by default, the preflight too', async () => {
    const answer = await http(gw.public, { path: '/socket.io/?EIO=4&transport=polling' });
    assert.equal(answer.status, 200);
    const preflight = await http(gw.public, { method: 'OPTIONS', path: '/socket.io/?EIO=4&transport=polling', headers: { origin: 'http://app.test', 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type,authorization' } });
    assert.ok([200, 204].includes(preflight.status), `${preflight.status}`);
    assert.ok(['*', 'http://app.test'].includes(preflight.headers['access-control-allow-origin']));
  });
});
