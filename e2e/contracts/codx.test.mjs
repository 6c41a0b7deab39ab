// The contract `codx`: the list of online users, the ping, and the seven upstream events.
import { after, before, beforeEach, describe, test } from 'node:test';
import { ANSWERED, App, Gateway, assert, assertErrorEvent, assertOk, assertRefused, assertTs, connect, deferred, refused, reply, stream, user, within } from '../harness.mjs';

const UPSTREAM = ['codx-junior-chat', 'codx-junior-subtasks', 'codx-junior-improve', 'codx-junior-generate-tasks', 'codx-junior-improve-patch', 'codx-junior-generate-code'];
const CHAT = { chat: { name: 'project_discussion' }, message: "Let's start the discussion" };

describe('codx', () => {
  let gw;
  let app;
  const open = (options) => connect(gw, '/', 'codx', options);
  before(async () => {
    app = await App.start();
    gw = await Gateway.start({ contracts: ['codx@/'], app });
  });
  after(async () => {
    await gw?.stop();
    await app?.stop();
  });
  beforeEach(() => app.reset());

  test('connect needs no token; a bad token is refused, a good one is taken', async () => {
    await open();
    assert.equal((await refused(gw, '/', { token: 'rubbish' })).message, 'Invalid or expired token');
    assert.equal((await refused(gw, '/', { token: '' })).message, 'Invalid or expired token');
    await open({ token: user('ada') });
  });

  test('ping acks the JSON value true, with any payload or none', async () => {
    const a = await open();
    for (const args of [[], [{}], [null], ['x'], [1], [[1, 2]], [Buffer.from('x')]]) assert.equal(await a.call('codx-junior-ping', ...args), true);
    a.send('codx-junior-ping');
    await a.quiet();
  });

  test('login: ack is the map of the logged-in, everybody hears of it; leaving tells who remains', async () => {
    const [a, b, c] = [await open(), await open(), await open()];
    const john = { username: 'john_doe', avatar: 'j.png' };
    const ack = await a.call('codx-junior-login', john);
    assert.deepEqual(ack[a.id], john);
    assert.ok(!(b.id in ack), 'not logged in yet');
    for (const each of [a, b, c]) assert.deepEqual((await each.next('codx-junior-online-users', (m) => a.id in m))[a.id], john);

    const both = await b.call('codx-junior-login', { username: 'jane' });
    assert.deepEqual([both[a.id], both[b.id]], [john, { username: 'jane' }]);
    for (const each of [a, b, c]) {
      const map = await each.next('codx-junior-online-users', (m) => b.id in m);
      assert.deepEqual(map[a.id], john);
    }

    await c.clear();
    const gone = a.id;
    a.close();
    for (const each of [b, c]) {
      const map = await each.next('codx-junior-online-users', (m) => !(gone in m));
      assert.deepEqual(map[b.id], { username: 'jane' });
    }
    assert.ok(!(gone in (await c.call('codx-junior-login', { username: 'c' }))));
  });

  test('a second login of one connection replaces the first', async () => {
    const a = await open();
    await a.call('codx-junior-login', { username: 'before' });
    const map = await a.call('codx-junior-login', { username: 'after' });
    assert.deepEqual(map[a.id], { username: 'after' });
  });

  test('login carries binary', async () => {
    const a = await open();
    const watcher = await open();
    const map = await a.call('codx-junior-login', { username: 'bin', key: Buffer.from([0, 255, 1]) });
    assert.deepEqual(Buffer.from(map[a.id].key), Buffer.from([0, 255, 1]));
    const heard = await watcher.next('codx-junior-online-users', (m) => a.id in m);
    assert.deepEqual(Buffer.from(heard[a.id].key), Buffer.from([0, 255, 1]));
    a.close();
  });

  for (const [name, args] of [['nothing', []], ['a string', ['john']], ['null', [null]], ['a list', [[1]]], ['a number', [7]]])
    test(`login with ${name} is BAD_PAYLOAD`, async () => {
      const a = await open();
      assertRefused(await a.call('codx-junior-login', ...args), 'codx-junior-login', 'BAD_PAYLOAD');
      await a.clear();
      a.send('codx-junior-login', ...args);
      assertErrorEvent(await a.next('error'), 'codx-junior-login', 'BAD_PAYLOAD');
    });

  test('error: taken in any form, answered by an ack only', async () => {
    const [a, b] = [await open(), await open()];
    await a.clear();
    await b.clear();
    assertOk(await a.call('error', { anything: 1 }), 'error');
    assertOk(await a.call('error'), 'error');
    a.send('error', 'boom');
    await a.quiet('error');
    await b.quiet('error');
  });

  test('what is only an out event, or no event at all, is UNKNOWN_EVENT and not relayed', async () => {
    const [a, b] = [await open(), await open()];
    await b.clear();
    for (const event of ['codx-junior-online-users', 'message', 'test:ping', 'project:join', '', '__proto__', 'constructor']) {
      assertRefused(await a.call(event, { x: 1 }), event, 'UNKNOWN_EVENT');
      a.send(event, { x: 1 });
      assertErrorEvent(await a.next('error', (e) => e.event === event), event, 'UNKNOWN_EVENT');
    }
    await b.quiet();
  });

  for (const event of UPSTREAM) {
    test(`${event}: streamed parts reach the sender alone as they come, then the ack`, async () => {
      const [a, b] = [await open(), await open()];
      await b.clear();
      const go = deferred();
      app.on(event, async (_body, { res }) => {
        const out = stream(res);
        out.line({ result: { part: 1, text: 'first' } });
        await go.promise;
        out.line({ result: { part: 2, text: 'second' } });
        out.end();
        return ANSWERED;
      });
      const ack = a.call(event, { ...CHAT, extra: { any: true } });
      const { body, method, headers } = await app.next(event);
      assert.equal(method, 'POST');
      assert.match(headers['content-type'], /^application\/json/);
      assert.deepEqual([body.contract, body.namespace, body.event], ['codx', '/', event]);
      assert.deepEqual(body.args, [{ ...CHAT, extra: { any: true } }]);
      assert.equal(body.connection.sid, a.id);
      assert.equal(body.connection.user, null);
      assert.deepEqual(body.connection.roles, []);
      assert.equal(body.connection.ip, '127.0.0.1');

      const first = await a.next(event);
      assert.deepEqual([first.part, first.text], [1, 'first']);
      await a.quiet(event);
      go.resolve();
      assertOk(await ack, event);
      const second = await a.next(event);
      assert.deepEqual([second.part, second.text], [2, 'second']);
      await a.quiet(event);
      await b.quiet();
    });

    test(`${event}: a payload without chat is BAD_PAYLOAD and never goes upstream`, async () => {
      const a = await open();
      for (const bad of [undefined, null, 'x', [], { message: 'm' }, { chat: 'name', message: 'm' }])
        assertRefused(await a.call(event, bad), event, 'BAD_PAYLOAD');
      a.send(event, { chat: 3 });
      assertErrorEvent(await a.next('error'), event, 'BAD_PAYLOAD');
      assert.equal(app.calls.items.length, 0);
    });

    test(`${event}: a failure behind is told in the ack, or as an error event`, async () => {
      const a = await open();
      app.on(event, (_b, { res }) => (reply(res, 422, { error: { code: 'NOT_FOUND', message: 'no such chat' } }), ANSWERED));
      const error = assertRefused(await a.call(event, CHAT), event, 'NOT_FOUND');
      assert.equal(error.message, 'no such chat');
      a.send(event, CHAT);
      assertErrorEvent(await a.next('error'), event, 'NOT_FOUND');
      await a.quiet(event);
    });
  }

  test('a single JSON answer is one reply event, and its result is in the ack', async () => {
    const a = await open();
    app.on('codx-junior-chat', () => ({ result: { message: 'the answer', tasks: [1] } }));
    const ack = assertOk(await a.call('codx-junior-chat', CHAT), 'codx-junior-chat');
    const got = await a.next('codx-junior-chat');
    assert.deepEqual([got.message, got.tasks], ['the answer', [1]]);
    if ('result' in ack) assert.equal(ack.result.message, 'the answer');
  });

  test('without an ack the replies come all the same', async () => {
    const a = await open();
    app.on('codx-junior-chat', () => ({ result: { message: 'hi' } }));
    a.send('codx-junior-chat', CHAT);
    assert.equal((await a.next('codx-junior-chat')).message, 'hi');
  });

  test('ai-load-model: model is required; answers as chat does', async () => {
    const a = await open();
    const event = 'codx-junior-ai-load-model';
    for (const bad of [undefined, {}, { model: '' }, { model: 3 }, { model: null }, 'gpt']) {
      if (bad && bad.model === '') continue; // whether an empty name is a name is the application's affair
      assertRefused(await a.call(event, bad), event, 'BAD_PAYLOAD');
    }
    assert.equal(app.calls.items.length, 0);
    app.on(event, () => ({ result: { model: 'gpt-4', loaded: true } }));
    assertOk(await a.call(event, { model: 'gpt-4' }), event);
    assert.equal((await a.next(event)).loaded, true);
  });

  test('an authenticated user is named to the application; a differing userId is FORBIDDEN', async () => {
    const a = await open({ token: user('ada', ['dev']) });
    app.on('codx-junior-chat', () => ({}));
    assertOk(await a.call('codx-junior-chat', { ...CHAT, userId: 'ada' }), 'codx-junior-chat');
    const { body } = await app.next('codx-junior-chat');
    assert.deepEqual(body.connection.user, { id: 'ada', name: 'Name of ada' });
    assert.deepEqual(body.connection.roles, ['dev']);
    assertRefused(await a.call('codx-junior-chat', { ...CHAT, userId: 'eve' }), 'codx-junior-chat', 'FORBIDDEN');
  });

  test('session channel: the application reaches one sid, a room, or everybody', async () => {
    const [a, b] = [await open(), await open()];
    await a.clear();
    await b.clear();
    await gw.emit('/', 'codx-junior-chat', { one: 1 }, { sids: [a.id] });
    assert.deepEqual(await a.next('codx-junior-chat'), { one: 1 });
    await b.quiet('codx-junior-chat');
    await gw.ok('POST', '/v1/rooms/join', { namespace: '/', to: { sids: [b.id] }, rooms: ['project-7'] });
    await gw.emit('/', 'codx-junior-subtasks', { to: 'room' }, { rooms: ['project-7'] });
    assert.deepEqual(await b.next('codx-junior-subtasks'), { to: 'room' });
    await a.quiet('codx-junior-subtasks');
    await gw.emit('/', 'news', [1, 2]);
    for (const each of [a, b]) assert.deepEqual(await each.next('news'), [1, 2]);
  });

  test('a long answer does not hold up the sender nor anybody else', async () => {
    const [a, b] = [await open(), await open()];
    const go = deferred();
    app.on('codx-junior-chat', async () => (await go.promise, { result: { late: true } }));
    const late = a.call('codx-junior-chat', CHAT);
    await app.next('codx-junior-chat');
    assert.equal(await a.call('codx-junior-ping'), true);
    assert.equal(await b.call('codx-junior-ping'), true);
    go.resolve();
    assertOk(await within(late, 'the late ack'), 'codx-junior-chat');
    assertTs((await late).ts);
  });
});
