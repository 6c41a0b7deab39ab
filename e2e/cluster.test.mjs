// Two pods on one Redis: whatever holds on one pod holds over both, and stays true when one is killed without warning.
import { after, before, describe, test } from 'node:test';
import { App, Gateway, Redis as Server, assert, assertEnvelope, assertOk, assertRefused, connect, deferred, until, user } from './harness.mjs';

/** Whatever dies, what it held is gone within 10 s; a second more is the test's own. */
const LEASE = 11000;

describe('two pods', () => {
  let redis;
  let app;
  let one;
  let two;
  before(async () => {
    redis = await Server.start();
    app = await App.start();
    [one, two] = await Promise.all([0, 1].map(() => Gateway.start({ args: ['--redis', redis.url], app, env: { GATEWAY__LIMITS__USER__BURST: '60', GATEWAY__LIMITS__USER__EVENTS_PER_SECOND: '1' } })));
  });
  after(async () => {
    await one?.stop();
    await two?.stop();
    await app?.stop();
    await redis?.stop();
  });

  test('each knows of the other', async () => {
    for (const gw of [one, two]) await until('two pods', async () => (await gw.ok('GET', '/v1/stats')).pods === 2);
  });

  test('a room over both pods: others hear, in order, the sender does not; binary too', async () => {
    const [a, b] = [await connect(one, '/toolbox', 'toolbox'), await connect(two, '/toolbox', 'toolbox')];
    for (const c of [a, b]) assertOk(await c.call('subscribe', { channel: 'r' }), 'subscribe');
    for (let i = 0; i < 50; i++) a.send('collaboration_message', { channel: 'r', i, blob: Buffer.from([i]) });
    for (let i = 0; i < 50; i++) {
      const got = await b.next('collaboration_message');
      assert.deepEqual([got.i, Buffer.from(got.blob)[0], got.from], [i, i, a.id]);
    }
    await a.quiet('collaboration_message');
  });

  test('nobody joins or writes to the room of a connection, whichever pod it is of', async () => {
    const [a, b] = [await connect(one, '/toolbox', 'toolbox'), await connect(two, '/toolbox', 'toolbox')];
    assertRefused(await a.call('subscribe', { channel: b.id }), 'subscribe', 'FORBIDDEN');
    assertRefused(await a.call('collaboration_message', { channel: b.id, i: 1 }), 'collaboration_message', 'FORBIDDEN');
    assertOk(await a.call('subscribe', { channel: 'a-room-of-twenty-cha' }), 'subscribe');
    await b.quiet('collaboration_message');
  });

  test('once a join is acknowledged, what the other pod sends to that room arrives', async () => {
    for (let i = 0; i < 30; i++) {
      const c = await connect(two, '/toolbox', 'toolbox');
      const channel = `join-${i}`;
      assertOk(await c.call('subscribe', { channel }), 'subscribe');
      await one.emit('/toolbox', 'now', i, { rooms: [channel] });
      assert.equal(await c.next('now'), i);
      c.close();
    }
  });

  test('server API: one pod answers for both, and reaches both', async () => {
    const [a, b] = [await connect(one, '/agents', 'agent-stream', { token: user('api') }), await connect(two, '/agents', 'agent-stream', { token: user('api') })];
    for (const gw of [one, two]) {
      const { connections } = await gw.ok('GET', '/v1/users/api/connections');
      assert.deepEqual(connections.map((c) => c.sid).sort(), [a.id, b.id].sort());
      assert.equal(new Set(connections.map((c) => c.pod)).size, 2);
      for (const c of [a, b]) assert.equal((await gw.ok('GET', `/v1/connections/${c.id}`)).user.id, 'api');
      await gw.emit('/agents', 'both', 1, { users: ['api'] });
      for (const c of [a, b]) assert.equal(await c.next('both'), 1);
      for (const c of [a, b]) {
        await gw.emit('/agents', 'one', 2, { sids: [c.id] });
        assert.equal(await c.next('one'), 2);
      }
      await gw.ok('POST', '/v1/rooms/join', { namespace: '/agents', to: { users: ['api'] }, rooms: ['api-room'] });
      const { members } = await until('both are in', async () => {
        const answer = await gw.ok('GET', '/v1/rooms/api-room/members?namespace=/agents');
        return answer.members.length === 2 && answer;
      });
      assert.deepEqual(members.map((m) => m.sid).sort(), [a.id, b.id].sort());
    }
    await one.ok('POST', '/v1/disconnect', { namespace: '/agents', to: { sids: [b.id] } });
    await b.disconnected();
    await a.quiet('both', 'one');
  });

  test('an Idempotency-Key holds on both pods', async () => {
    const a = await connect(two, '/toolbox', 'toolbox');
    const headers = { 'idempotency-key': 'over-both' };
    for (const gw of [one, two]) await gw.ok('POST', '/v1/emit', { namespace: '/toolbox', event: 'once', data: 1, to: { sids: [a.id] } }, { headers });
    await a.next('once');
    await a.quiet('once');
  });

  test('the online users of codx are of both pods', async () => {
    const [a, b] = [await connect(one, '/codx', 'codx'), await connect(two, '/codx', 'codx')];
    await a.call('codx-junior-login', { username: 'one' });
    const map = await b.call('codx-junior-login', { username: 'two' });
    assert.deepEqual([map[a.id], map[b.id]], [{ username: 'one' }, { username: 'two' }]);
    await a.next('codx-junior-online-users', (m) => b.id in m);
    const gone = b.id;
    b.close();
    await a.next('codx-junior-online-users', (m) => !(gone in m));
  });

  test('a user’s second tab on the other pod is no second join, a lock holds on both', async () => {
    const ann = await connect(one, '/', 'coding-assistant', { token: user('ann') });
    const bob = await connect(one, '/', 'coding-assistant', { token: user('bob') });
    const tab = await connect(two, '/', 'coding-assistant', { token: user('bob') });
    const { users } = assertOk(await ann.call('project:join', { projectId: 'p' }), 'project:join');
    assert.deepEqual(users.map((u) => u.id), ['ann']);
    assertOk(await tab.call('project:join', { projectId: 'p' }), 'project:join');
    assert.equal((await ann.next('user:joined')).user.id, 'bob');
    assertOk(await bob.call('project:join', { projectId: 'p' }), 'project:join');
    assertOk(await tab.call('file:lock', { projectId: 'p', filePath: 'f', lockType: 'exclusive' }), 'file:lock');
    assertEnvelope(await ann.next('file:locked'), 'file:locked', { userId: 'bob' });
    assert.equal(assertRefused(await ann.call('file:lock', { projectId: 'p', filePath: 'f', lockType: 'shared' }), 'file:lock', 'CONFLICT').holder.userId, 'bob');
    tab.close();
    await ann.next('file:unlocked');
    await ann.quiet('user:joined', 'user:left');
    bob.close();
    await ann.next('user:left');
  });

  test('messages of one session sent on two pods are processed one after the other', async () => {
    const [a, b] = [await connect(one, '/gate', 'security-gate'), await connect(two, '/gate', 'security-gate')];
    a.send('start_session');
    const { session_id } = await a.next('session_started');
    assertOk(await b.call('join_session_updates', { session_id }), 'join_session_updates');
    let inside = 0;
    let most = 0;
    const gates = Array.from({ length: 6 }, deferred);
    let n = 0;
    app.on('send_message', async (body) => {
      most = Math.max(most, ++inside);
      const turn = n++;
      if (turn < 5) gates[turn + 1].resolve();
      await gates[turn].promise;
      inside -= 1;
      return { result: { agent_response: body.args[0].message, session_complete: false }, state: { seen: (body.state.seen ?? 0) + 1 } };
    });
    gates[0].resolve();
    const acks = [];
    for (let i = 0; i < 3; i++) for (const c of [a, b]) acks.push(c.call('send_message', { session_id, message: `m${i}` }));
    for (const ack of await Promise.all(acks)) assertOk(ack, 'send_message');
    assert.equal(most, 1);
    app.on('send_message', (body) => ({ ack: body.state }));
    assert.equal((await b.call('send_message', { session_id, message: 'last' })).seen, 6, 'no state was lost');
    for (const c of [a, b]) {
      c.send('request_health_check', {});
      assert.equal((await c.next('health_status')).active_sessions, 1);
    }
    assertOk(await a.call('end_session', { session_id }), 'end_session');
    assert.equal((await b.next('session_update')).type, 'session_ended');
  });

  test('a user who logs out on one pod is logged out on both', async () => {
    await one.session('both-pods', { id: 'lea' });
    const [a, b] = [await connect(one, '/', 'coding-assistant'), await connect(two, '/', 'coding-assistant')];
    for (const c of [a, b]) assertOk(await c.call('auth:session', { sessionId: 'both-pods' }), 'auth:session');
    const connections = async () => (await one.ok('GET', '/v1/users/lea/connections')).connections.length;
    assert.equal(await connections(), 2);
    assertOk(await a.call('auth:logout'), 'auth:logout');
    await until('nobody is lea', async () => (await connections()) === 0);
    assert.equal((await two.ok('GET', `/v1/connections/${b.id}`)).user, null);
  });

  test('a limit of a user is of both pods', async () => {
    const [a, b] = [await connect(one, '/toolbox', 'toolbox', { token: user('fast') }), await connect(two, '/toolbox', 'toolbox', { token: user('fast') })];
    const acks = await Promise.all([a, b].flatMap((c) => Array.from({ length: 50 }, () => c.call('ping'))));
    const passed = acks.filter((x) => x.ok).length;
    assert.ok(passed >= 50 && passed <= 70, `${passed} of 100 passed with a burst of 60`);
  });
});

