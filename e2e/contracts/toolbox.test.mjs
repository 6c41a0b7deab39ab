// The contract `toolbox`: acked events, channels, roles, the `/debug` namespace, the status page.
import { after, before, beforeEach, describe, test } from 'node:test';
import { ANSWERED, App, Gateway, assert, assertErrorEvent, assertOk, assertRefused, assertTs, connect, http, jwt, refused, reply, until, user, without } from '../harness.mjs';

let serial = 0;
const fresh = (name) => `${name}-${++serial}`;

describe('toolbox', () => {
  let gw;
  let app;
  const open = (token, options = {}) => connect(gw, '/', 'toolbox', token ? { token, ...options } : options);
  async function channel(...tokens) {
    const name = fresh('class');
    const members = [];
    for (const t of tokens) {
      const c = await open(t);
      assertOk(await c.call('subscribe', { channel: name }), 'subscribe');
      members.push(c);
    }
    for (const c of members) await c.clear();
    return [name, ...members];
  }
  before(async () => {
    app = await App.start();
    gw = await Gateway.start({ contracts: ['toolbox@/'], app });
  });
  after(async () => {
    await gw?.stop();
    await app?.stop();
  });
  beforeEach(() => app.reset());

  // ---- identity

  test('the token may come in auth.token or in the Authorization header, or not at all', async () => {
    const byAuth = await open(user('ann', ['teacher']));
    const byHeader = await open(null, { extraHeaders: { authorization: `Bearer ${user('bea', ['student'])}` } });
    const byPolling = await open(null, { transports: ['polling'], extraHeaders: { Authorization: `Bearer ${user('cara')}` } });
    const nobody = await open();
    for (const [c, id, roles] of [[byAuth, 'ann', ['teacher']], [byHeader, 'bea', ['student']], [byPolling, 'cara', []]]) {
      const one = await gw.ok('GET', `/v1/connections/${c.id}`);
      assert.deepEqual([one.user.id, one.roles], [id, roles]);
    }
    assert.equal((await gw.ok('GET', `/v1/connections/${nobody.id}`)).user, null);
    assert.equal((await refused(gw, '/', { token: 'bad' })).message, 'Invalid or expired token');
    assert.equal((await refused(gw, '/', { extraHeaders: { authorization: 'Bearer bad' } })).message, 'Invalid or expired token');
  });

  // ---- acks

  test('ping: {ok, event, ts}', async () => {
    const a = await open();
    const ack = assertOk(await a.call('ping'), 'ping');
    assert.deepEqual(Object.keys(ack).sort(), ['event', 'ok', 'ts']);
    assertOk(await a.call('ping', { any: 'thing' }), 'ping');
  });

  test('subscribe and unsubscribe: join and leave a channel', async () => {
    const [name, a, b] = await channel(user('ann', ['teacher']), user('bob'));
    assertOk(await a.call('broadcast', { channel: name, text: 'one' }), 'broadcast');
    await b.next('broadcast');
    assertOk(await b.call('unsubscribe', { channel: name }), 'unsubscribe');
    assertOk(await a.call('broadcast', { channel: name, text: 'two' }), 'broadcast');
    await b.quiet('broadcast');
    for (const event of ['subscribe', 'unsubscribe']) {
      for (const bad of [undefined, {}, { channel: 3 }, { channel: '' }, { channel: 'x\n' }, { channel: 'x'.repeat(200) }, 'x']) assertRefused(await a.call(event, bad), event, 'BAD_PAYLOAD');
      a.send(event, {});
      assertErrorEvent(await a.next('error'), event, 'BAD_PAYLOAD');
    }
  });

  test('a channel never is somebody’s private room', async () => {
    const [a, b] = [await open(user('ann')), await open(user('bob'))];
    for (const name of [b.id, 'user:bob', 'workflow:w']) {
      assertRefused(await a.call('subscribe', { channel: name }), 'subscribe', 'FORBIDDEN');
      assertRefused(await a.call('message', { type: 'chat', channel: name, text: 'psst' }), 'message', 'FORBIDDEN');
      assertRefused(await a.call('collaboration_message', { channel: name, text: 'psst' }), 'collaboration_message', 'FORBIDDEN');
    }
    await b.quiet();
  });

  test('message: acked with its own type, relayed to others in the channel', async () => {
    const [name, a, b, a2] = await channel(user('ann'), user('bob'), user('ann'));
    const outsider = await open();
    const payload = { type: 'chat', channel: name, text: 'hello', nested: { n: [1] } };
    const ack = await a.call('message', payload);
    assert.deepEqual([ack.ok, ack.type], [true, 'chat']);
    assertTs(ack.ts);
    for (const each of [b, a2]) {
      const got = await each.next('message');
      assert.deepEqual(without(got, 'from', 'ts'), payload);
      assert.equal(got.from, 'ann');
      assertTs(got.ts);
    }
    await a.quiet('message');
    await outsider.quiet('message');
    const plain = await a.call('message', { type: 'hello' });
    assert.deepEqual([plain.ok, plain.type], [true, 'hello']);
    const bad = await a.call('message', { channel: name });
    assert.deepEqual([bad.ok, bad.error.code], [false, 'BAD_PAYLOAD']);
    await b.quiet('message');
  });

  test('what is relayed is from the sender, whatever the payload says', async () => {
    const [name, a, b] = await channel(user('ann'), user('bob'));
    assertOk(await a.call('collaboration_message', { channel: name, from: 'eve', ts: 'never', text: 'x' }), 'collaboration_message');
    const got = await b.next('collaboration_message');
    assert.equal(got.from, 'ann');
    assertTs(got.ts);
    assertRefused(await a.call('collaboration_message', { channel: name, userId: 'eve' }), 'collaboration_message', 'FORBIDDEN');
  });

  for (const event of ['collaboration_message', 'progress_update'])
    test(`${event}: to others in the channel, members only`, async () => {
      const [name, a, b] = await channel(null, user('bob'));
      const outsider = await open(user('eve'));
      const payload = { channel: name, progress: 50, blob: Buffer.from([9, 8]) };
      assertOk(await a.call(event, payload), event);
      const got = await b.next(event);
      assert.deepEqual([got.channel, got.progress], [name, 50]);
      assert.deepEqual(Buffer.from(got.blob), Buffer.from([9, 8]));
      assert.equal(got.from, a.id);
      await a.quiet(event);
      await outsider.quiet(event);
      assertRefused(await outsider.call(event, payload), event, 'FORBIDDEN');
      outsider.send(event, payload);
      assertErrorEvent(await outsider.next('error'), event, 'FORBIDDEN');
      for (const bad of [undefined, {}, { channel: 4 }, 'x']) assertRefused(await a.call(event, bad), event, 'BAD_PAYLOAD');
      await b.quiet(event);
    });

  test('message to a channel that one is not in is FORBIDDEN', async () => {
    const [name, , b] = await channel(user('ann'), user('bob'));
    const outsider = await open(user('eve'));
    const ack = await outsider.call('message', { type: 'chat', channel: name });
    assert.deepEqual([ack.ok, ack.error.code], [false, 'FORBIDDEN']);
    await b.quiet();
  });

  test('broadcast: teacher or admin, to a channel or to everybody, the sender included', async () => {
    for (const role of ['teacher', 'admin']) {
      const [name, a, b] = await channel(user('ann', [role]), user('bob', ['student']));
      const outsider = await open(user('eve', ['student']));
      assertOk(await a.call('broadcast', { channel: name, text: 'in class' }), 'broadcast');
      for (const each of [a, b]) {
        const got = await each.next('broadcast');
        assert.deepEqual([got.text, got.channel, got.from], ['in class', name, 'ann']);
        assertTs(got.ts);
      }
      await outsider.quiet('broadcast');
      assertOk(await a.call('broadcast', { text: 'to all' }), 'broadcast');
      for (const each of [a, b, outsider]) assert.equal((await each.next('broadcast')).text, 'to all');
      for (const who of [outsider, await open(), await open(user('x', ['Teacher ', 'teachers']))]) {
        assertRefused(await who.call('broadcast', { text: 'no' }), 'broadcast', 'FORBIDDEN');
        who.send('broadcast', { channel: name, text: 'no' });
        assertErrorEvent(await who.next('error'), 'broadcast', 'FORBIDDEN');
      }
      await b.quiet('broadcast');
    }
  });

  test('broadcast by one who is not in the channel reaches those who are', async () => {
    const [name, b] = await channel(user('bob'));
    const teacher = await open(user('ann', ['teacher']));
    assertOk(await teacher.call('broadcast', { channel: name, text: 'x' }), 'broadcast');
    await b.next('broadcast');
    for (const room of [b.id, 'user:bob']) assertRefused(await teacher.call('broadcast', { channel: room, text: 'x' }), 'broadcast', 'FORBIDDEN');
    await b.quiet('broadcast');
  });

  for (const event of ['content_request', 'quiz_response']) {
    test(`${event}: a login is needed; the result comes in the ack, or as an event`, async () => {
      const nobody = await open();
      assertRefused(await nobody.call(event, { q: 1 }), event, 'UNAUTHORIZED');
      nobody.send(event, { q: 1 });
      assertErrorEvent(await nobody.next('error'), event, 'UNAUTHORIZED');
      assert.equal(app.calls.items.length, 0);
      const [a, b] = [await open(user('ann', ['student'])), await open(user('bob'))];
      app.on(event, () => ({ result: { content: 'answer', score: 3 } }));
      const ack = assertOk(await a.call(event, { topic: 'fractions' }), event);
      assert.deepEqual(ack.result, { content: 'answer', score: 3 });
      const { body } = await app.next(event);
      assert.deepEqual([body.contract, body.args, body.connection.user.id, body.connection.roles], ['toolbox', [{ topic: 'fractions' }], 'ann', ['student']]);
      await a.quiet(`${event}_result`);
      a.send(event, { topic: 'fractions' });
      const got = await a.next(`${event}_result`);
      assert.deepEqual([(got.result ?? got).content, (got.result ?? got).score], ['answer', 3]);
      await b.quiet();
      for (const bad of ['x', 3, [1], true]) assertRefused(await a.call(event, bad), event, 'BAD_PAYLOAD');
      app.on(event, (_b, { res }) => (reply(res, 503, 'busy'), ANSWERED));
      assertRefused(await a.call(event, {}), event, 'UNAVAILABLE');
    });
  }

  test('unknown events are refused', async () => {
    const [a, b] = [await open(), await open()];
    for (const event of ['content_request_result', 'echo', 'join', 'x'.repeat(100)]) {
      assertRefused(await a.call(event, {}), event, 'UNKNOWN_EVENT');
      a.send(event, {});
      assertErrorEvent(await a.next('error'), event, 'UNKNOWN_EVENT');
    }
    await b.quiet();
  });

  // ---- /debug

  test('/debug: echo acks its arguments, join and leave, rooms acks the list', async () => {
    const d = await connect(gw, '/debug', 'debug');
    assert.deepEqual(await d.callAll('echo', { a: 1 }), [{ a: 1 }]);
    assert.deepEqual(await d.callAll('echo', 1, 'two', null, [3]), [1, 'two', null, [3]]);
    const [blob] = await d.callAll('echo', Buffer.from([1, 2, 255]));
    assert.deepEqual(Buffer.from(blob), Buffer.from([1, 2, 255]));
    assert.deepEqual(await d.call('rooms'), []);
    assertOk(await d.call('join', { room: 'lab' }), 'join');
    assertOk(await d.call('join', { room: 'lab-2' }), 'join');
    assert.deepEqual((await d.call('rooms')).sort(), ['lab', 'lab-2']);
    await gw.emit('/debug', 'hello', 1, { rooms: ['lab'] });
    assert.equal(await d.next('hello'), 1);
    assertOk(await d.call('leave', { room: 'lab' }), 'leave');
    assert.deepEqual(await d.call('rooms'), ['lab-2']);
    const other = await connect(gw, '/debug', 'debug');
    for (const room of [other.id, 'user:ann', 'workflow:w']) assertRefused(await d.call('join', { room }), 'join', 'FORBIDDEN');
    assertRefused(await d.call('join', {}), 'join', 'BAD_PAYLOAD');
    assertRefused(await d.call('message', { type: 'x' }), 'message', 'UNKNOWN_EVENT');
  });

  test('namespaces do not hear each other', async () => {
    const root = await open();
    const debug = await connect(gw, '/debug', 'debug');
    await debug.call('join', { room: 'same' });
    await root.call('subscribe', { channel: 'same' });
    await gw.emit('/debug', 'one', 1, { rooms: ['same'] });
    assert.equal(await debug.next('one'), 1);
    await gw.emit('/debug', 'two', 1);
    assert.equal(await debug.next('two'), 1);
    await root.quiet('one', 'two');
    assert.match((await refused(gw, '/nowhere')).message, /namespace/i);
  });

  // ---- status

  test('GET /socketio/status counts the connected and the authenticated', async () => {
    await gw.empty();
    const before = JSON.parse((await http(gw.public, { path: '/socketio/status' })).body);
    assert.deepEqual([before.acks_enabled, before.path], [true, '/socket.io']);
    const [a, b] = [await open(user('ann')), await open()];
    const now = await until('two more', async () => {
      const s = JSON.parse((await http(gw.public, { path: '/socketio/status' })).body);
      return s.connected === before.connected + 2 && s.authenticated === before.authenticated + 1 && s;
    });
    assert.deepEqual([now.pod.connected, now.pod.authenticated], [now.connected, now.authenticated]);
    a.close();
    b.close();
    await until('as before', async () => {
      const s = JSON.parse((await http(gw.public, { path: '/socketio/status' })).body);
      return s.connected === before.connected && s.authenticated === before.authenticated;
    });
  });

  test('roles come from the claim that holds them, a string of one role too', async () => {
    const a = await open(jwt({ sub: 'sol', roles: 'teacher' }));
    assert.deepEqual((await gw.ok('GET', `/v1/connections/${a.id}`)).roles, ['teacher']);
  });
});

describe('toolbox: settings', () => {
  test('debug.enabled = false takes /debug away', async () => {
    const gw = await Gateway.start({ contracts: ['toolbox@/'], env: { GATEWAY__DEBUG__ENABLED: 'false' } });
    try {
      await connect(gw, '/', 'toolbox');
      assert.match((await refused(gw, '/debug')).message, /namespace/i);
    } finally {
      await gw.stop();
    }
  });

  test('an exceeded limit is a negative ack', async () => {
    const gw = await Gateway.start({ contracts: ['toolbox@/'], env: { GATEWAY__LIMITS__CONNECTION__EVENTS_PER_SECOND: '1', GATEWAY__LIMITS__CONNECTION__BURST: '2' } });
    try {
      const a = await connect(gw, '/', 'toolbox');
      const acks = await Promise.all(Array.from({ length: 6 }, () => a.call('ping')));
      assert.ok(assertRefused(acks.at(-1), 'ping', 'RATE_LIMITED').retry_after_ms > 0);
    } finally {
      await gw.stop();
    }
  });
});
