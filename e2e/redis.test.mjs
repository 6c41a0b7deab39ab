// The same contracts with their state in Redis: one flow each, the image stream, and emitters that know nothing of us.
import { after, before, describe, test } from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import Redis from 'ioredis';
import { App, Gateway, Redis as Server, assert, assertEnvelope, assertOk, assertRefused, connect, deferred, png, until, user } from './harness.mjs';


describe('with Redis', () => {
  let gw;
  let redis;
  let app;
  let db;
  before(async () => {
    redis = await Server.start();
    app = await App.start();
    db = new Redis(redis.port, '127.0.0.1');
    gw = await Gateway.start({ args: ['--redis', redis.url], app });
  });
  after(async () => {
    await gw?.stop();
    db?.disconnect();
    await app?.stop();
    await redis?.stop();
  });

  test('ready, and not degraded', async () => {
    const { status, body } = await gw.api('GET', '/health/ready');
    assert.equal(status, 200);
    assert.notEqual(body.status, 'degraded', JSON.stringify(body));
    assert.equal(await gw.metric('gateway_redis_up'), 1);
  });

  test('codx: the map of the logged-in', async () => {
    const [a, b] = [await connect(gw, '/codx', 'codx'), await connect(gw, '/codx', 'codx')];
    const map = await a.call('codx-junior-login', { username: 'john', key: Buffer.from([0, 255]) });
    assert.deepEqual(Buffer.from(map[a.id].key), Buffer.from([0, 255]));
    assert.equal((await b.next('codx-junior-online-users', (m) => a.id in m))[a.id].username, 'john');
    const gone = a.id;
    a.close();
    await b.next('codx-junior-online-users', (m) => !(gone in m));
    app.on('codx-junior-chat', () => ({ result: { answer: 1 } }));
    assertOk(await b.call('codx-junior-chat', { chat: { name: 'c' }, message: 'm' }), 'codx-junior-chat');
    assert.equal((await b.next('codx-junior-chat')).answer, 1);
  });

  test('coding-assistant: sessions, projects, locks', async () => {
    await gw.session('redis-session', { id: 'ann', name: 'Ann', roles: ['dev'] });
    const [a, b] = [await connect(gw, '/', 'coding-assistant'), await connect(gw, '/', 'coding-assistant', { token: user('bob') })];
    assertOk(await a.call('auth:session', { sessionId: 'redis-session' }), 'auth:session');
    assert.equal((await a.next('auth:success')).user.id, 'ann');
    for (const c of [a, b]) assertOk(await c.call('project:join', { projectId: 'p' }), 'project:join');
    assertEnvelope(await a.next('user:joined'), 'user:joined', { projectId: 'p' });
    assertOk(await a.call('file:lock', { projectId: 'p', filePath: 'f', lockType: 'exclusive' }), 'file:lock');
    await b.next('file:locked');
    assert.equal(assertRefused(await b.call('file:lock', { projectId: 'p', filePath: 'f', lockType: 'shared' }), 'file:lock', 'CONFLICT').holder.userId, 'ann');
    a.close();
    assertEnvelope(await b.next('file:unlocked'), 'file:unlocked', { filePath: 'f', userId: 'ann' });
    await b.next('user:left');
    assertOk(await b.call('file:lock', { projectId: 'p', filePath: 'f', lockType: 'shared' }), 'file:lock');
    assert.equal((await gw.api('DELETE', '/v1/sessions/redis-session')).status < 300, true);
  });

  test('security-gate: one session, its messages in order, its images in the stream', async () => {
    const a = await connect(gw, '/gate', 'security-gate');
    a.send('start_session');
    const { session_id } = await a.next('session_started');
    const go = deferred();
    const order = [];
    app.on('send_message', async (body) => {
      order.push(body.args[0].message);
      if (order.length === 1) await go.promise;
      return { result: { agent_response: body.args[0].message, session_complete: false }, state: { visitor_profile: { n: order.length } } };
    });
    const acks = ['one', 'two', 'three'].map((message) => a.call('send_message', { session_id, message }));
    await app.next('send_message');
    await a.settle();
    assert.deepEqual(order, ['one']);
    go.resolve();
    for (const ack of await Promise.all(acks)) assertOk(ack, 'send_message');
    assert.deepEqual(order, ['one', 'two', 'three']);
    assertOk(await a.call('get_profile', { session_id }), 'get_profile');
    assert.deepEqual((await a.next('profile_data')).visitor_profile, { n: 3 });

    const image = png().toString('base64');
    assertOk(await a.call('upload_image', { session_id, image }), 'upload_image');
    const { image_id } = await a.next('image_upload_response');
    const entries = await db.xrange('gateway:images', '-', '+');
    assert.equal(entries.length, 1);
    const [, fields] = entries[0];
    assert.equal(fields.length, 2);
    assert.equal(fields[0], 'event');
    const body = JSON.parse(fields[1]);
    assert.deepEqual([body.contract, body.event, body.namespace, body.session_id, body.args[0].image], ['security-gate', 'upload_image', '/gate', session_id, image]);
    assert.ok(fields[1].includes(image_id), 'the worker can name the image');
    assertOk(await a.call('end_session', { session_id }), 'end_session');
  });

  test('toolbox: channels, and the status counts', async () => {
    const [a, b] = [await connect(gw, '/toolbox', 'toolbox'), await connect(gw, '/toolbox', 'toolbox')];
    for (const c of [a, b]) assertOk(await c.call('subscribe', { channel: 'c' }), 'subscribe');
    for (let i = 0; i < 30; i++) a.send('collaboration_message', { channel: 'c', i });
    for (let i = 0; i < 30; i++) assert.equal((await b.next('collaboration_message')).i, i);
  });

  test('a stock Redis emitter reaches rooms, everybody, and nobody it leaves out', async () => {
    const [a, b] = [await connect(gw, '/agents', 'agent-stream', { token: user('ann') }), await connect(gw, '/agents', 'agent-stream', { token: user('bob') })];
    for (const c of [a, b]) assertOk(await c.call('workflow:subscribe', { workflowId: 'w' }), 'workflow:subscribe');
    const emitter = new Emitter(db).of('/agents');
    const thought = { type: 'thought', workflowId: 'w', data: { content: 'hm' }, timestamp: '2026-01-21T12:00:00Z' };
    emitter.to('workflow:w').emit('agent:thought', thought);
    for (const c of [a, b]) assert.deepEqual(await c.next('agent:thought'), thought);
    emitter.to(a.id).emit('only:a', 1);
    assert.equal(await a.next('only:a'), 1);
    emitter.except(a.id).emit('not:a', Buffer.from([1, 2]));
    assert.deepEqual(Buffer.from(await b.next('not:a')), Buffer.from([1, 2]));
    emitter.emit('last', [1, { two: 2 }]);
    for (const c of [a, b]) assert.deepEqual(await c.next('last'), [1, { two: 2 }]);
    await a.quiet('not:a');
    await b.quiet('only:a');
    await db.publish('socket.io#/agents#', 'this is no msgpack');
    await db.publish('socket.io#/agents#', Buffer.from([0xc1, 0xff, 0x93]));
    emitter.emit('after garbage', 1);
    for (const c of [a, b]) assert.equal(await c.next('after garbage'), 1);
    emitter.socketsJoin('everyone');
    await until('both joined', async () => (await gw.ok('GET', '/v1/rooms/everyone/members?namespace=/agents')).members.length === 2);
    emitter.in(b.id).disconnectSockets();
    await b.disconnected();
    await a.settle();
  });

  test('server API: what Redis holds is what it says', async () => {
    const a = await connect(gw, '/toolbox', 'toolbox', { token: user('rita') });
    const { connections } = await gw.ok('GET', '/v1/users/rita/connections');
    assert.deepEqual(connections.map((c) => c.sid), [a.id]);
    assert.equal((await gw.ok('GET', '/v1/stats')).pods, 1);
    a.close();
    await until('gone', async () => (await gw.ok('GET', '/v1/users/rita/connections')).connections.length === 0);
  });

  test('one event has no second effect under one Idempotency-Key', async () => {
    const a = await connect(gw, '/toolbox', 'toolbox');
    const headers = { 'idempotency-key': 'redis-once' };
    await Promise.all([1, 2, 3].map(() => gw.api('POST', '/v1/emit', { namespace: '/toolbox', event: 'once', data: 1 }, { headers })));
    await a.next('once');
    await a.quiet('once');
  });
});

