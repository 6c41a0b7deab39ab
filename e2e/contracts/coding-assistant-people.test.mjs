// The contract `coding-assistant`, second half: sessions, presence, typing, the assistant, the document's environment.
import { after, before, beforeEach, describe, test } from 'node:test';
import { ANSWERED, App, Gateway, Poll, assert, assertEnvelope, assertErrorEvent, assertOk, assertRefused, connect, deferred, http, jwt, reply, stream, until, user } from '../harness.mjs';

let serial = 0;
const fresh = (name) => `${name}-${++serial}`;

describe('coding-assistant: people and the assistant', () => {
  let gw;
  let app;
  const open = (id, options = {}) => connect(gw, '/', 'coding-assistant', id ? { token: user(id), ...options } : options);
  async function project(...ids) {
    const projectId = fresh('project');
    const members = [];
    for (const id of ids) {
      const c = await open(id);
      assertOk(await c.call('project:join', { projectId }), 'project:join');
      members.push(c);
    }
    for (const c of members) await c.clear();
    return [projectId, ...members];
  }
  /** A connection that logged in with a session of its own. */
  async function loggedIn(id, session = fresh('session')) {
    await gw.session(session, { id, name: `Name of ${id}`, roles: ['dev'] });
    const c = await open();
    assertOk(await c.call('auth:session', { sessionId: session }), 'auth:session');
    await c.next('auth:success');
    await c.clear();
    return [c, session];
  }
  before(async () => {
    app = await App.start();
    gw = await Gateway.start({ contracts: ['coding-assistant@/'], app, appConfig: 'timeout = "2s"' });
  });
  after(async () => {
    await gw?.stop();
    await app?.stop();
  });
  beforeEach(() => app.reset());

  // ---- auth

  test('auth:session: success to the sender, auth:login to the user’s room', async () => {
    const id = fresh('lena');
    const [first] = await loggedIn(id);
    assertOk(await first.call('user:join', { userId: id }), 'user:join');
    await first.clear();
    const session = fresh('session');
    await gw.session(session, { id, name: 'Lena', roles: ['dev'] });
    const [c, other] = [await open(), await open()];
    assertOk(await c.call('auth:session', { sessionId: session }), 'auth:session');
    const success = await c.next('auth:success');
    assertEnvelope(success, 'auth:success');
    assert.equal(success.user.id, id);
    assert.equal(success.user.name, 'Lena');
    assert.equal(typeof success.session, 'object');
    const login = await first.next('auth:login');
    assert.equal(login.user.id, id);
    await other.quiet('auth:success', 'auth:login');
    const one = await gw.ok('GET', `/v1/connections/${c.id}`);
    assert.deepEqual([one.user.id, one.roles], [id, ['dev']]);
  });

  test('auth:session with an unknown, expired or missing session: auth:error', async () => {
    const c = await open();
    assertRefused(await c.call('auth:session', { sessionId: 'none' }), 'auth:session', 'UNAUTHORIZED');
    c.inbox.items.length = 0;
    c.send('auth:session', { sessionId: 'none' });
    const told = await c.next('auth:error');
    assert.equal(told.code, 'UNAUTHORIZED');
    assert.equal(typeof told.message, 'string');
    await c.quiet('error', 'auth:success');
    for (const bad of [undefined, {}, { sessionId: 3 }, { sessionId: null }]) assertRefused(await c.call('auth:session', bad), 'auth:session', 'BAD_PAYLOAD');
    c.inbox.items.length = 0;
    c.send('auth:session', {});
    assert.equal((await c.next('auth:error')).code, 'BAD_PAYLOAD');
    const short = fresh('short');
    await gw.session(short, { id: 'x' }, 1);
    await until('the session ran out', async () => (await gw.api('GET', `/v1/sessions/${short}`)).status === 404);
    assertRefused(await c.call('auth:session', { sessionId: short }), 'auth:session', 'UNAUTHORIZED');
  });

  test('auth:check: the session, or auth:error', async () => {
    const c = await open();
    c.send('auth:check');
    assert.equal((await c.next('auth:error')).code, 'UNAUTHORIZED');
    assertRefused(await c.call('auth:check'), 'auth:check', 'UNAUTHORIZED');
    const [d] = await loggedIn(fresh('carl'));
    assertOk(await d.call('auth:check'), 'auth:check');
    const got = await d.next('auth:session');
    assertEnvelope(got, 'auth:session');
    assert.equal(typeof got.session, 'object');
    assert.ok(JSON.stringify(got.session).includes('carl'), JSON.stringify(got));
  });

  test('auth:refresh renews the session and tells the user’s room', async () => {
    const id = fresh('rita');
    const session = fresh('session');
    const [c] = await loggedIn(id, session);
    const [other] = await loggedIn(id);
    for (const each of [c, other]) assertOk(await each.call('user:join', { userId: id }), 'user:join');
    await c.clear();
    await other.clear();
    assertOk(await c.call('auth:refresh'), 'auth:refresh');
    for (const each of [c, other]) assert.equal(typeof (await each.next('auth:session')).session, 'object');
    const nobody = await open();
    assertRefused(await nobody.call('auth:refresh'), 'auth:refresh', 'UNAUTHORIZED');
    nobody.inbox.items.length = 0;
    nobody.send('auth:refresh');
    assert.equal((await nobody.next('auth:error')).code, 'UNAUTHORIZED');
  });

  test('auth:refresh with a token: of the same user only; a connection that came with a token must name one', async () => {
    const a = await open('ann');
    assertOk(await a.call('auth:refresh', { token: user('ann', ['editor']) }), 'auth:refresh');
    assert.deepEqual((await gw.ok('GET', `/v1/connections/${a.id}`)).roles, ['editor']);
    assertRefused(await a.call('auth:refresh', { token: user('eve') }), 'auth:refresh', 'FORBIDDEN');
    assertRefused(await a.call('auth:refresh'), 'auth:refresh', 'BAD_PAYLOAD');
    assertRefused(await a.call('auth:refresh', { token: 'rubbish' }), 'auth:refresh', 'UNAUTHORIZED');
    assert.equal((await gw.ok('GET', `/v1/connections/${a.id}`)).user.id, 'ann');
  });

  test('auth:logout: the session is gone, and all of the user’s connections with it', async () => {
    const id = fresh('otto');
    const session = fresh('session');
    const [c] = await loggedIn(id, session);
    const [tab] = await loggedIn(id);
    const bystander = await open('bob');
    const projectId = fresh('project');
    assertOk(await bystander.call('project:join', { projectId }), 'project:join');
    assertOk(await tab.call('project:join', { projectId }), 'project:join');
    assertOk(await tab.call('user:join', { userId: id }), 'user:join');
    for (const each of [c, tab, bystander]) await each.clear();

    assertOk(await c.call('auth:logout'), 'auth:logout');
    for (const each of [c, tab]) assertEnvelope(await each.next('auth:logout'), 'auth:logout', { userId: id });
    assert.equal((await bystander.next('user:left')).user.id, id);
    await bystander.quiet('auth:logout');
    assert.equal((await gw.api('GET', `/v1/sessions/${session}`)).status, 404);
    for (const each of [c, tab]) {
      assertRefused(await each.call('auth:check'), 'auth:check', 'UNAUTHORIZED');
      assert.equal((await gw.ok('GET', `/v1/connections/${each.id}`)).user, null);
    }
    await gw.emit('/', 'notification', { message: 'm' }, { rooms: [`user:${id}`, `project:${projectId}`] });
    await tab.quiet('notification');
    assertRefused(await tab.call('project:update', { projectId, update: { type: 't', value: 1 } }), 'project:update', 'FORBIDDEN');
    const nobody = await open();
    assertRefused(await nobody.call('auth:logout'), 'auth:logout', 'UNAUTHORIZED');
  });

  // ---- users

  test('user:join and user:leave: only one’s own', async () => {
    const [a, b] = [await open('ann'), await open('bob')];
    assertOk(await a.call('user:join', { userId: 'ann' }), 'user:join');
    assertRefused(await a.call('user:join', { userId: 'bob' }), 'user:join', 'FORBIDDEN');
    a.send('user:join', { userId: 'bob' });
    const told = await a.next('error');
    assertErrorEvent(told, 'user:join', 'FORBIDDEN');
    const nobody = await open();
    assertRefused(await nobody.call('user:join', { userId: 'ann' }), 'user:join', 'FORBIDDEN');
    await gw.emit('/', 'notification', { message: 'to ann' }, { rooms: ['user:ann'] });
    assert.equal((await a.next('notification')).message, 'to ann');
    await b.quiet('notification');
    await nobody.quiet('notification');
    assertOk(await a.call('user:leave', { userId: 'ann' }), 'user:leave');
    await gw.emit('/', 'notification', { message: 'to ann' }, { rooms: ['user:ann'] });
    await a.quiet('notification');
    for (const bad of [undefined, null, { userId: 3 }, 'ann']) assertRefused(await a.call('user:join', bad), 'user:join', 'BAD_PAYLOAD');
  });

  test('user:presence: to the rooms that the user shares; offline with the last connection', async () => {
    const id = fresh('petra');
    const [p, a, bob] = await project(id, 'bob');
    const tab = await open(id);
    const outsider = await open('eve');
    const payload = { userId: id, status: 'online', activity: 'editing App.jsx', timestamp: new Date().toISOString() };
    assertOk(await a.call('user:presence', payload), 'user:presence');
    assertEnvelope(await bob.next('user:presence'), 'user:presence', { userId: id, status: 'online', activity: 'editing App.jsx' });
    await outsider.quiet('user:presence');
    const { users } = await gw.ok('GET', `/v1/presence/${encodeURIComponent(`project:${p}`)}?namespace=/`);
    const found = users.find((u) => u.id === id);
    assert.deepEqual([found?.status, found?.activity, typeof found?.connections], ['online', 'editing App.jsx', 'number'], JSON.stringify(users));
    for (const bad of [undefined, {}, { status: 3 }, 'online']) assertRefused(await a.call('user:presence', bad), 'user:presence', 'BAD_PAYLOAD');

    a.close();
    await bob.next('user:left');
    await bob.quiet('user:presence');
    assertOk(await tab.call('project:join', { projectId: p }), 'project:join');
    tab.close();
    assertEnvelope(await bob.next('user:presence'), 'user:presence', { userId: id, status: 'offline' });
    await bob.next('user:left');
    await bob.quiet('user:presence');
  });

  test('user:typing: to others in the project, and off by itself after 3 s', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    const outsider = await open('eve');
    const began = Date.now();
    assertOk(await a.call('user:typing', { userId: 'ann', projectId, isTyping: true }), 'user:typing');
    const got = await b.next('user:typing');
    assert.equal(got.isTyping, true);
    assert.equal(got.userId ?? got.user?.id, 'ann');
    assertEnvelope(got, 'user:typing', { isTyping: true }, { projectId });
    await outsider.quiet('user:typing');
    await a.quiet('user:typing');
    const off = await b.next('user:typing', (p) => p.isTyping === false);
    assert.equal(off.userId ?? off.user?.id, 'ann');
    const took = Date.now() - began;
    assert.ok(took > 2500 && took < 4800, `off after ${took} ms`);
    await b.quiet('user:typing');
  });

  test('user:typing: off when told so, once; renewed while it goes on', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    assertOk(await a.call('user:typing', { projectId, isTyping: true }), 'user:typing');
    await b.next('user:typing', (p) => p.isTyping);
    assertOk(await a.call('user:typing', { projectId, isTyping: false }), 'user:typing');
    await b.next('user:typing', (p) => p.isTyping === false);
    await b.quiet('user:typing');
    for (const bad of [undefined, {}, { projectId }, { projectId, isTyping: 'yes' }]) assertRefused(await a.call('user:typing', bad), 'user:typing', 'BAD_PAYLOAD');
  });

  test('user:typing without a project goes to every project room of the sender; off on disconnect', async () => {
    const [p1, a, b] = await project('ann', 'bob');
    const [p2, c] = await project('cid');
    assertOk(await a.call('project:join', { projectId: p2 }), 'project:join');
    await c.clear();
    assertOk(await a.call('user:typing', { isTyping: true }), 'user:typing');
    assert.equal((await b.next('user:typing')).isTyping, true);
    assert.equal((await c.next('user:typing')).isTyping, true);
    assert.ok(p1 !== p2);
    a.close();
    const [offB, offC] = [await b.next('user:typing', (p) => p.isTyping === false, 2000), await c.next('user:typing', (p) => p.isTyping === false, 2000)];
    assert.equal(offB.userId ?? offB.user?.id, 'ann');
    assert.equal(offC.userId ?? offC.user?.id, 'ann');
  });

  // ---- the assistant

  const ask = (projectId) => ({ message: 'Create a React component', ...(projectId ? { projectId } : {}), context: { language: 'javascript' } });
  async function processing(c, status) {
    const got = await c.next('ai:processing');
    assert.equal(got.status, status, JSON.stringify(got));
    return got;
  }

  test('ai:message in a project: message to others, progress and response to all', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    const outsider = await open('eve');
    const go = deferred();
    app.on('ai:message', async () => (await go.promise, { result: { response: { text: 'Here', actions: ['x'] } } }));
    const ack = a.call('ai:message', { ...ask(projectId), userId: 'ann' });
    const { body } = await app.next('ai:message');
    assert.deepEqual(body.args, [{ ...ask(projectId), userId: 'ann' }]);
    assert.equal(body.connection.user.id, 'ann');
    const told = await b.next('ai:message');
    assertEnvelope(told, 'ai:message', { message: 'Create a React component' }, { userId: 'ann', projectId });
    for (const each of [a, b]) assertEnvelope(await processing(each, 'started'), 'ai:processing', { status: 'started' });
    await a.quiet('ai:response', 'ai:message');
    go.resolve();
    const answer = assertOk(await ack, 'ai:message');
    assert.deepEqual(answer.response, { text: 'Here', actions: ['x'] });
    for (const each of [a, b]) {
      let got = await each.next('ai:processing');
      while (got.status === 'progress') {
        assert.equal(typeof got.progress, 'number');
        got = await each.next('ai:processing');
      }
      assert.equal(got.status, 'completed');
      assertEnvelope(await each.next('ai:response'), 'ai:response', { response: { text: 'Here', actions: ['x'] } });
      await each.quiet('ai:response', 'ai:processing');
    }
    await outsider.quiet();
  });

  test('ai:message: progress is told between started and completed', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    app.on('ai:message', (_b, { res }) => {
      const out = stream(res);
      out.line({ emit: [{ event: 'ai:processing', data: { status: 'progress', progress: 50, message: 'half' } }] });
      out.line({ result: { response: { text: 'done' } } });
      out.end();
      return ANSWERED;
    });
    assertOk(await a.call('ai:message', ask(projectId)), 'ai:message');
    await a.settle();
    const seen = a.inbox.items.filter((i) => i.event === 'ai:processing').map((i) => i.args[0]);
    assert.equal(seen[0].status, 'started');
    assert.equal(seen.at(-1).status, 'completed');
    const between = seen.slice(1, -1);
    assert.ok(between.length >= 1, JSON.stringify(seen));
    for (const p of between) {
      assert.equal(p.status, 'progress');
      assert.equal(typeof p.progress, 'number');
    }
    await b.next('ai:response');
  });

  test('ai:message without a project: the sender alone', async () => {
    const [, a, b] = await project('ann', 'bob');
    app.on('ai:message', () => ({ result: { response: 'plain text' } }));
    assertOk(await a.call('ai:message', ask()), 'ai:message', { response: 'plain text' });
    await processing(a, 'started');
    await a.next('ai:processing', (p) => p.status === 'completed');
    assert.equal((await a.next('ai:response')).response, 'plain text');
    await b.quiet();
  });

  test('ai:message that fails behind: error is told to all, and to the ack', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    app.on('ai:message', (_b, { res }) => (reply(res, 500, 'oops'), ANSWERED));
    assertRefused(await a.call('ai:message', ask(projectId)), 'ai:message', 'UNAVAILABLE');
    for (const each of [a, b]) {
      await processing(each, 'started');
      const got = await each.next('ai:processing', (p) => p.status === 'error');
      assert.ok(got.error, JSON.stringify(got));
      await each.quiet('ai:response');
    }
    a.inbox.items.length = 0;
    a.send('ai:message', ask(projectId));
    assertErrorEvent(await a.next('error'), 'ai:message', 'UNAVAILABLE');
  });

  test('ai:message that takes too long: TIMEOUT', async () => {
    const a = await open('ann');
    const go = deferred();
    app.on('ai:message', async () => void (await go.promise));
    assertRefused(await a.call('ai:message', ask()), 'ai:message', 'TIMEOUT');
    assert.ok((await a.next('ai:processing', (p) => p.status === 'error')).error);
    go.resolve();
  });

  test('ai:message without a message is BAD_PAYLOAD', async () => {
    const a = await open('ann');
    for (const bad of [undefined, {}, { message: 3 }, { message: 'm', projectId: 3 }, 'm']) assertRefused(await a.call('ai:message', bad), 'ai:message', 'BAD_PAYLOAD');
    assert.equal(app.calls.items.length, 0);
    await a.quiet('ai:processing');
  });

  test('ai:status: relayed as ai:processing, for the role service only', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    const service = await open(null, { token: user('worker', ['service']) });
    const status = { status: 'processing', progress: 50, message: 'Generating component structure...' };
    assertOk(await service.call('ai:status', { ...status, projectId }), 'ai:status');
    for (const each of [a, b]) assertEnvelope(await each.next('ai:processing'), 'ai:processing', status);
    const [other, c] = await project('cid');
    for (const p of [projectId, other]) assertOk(await service.call('project:join', { projectId: p }), 'project:join');
    assertOk(await service.call('ai:status', status), 'ai:status');
    for (const each of [a, b, c]) assert.equal((await each.next('ai:processing')).progress, 50);
    for (const who of [a, await open()]) {
      assertRefused(await who.call('ai:status', { ...status, projectId }), 'ai:status', 'FORBIDDEN');
      who.send('ai:status', { ...status, projectId });
      assertErrorEvent(await who.next('error'), 'ai:status', 'FORBIDDEN');
    }
    await b.quiet('ai:processing');
    assertRefused(await service.call('ai:status', { status: 3 }), 'ai:status', 'BAD_PAYLOAD');
  });

  test('a token that never was valid here is refused, never silently anonymous', async () => {
    for (const token of ['x', '', jwt({ sub: 'a', exp: 1 })]) await assert.rejects(open(null, { token }), /Invalid or expired token/);
  });
});

