// The server API on the internal listener: every call, its selection of targets, its refusals, its document.
import { after, before, describe, test } from 'node:test';
import Ajv from 'ajv';
import { API_KEY, Gateway, assert, assertEnvelope, assertOk, connect, http, until, user } from './harness.mjs';

let serial = 0;
const fresh = (name) => `${name}-${++serial}`;
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$/;

function assertFailed(answer, status, code) {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.body.ok, false, answer.text);
  if (code) assert.equal(answer.body.error.code, code, answer.text);
  else assert.equal(typeof answer.body.error.code, 'string', answer.text);
  assert.equal(typeof answer.body.error.message, 'string', answer.text);
}

describe('server API', () => {
  let gw;
  const open = (id, options = {}) => connect(gw, '/', 'toolbox', id ? { token: user(id), ...options } : options);
  before(async () => {
    gw = await Gateway.start({ contracts: ['toolbox@/', 'coding-assistant@/code'] });
  });
  after(() => gw?.stop());

  const CALLS = [
    ['POST', '/v1/emit', { namespace: '/', event: 'x', data: 1 }],
    ['POST', '/v1/batch', { commands: [] }],
    ['POST', '/v1/rooms/join', { namespace: '/', to: {}, rooms: [] }],
    ['POST', '/v1/rooms/leave', { namespace: '/', to: {}, rooms: [] }],
    ['POST', '/v1/disconnect', { namespace: '/', to: { sids: ['none'] } }],
    ['GET', '/v1/rooms'],
    ['GET', '/v1/rooms/r/members'],
    ['GET', '/v1/presence/r'],
    ['GET', '/v1/users/u/connections'],
    ['GET', '/v1/connections/s'],
    ['POST', '/v1/locks/release', { namespace: '/', name: 'file:p:f' }],
    ['GET', '/v1/stats'],
    ['PUT', '/v1/sessions/s', { user: { id: 'u', name: 'U', roles: [] }, ttl_s: 5 }],
    ['GET', '/v1/sessions/s'],
    ['DELETE', '/v1/sessions/s'],
  ];
  for (const [method, path, body] of CALLS)
    test(`${method} ${path}: only with the key, and never on the public listener`, async () => {
      assertFailed(await gw.api(method, path, body, { key: null }), 401);
      assertFailed(await gw.api(method, path, body, { key: 'wrong' }), 401);
      assertFailed(await gw.api(method, path, body, { key: `${API_KEY}x` }), 401);
      assertFailed(await gw.api(method, path, body, { key: null, headers: { authorization: `Basic ${API_KEY}` } }), 401);
      const open = await http(gw.public, { method, path, headers: { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }, body: body && JSON.stringify(body) });
      assert.equal(open.status, 404);
    });

  for (const [method, path, body] of CALLS.filter(([m]) => m === 'POST' || m === 'PUT'))
    test(`${method} ${path}: a body that is none, or has what is unknown, is 400`, async () => {
      for (const bad of ['{', '', '[]', '"x"', '{"namespace": 3}', JSON.stringify({ ...body, unheard_of: 1 })]) {
        const answer = await gw.api(method, path, bad);
        assertFailed(answer, 400);
      }
    });

  test('every to: sids, users, rooms, except, all; none is everybody in the namespace', async () => {
    const [ann, ann2, bob, cid] = [await open('ann'), await open('ann'), await open('bob'), await open()];
    const elsewhere = await connect(gw, '/debug', 'debug');
    const everyone = [ann, ann2, bob, cid];
    const [r1, r2] = [fresh('room'), fresh('room')];
    for (const c of [ann, bob]) assertOk(await c.call('subscribe', { channel: r1 }), 'subscribe');
    for (const c of [bob, cid]) assertOk(await c.call('subscribe', { channel: r2 }), 'subscribe');
    const table = [
      ['one sid', { sids: [ann.id] }, [ann]],
      ['two sids', { sids: [ann.id, cid.id] }, [ann, cid]],
      ['a user', { users: ['ann'] }, [ann, ann2]],
      ['a room', { rooms: [r1] }, [ann, bob]],
      ['two rooms, once each', { rooms: [r1, r2] }, [ann, bob, cid]],
      ['a room and a user, once each', { rooms: [r1], users: ['ann'] }, [ann, ann2, bob]],
      ['a room and a sid', { rooms: [r1], sids: [cid.id] }, [ann, bob, cid]],
      ['a room except a room', { rooms: [r1], except: [r2] }, [ann]],
      ['a room except a sid', { rooms: [r1], except: [ann.id] }, [bob]],
      ['all', { all: true }, everyone],
      ['all except a room', { all: true, except: [r1] }, [ann2, cid]],
      ['no target', undefined, everyone],
      ['nobody', { sids: ['nobody'], rooms: ['none'], users: ['none'] }, []],
      ['except alone is everybody else', { except: [r2] }, [ann, ann2]],
    ];
    for (const [name, to, expected] of table) {
      const event = fresh('event');
      assert.deepEqual(await gw.emit('/', event, { name }, to), { ok: true });
      for (const c of everyone) {
        await c.settle();
        const got = c.inbox.items.filter((i) => i.event === event);
        assert.equal(got.length, expected.includes(c) ? 1 : 0, `${name}: ${everyone.indexOf(c)}`);
        if (got.length) assert.deepEqual(got[0].args, [{ name }]);
      }
    }
    await elsewhere.quiet();
    for (const c of [...everyone, elsewhere]) c.close();
  });

  test('a to that selects nothing selects nobody, never everybody', async () => {
    const a = await open();
    const event = fresh('event');
    for (const to of [{ sids: [] }, { rooms: [] }, { users: [] }]) {
      const answer = await gw.api('POST', '/v1/emit', { namespace: '/', event, data: 1, to });
      assert.ok([200, 400].includes(answer.status), answer.text);
    }
    await a.quiet(event);
    a.close();
  });

  test('data and args: any JSON, in place; binary both ways in', async () => {
    const a = await open();
    for (const data of [null, true, 0, -1.5, 'text', '', [], [1, [2]], {}, { a: { b: null } }, 2 ** 53 - 1, '\u0000\ud83d\ude80']) {
      await gw.emit('/', 'data', data, { sids: [a.id] });
      assert.deepEqual(await a.nextArgs('data'), [data]);
    }
    for (const args of [[], [1], [1, null, 'x', { y: [] }]]) {
      await gw.ok('POST', '/v1/emit', { namespace: '/', event: 'args', args, to: { sids: [a.id] } });
      assert.deepEqual(await a.nextArgs('args'), args);
    }
    const blob = Buffer.from([0, 1, 2, 253, 254, 255]);
    const wrapped = { $binary: blob.toString('base64') };
    await gw.ok('POST', '/v1/emit', { namespace: '/', event: 'blobs', args: [wrapped, { in: [wrapped, 'x'] }], to: { sids: [a.id] } });
    const [first, second] = await a.nextArgs('blobs');
    assert.deepEqual(Buffer.from(first), blob);
    assert.deepEqual(Buffer.from(second.in[0]), blob);
    assert.equal(second.in[1], 'x');
    await gw.ok('POST', '/v1/emit', { namespace: '/', event: 'soon', data: 1, volatile: true, to: { sids: [a.id] } });
    assert.equal(await a.next('soon'), 1);
    a.close();
  });

  test('emit: what is no event, both data and args, an unknown namespace', async () => {
    for (const bad of [{ namespace: '/', data: 1 }, { namespace: '/', event: '', data: 1 }, { namespace: '/', event: 3, data: 1 }, { namespace: '/', event: 'x', data: 1, args: [1] }, { namespace: '/', event: 'x', args: 'no list' }, { namespace: '/', event: 'x', data: 1, to: { sids: 'no list' } }, { namespace: '/', event: 'x', data: 1, to: { unheard: ['x'] } }, { namespace: '/', event: 'x', data: { $binary: 'not base64 !' } }])
      assertFailed(await gw.api('POST', '/v1/emit', bad), 400);
    for (const event of ['connect', 'disconnect', 'connect_error', 'disconnecting']) assertFailed(await gw.api('POST', '/v1/emit', { namespace: '/', event, data: 1 }), 400);
    assertFailed(await gw.api('POST', '/v1/emit', { namespace: '/nowhere', event: 'x', data: 1 }), 404);
  });

  test('an unknown namespace is 404 on every call that names one', async () => {
    const to = { all: true };
    for (const [method, path, body] of [
      ['POST', '/v1/rooms/join', { namespace: '/nowhere', to, rooms: ['r'] }],
      ['POST', '/v1/rooms/leave', { namespace: '/nowhere', to, rooms: ['r'] }],
      ['POST', '/v1/disconnect', { namespace: '/nowhere', to }],
      ['GET', '/v1/rooms?namespace=/nowhere'],
      ['GET', '/v1/rooms/r/members?namespace=/nowhere'],
      ['GET', '/v1/presence/r?namespace=/nowhere'],
      ['POST', '/v1/locks/release', { namespace: '/nowhere', name: 'file:p:f' }],
    ])
      assertFailed(await gw.api(method, path, body), 404);
  });

  test('rooms: join, members, list, leave', async () => {
    const [a, b] = [await open('ann'), await open()];
    const [r1, r2] = [fresh('list/with slash & ä'), fresh('list')];
    assert.deepEqual(await gw.ok('POST', '/v1/rooms/join', { namespace: '/', to: { sids: [a.id, b.id] }, rooms: [r1, r2] }), { ok: true });
    const { members } = await gw.ok('GET', `/v1/rooms/${encodeURIComponent(r1)}/members?namespace=/`);
    assert.deepEqual(members.map((m) => m.sid).sort(), [a.id, b.id].sort());
    const ofAnn = members.find((m) => m.sid === a.id);
    assert.deepEqual([ofAnn.user, typeof ofAnn.pod], [{ id: 'ann', name: 'Name of ann' }, 'string']);
    assert.equal(members.find((m) => m.sid === b.id).user, null);
    const { rooms } = await gw.ok('GET', `/v1/rooms?namespace=/&prefix=${encodeURIComponent('list')}`);
    assert.deepEqual(rooms.map((r) => [r.room, r.connections]).sort(), [[r1, 2], [r2, 2]].sort());
    await gw.ok('POST', '/v1/rooms/leave', { namespace: '/', to: { users: ['ann'] }, rooms: [r1] });
    assert.deepEqual((await gw.ok('GET', `/v1/rooms/${encodeURIComponent(r1)}/members`)).members.map((m) => m.sid), [b.id]);
    await gw.emit('/', 'still', 1, { rooms: [r1] });
    await b.next('still');
    await a.quiet('still');
    a.close();
    b.close();
    await until('both rooms are gone', async () => (await gw.ok('GET', `/v1/rooms?namespace=/&prefix=${encodeURIComponent('list')}`)).rooms.length === 0);
    assert.deepEqual((await gw.ok('GET', '/v1/rooms/never/members')).members, []);
  });

  test('GET /v1/rooms: pages by limit and cursor, each room once', async () => {
    const a = await open();
    const names = Array.from({ length: 25 }, (_, i) => `page-${String(i).padStart(2, '0')}`);
    await gw.ok('POST', '/v1/rooms/join', { namespace: '/', to: { sids: [a.id] }, rooms: names });
    const seen = [];
    let cursor;
    let pages = 0;
    do {
      const page = await gw.ok('GET', `/v1/rooms?namespace=/&prefix=page-&limit=10${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`);
      assert.ok(page.rooms.length <= 10, `${page.rooms.length}`);
      seen.push(...page.rooms.map((r) => r.room));
      cursor = page.cursor;
      pages += 1;
    } while (cursor && pages < 10);
    assert.deepEqual(seen.sort(), names);
    for (const bad of ['limit=-1', 'limit=x']) assertFailed(await gw.api('GET', `/v1/rooms?${bad}`), 400);
    a.close();
  });

  test('connections: one, of a user, and none', async () => {
    const a = await open('dora');
    assertOk(await a.call('subscribe', { channel: 'dora-room' }), 'subscribe');
    const one = await gw.ok('GET', `/v1/connections/${a.id}`);
    assert.deepEqual([one.sid, one.namespace, one.user.id, one.roles, one.rooms.includes('dora-room')], [a.id, '/', 'dora', [], true]);
    assert.match(one.since, TIME);
    assert.equal(typeof one.pod, 'string');
    const { connections } = await gw.ok('GET', '/v1/users/dora/connections');
    assert.deepEqual(connections.map((c) => [c.sid, c.namespace, c.pod]), [[a.id, '/', one.pod]]);
    assert.ok(connections[0].rooms.includes('dora-room'));
    assert.match(connections[0].since, TIME);
    assertFailed(await gw.api('GET', '/v1/connections/none'), 404, 'NOT_FOUND');
    assert.deepEqual((await gw.ok('GET', '/v1/users/none/connections')).connections, []);
    a.close();
  });

  test('presence of a room', async () => {
    const a = await connect(gw, '/code', 'coding-assistant', { token: user('pia') });
    const b = await connect(gw, '/code', 'coding-assistant', { token: user('pia') });
    for (const c of [a, b]) await c.call('project:join', { projectId: 'pp' });
    await a.call('user:presence', { status: 'busy', activity: 'typing', timestamp: new Date().toISOString() });
    const { users } = await gw.ok('GET', `/v1/presence/${encodeURIComponent('project:pp')}?namespace=/code`);
    assert.deepEqual(users.map((u) => [u.id, u.status, u.activity, u.connections]), [['pia', 'busy', 'typing', 2]]);
    assert.deepEqual((await gw.ok('GET', '/v1/presence/none')).users, []);
    a.close();
    b.close();
  });

  test('stats are numbers, and true', async () => {
    await gw.empty();
    const before = await gw.ok('GET', '/v1/stats');
    const [a, b] = [await open('stat'), await connect(gw, '/debug', 'debug')];
    const now = await until('two more', async () => {
      const s = await gw.ok('GET', '/v1/stats');
      return s.connections === before.connections + 2 && s;
    });
    for (const k of ['pods', 'connections', 'authenticated', 'users', 'rooms']) assert.equal(typeof now[k], 'number', k);
    assert.equal(now.pods, 1);
    assert.equal(now.authenticated, before.authenticated + 1);
    assert.equal(now.users, before.users + 1);
    for (const [nsp, n] of [['/', 1], ['/debug', 1]]) assert.equal(now.namespaces[nsp].connections, (before.namespaces[nsp]?.connections ?? 0) + n);
    a.close();
    b.close();
  });

  test('disconnect: of the selected alone; with close, the transport too', async () => {
    const [a, b] = [await open('kick'), await open()];
    assert.deepEqual(await gw.ok('POST', '/v1/disconnect', { namespace: '/', to: { users: ['kick'] } }), { ok: true });
    assert.equal(await a.disconnected(), 'io server disconnect');
    await b.settle();
    const c = await open();
    const closed = new Promise((resolve) => c.socket.io.engine.once('close', resolve));
    await gw.ok('POST', '/v1/disconnect', { namespace: '/', to: { sids: [c.id] }, close: true });
    await c.disconnected();
    await closed;
    await b.settle();
    b.close();
  });

  test('batch: commands in order, the result of each; over 1000 is refused', async () => {
    const [a, b] = [await open(), await open()];
    const room = fresh('batch');
    const { ok, results } = await gw.ok('POST', '/v1/batch', {
      commands: [
        { emit: { namespace: '/', event: 'n', data: 0, to: { rooms: [room] } } },
        { join: { namespace: '/', to: { sids: [a.id] }, rooms: [room] } },
        { emit: { namespace: '/', event: 'n', data: 1, to: { rooms: [room] } } },
        { emit: { namespace: '/nowhere', event: 'n', data: 2 } },
        { leave: { namespace: '/', to: { sids: [a.id] }, rooms: [room] } },
        { emit: { namespace: '/', event: 'n', data: 3, to: { rooms: [room] } } },
        { emit: { namespace: '/', event: 'n', data: 4 } },
        { disconnect: { namespace: '/', to: { sids: [b.id] } } },
      ],
    });
    assert.equal(ok, true);
    assert.equal(results.length, 8);
    assert.deepEqual(results.map((r) => r.ok), [true, true, true, false, true, true, true, true]);
    assert.equal(results[3].error.code, 'NOT_FOUND');
    assert.deepEqual([await a.next('n'), await a.next('n')], [1, 4]);
    await b.disconnected();
    await a.quiet('n');
    const many = Array.from({ length: 1001 }, () => ({ emit: { namespace: '/', event: 'many', data: 1 } }));
    const answer = await gw.api('POST', '/v1/batch', { commands: many });
    assert.ok([400, 413].includes(answer.status), answer.text);
    await a.quiet('many');
    const counted = Array.from({ length: 1000 }, (_, i) => ({ emit: { namespace: '/', event: 'counted', data: i } }));
    assert.equal((await gw.ok('POST', '/v1/batch', { commands: counted })).results.length, 1000);
    for (let i = 0; i < 1000; i++) assert.equal(await a.next('counted'), i, 'a client that reads loses nothing');
    for (const bad of [{}, { commands: 'x' }, { commands: [{ unheard: {} }] }, { commands: [{}] }]) assertFailed(await gw.api('POST', '/v1/batch', bad), 400);
    a.close();
  });

  test('sessions: put, get, delete, and the end of their time', async () => {
    const id = fresh('session with / and ä');
    const path = `/v1/sessions/${encodeURIComponent(id)}`;
    const put = await gw.ok('PUT', path, { user: { id: 'u1', name: 'U One', roles: ['dev'] }, ttl_s: 600 });
    const got = await gw.ok('GET', path);
    for (const s of [put, got]) assert.deepEqual((s.session ?? s).user, { id: 'u1', name: 'U One', roles: ['dev'] });
    await gw.ok('PUT', path, { user: { id: 'u1', name: 'Renamed', roles: [] }, ttl_s: 600 });
    assert.equal(((await gw.ok('GET', path)).session ?? (await gw.ok('GET', path))).user.name, 'Renamed');
    const gone = await gw.api('DELETE', path);
    assert.ok([200, 204].includes(gone.status), gone.text);
    assertFailed(await gw.api('GET', path), 404, 'NOT_FOUND');
    for (const bad of [{}, { user: {}, ttl_s: 5 }, { user: { id: 'u', name: 'U', roles: [] }, ttl_s: -1 }, { user: { id: '', name: 'U', roles: [] }, ttl_s: 5 }, { user: { id: 'u', name: 'U', roles: 'x' }, ttl_s: 5 }]) assertFailed(await gw.api('PUT', path, bad), 400);
  });

  test('declared out events are completed and checked by the contract of their namespace', async () => {
    const a = await connect(gw, '/code', 'coding-assistant');
    await gw.emit('/code', 'notification', { message: 'hi' });
    assertEnvelope(await a.next('notification'), 'notification', { message: 'hi' });
    const b = await open();
    await gw.emit('/', 'notification', { message: 'hi' });
    assert.deepEqual(await b.next('notification'), { message: 'hi' });
    a.close();
    b.close();
  });

  test('Idempotency-Key: a repeat has no second effect and the same answer', async () => {
    const a = await open();
    const headers = { 'idempotency-key': fresh('key') };
    const body = { namespace: '/', event: 'once', data: 1 };
    const [first, second] = [await gw.api('POST', '/v1/emit', body, { headers }), await gw.api('POST', '/v1/emit', body, { headers })];
    assert.deepEqual([first.status, second.status, second.body], [200, 200, first.body]);
    await a.next('once');
    await a.quiet('once');
    await gw.ok('POST', '/v1/emit', body, { headers: { 'idempotency-key': fresh('key') } });
    await a.next('once');
    const both = { 'idempotency-key': fresh('key') };
    await Promise.all([1, 2, 3, 4].map(() => gw.api('POST', '/v1/emit', body, { headers: both })));
    await a.next('once');
    await a.quiet('once');
    const failed = { 'idempotency-key': fresh('key') };
    assertFailed(await gw.api('POST', '/v1/emit', { namespace: '/nowhere', event: 'x', data: 1 }, { headers: failed }), 404);
    a.close();
  });

  test('what is no call is 404, another method 405, all in the same form', async () => {
    assertFailed(await gw.api('GET', '/v1/unheard'), 404);
    const wrong = await gw.api('GET', '/v1/emit');
    assert.ok([404, 405].includes(wrong.status), `${wrong.status}`);
  });

  test('/v1/openapi.json describes every call, and what was answered is what it says', async () => {
    const doc = await gw.ok('GET', '/v1/openapi.json');
    assert.match(doc.openapi, /^3\./);
    const expected = {
      '/v1/emit': ['post'], '/v1/batch': ['post'], '/v1/rooms/join': ['post'], '/v1/rooms/leave': ['post'], '/v1/disconnect': ['post'], '/v1/rooms': ['get'], '/v1/rooms/{room}/members': ['get'], '/v1/presence/{room}': ['get'],
      '/v1/users/{id}/connections': ['get'], '/v1/connections/{sid}': ['get'], '/v1/locks/release': ['post'], '/v1/stats': ['get'], '/v1/sessions/{id}': ['delete', 'get', 'put'],
    };
    for (const [path, methods] of Object.entries(expected)) for (const m of methods) assert.ok(doc.paths[path]?.[m], `${m} ${path}`);
    const schemaOf = (path, method) => doc.paths[path][method].responses['200'].content['application/json'].schema;
    for (const [path, methods] of Object.entries(expected)) for (const m of methods) assert.ok(schemaOf(path, m), `${m} ${path} has a schema of its answer`);
    const ajv = new Ajv({ strict: false, validateFormats: false });
    ajv.addSchema({ $id: 'doc', ...doc });
    const validate = (path, method, value) => {
      const pointer = `#/paths/${encodeURIComponent(path.replaceAll('~', '~0').replaceAll('/', '~1'))}/${method}/responses/200/content/${encodeURIComponent('application/json'.replace('/', '~1'))}/schema`;
      const check = ajv.compile({ $ref: `doc${pointer}` });
      assert.ok(check(value), `${path}: ${JSON.stringify(check.errors)} of ${JSON.stringify(value)}`);
    };
    const a = await open('doc');
    validate('/v1/stats', 'get', await gw.ok('GET', '/v1/stats'));
    validate('/v1/connections/{sid}', 'get', await gw.ok('GET', `/v1/connections/${a.id}`));
    validate('/v1/rooms', 'get', await gw.ok('GET', '/v1/rooms'));
    validate('/v1/users/{id}/connections', 'get', await gw.ok('GET', '/v1/users/doc/connections'));
    a.close();
  });

  test('health and metrics need no key', async () => {
    for (const path of ['/health/live', '/health/ready', '/metrics']) assert.equal((await http(gw.internal, { path })).status, 200, path);
    const { body } = await http(gw.internal, { path: '/metrics' });
    assert.match(body, /^gateway_/m);
    for (const secret of [API_KEY, 'ann', 'batch-']) assert.ok(!new RegExp(`="[^"]*${secret}`).test(body), `${secret} is in a label`);
  });
});

describe('server API without a key', () => {
  test('401, and it says which key to set', async () => {
    const gw = await Gateway.start({ contracts: ['toolbox@/'], apiKey: null });
    try {
      for (const key of [null, '', 'anything']) {
        const answer = await gw.api('GET', '/v1/stats', undefined, { key });
        assertFailed(answer, 401);
        assert.match(answer.body.error.message, /GATEWAY_API_KEY|api_key/);
      }
      assert.equal((await http(gw.internal, { path: '/metrics' })).status, 200);
      assert.equal((await http(gw.internal, { path: '/health/ready' })).status, 200);
    } finally {
      await gw.stop();
    }
  });
});
