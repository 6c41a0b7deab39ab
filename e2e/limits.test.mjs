// Limits: what is refused, with what, and that nobody else is; each gateway here has limits small enough to reach.
import { describe, test } from 'node:test';
import { Gateway, Poll, Raw, assert, assertErrorEvent, assertOk, assertRefused, connect, http, refused, until, user, within } from './harness.mjs';

/** Runs `body` with a gateway that has these limits. */
async function withLimits(limits, contracts, body, more = {}) {
  const env = Object.fromEntries(Object.entries(limits).map(([k, v]) => [`GATEWAY__LIMITS__${k}`, String(v)]));
  const gw = await Gateway.start({ contracts, ...more, env });
  try {
    await body(gw);
  } finally {
    await gw.stop();
  }
}

const burst = (c, n, event = 'ping', ...args) => Promise.all(Array.from({ length: n }, () => c.call(event, ...args)));
const refusals = (acks) => acks.filter((a) => a.ok === false);

describe('limits', () => {
  test('one connection: burst, refusal with retry_after_ms, recovery; a neighbour is not touched', () =>
    withLimits({ CONNECTION__EVENTS_PER_SECOND: 2, CONNECTION__BURST: 10 }, ['toolbox@/'], async (gw) => {
      const [a, b] = [await connect(gw, '/', 'toolbox'), await connect(gw, '/', 'toolbox')];
      const acks = await burst(a, 20);
      const bad = refusals(acks);
      assert.ok(bad.length >= 8 && bad.length <= 10, `${bad.length} refused of 20 with a burst of 10`);
      assert.ok(acks.slice(0, 10).every((x) => x.ok), 'the burst passes');
      const { retry_after_ms } = assertRefused(acks.at(-1), 'ping', 'RATE_LIMITED');
      assert.ok(Number.isInteger(retry_after_ms) && retry_after_ms > 0 && retry_after_ms <= 1000, `${retry_after_ms}`);
      a.send('ping');
      const told = await a.next('error');
      assertErrorEvent(told, 'ping', 'RATE_LIMITED');
      assert.ok(told.retry_after_ms > 0);
      assert.deepEqual(refusals(await burst(b, 5)), []);
      await until('it may send again', async () => (await a.call('ping')).ok);
    }));

  test('unknown and malformed events are charged too', () =>
    withLimits({ CONNECTION__EVENTS_PER_SECOND: 1, CONNECTION__BURST: 5 }, ['toolbox@/'], async (gw) => {
      const a = await connect(gw, '/', 'toolbox');
      const acks = await burst(a, 8, 'no-such-event');
      assert.equal(acks[0].error.code, 'UNKNOWN_EVENT');
      assert.equal(acks.at(-1).error.code, 'RATE_LIMITED');
      assert.equal((await a.call('ping')).error.code, 'RATE_LIMITED');
    }));

  test('a batch is charged for each of its updates', () =>
    withLimits({ CONNECTION__EVENTS_PER_SECOND: 1, CONNECTION__BURST: 10 }, ['coding-assistant@/'], async (gw) => {
      const a = await connect(gw, '/', 'coding-assistant');
      const ack = await a.call('batch:update', { updates: Array(30).fill({ event: 'test:ping' }) });
      const limited = ack.ok ? ack.results.filter((r) => r.error?.code === 'RATE_LIMITED').length : 30;
      assert.ok(limited >= 19, JSON.stringify(ack).slice(0, 400));
      assert.equal((await a.call('test:ping')).error?.code, 'RATE_LIMITED');
    }));

  test('one user over all connections', () =>
    withLimits({ USER__EVENTS_PER_SECOND: 1, USER__BURST: 6 }, ['toolbox@/'], async (gw) => {
      const [a, a2, b, nobody] = [await connect(gw, '/', 'toolbox', { token: user('ann') }), await connect(gw, '/', 'toolbox', { token: user('ann') }), await connect(gw, '/', 'toolbox', { token: user('bob') }), await connect(gw, '/', 'toolbox')];
      assert.deepEqual(refusals(await burst(a, 5)), []);
      const acks = await burst(a2, 6);
      assert.ok(refusals(acks).length >= 4, 'the user’s other connection shares the count');
      assert.ok(assertRefused(acks.at(-1), 'ping', 'RATE_LIMITED').retry_after_ms > 0);
      assert.deepEqual(refusals(await burst(b, 5)), []);
      assert.deepEqual(refusals(await burst(nobody, 5)), []);
    }));

  test('flooding on is a disconnect, and others go on', () =>
    withLimits({ CONNECTION__EVENTS_PER_SECOND: 1, CONNECTION__BURST: 1, DISCONNECT_AFTER: 20 }, ['toolbox@/'], async (gw) => {
      const [a, b] = [await connect(gw, '/', 'toolbox'), await connect(gw, '/', 'toolbox')];
      for (let i = 0; i < 15; i++) a.send('ping');
      for (let i = 0; i < 14; i++) await a.next('error');
      assert.equal(a.gone, undefined, 'under the count it stays');
      for (let i = 0; i < 30; i++) a.send('ping');
      await a.disconnected();
      assertOk(await b.call('ping'), 'ping');
      const raw = await Raw.open(gw);
      await raw.join('/');
      for (let i = 0; i < 60; i++) raw.send('42["nonsense"]');
      await within(Promise.race([raw.closed, raw.next(/^41/)]), 'the disconnect');
      raw.close();
    }));

  for (const [name, packet] of [['events', '42["ping"]'], ['malformed events', '42["message",3]'], ['acks of nothing', '430[]'], ['connects', '40'], ['connects to nowhere', '40/nowhere,'], ['connects and disconnects', '40/debug,\n41/debug,']])
    test(`every packet is charged: a flood of ${name} ends in a disconnect`, () =>
      withLimits({ CONNECTION__EVENTS_PER_SECOND: 10, CONNECTION__BURST: 10, DISCONNECT_AFTER: 50 }, ['toolbox@/'], async (gw) => {
        const neighbour = await connect(gw, '/', 'toolbox');
        const raw = await Raw.open(gw);
        await raw.join('/');
        for (let i = 0; i < 1000; i++) for (const one of packet.split('\n')) raw.send(one);
        await within(Promise.race([raw.closed, raw.next(/^41$/)]), 'the disconnect');
        assertOk(await neighbour.call('ping'), 'ping');
        raw.close();
      }));

  test('0 switches a limit off', () =>
    withLimits({ CONNECTION__EVENTS_PER_SECOND: 0, CONNECTION__BURST: 0, USER__EVENTS_PER_SECOND: 0, DISCONNECT_AFTER: 0 }, ['toolbox@/'], async (gw) => {
      const a = await connect(gw, '/', 'toolbox', { token: user('ann') });
      assert.deepEqual(refusals(await burst(a, 3000)), [], 'and every ack arrives');
      for (let i = 0; i < 300; i++) a.send('nonsense');
      assertOk(await a.call('ping'), 'ping');
    }));

  test('rooms of a connection: LIMIT_EXCEEDED, and leaving one makes room', () =>
    withLimits({ ROOMS_PER_CONNECTION: 3 }, ['toolbox@/', 'coding-assistant@/code', 'agent-stream@/agents'], async (gw) => {
      const a = await connect(gw, '/', 'toolbox');
      for (const channel of ['1', '2', '3']) assertOk(await a.call('subscribe', { channel }), 'subscribe');
      assertRefused(await a.call('subscribe', { channel: '4' }), 'subscribe', 'LIMIT_EXCEEDED');
      assertOk(await a.call('subscribe', { channel: '1' }), 'subscribe');
      assertOk(await a.call('unsubscribe', { channel: '1' }), 'unsubscribe');
      assertOk(await a.call('subscribe', { channel: '4' }), 'subscribe');
      const c = await connect(gw, '/code', 'coding-assistant');
      for (const projectId of ['1', '2', '3']) assertOk(await c.call('project:join', { projectId }), 'project:join');
      assertRefused(await c.call('project:join', { projectId: '4' }), 'project:join', 'LIMIT_EXCEEDED');
      c.send('room:join', { room: 'four' });
      assert.equal((await c.next('room:error')).error.code, 'LIMIT_EXCEEDED');
      const w = await connect(gw, '/agents', 'agent-stream', { token: user('w') });
      for (const workflowId of ['1', '2', '3']) assertOk(await w.call('workflow:subscribe', { workflowId }), 'workflow:subscribe');
      assertRefused(await w.call('workflow:subscribe', { workflowId: '4' }), 'workflow:subscribe', 'LIMIT_EXCEEDED');
    }));

  test('connections of a user: connect_error Too many connections; one that leaves makes room', () =>
    withLimits({ CONNECTIONS_PER_USER: 2 }, ['agent-stream@/'], async (gw) => {
      const open = (id) => connect(gw, '/', 'agent-stream', { token: user(id) });
      const [a] = [await open('ann'), await open('ann'), await open('bob')];
      assert.equal((await refused(gw, '/', { token: user('ann') })).message, 'Too many connections');
      a.close();
      await until('room for one', async () => {
        const { connections } = await gw.ok('GET', '/v1/users/ann/connections');
        return connections.length === 1;
      });
      await open('ann');
    }));

  test('a full pod is 503 with Retry-After, on both transports', () =>
    withLimits({ CONNECTIONS_PER_POD: 2 }, ['toolbox@/'], async (gw) => {
      const [a] = [await connect(gw, '/', 'toolbox'), await connect(gw, '/', 'toolbox')];
      for (const transport of ['polling', 'websocket']) {
        const headers = transport === 'websocket' ? { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' } : {};
        const answer = await http(gw.public, { path: `/socket.io/?EIO=4&transport=${transport}`, headers });
        assert.equal(answer.status, 503, transport);
        assert.ok(Number(answer.headers['retry-after']) > 0, `${answer.headers['retry-after']}`);
      }
      a.close();
      await until('room for one', async () => (await http(gw.public, { path: '/socket.io/?EIO=4&transport=polling' })).status === 200);
    }));

  test('a full address is 429 with Retry-After', () =>
    withLimits({ CONNECTIONS_PER_IP: 2 }, ['toolbox@/'], async (gw) => {
      await connect(gw, '/', 'toolbox');
      await connect(gw, '/', 'toolbox');
      const answer = await http(gw.public, { path: '/socket.io/?EIO=4&transport=polling' });
      assert.equal(answer.status, 429);
      assert.ok(Number(answer.headers['retry-after']) > 0);
    }));

  test('handshakes of one address: 429 with Retry-After; what is connected stays', () =>
    withLimits({ IP__CONNECTS_PER_SECOND: 1, IP__BURST: 5 }, ['toolbox@/'], async (gw) => {
      const a = await connect(gw, '/', 'toolbox');
      const answers = [];
      for (let i = 0; i < 10; i++) answers.push(await http(gw.public, { path: '/socket.io/?EIO=4&transport=polling' }));
      const last = answers.at(-1);
      assert.equal(last.status, 429);
      assert.ok(Number(last.headers['retry-after']) > 0);
      assert.ok(answers.filter((x) => x.status === 200).length >= 3);
      assertOk(await a.call('ping'), 'ping');
      assert.equal((await http(gw.public, { path: '/socketio/status' })).status, 200);
    }));

  test('payload_bytes holds for polling and WebSocket alike', () =>
    withLimits({ PAYLOAD_BYTES: 2000 }, ['toolbox@/'], async (gw) => {
      const p = await Poll.open(gw);
      assert.equal(p.handshake.maxPayload, 2000);
      await p.post('40');
      const body = (n) => `421["message",{"type":"x","t":"${'x'.repeat(n)}"}]`;
      assert.equal((await p.post(body(1000))).status, 200);
      assert.ok((await p.post(body(2000))).status >= 400);
      const neighbour = await connect(gw, '/', 'toolbox');
      for (const send of [(raw) => raw.send(body(2000)), (raw) => (raw.send('451-1["message",{"type":"x","b":{"_placeholder":true,"num":0}}]'), raw.send(Buffer.alloc(2100)))]) {
        const raw = await Raw.open(gw);
        await raw.join('/');
        raw.send(body(1000));
        await raw.next(/^431\[.*"ok":true/);
        send(raw);
        await within(Promise.race([raw.closed, raw.next(/^431\[.*TOO_LARGE/)]), 'refused or closed');
        raw.close();
      }
      assertOk(await neighbour.call('ping'), 'ping');
    }));

  /** Peers that are in the room `fire` and then take nothing more. */
  const DEAF = {
    websocket: async (gw) => {
      const raw = await Raw.open(gw);
      await raw.join('/');
      raw.send('421["subscribe",{"channel":"fire"}]');
      await raw.next(/^431/);
      raw.ws._socket.pause();
      return () => raw.close();
    },
    polling: async (gw) => {
      const p = await Poll.open(gw);
      await p.post('40');
      await p.post('421["subscribe",{"channel":"fire"}]');
      let got = '';
      while (!got.includes('431[')) got += (await p.poll()).body;
      return () => {};
    },
  };
  for (const [transport, deaf] of Object.entries(DEAF))
    test(`a client that stops reading (${transport}) is disconnected, and nobody else waits`, () =>
      withLimits({}, ['toolbox@/'], async (gw) => {
        const quick = await connect(gw, '/', 'toolbox');
        const close = await deaf(gw);
        assertOk(await quick.call('subscribe', { channel: 'fire' }), 'subscribe');
        const text = 'x'.repeat(200_000);
        const counted = () => gw.metric('gateway_disconnects_total', '{reason="slow_consumer"}');
        for (let i = 0; i < 300; i++) {
          await gw.emit('/', 'fire', { i, text }, { rooms: ['fire'] });
          assert.equal((await quick.next('fire')).i, i);
          if (i % 20 === 0 && (await counted()) > 0) break;
        }
        await until('the slow one is counted out', async () => (await counted()) === 1);
        assertOk(await quick.call('ping'), 'ping');
        close();
      }, { config: '[engine]\nwrite_timeout = "2s"\n' }));
});