describe('a pod is killed', () => {
  test('its rooms, presence, locks and logins are released within 10 s, and everyone concerned is told once', async () => {
    const redis = await Server.start();
    const [stays, dies] = await Promise.all([0, 1].map(() => Gateway.start({ args: ['--redis', redis.url] })));
    try {
      await until('both pods know each other', async () => (await stays.ok('GET', '/v1/stats')).pods === 2);
      const ann = await connect(stays, '/', 'coding-assistant', { token: user('ann') });
      const bob = await connect(dies, '/', 'coding-assistant', { token: user('bob') });
      for (const c of [ann, bob]) assertOk(await c.call('project:join', { projectId: 'p' }), 'project:join');
      assertOk(await bob.call('user:presence', { status: 'online', activity: 'x', timestamp: new Date().toISOString() }), 'user:presence');
      assertOk(await bob.call('file:lock', { projectId: 'p', filePath: 'f', lockType: 'exclusive' }), 'file:lock');
      assertOk(await bob.call('user:typing', { projectId: 'p', isTyping: true }), 'user:typing');
      const watcher = await connect(stays, '/codx', 'codx');
      const login = await connect(dies, '/codx', 'codx');
      await login.call('codx-junior-login', { username: 'doomed' });
      const doomed = login.id;
      await watcher.next('codx-junior-online-users', (m) => doomed in m);
      await ann.next('file:locked');
      await ann.clear();

      dies.terminate('SIGKILL');
      const began = Date.now();
      await Promise.all([
        ann.next('user:left', (p) => p.user.id === 'bob', LEASE),
        ann.next('file:unlocked', (p) => p.userId === 'bob', LEASE),
        ann.next('user:presence', (p) => p.status === 'offline' && p.userId === 'bob', LEASE),
        ann.next('user:typing', (p) => p.isTyping === false, LEASE),
        watcher.next('codx-junior-online-users', (m) => !(doomed in m), LEASE),
      ]);
      assert.ok(Date.now() - began < LEASE);
      await until('one pod', async () => (await stays.ok('GET', '/v1/stats')).pods === 1, LEASE);
      assertOk(await ann.call('file:lock', { projectId: 'p', filePath: 'f', lockType: 'exclusive' }), 'file:lock');
      await ann.quiet('user:left', 'file:unlocked', 'user:presence', 'user:typing');
      assert.deepEqual((await stays.ok('GET', '/v1/users/bob/connections')).connections, []);
      const { members } = await stays.ok('GET', `/v1/rooms/${encodeURIComponent('project:p')}/members`);
      assert.deepEqual(members.map((m) => m.user.id), ['ann']);
    } finally {
      await stays.stop();
      await dies.stop();
      await redis.stop();
    }
  });
});