describe('when Redis goes away', () => {
  test('local delivery goes on; what needs it is UNAVAILABLE; health says degraded', async () => {
    const redis = await Server.start();
    const gw = await Gateway.start({ args: ['--redis', redis.url] });
    try {
      const [a, b] = [await connect(gw, '/', 'coding-assistant', { token: user('ann') }), await connect(gw, '/', 'coding-assistant', { token: user('bob') })];
      for (const c of [a, b]) assertOk(await c.call('project:join', { projectId: 'p' }), 'project:join');
      await a.clear();
      await b.clear();
      await redis.stop();
      await until('degraded', async () => {
        const { status, body } = await gw.api('GET', '/health/ready');
        assert.equal(status, 200);
        return body.status === 'degraded' && body.redis === 'down';
      });
      assertOk(await a.call('project:update', { projectId: 'p', update: { type: 't', value: 1 } }), 'project:update');
      assert.equal((await b.next('project:updated')).update.value, 1);
      a.deadline = 6000;
      assertRefused(await a.call('file:lock', { projectId: 'p', filePath: 'f', lockType: 'exclusive' }), 'file:lock', 'UNAVAILABLE');
      assert.equal(await gw.metric('gateway_redis_up'), 0);
    } finally {
      await gw.stop();
    }
  });
});
