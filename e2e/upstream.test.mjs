// Upstreams of kind http and demo: the call, the answer in all its parts, streaming, failures, bounds, signatures.
import { createHmac } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';
import { ANSWERED, App, Gateway, assert, assertErrorEvent, assertOk, assertRefused, connect, deferred, freePort, reply, stream, until, user, within } from './harness.mjs';

const CHAT = { chat: { name: 'c' }, message: 'm' };
const EVENT = 'codx-junior-chat';

describe('upstream http', () => {
  let gw;
  let app;
  const secret = `whsec_${Buffer.from('a-secret-of-the-application-0123').toString('base64')}`;
  const open = (options) => connect(gw, '/', 'codx', options);
  before(async () => {
    app = await App.start();
    gw = await Gateway.start({ contracts: ['codx@/', 'toolbox@/toolbox'], app, appConfig: `timeout = "1s"\nsecret = "${secret}"\nbreaker_failures = 1000\n` });
  });
  after(async () => {
    await gw?.stop();
    await app?.stop();
  });
  beforeEach(() => app.reset());

  test('the call: method, path, headers, signature, trace, body', async () => {
    const a = await open({ token: user('ann', ['dev']) });
    app.on(EVENT, () => ({ ack: 1 }));
    await a.call(EVENT, CHAT);
    const { method, path, headers, body, raw } = await app.next(EVENT);
    assert.deepEqual([method, path], ['POST', '/events']);
    assert.match(headers['content-type'], /^application\/json/);
    assert.match(headers.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/);
    assert.ok(Math.abs(Number(headers['webhook-timestamp']) - Date.now() / 1000) < 60);
    const signed = createHmac('sha256', Buffer.from(secret.slice(6), 'base64')).update(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${raw}`).digest('base64');
    assert.ok(headers['webhook-signature'].split(' ').includes(`v1,${signed}`), headers['webhook-signature']);
    assert.deepEqual(body, { contract: 'codx', namespace: '/', event: EVENT, args: [CHAT], connection: { sid: a.id, user: { id: 'ann', name: 'Name of ann' }, roles: ['dev'], ip: '127.0.0.1' } });
    await a.call(EVENT, CHAT);
    assert.notEqual((await app.next(EVENT)).headers['webhook-id'], headers['webhook-id']);
  });

  test('binary arguments go as {"$binary"} and come back as binary', async () => {
    const a = await open();
    const blob = Buffer.from([0, 200, 255]);
    app.on(EVENT, (body) => ({ ack: [body.args[0].blob, body.args[1]], emit: [{ event: 'echo', data: { blob: body.args[0].blob } }] }));
    const ack = await a.call(EVENT, { ...CHAT, blob }, Buffer.from('second'));
    const { body } = await app.next(EVENT);
    assert.deepEqual(body.args, [{ ...CHAT, blob: { $binary: blob.toString('base64') } }, { $binary: Buffer.from('second').toString('base64') }]);
    assert.deepEqual([Buffer.from(ack[0]), Buffer.from(ack[1])], [blob, Buffer.from('second')]);
    assert.deepEqual(Buffer.from((await a.next('echo')).blob), blob);
  });

  test('ack replaces the whole ack payload', async () => {
    const a = await open();
    for (const ack of [{ mine: true }, [1, 2], 'text', 0, false]) {
      app.on(EVENT, () => ({ ack }));
      assert.deepEqual(await a.call(EVENT, CHAT), ack);
    }
  });

  test('204 and an empty object: nothing to do, the contract’s own ack', async () => {
    const a = await open();
    assertOk(await a.call(EVENT, CHAT), EVENT);
    app.on(EVENT, () => ({}));
    assertOk(await a.call(EVENT, CHAT), EVENT);
    await a.quiet(EVENT);
  });

  test('emit: to the sender without to; to sids, users, rooms, all and except with one', async () => {
    const [a, ann, b, c] = [await open(), await open({ token: user('ann') }), await open(), await open()];
    await gw.ok('POST', '/v1/rooms/join', { namespace: '/', to: { sids: [b.id, c.id] }, rooms: ['team'] });
    const everyone = [a, ann, b, c];
    for (const [name, to, expected] of [
      ['the sender', undefined, [a]],
      ['a sid', { sids: [b.id] }, [b]],
      ['a user', { users: ['ann'] }, [ann]],
      ['a room', { rooms: ['team'] }, [b, c]],
      ['a room except a sid', { rooms: ['team'], except: [b.id] }, [c]],
      ['all', { all: true }, everyone],
      ['all except a room', { all: true, except: ['team'] }, [a, ann]],
    ]) {
      const event = `emit ${name}`;
      app.on(EVENT, () => ({ emit: [{ event, data: { name }, ...(to ? { to } : {}) }] }));
      assertOk(await a.call(EVENT, CHAT), EVENT);
      for (const each of everyone) {
        await each.settle();
        const got = each.inbox.items.filter((i) => i.event === event);
        assert.equal(got.length, expected.includes(each) ? 1 : 0, `${name}: ${everyone.indexOf(each)}`);
      }
    }
    app.on(EVENT, () => ({ emit: [{ event: 'many', args: [1, 'two', { three: 3 }] }, { event: 'then', data: 2 }] }));
    await a.call(EVENT, CHAT);
    assert.deepEqual(await a.nextArgs('many'), [1, 'two', { three: 3 }]);
    assert.equal(await a.next('then'), 2);
  });

  test('join, leave and disconnect act on the sender', async () => {
    const [a, b] = [await open(), await open()];
    app.on(EVENT, () => ({ join: ['r1', 'r2'] }));
    assertOk(await a.call(EVENT, CHAT), EVENT);
    await gw.emit('/', 'in', 1, { rooms: ['r1'] });
    assert.equal(await a.next('in'), 1);
    app.on(EVENT, () => ({ leave: ['r1'] }));
    assertOk(await a.call(EVENT, CHAT), EVENT);
    await gw.emit('/', 'in', 2, { rooms: ['r1'] });
    await gw.emit('/', 'in', 3, { rooms: ['r2'] });
    assert.equal(await a.next('in'), 3);
    await b.quiet('in');
    app.on(EVENT, () => ({ disconnect: true }));
    a.send(EVENT, CHAT);
    assert.equal(await a.disconnected(), 'io server disconnect');
    await b.settle();
  });

  test('error in a 200 answer is a refusal with its code and message', async () => {
    const a = await open();
    app.on(EVENT, () => ({ error: { code: 'FORBIDDEN', message: 'not yours' } }));
    assert.equal(assertRefused(await a.call(EVENT, CHAT), EVENT, 'FORBIDDEN').message, 'not yours');
    a.send(EVENT, CHAT);
    assertErrorEvent(await a.next('error'), EVENT, 'FORBIDDEN');
  });

  test('NDJSON: each line is acted on as it arrives', async () => {
    const a = await open();
    const gates = [deferred(), deferred()];
    app.on(EVENT, async (_b, { res }) => {
      const out = stream(res);
      out.line({ emit: [{ event: 'token', data: 1 }] });
      await gates[0].promise;
      out.line({ emit: [{ event: 'token', data: 2 }], join: ['streamed'] });
      await gates[1].promise;
      res.write('\n'); // an empty line is none
      res.write('{"emit": [{"event": "token", ');
      res.write('"data": 3}]}\n{"ack": "the ack"}'); // the last line needs no end
      res.end();
      return ANSWERED;
    });
    const ack = a.call(EVENT, CHAT);
    assert.equal(await a.next('token'), 1);
    await a.quiet('token');
    gates[0].resolve();
    assert.equal(await a.next('token'), 2);
    await a.quiet('token');
    gates[1].resolve();
    assert.equal(await ack, 'the ack');
    assert.equal(await a.next('token'), 3);
  });

  test('NDJSON: what was emitted before a failure stands, and the failure follows it', async () => {
    const a = await open();
    const failures = [
      ['an error line', (out) => (out.line({ error: { code: 'CONFLICT', message: 'late' } }), out.end()), 'CONFLICT'],
      ['a broken line', (out, res) => res.end('this is no JSON\n'), 'UNAVAILABLE'],
      ['a connection that breaks', (out, res) => res.socket.end(), 'UNAVAILABLE'],
      ['a stall', () => {}, 'TIMEOUT'],
    ];
    for (const [name, fail, code] of failures) {
      app.on(EVENT, async (_b, { res }) => {
        const out = stream(res);
        out.line({ result: { part: name } });
        fail(out, res);
        return ANSWERED;
      });
      const ack = await a.call(EVENT, CHAT);
      assertRefused(ack, EVENT, code);
      assert.equal((await a.next(EVENT)).part, name);
    }
  });

  test('the time-out of a stream runs from line to line', async () => {
    const a = await open();
    app.on(EVENT, async (_b, { res }) => {
      const out = stream(res);
      for (let i = 0; i < 4; i++) {
        out.line({ emit: [{ event: 'tick', data: i }] });
        await new Promise((r) => setTimeout(r, 450)); // under the time-out of 1 s each, over it together
      }
      out.end();
      return ANSWERED;
    });
    assertOk(await a.call(EVENT, CHAT), EVENT);
    for (let i = 0; i < 4; i++) assert.equal(await a.next('tick'), i);
  });

  const FAILURES = [
    ['400 with an error object', (res) => reply(res, 400, { error: { code: 'BAD_PAYLOAD', message: 'no such model' } }), 'BAD_PAYLOAD'],
    ['404 with an error object', (res) => reply(res, 404, { error: { code: 'NOT_FOUND', message: 'gone' } }), 'NOT_FOUND'],
    ['409 with an error object', (res) => reply(res, 409, { error: { code: 'CONFLICT', message: 'taken' } }), 'CONFLICT'],
    ['500', (res) => reply(res, 500, 'oops'), 'UNAVAILABLE'],
    ['500 with an error object', (res) => reply(res, 500, { error: { code: 'NOT_FOUND', message: 'x' } }), 'UNAVAILABLE'],
    ['503', (res) => reply(res, 503, ''), 'UNAVAILABLE'],
    ['200 that is no JSON', (res) => reply(res, 200, '<html>'), 'UNAVAILABLE'],
    ['200 with a list', (res) => reply(res, 200, [1]), 'UNAVAILABLE'],
    ['200 with an emit of the wrong shape', (res) => reply(res, 200, { emit: 'x' }), 'UNAVAILABLE'],
    ['200 with half a body', (res) => (res.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' }), res.write('{"ack"'), setImmediate(() => res.socket.destroy())), 'UNAVAILABLE'],
    ['a reset', (res) => res.socket.resetAndDestroy(), 'UNAVAILABLE'],
    ['silence', () => {}, 'TIMEOUT'],
    ['a body that never ends', (res) => (res.writeHead(200, { 'content-type': 'application/json' }), res.write('{"ack": ')), 'TIMEOUT'],
  ];
  for (const [name, fail, code] of FAILURES)
    test(`${name}: ${code}`, async () => {
      const a = await open();
      app.on(EVENT, (_b, { res }) => (fail(res), ANSWERED));
      assertRefused(await a.call(EVENT, CHAT), EVENT, code);
      assert.equal(app.calls.items.length, 1, 'an event that is not idempotent is tried once');
      a.send(EVENT, CHAT);
      assertErrorEvent(await a.next('error'), EVENT, code);
    });

  test('4xx without an error object is a refusal all the same', async () => {
    const a = await open();
    app.on(EVENT, (_b, { res }) => (reply(res, 418, 'teapot'), ANSWERED));
    const ack = await a.call(EVENT, CHAT);
    assert.equal(ack.ok, false);
    assert.equal(typeof ack.error.code, 'string');
  });

  test('an answer without bound is cut off', async () => {
    const a = await open();
    app.on(EVENT, (_b, { res }) => {
      res.writeHead(200, { 'content-type': 'application/json' });
      const chunk = Buffer.alloc(1 << 20, 0x20);
      const pump = () => {
        while (!res.destroyed && res.write(chunk));
        if (!res.destroyed) res.once('drain', pump);
      };
      res.on('error', () => {});
      res.on('close', () => res.removeAllListeners('drain'));
      pump();
      return ANSWERED;
    });
    const ack = await a.call(EVENT, CHAT);
    assert.equal(ack.ok, false, JSON.stringify(ack));
    assert.ok(['UNAVAILABLE', 'TIMEOUT', 'TOO_LARGE'].includes(ack.error.code));
  });

  test('what a client leaves behind does not hold up the next', async () => {
    const a = await open();
    const go = deferred();
    app.on(EVENT, async () => (await go.promise, { result: { late: 1 } }));
    a.send(EVENT, CHAT);
    await app.next(EVENT);
    a.close();
    go.resolve();
    const b = await open();
    assertOk(await b.call(EVENT, CHAT), EVENT);
    assert.equal((await b.next(EVENT)).late, 1);
  });
});

describe('upstream bounds', () => {
  test('max_in_flight calls at once, queue more wait, past that UNAVAILABLE', async () => {
    const app = await App.start();
    const gw = await Gateway.start({ contracts: ['codx@/'], app, appConfig: 'max_in_flight = 2\nqueue = 1\n' });
    try {
      const go = deferred();
      let inside = 0;
      let most = 0;
      app.on(EVENT, async () => {
        most = Math.max(most, ++inside);
        await go.promise;
        inside -= 1;
        return {};
      });
      const clients = [];
      for (let i = 0; i < 4; i++) clients.push(await connect(gw, '/', 'codx'));
      const acks = [clients[0].call(EVENT, CHAT), clients[1].call(EVENT, CHAT)];
      await app.next(EVENT);
      await app.next(EVENT);
      acks.push(clients[2].call(EVENT, CHAT));
      await clients[2].settle();
      assertRefused(await clients[3].call(EVENT, CHAT), EVENT, 'UNAVAILABLE');
      assert.equal(app.calls.items.length, 0, 'the third waits');
      go.resolve();
      for (const ack of acks) assertOk(await within(ack, 'an ack that waited'), EVENT);
      assert.equal(most, 2);
    } finally {
      await gw.stop();
      await app.stop();
    }
  });

  test('breaker: after so many failures UNAVAILABLE at once, then one call tries again', async () => {
    const app = await App.start();
    const gw = await Gateway.start({ contracts: ['codx@/', 'security-gate@/gate'], app, appConfig: 'breaker_failures = 3\nbreaker_reset = "1s"\n' });
    try {
      const a = await connect(gw, '/', 'codx');
      const gate = await connect(gw, '/gate', 'security-gate');
      const healthy = async () => (gate.send('request_health_check', {}), (await gate.next('health_status')).graph_initialized);
      assert.equal(await healthy(), true);
      app.on(EVENT, (_b, { res }) => (reply(res, 500, 'x'), ANSWERED));
      for (let i = 0; i < 3; i++) assertRefused(await a.call(EVENT, CHAT), EVENT, 'UNAVAILABLE');
      app.reset();
      assertRefused(await a.call(EVENT, CHAT), EVENT, 'UNAVAILABLE');
      assert.equal(app.calls.items.length, 0, 'an open breaker calls nobody');
      assert.equal(await healthy(), false);
      assert.equal(await a.call('codx-junior-ping'), true);
      await until('the breaker closes', async () => (await a.call(EVENT, CHAT)).ok);
      assert.equal(await healthy(), true);
    } finally {
      await gw.stop();
      await app.stop();
    }
  });

  test('an application that is not there is UNAVAILABLE', async () => {
    const gw = await Gateway.start({ contracts: ['codx@/'], env: { GATEWAY__UPSTREAM__APP__KIND: 'http', GATEWAY__UPSTREAM__APP__URL: `http://127.0.0.1:${await freePort()}/events` } });
    try {
      const a = await connect(gw, '/', 'codx');
      assertRefused(await a.call(EVENT, CHAT), EVENT, 'UNAVAILABLE');
    } finally {
      await gw.stop();
    }
  });

  test('the application learns who a session is, and may be behind several contracts', async () => {
    const app = await App.start();
    const gw = await Gateway.start({ app });
    try {
      const t = await connect(gw, '/toolbox', 'toolbox', { token: user('tom') });
      const c = await connect(gw, '/codx', 'codx');
      assertOk(await t.call('content_request', { a: 1 }), 'content_request');
      assertOk(await c.call(EVENT, CHAT), EVENT);
      assert.deepEqual([(await app.next('content_request')).body.namespace, (await app.next(EVENT)).body.namespace], ['/toolbox', '/codx']);
    } finally {
      await gw.stop();
      await app.stop();
    }
  });
});

describe('upstream demo', () => {
  test('without an application every upstream event is answered, the same each time', async () => {
    const gw = await Gateway.start();
    try {
      const c = await connect(gw, '/codx', 'codx');
      for (const event of [EVENT, 'codx-junior-subtasks', 'codx-junior-improve', 'codx-junior-generate-tasks', 'codx-junior-improve-patch', 'codx-junior-generate-code']) {
        assertOk(await c.call(event, CHAT), event);
        await c.next(event);
      }
      await c.clear();
      const twice = [];
      for (let i = 0; i < 2; i++) {
        await c.call(EVENT, CHAT);
        await c.settle();
        twice.push(JSON.stringify(c.inbox.items.splice(0).map((x) => x.args)));
      }
      assert.equal(twice[0], twice[1]);
      assertOk(await c.call('codx-junior-ai-load-model', { model: 'm' }), 'codx-junior-ai-load-model');

      const s = await connect(gw, '/', 'coding-assistant', { token: user('ann') });
      const ack = assertOk(await s.call('ai:message', { message: 'Hi' }), 'ai:message');
      assert.ok(ack.response);
      const seen = [];
      for (;;) {
        const p = await s.next('ai:processing');
        seen.push(p.status);
        if (p.status === 'progress') assert.equal(typeof p.progress, 'number');
        if (p.status === 'completed') break;
      }
      assert.equal(seen[0], 'started');
      assert.ok(seen.includes('progress'), seen.join());
      assert.ok((await s.next('ai:response')).response);

      const t = await connect(gw, '/toolbox', 'toolbox', { token: user('ann') });
      for (const event of ['content_request', 'quiz_response']) assertOk(await t.call(event, { q: 1 }), event);

      const g = await connect(gw, '/gate', 'security-gate');
      g.send('start_session');
      const { session_id } = await g.next('session_started');
      assertOk(await g.call('send_message', { session_id, message: 'Hello' }), 'send_message');
      const chat = await g.next('chat_response');
      assert.deepEqual([typeof chat.agent_response, typeof chat.session_complete], ['string', 'boolean']);
      assertOk(await g.call('request_threat_logs', {}), 'request_threat_logs');
      assert.ok(Array.isArray(await g.next('threat_logs')));
    } finally {
      await gw.stop();
    }
  });
});
