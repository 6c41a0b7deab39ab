// The contract `coding-assistant`, first half: rooms, projects, files and locks, batches, the test events.
import { after, before, beforeEach, describe, test } from 'node:test';
import { App, Gateway, assert, assertEnvelope, assertErrorEvent, assertOk, assertRefused, connect, user } from '../harness.mjs';

let serial = 0;
const fresh = (name) => `${name}-${++serial}`;

describe('coding-assistant: projects, files, rooms', () => {
  let gw;
  let app;
  const open = (id, options = {}) => connect(gw, '/', 'coding-assistant', id ? { token: user(id), ...options } : options);
  /** Members of one fresh project, each with an empty inbox. */
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
  before(async () => {
    app = await App.start();
    gw = await Gateway.start({ contracts: ['coding-assistant@/'], app });
  });
  after(async () => {
    await gw?.stop();
    await app?.stop();
  });
  beforeEach(() => app.reset());

  // ---- test events

  test('test:ping gives test:pong to the sender alone', async () => {
    const [a, b] = [await open(), await open()];
    assertOk(await a.call('test:ping'), 'test:ping');
    await a.next('test:pong');
    a.send('test:ping');
    await a.next('test:pong');
    await b.settle();
    await b.quiet('test:pong');
  });

  test('test:event gives test:response with the payload echoed, in the envelope', async () => {
    const [a, b] = [await open(), await open()];
    assertOk(await a.call('test:event', { message: 'Hello Server', n: [1, { deep: null }] }), 'test:event');
    assertEnvelope(await a.next('test:response'), 'test:response', { message: 'Hello Server', n: [1, { deep: null }] });
    assertOk(await a.call('test:event', { blob: Buffer.from([0, 1, 255]), list: [Buffer.from('x')] }), 'test:event');
    const got = await a.next('test:response');
    assert.deepEqual(Buffer.from(got.blob), Buffer.from([0, 1, 255]));
    assert.deepEqual(Buffer.from(got.list[0]), Buffer.from('x'));
    assert.deepEqual(Buffer.from(got.data.blob), Buffer.from([0, 1, 255]));
    await b.quiet();
  });

  test('unknown events are refused and never relayed', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    for (const event of ['file:created', 'project:updated', 'project:created', 'notification', 'user:joined', 'nonsense', 'codx-junior-ping']) {
      assertRefused(await a.call(event, { projectId }), event, 'UNKNOWN_EVENT');
      a.send(event, { projectId });
      assertErrorEvent(await a.next('error', (e) => e.event === event), event, 'UNKNOWN_EVENT');
    }
    await b.quiet();
  });

  // ---- projects

  test('project:join: the ack names those present, others hear of it once per user', async () => {
    const projectId = fresh('project');
    const [a, b, b2, outsider] = [await open('ann'), await open('bob'), await open('bob'), await open('eve')];
    const first = assertOk(await a.call('project:join', { projectId }), 'project:join');
    assert.ok(Array.isArray(first.users), JSON.stringify(first));
    const second = assertOk(await b.call('project:join', { projectId, userId: 'bob' }), 'project:join');
    assert.ok(second.users.some((u) => u.id === 'ann'), JSON.stringify(second));
    const joined = await a.next('user:joined');
    assertEnvelope(joined, 'user:joined', { user: { id: 'bob', name: 'Name of bob' }, projectId });
    await b.quiet('user:joined');
    await outsider.quiet('user:joined');

    const tab = assertOk(await b2.call('project:join', { projectId }), 'project:join');
    assert.deepEqual(tab.users.map((u) => u.id).sort().filter((id, i, all) => all.indexOf(id) !== i), [], 'each user once');
    await a.quiet('user:joined');

    assertOk(await b.call('project:leave', { projectId }), 'project:leave');
    await a.quiet('user:left');
    assertOk(await b2.call('project:leave', { projectId }), 'project:leave');
    assertEnvelope(await a.next('user:left'), 'user:left', { user: { id: 'bob', name: 'Name of bob' }, projectId });
    await b2.quiet('user:left');
    await outsider.quiet('user:left');
  });

  test('project:join again by the same connection is no second join', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    assertOk(await b.call('project:join', { projectId }), 'project:join');
    await a.quiet('user:joined');
  });

  test('user:left when the connection dies, once the last tab is gone', async () => {
    const [projectId, a, b, b2] = await project('ann', 'bob', 'bob');
    b.close();
    await a.quiet('user:left');
    b2.socket.io.engine.transport.ws.terminate();
    assertEnvelope(await a.next('user:left'), 'user:left', { projectId });
    await a.quiet('user:left');
  });

  test('an anonymous connection is who its payload says; without a word its sid', async () => {
    const projectId = fresh('project');
    const [a, b, c] = [await open('ann'), await open(), await open()];
    await a.call('project:join', { projectId });
    assertOk(await b.call('project:join', { projectId, userId: 'user-456' }), 'project:join');
    assert.equal((await a.next('user:joined')).user.id, 'user-456');
    assertOk(await b.call('project:update', { projectId, update: { type: 't', value: 1 } }), 'project:update');
    assert.equal((await a.next('project:updated')).userId, 'user-456');
    assertOk(await c.call('project:join', { projectId }), 'project:join');
    assert.equal((await a.next('user:joined')).user.id, c.id);
    b.close();
    assert.equal((await a.next('user:left', (p) => p.user.id === 'user-456')).projectId, projectId);
  });

  const IDENTITY = [
    ['project:join', { projectId: 'p' }],
    ['project:leave', { projectId: 'p' }],
    ['project:update', { projectId: 'p', update: { type: 't', value: 1 } }],
    ['file:change', { projectId: 'p', file: { path: 'x', action: 'updated', timestamp: '2026-01-01T00:00:00Z' } }],
    ['file:lock', { projectId: 'p', filePath: 'x', lockType: 'exclusive' }],
    ['file:unlock', { projectId: 'p', filePath: 'x' }],
    ['ai:message', { projectId: 'p', message: 'm' }],
    ['user:join', {}],
    ['user:leave', {}],
    ['user:presence', { status: 'online', activity: 'a', timestamp: '2026-01-01T00:00:00Z' }],
    ['user:typing', { projectId: 'p', isTyping: true }],
    ['room:join', { room: 'notifications' }],
    ['room:leave', { room: 'notifications' }],
    ['room:leaveAll', {}],
  ];
  for (const [event, payload] of IDENTITY)
    test(`${event}: a userId that differs from the authenticated one is FORBIDDEN`, async () => {
      const a = await open('ann');
      await a.call('project:join', { projectId: 'p' });
      assertRefused(await a.call(event, { ...payload, userId: 'eve' }), event, 'FORBIDDEN');
      assert.equal(app.calls.items.length, 0);
    });

  test('project:join and project:leave: what is no projectId is BAD_PAYLOAD', async () => {
    const a = await open('ann');
    for (const event of ['project:join', 'project:leave'])
      for (const bad of [undefined, null, {}, 'p', [], { projectId: 3 }, { projectId: '' }, { projectId: null }, { projectId: 'p', userId: 4 }])
        assertRefused(await a.call(event, bad), event, 'BAD_PAYLOAD');
    a.send('project:join', {});
    assertErrorEvent(await a.next('error'), 'project:join', 'BAD_PAYLOAD');
  });

  test('project:update goes to others in the room as project:updated; members only', async () => {
    const [projectId, a, b, a2] = await project('ann', 'bob', 'ann');
    const outsider = await open('eve');
    const update = { type: 'description', value: 'Updated project description' };
    assertOk(await a.call('project:update', { projectId, userId: 'ann', update }), 'project:update');
    for (const each of [b, a2]) {
      const got = await each.next('project:updated');
      assertEnvelope(got, 'project:updated', { update }, { userId: 'ann', projectId });
      assert.equal(got.project.id, projectId);
    }
    await a.quiet('project:updated');
    await outsider.quiet('project:updated');
    assertRefused(await outsider.call('project:update', { projectId, update }), 'project:update', 'FORBIDDEN');
    outsider.send('project:update', { projectId, update });
    assertErrorEvent(await outsider.next('error'), 'project:update', 'FORBIDDEN');
    for (const bad of [{ projectId }, { projectId, update: 'x' }, { projectId, update: {} }, { update }])
      assertRefused(await a.call('project:update', bad), 'project:update', 'BAD_PAYLOAD');
    await b.quiet('project:updated');
  });

  // ---- files

  test('file:change tells others what happened, by its action', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    for (const action of ['created', 'updated']) {
      const file = { path: 'src/App.jsx', action, timestamp: new Date().toISOString() };
      assertOk(await a.call('file:change', { projectId, userId: 'ann', file }), 'file:change');
      const got = await b.next(`file:${action}`);
      assertEnvelope(got, `file:${action}`, {}, { userId: 'ann', projectId });
      for (const k of ['path', 'action', 'timestamp']) assert.equal(got.file[k], file[k]);
    }
    const file = { path: 'src/App.jsx', action: 'deleted', timestamp: new Date().toISOString() };
    assertOk(await a.call('file:change', { projectId, file }), 'file:change');
    assertEnvelope(await b.next('file:deleted'), 'file:deleted', { filePath: 'src/App.jsx' });
    await a.quiet('file:created', 'file:updated', 'file:deleted');
    await b.quiet('file:created', 'file:updated', 'file:deleted');
    for (const bad of [{ projectId }, { projectId, file: {} }, { projectId, file: { ...file, action: 'moved' } }, { projectId, file: { action: 'updated' } }, { file }])
      assertRefused(await a.call('file:change', bad), 'file:change', 'BAD_PAYLOAD');
  });

  test('file and lock events are for members only', async () => {
    const [projectId, a] = await project('ann');
    const outsider = await open('eve');
    const file = { path: 'x', action: 'updated', timestamp: new Date().toISOString() };
    assertRefused(await outsider.call('file:change', { projectId, file }), 'file:change', 'FORBIDDEN');
    assertRefused(await outsider.call('file:lock', { projectId, filePath: 'x', lockType: 'exclusive' }), 'file:lock', 'FORBIDDEN');
    assertRefused(await outsider.call('file:unlock', { projectId, filePath: 'x' }), 'file:unlock', 'FORBIDDEN');
    outsider.send('file:lock', { projectId, filePath: 'x', lockType: 'exclusive' });
    assertErrorEvent(await outsider.next('error'), 'file:lock', 'FORBIDDEN');
    await a.quiet();
  });

  test('an exclusive lock: told to others, kept against others, released by its holder', async () => {
    const [projectId, a, b, c] = await project('ann', 'bob', 'cid');
    const filePath = 'src/components/App.jsx';
    assertOk(await a.call('file:lock', { projectId, userId: 'ann', filePath, lockType: 'exclusive' }), 'file:lock');
    for (const each of [b, c]) assertEnvelope(await each.next('file:locked'), 'file:locked', { filePath, lockType: 'exclusive', userId: 'ann' });
    await a.quiet('file:locked');

    for (const lockType of ['exclusive', 'shared']) {
      const error = assertRefused(await b.call('file:lock', { projectId, filePath, lockType }), 'file:lock', 'CONFLICT');
      assert.equal(error.holder.userId, 'ann');
      assert.equal(error.holder.lockType, 'exclusive');
      assert.ok(Date.parse(error.holder.since) <= Date.now() + 1000, JSON.stringify(error));
    }
    b.send('file:lock', { projectId, filePath, lockType: 'exclusive' });
    const told = await b.next('error');
    assertErrorEvent(told, 'file:lock', 'CONFLICT');
    assert.equal(told.holder.userId, 'ann');
    await c.quiet('file:locked');

    const file = { path: filePath, action: 'updated', timestamp: new Date().toISOString() };
    const conflict = assertRefused(await b.call('file:change', { projectId, file }), 'file:change', 'CONFLICT');
    assert.equal(conflict.holder.userId, 'ann');
    assertOk(await a.call('file:change', { projectId, file }), 'file:change');
    assertOk(await b.call('file:change', { projectId, file: { ...file, path: 'other' } }), 'file:change');

    assertRefused(await b.call('file:unlock', { projectId, filePath }), 'file:unlock', 'FORBIDDEN');
    assertRefused(await b.call('file:unlock', { projectId, filePath: 'never-locked' }), 'file:unlock', 'NOT_FOUND');
    assertOk(await a.call('file:unlock', { projectId, filePath }), 'file:unlock');
    for (const each of [b, c]) {
      const got = await each.next('file:unlocked');
      assertEnvelope(got, 'file:unlocked', { filePath, userId: 'ann' });
      assert.equal(typeof got.reason, 'string');
    }
    await a.quiet('file:unlocked');
    assertRefused(await a.call('file:unlock', { projectId, filePath }), 'file:unlock', 'NOT_FOUND');
    assertOk(await b.call('file:lock', { projectId, filePath, lockType: 'exclusive' }), 'file:lock');
  });

  test('shared locks live together, an exclusive one waits for the last of them', async () => {
    const [projectId, a, b, c] = await project('ann', 'bob', 'cid');
    const filePath = 'shared.txt';
    assertOk(await a.call('file:lock', { projectId, filePath, lockType: 'shared' }), 'file:lock');
    assertOk(await b.call('file:lock', { projectId, filePath, lockType: 'shared' }), 'file:lock');
    const error = assertRefused(await c.call('file:lock', { projectId, filePath, lockType: 'exclusive' }), 'file:lock', 'CONFLICT');
    assert.equal(error.holder.lockType, 'shared');
    const file = { path: filePath, action: 'updated', timestamp: new Date().toISOString() };
    assertOk(await c.call('file:change', { projectId, file }), 'file:change');
    assertRefused(await c.call('file:unlock', { projectId, filePath }), 'file:unlock', 'FORBIDDEN');
    assertOk(await a.call('file:unlock', { projectId, filePath }), 'file:unlock');
    assertRefused(await c.call('file:lock', { projectId, filePath, lockType: 'exclusive' }), 'file:lock', 'CONFLICT');
    assertOk(await b.call('file:unlock', { projectId, filePath }), 'file:unlock');
    assertOk(await c.call('file:lock', { projectId, filePath, lockType: 'exclusive' }), 'file:lock');
  });

  test('locks are of one project and one path', async () => {
    const [p1, a] = await project('ann');
    const [p2, b] = await project('bob');
    assertOk(await a.call('file:lock', { projectId: p1, filePath: 'f', lockType: 'exclusive' }), 'file:lock');
    assertOk(await b.call('file:lock', { projectId: p2, filePath: 'f', lockType: 'exclusive' }), 'file:lock');
    for (const bad of [{ projectId: p1 }, { projectId: p1, filePath: 'f', lockType: 'mine' }, { projectId: p1, filePath: 3, lockType: 'shared' }, { projectId: p1, filePath: '', lockType: 'shared' }])
      assertRefused(await a.call('file:lock', bad), 'file:lock', 'BAD_PAYLOAD');
    assertRefused(await a.call('file:unlock', { projectId: p1 }), 'file:unlock', 'BAD_PAYLOAD');
  });

  const ENDINGS = [
    ['project:leave', (c, projectId) => c.call('project:leave', { projectId })],
    ['room:leave', (c, projectId) => c.call('room:leave', { room: `project:${projectId}` })],
    ['room:leaveAll', (c) => c.call('room:leaveAll', {})],
    ['disconnect', (c) => c.close()],
    ['a transport that dies', (c) => c.socket.io.engine.transport.ws.terminate()],
  ];
  for (const [name, end] of ENDINGS)
    test(`a lock ends with ${name}, and others are told`, async () => {
      const [projectId, a, b] = await project('ann', 'bob');
      assertOk(await a.call('file:lock', { projectId, filePath: 'f', lockType: 'exclusive' }), 'file:lock');
      await b.clear();
      await end(a, projectId);
      const got = await b.next('file:unlocked');
      assertEnvelope(got, 'file:unlocked', { filePath: 'f', userId: 'ann' });
      assert.equal(typeof got.reason, 'string');
      await b.next('user:left', (p) => p.user.id === 'ann');
      assertOk(await b.call('file:lock', { projectId, filePath: 'f', lockType: 'exclusive' }), 'file:lock');
      await b.quiet('file:unlocked', 'user:left');
    });

  test('an operator frees a stuck lock; others are told, a lock that is none is 404', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    assertOk(await a.call('file:lock', { projectId, filePath: 'dir/f:1', lockType: 'exclusive' }), 'file:lock');
    await b.clear();
    assert.deepEqual(await gw.ok('POST', '/v1/locks/release', { namespace: '/', name: `file:${projectId}:dir/f:1` }), { ok: true });
    assertEnvelope(await b.next('file:unlocked'), 'file:unlocked', { filePath: 'dir/f:1', userId: 'ann' });
    assertOk(await b.call('file:lock', { projectId, filePath: 'dir/f:1', lockType: 'exclusive' }), 'file:lock');
    const none = await gw.api('POST', '/v1/locks/release', { namespace: '/', name: `file:${projectId}:none` });
    assert.equal(none.status, 404);
    assert.equal(none.body.error.code, 'NOT_FOUND');
  });

  // ---- rooms

  test('room:join and room:leave: told to the sender alone', async () => {
    const [a, b] = [await open('ann'), await open('bob')];
    for (const room of ['test-room', 'notifications', 'x'.repeat(128), 'Zimmer ä 字 🚀']) {
      assertOk(await a.call('room:join', { room, userId: 'ann' }), 'room:join');
      assert.equal((await a.next('room:joined')).room, room);
      await gw.emit('/', 'notification', { message: room }, { rooms: [room] });
      assert.equal((await a.next('notification')).message, room);
      assertOk(await a.call('room:leave', { room }), 'room:leave');
      assert.equal((await a.next('room:left')).room, room);
      await gw.emit('/', 'notification', { message: room }, { rooms: [room] });
      await a.quiet('notification');
    }
    await b.quiet();
  });

  test('room:join of a project is a join of the project', async () => {
    const [projectId, a] = await project('ann');
    const b = await open('bob');
    assertOk(await b.call('room:join', { room: `project:${projectId}` }), 'room:join');
    assert.equal((await b.next('room:joined')).room, `project:${projectId}`);
    assert.equal((await a.next('user:joined')).user.id, 'bob');
    assertOk(await b.call('project:update', { projectId, update: { type: 't', value: 1 } }), 'project:update');
    assertOk(await b.call('room:leave', { room: `project:${projectId}` }), 'room:leave');
    assert.equal((await a.next('user:left')).user.id, 'bob');
  });

  test('rooms that are not permitted: room:error', async () => {
    const [a, b, nobody] = [await open('ann'), await open('bob'), await open()];
    for (const room of ['user:bob', b.id, 'workflow:w1']) {
      assertRefused(await a.call('room:join', { room }), 'room:join', 'FORBIDDEN');
      a.inbox.items.length = 0;
      a.send('room:join', { room });
      const told = await a.next('room:error');
      assert.equal(told.room, room);
      assert.equal(told.error.code, 'FORBIDDEN');
      assert.equal(typeof told.error.message, 'string');
      await a.quiet('room:joined', 'error');
    }
    assertRefused(await nobody.call('room:join', { room: 'user:ann', userId: 'ann' }), 'room:join', 'FORBIDDEN');
    assertOk(await a.call('room:join', { room: 'user:ann' }), 'room:join');
    await gw.emit('/', 'notification', { message: 'secret' }, { sids: [b.id] });
    await b.next('notification');
    await a.quiet('notification');
  });

  test('room names that are none are BAD_PAYLOAD', async () => {
    const a = await open('ann');
    for (const bad of [undefined, {}, { room: '' }, { room: 'x'.repeat(129) }, { room: 'a\nb' }, { room: 'a\u0000' }, { room: '\u007f' }, { room: 3 }, { room: ['a'] }, { room: null }]) {
      assertRefused(await a.call('room:join', bad), 'room:join', 'BAD_PAYLOAD');
      assertRefused(await a.call('room:leave', bad), 'room:leave', 'BAD_PAYLOAD');
    }
    await a.quiet('room:joined', 'room:left');
  });

  test('room:leaveAll leaves all but the own room, with one room:left each', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    await a.call('room:join', { room: 'one' });
    await a.call('room:join', { room: 'two' });
    await a.clear();
    assertOk(await a.call('room:leaveAll', { userId: 'ann' }), 'room:leaveAll');
    const left = [];
    for (let i = 0; i < 3; i++) left.push((await a.next('room:left')).room);
    assert.deepEqual(left.sort(), ['one', `project:${projectId}`, 'two'].sort());
    await a.quiet('room:left');
    await b.next('user:left');
    await gw.emit('/', 'notification', { message: 'own' }, { sids: [a.id] });
    await a.next('notification');
    await gw.emit('/', 'notification', { message: 'gone' }, { rooms: ['one', 'two', `project:${projectId}`] });
    await a.quiet('notification');
  });

  // ---- batches

  test('batch:update: each in order, as if sent alone, with the ack of each', async () => {
    const [projectId, a, b] = await project('ann', 'bob');
    const file = { path: 'f', action: 'updated', timestamp: new Date().toISOString() };
    const updates = [
      { event: 'project:update', data: { projectId, update: { type: 'n', value: 1 } } },
      { event: 'file:change', data: { projectId, file } },
      { event: 'nonsense', data: {} },
      { event: 'project:update', data: { projectId } },
      { event: 'room:join', data: { room: 'user:bob' } },
      { event: 'project:update', data: { projectId, update: { type: 'n', value: 2 } } },
    ];
    const ack = assertOk(await a.call('batch:update', { updates }), 'batch:update');
    assert.equal(ack.results.length, 6);
    assertOk(ack.results[0], 'project:update');
    assertOk(ack.results[1], 'file:change');
    assertRefused(ack.results[2], 'nonsense', 'UNKNOWN_EVENT');
    assertRefused(ack.results[3], 'project:update', 'BAD_PAYLOAD');
    assertRefused(ack.results[4], 'room:join', 'FORBIDDEN');
    assertOk(ack.results[5], 'project:update');
    await b.settle();
    const heard = b.inbox.items.map((i) => i.event);
    assert.deepEqual(heard, ['project:updated', 'file:updated', 'project:updated']);
    assert.equal(b.inbox.items[2].args[0].update.value, 2);
  });

  test('batch:update: 100 are taken, 101 are TOO_LARGE, what is no list is BAD_PAYLOAD', async () => {
    const a = await open('ann');
    const one = { event: 'test:ping' };
    const ack = assertOk(await a.call('batch:update', { updates: Array(100).fill(one) }), 'batch:update');
    assert.equal(ack.results.length, 100);
    await a.clear();
    assertRefused(await a.call('batch:update', { updates: Array(101).fill(one) }), 'batch:update', 'TOO_LARGE');
    await a.quiet('test:pong');
    for (const bad of [undefined, {}, { updates: 'x' }, { updates: { event: 'test:ping' } }]) assertRefused(await a.call('batch:update', bad), 'batch:update', 'BAD_PAYLOAD');
    assert.deepEqual((await a.call('batch:update', { updates: [] })).results, []);
  });

  test('a batch within a batch does not multiply', async () => {
    const a = await open('ann');
    const inner = { event: 'batch:update', data: { updates: Array(100).fill({ event: 'test:ping' }) } };
    const ack = await a.call('batch:update', { updates: Array(100).fill(inner) });
    const pongs = a.inbox.items.filter((i) => i.event === 'test:pong').length;
    assert.ok(pongs <= 400, `${pongs} pongs from one packet`);
    assert.equal(ack.event, 'batch:update');
  });

  // ---- out only

  for (const [event, data] of [
    ['project:created', { project: { id: 'p1', name: 'New' } }],
    ['project:deleted', { projectId: 'p1' }],
    ['notification', { message: 'hello', level: 'info' }],
    ['version:created', { version: { id: 'v1' } }],
    ['version:restored', { version: { id: 'v1' } }],
  ])
    test(`${event} from the server API reaches everybody, in the envelope`, async () => {
      const [a, b] = [await open('ann'), await open()];
      await gw.emit('/', event, data);
      for (const each of [a, b]) assertEnvelope(await each.next(event), event, data);
    });

  test('an event that the contract does not name passes from the server API as given', async () => {
    const a = await open();
    await gw.emit('/', 'app:custom', { x: 1 });
    assert.deepEqual(await a.next('app:custom'), { x: 1 });
    await gw.ok('POST', '/v1/emit', { namespace: '/', event: 'app:args', args: [1, 'two', { three: 3 }] });
    assert.deepEqual(await a.nextArgs('app:args'), [1, 'two', { three: 3 }]);
  });

  test('"to others" leaves out the sending connection only, and keeps the order', async () => {
    const [projectId, a, b, a2] = await project('ann', 'bob', 'ann');
    for (let i = 0; i < 50; i++) a.send('project:update', { projectId, update: { type: 'n', value: i } });
    for (const each of [b, a2])
      for (let i = 0; i < 50; i++) assert.equal((await each.next('project:updated')).update.value, i);
    await a.quiet('project:updated');
  });
});
