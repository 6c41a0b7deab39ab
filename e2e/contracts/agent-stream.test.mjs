// The contract `agent-stream`: tokens at connect, the four out events through the server API, workflows, lookups.
import { after, before, describe, test } from 'node:test';
import { Gateway, assert, assertErrorEvent, assertOk, assertRefused, assertTs, connect, jwt, refused, until, user } from '../harness.mjs';

const EVENTS = [
  ['agent:thought', 'thought', { content: 'Analyzing the user request...' }],
  ['agent:tool_call', 'tool_call', { tool_name: 'generate_image', status: 'in_progress', message: 'Generating image...' }],
  ['agent:result', 'result', { status: 'success', content_type: 'text', content: 'Here it is' }],
  ['agent:error', 'error', { code: 'GENERATION_FAILED', message: 'Failed to generate content', details: {} }],
];

describe('agent-stream', () => {
  let gw;
  const open = (id, options = {}) => connect(gw, '/', 'agent-stream', { token: user(id), ...options });
  before(async () => {
    gw = await Gateway.start({ contracts: ['agent-stream@/'] });
  });
  after(() => gw?.stop());

  const past = Math.floor(Date.now() / 1000) - 3600;
  const refusals = [
    ['no auth at all', undefined, 'Authentication required'],
    ['auth without a token', {}, 'Authentication required'],
    ['an empty token', { token: '' }, 'Invalid or expired token'],
    ['a token that is a number', { token: 7 }, 'Invalid or expired token'],
    ['a token that is an object', { token: { sub: 'x' } }, 'Invalid or expired token'],
    ['a malformed token', { token: 'a.b.c' }, 'Invalid or expired token'],
    ['a bad signature', { token: jwt({ sub: 'x' }, { key: 'another-secret-of-more-than-32-bytes!!' }) }, 'Invalid or expired token'],
    ['an expired token', { token: jwt({ sub: 'x', exp: past }) }, 'Invalid or expired token'],
    ['alg none', { token: jwt({ sub: 'x' }, { alg: 'none' }) }, 'Invalid or expired token'],
    ['no sub claim', { token: jwt({ name: 'x' }) }, 'Invalid token payload'],
    ['an empty sub', { token: jwt({ sub: '' }) }, 'Invalid token payload'],
  ];
  for (const [name, auth, message] of refusals)
    test(`connect with ${name}: ${message}`, async () => {
      for (const transports of [['websocket'], ['polling']]) assert.equal((await refused(gw, '/', { auth, transports })).message, message);
    });

  for (const path of ['/ws/socket.io', '/ws/socket.io/', '/socket.io', '/socket.io/'])
    for (const transport of ['polling', 'websocket'])
      test(`connects at ${path} over ${transport}`, async () => {
        const a = await open('path', { path, transports: [transport], addTrailingSlash: path.endsWith('/') });
        assertOk(await a.call('workflow:subscribe', { workflowId: 'w' }), 'workflow:subscribe');
        a.close();
      });

  for (const [event, type, data] of EVENTS) {
    test(`${event}: completed, and sent to one sid, one user, one workflow, everybody`, async () => {
      const [a, a2, b] = [await open('ann'), await open('ann'), await open('bob')];
      const w = `w-${type}`;
      await gw.emit('/', event, { workflowId: w, data }, { sids: [a.id] });
      const one = await a.next(event);
      assert.deepEqual([one.type, one.workflowId, one.data], [type, w, data]);
      assertTs(one.timestamp, 'timestamp');
      assert.ok(!('workflow_id' in one));
      await a2.quiet(event);
      await b.quiet(event);

      await gw.emit('/', event, { workflowId: w, data }, { users: ['ann'] });
      for (const each of [a, a2]) assert.equal((await each.next(event)).workflowId, w);
      await b.quiet(event);

      assertOk(await b.call('workflow:subscribe', { workflowId: w }), 'workflow:subscribe');
      await gw.emit('/', event, { workflow_id: w, type, data }, { rooms: [`workflow:${w}`] });
      const snake = await b.next(event);
      assert.deepEqual([snake.type, snake.workflowId, snake.data, 'workflow_id' in snake], [type, w, data, false]);
      await a.quiet(event);

      await gw.emit('/', event, { workflowId: w, data });
      for (const each of [a, a2, b]) assert.equal((await each.next(event)).workflowId, w);

      assertOk(await b.call('workflow:unsubscribe', { workflowId: w }), 'workflow:unsubscribe');
      await gw.emit('/', event, { workflowId: w, data }, { rooms: [`workflow:${w}`] });
      await b.quiet(event);
      for (const each of [a, a2, b]) each.close();
    });

    test(`${event}: a payload that breaks the declared shape is 400 and reaches nobody`, async () => {
      const a = await open('ann');
      const bad = [
        ['no workflow', { data }],
        ['no data', { workflowId: 'w' }],
        ['data a string', { workflowId: 'w', data: 'x' }],
        ['another type', { workflowId: 'w', type: 'other', data }],
        ['workflow a number', { workflowId: 3, data }],
        ['a list', [1]],
        ['nothing', null],
      ];
      for (const [name, payload] of bad) {
        const answer = await gw.api('POST', '/v1/emit', { namespace: '/', event, data: payload });
        assert.equal(answer.status, 400, `${name}: ${answer.text}`);
        assert.equal(answer.body.ok, false, name);
        assert.equal(answer.body.error.code, 'BAD_PAYLOAD', name);
      }
      await a.quiet(event);
      a.close();
    });

    test(`${event}: a supplied timestamp is kept, one that is none is refused`, async () => {
      const a = await open('ann');
      for (const timestamp of ['2026-01-21T12:00:00Z', '2026-01-21T12:00:00.123456+02:00']) {
        await gw.emit('/', event, { workflowId: 'w', data, timestamp }, { sids: [a.id] });
        assert.equal((await a.next(event)).timestamp, timestamp);
      }
      const answer = await gw.api('POST', '/v1/emit', { namespace: '/', event, data: { workflowId: 'w', data, timestamp: 'yesterday' } });
      assert.equal(answer.status, 400, answer.text);
      a.close();
    });

    test(`${event}: a client may not send it`, async () => {
      const [a, b] = [await open('ann'), await open('bob')];
      assertRefused(await a.call(event, { workflowId: 'w', data }), event, 'UNKNOWN_EVENT');
      a.send(event, { workflowId: 'w', data });
      assertErrorEvent(await a.next('error'), event, 'UNKNOWN_EVENT');
      await b.quiet(event, 'error');
      a.close();
      b.close();
    });
  }

  test('workflow events: what is no workflowId is BAD_PAYLOAD', async () => {
    const a = await open('ann');
    for (const event of ['workflow:subscribe', 'workflow:unsubscribe'])
      for (const bad of [undefined, null, {}, { workflowId: 3 }, { workflowId: '' }, 'w', { workflowId: 'x'.repeat(5000) }, { workflowId: 'a\u0000b' }]) {
        assertRefused(await a.call(event, bad), event, 'BAD_PAYLOAD');
      }
    a.send('workflow:subscribe', {});
    assertErrorEvent(await a.next('error'), 'workflow:subscribe', 'BAD_PAYLOAD');
    a.close();
  });

  test('agent results carry binary', async () => {
    const a = await open('ann');
    await gw.emit('/', 'agent:result', { workflowId: 'w', data: { image: { $binary: Buffer.from([1, 0, 255]).toString('base64') } } }, { users: ['ann'] });
    const got = await a.next('agent:result');
    assert.deepEqual(Buffer.from(got.data.image), Buffer.from([1, 0, 255]));
    a.close();
  });

  test('lookups: user of a sid, sids of a user, number of connections; a sid that left is 404', async () => {
    const [a, b] = [await open('lookup', { token: user('lookup', ['viewer']) }), await open('lookup')];
    const one = await gw.ok('GET', `/v1/connections/${a.id}`);
    assert.deepEqual([one.sid, one.namespace, one.user, one.roles], [a.id, '/', { id: 'lookup', name: 'Name of lookup' }, ['viewer']]);
    const { connections } = await gw.ok('GET', '/v1/users/lookup/connections');
    assert.deepEqual(connections.map((c) => c.sid).sort(), [a.id, b.id].sort());
    const stats = await gw.ok('GET', '/v1/stats');
    assert.ok(stats.connections >= 2 && stats.authenticated >= 2);
    const gone = a.id;
    a.close();
    await until('404', async () => (await gw.api('GET', `/v1/connections/${gone}`)).status === 404);
    assert.deepEqual((await gw.ok('GET', '/v1/users/lookup/connections')).connections.map((c) => c.sid), [b.id]);
    b.close();
  });

  test('an emit to nobody is no error, and takes nothing down', async () => {
    const a = await open('ann');
    await gw.emit('/', 'agent:thought', { workflowId: 'w', data: { content: 'x' } }, { sids: ['nobody'], users: ['nobody'], rooms: ['none'] });
    await a.quiet();
    a.close();
  });
});

describe('agent-stream: what clients send is limited', () => {
  test('a connection over its limit is refused with retry_after_ms', async () => {
    const gw = await Gateway.start({ contracts: ['agent-stream@/'], env: { GATEWAY__LIMITS__CONNECTION__EVENTS_PER_SECOND: '1', GATEWAY__LIMITS__CONNECTION__BURST: '3' } });
    try {
      const a = await connect(gw, '/', 'agent-stream', { token: user('fast') });
      const acks = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map((i) => a.call('workflow:subscribe', { workflowId: `w${i}` })));
      const error = assertRefused(acks.at(-1), 'workflow:subscribe', 'RATE_LIMITED');
      assert.ok(error.retry_after_ms > 0);
      assert.equal(acks[0].ok, true);
    } finally {
      await gw.stop();
    }
  });
});