describe('coding-assistant: the environment of the document', () => {
  test('SOCKET_CORS_ORIGIN, SOCKET_PING_TIMEOUT, SOCKET_PING_INTERVAL, SOCKET_MAX_CONNECTIONS', async () => {
    const gw = await Gateway.start({
      contracts: ['coding-assistant@/'],
      env: { SOCKET_CORS_ORIGIN: 'http://localhost:3000', SOCKET_PING_TIMEOUT: '41000', SOCKET_PING_INTERVAL: '17000', SOCKET_UPGRADE_TIMEOUT: '9000', SOCKET_MAX_CONNECTIONS: '2' },
    });
    try {
      const origin = { origin: 'http://localhost:3000' };
      const p = await Poll.open(gw, { headers: origin });
      assert.deepEqual([p.handshake.pingInterval, p.handshake.pingTimeout], [17000, 41000]);
      const q = await http(gw.public, { path: '/socket.io/?EIO=4&transport=polling', headers: origin });
      assert.equal(q.status, 200);
      assert.equal(q.headers['access-control-allow-origin'], 'http://localhost:3000');
      assert.equal(q.headers['access-control-allow-credentials'], 'true');
      const foreign = await http(gw.public, { path: '/socket.io/?EIO=4&transport=polling', headers: { origin: 'http://evil.test' } });
      assert.equal(foreign.status, 403);
      const third = await http(gw.public, { path: '/socket.io/?EIO=4&transport=polling', headers: origin });
      assert.ok([429, 503].includes(third.status), `${third.status}`);
      assert.ok(third.headers['retry-after'], 'Retry-After');
    } finally {
      await gw.stop();
    }
  });

  test('its defaults: ping every 25 s, 60 s to answer', async () => {
    const gw = await Gateway.start({ contracts: ['coding-assistant@/'] });
    try {
      const { handshake } = await Poll.open(gw);
      assert.deepEqual([handshake.pingInterval, handshake.pingTimeout], [25000, 60000]);
    } finally {
      await gw.stop();
    }
  });

  test('payloads of 100 MB are possible where configured', async () => {
    const gw = await Gateway.start({ contracts: ['coding-assistant@/'], env: { GATEWAY__LIMITS__PAYLOAD_BYTES: '100000000' } });
    try {
      const a = await connect(gw, '/', 'coding-assistant');
      const blob = Buffer.alloc(20_000_000, 7);
      a.deadline = 20000;
      assertOk(await a.call('test:event', { blob }), 'test:event');
      const got = await a.next('test:response', () => true, 20000);
      assert.equal(Buffer.compare(Buffer.from(got.blob), blob), 0);
    } finally {
      await gw.stop();
    }
  });
});
