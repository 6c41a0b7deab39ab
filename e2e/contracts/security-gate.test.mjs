// The contract `security-gate`: sessions, messages one at a time, images, health, threat logs.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { ANSWERED, App, Gateway, assert, assertOk, assertRefused, connect, deferred, png, reply, scratch, until } from '../harness.mjs';

/** The contract's own refusal event: `{msg, code}`. */
function assertGateError(payload, code) {
  assert.equal(typeof payload?.msg, 'string', JSON.stringify(payload));
  assert.ok(payload.msg.length > 0);
  assert.equal(payload.code, code, JSON.stringify(payload));
}

describe('security-gate', () => {
  let gw;
  let app;
  const logs = join(scratch(), 'threats.json');
  /** A connection that has been greeted. */
  async function open(options) {
    const c = await connect(gw, '/', 'security-gate', options);
    await c.next('status', (p) => p.msg === 'Connected to Security Gate System');
    await c.clear();
    return c;
  }
  async function started(c) {
    assertOk(await c.call('start_session', {}), 'start_session');
    const { session_id } = await c.next('session_started');
    await c.clear();
    return session_id;
  }
  before(async () => {
    app = await App.start();
    writeFileSync(logs, '[]');
    gw = await Gateway.start({ contracts: ['security-gate@/'], app, config: `[contract.security-gate]\nimage_bytes = 5000\nthreat_log = "${logs}"\n` });
  });
  after(async () => {
    await gw?.stop();
    await app?.stop();
  });
  beforeEach(() => app.reset());

  test('connect: status, and system_status with the true count of sessions', async () => {
    const a = await open();
    const one = await started(a);
    const b = await connect(gw, '/', 'security-gate');
    assert.deepEqual(await b.next('status'), { msg: 'Connected to Security Gate System' });
    const status = await b.next('system_status');
    assert.equal(status.healthy, true);
    const { active_sessions } = await health(b);
    assert.equal(status.active_sessions, active_sessions);
    assert.ok(active_sessions >= 1);
    await a.quiet('status');
    await a.call('end_session', { session_id: one });
  });

  async function health(c) {
    c.send('request_health_check', {});
    return c.next('health_status');
  }

  test('start_session: an id of its own, and system_status to everybody', async () => {
    const [a, b] = [await open(), await open()];
    const before = (await health(a)).active_sessions;
    assertOk(await a.call('start_session'), 'start_session');
    const first = await a.next('session_started');
    assert.equal(first.status, 'success');
    assert.ok(first.session_id.length >= 16, first.session_id);
    assert.equal(typeof first.message, 'string');
    for (const each of [a, b]) assert.equal((await each.next('system_status', (s) => s.active_sessions === before + 1)).healthy, true);
    a.send('start_session', {});
    const second = await a.next('session_started');
    assert.notEqual(first.session_id, second.session_id);
    await b.quiet('session_started');
    assert.equal((await health(b)).active_sessions, before + 2);
    for (const s of [first, second]) await a.call('end_session', { session_id: s.session_id });
    await b.next('system_status', (s) => s.active_sessions === before);
  });

  test('send_message: the answer to the sender alone', async () => {
    const [a, b] = [await open(), await open()];
    const session_id = await started(a);
    await b.clear();
    app.on('send_message', () => ({ result: { agent_response: 'Who are you?', session_complete: false } }));
    assertOk(await a.call('send_message', { session_id, message: 'Hello' }), 'send_message');
    const got = await a.next('chat_response');
    assert.deepEqual([got.agent_response, got.session_complete], ['Who are you?', false]);
    const { body } = await app.next('send_message');
    assert.deepEqual([body.contract, body.event, body.args, body.session_id], ['security-gate', 'send_message', [{ session_id, message: 'Hello' }], session_id]);
    assert.equal(typeof body.state, 'object');
    a.send('send_message', { session_id, message: 'again' });
    await a.next('chat_response');
    await a.quiet('session_update', 'error');
    await b.quiet();
  });

  test('send_message: the state that the application keeps comes back with the next message', async () => {
    const a = await open();
    const session_id = await started(a);
    const profile = { name: 'Ada', purpose: 'visit' };
    app.on('send_message', () => ({ result: { agent_response: 'x', session_complete: false }, state: { visitor_profile: profile, decision: 'allow', decision_confidence: 0.9, turns: { n: 1, old: true } } }));
    await a.call('send_message', { session_id, message: 'one' });
    await app.next('send_message');
    app.on('send_message', () => ({ result: { agent_response: 'y', session_complete: false }, state: { turns: { n: 2, old: null } } }));
    await a.call('send_message', { session_id, message: 'two' });
    const second = await app.next('send_message');
    assert.deepEqual(second.body.state.turns, { n: 1, old: true });
    assert.deepEqual(second.body.state.visitor_profile, profile);
    await a.call('send_message', { session_id, message: 'three' });
    assert.deepEqual((await app.next('send_message')).body.state.turns, { n: 2 });

    assertOk(await a.call('get_profile', { session_id }), 'get_profile');
    const got = await a.next('profile_data');
    assert.deepEqual([got.visitor_profile, got.decision, got.decision_confidence, got.session_active], [profile, 'allow', 0.9, true]);
  });

  test('get_profile: of a fresh session, of none, of an unknown one', async () => {
    const a = await open();
    const session_id = await started(a);
    a.send('get_profile', { session_id });
    const got = await a.next('profile_data');
    assert.equal(got.session_active, true);
    for (const k of ['visitor_profile', 'decision', 'decision_confidence']) assert.ok(k in got, `${k} in ${JSON.stringify(got)}`);
    assertRefused(await a.call('get_profile', {}), 'get_profile', 'BAD_PAYLOAD');
    assertGateError(await a.next('error'), 'BAD_PAYLOAD');
    assertRefused(await a.call('get_profile', { session_id: 'unknown' }), 'get_profile', 'NOT_FOUND');
    assertGateError(await a.next('error'), 'NOT_FOUND');
    await a.quiet('profile_data');
  });

  test('send_message: an id that is missing or unknown is an error, and goes nowhere', async () => {
    const a = await open();
    const session_id = await started(a);
    for (const [payload, code] of [
      [{ message: 'm' }, 'BAD_PAYLOAD'],
      [{ session_id: 3, message: 'm' }, 'BAD_PAYLOAD'],
      [{ session_id, message: 3 }, 'BAD_PAYLOAD'],
      [{ session_id }, 'BAD_PAYLOAD'],
      [undefined, 'BAD_PAYLOAD'],
      ['text', 'BAD_PAYLOAD'],
      [{ session_id: 'unknown', message: 'm' }, 'NOT_FOUND'],
    ]) {
      assertRefused(await a.call('send_message', payload), 'send_message', code);
      assertGateError(await a.next('error'), code);
      a.send('send_message', payload);
      assertGateError(await a.next('error'), code);
    }
    await a.quiet('error', 'chat_response');
    assert.equal(app.calls.items.length, 0);
  });

  test('send_message: completion is told to the session’s room', async () => {
    const [a, watcher, other] = [await open(), await open(), await open()];
    const session_id = await started(a);
    assertOk(await watcher.call('join_session_updates', { session_id }), 'join_session_updates');
    await watcher.clear();
    await other.clear();
    app.on('send_message', () => ({ result: { agent_response: 'Goodbye', session_complete: true, profile: { name: 'Ada' }, final_response: 'Access granted' } }));
    assertOk(await a.call('send_message', { session_id, message: 'bye' }), 'send_message');
    const got = await a.next('chat_response');
    assert.deepEqual([got.agent_response, got.session_complete], ['Goodbye', true]);
    const update = await watcher.next('session_update');
    assert.deepEqual([update.type, update.profile, update.final_response], ['session_complete', { name: 'Ada' }, 'Access granted']);
    await watcher.quiet('chat_response');
    await other.quiet('session_update', 'chat_response');
  });

  test('messages of one session are processed one at a time and in order, of two clients too', async () => {
    const [a, b] = [await open(), await open()];
    const session_id = await started(a);
    let inside = 0;
    const order = [];
    const gates = [deferred(), deferred(), deferred(), deferred()];
    app.on('send_message', async (body) => {
      inside += 1;
      assert.equal(inside, 1, 'two messages of one session at once');
      order.push(body.args[0].message);
      await gates[order.length - 1].promise;
      inside -= 1;
      return { result: { agent_response: `re ${body.args[0].message}`, session_complete: false } };
    });
    const acks = [a.call('send_message', { session_id, message: 'a1' }), a.call('send_message', { session_id, message: 'a2' })];
    await app.next('send_message');
    await a.settle();
    acks.push(b.call('send_message', { session_id, message: 'b1' }));
    await b.settle();
    acks.push(a.call('send_message', { session_id, message: 'a3' }));
    await a.settle();
    assert.deepEqual(order, ['a1']);
    for (const g of gates) g.resolve();
    for (const ack of await Promise.all(acks)) assertOk(ack, 'send_message');
    assert.deepEqual(order, ['a1', 'a2', 'b1', 'a3']);
    const answers = [];
    for (let i = 0; i < 3; i++) answers.push((await a.next('chat_response')).agent_response);
    assert.deepEqual(answers, ['re a1', 're a2', 're a3']);
    assert.equal((await b.next('chat_response')).agent_response, 're b1');
  });

  test('a session that waits does not hold up another', async () => {
    const [a, b] = [await open(), await open()];
    const [sa, sb] = [await started(a), await started(b)];
    const go = deferred();
    app.on('send_message', async (body) => {
      if (body.session_id === sa) await go.promise;
      return { result: { agent_response: body.args[0].message, session_complete: false } };
    });
    const slow = a.call('send_message', { session_id: sa, message: 'slow' });
    await app.next('send_message', (x) => x.session_id === sa);
    assertOk(await b.call('send_message', { session_id: sb, message: 'quick' }), 'send_message');
    assertOk(await a.call('get_profile', { session_id: sa }), 'get_profile');
    go.resolve();
    assertOk(await slow, 'send_message');
  });

  test('send_message that fails behind: error, and the session goes on', async () => {
    const a = await open();
    const session_id = await started(a);
    app.on('send_message', (_b, { res }) => (reply(res, 500, 'x'), ANSWERED));
    assertRefused(await a.call('send_message', { session_id, message: 'm' }), 'send_message', 'UNAVAILABLE');
    assertGateError(await a.next('error'), 'UNAVAILABLE');
    app.on('send_message', () => ({ result: { agent_response: 'back', session_complete: false } }));
    assertOk(await a.call('send_message', { session_id, message: 'm' }), 'send_message');
    assert.equal((await a.next('chat_response')).agent_response, 'back');
  });

  test('end_session: gone, and told to the room', async () => {
    const [a, watcher] = [await open(), await open()];
    const session_id = await started(a);
    assertOk(await watcher.call('join_session_updates', { session_id }), 'join_session_updates');
    await watcher.clear();
    assertOk(await a.call('end_session', { session_id }), 'end_session');
    const ended = await a.next('session_ended');
    assert.deepEqual([ended.status, typeof ended.message], ['success', 'string']);
    const update = await watcher.next('session_update');
    assert.deepEqual([update.type, typeof update.message], ['session_ended', 'string']);
    await watcher.quiet('session_ended');
    assertRefused(await a.call('get_profile', { session_id }), 'get_profile', 'NOT_FOUND');

    await a.clear();
    assertRefused(await a.call('end_session', { session_id }), 'end_session', 'NOT_FOUND');
    assert.equal((await a.next('session_ended')).status, 'error');
    a.send('end_session', { session_id: 'unknown' });
    assert.equal((await a.next('session_ended')).status, 'error');
    await a.clear();
    a.send('end_session', {});
    const told = await a.next('error');
    assert.equal(told.msg, 'session_id required');
    assertRefused(await a.call('end_session', {}), 'end_session', 'BAD_PAYLOAD');
    await watcher.quiet('session_update');
  });

  test('upload_image: PNG, JPEG, GIF and WebP are queued under an id', async () => {
    const [a, b] = [await open(), await open()];
    const session_id = await started(a);
    await b.clear();
    const jpeg = Buffer.concat([Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 16]), Buffer.from('JFIF\0'), Buffer.alloc(40)]);
    const gif = Buffer.concat([Buffer.from('GIF89a'), Buffer.alloc(30)]);
    const webp = Buffer.concat([Buffer.from('RIFF'), Buffer.from([30, 0, 0, 0]), Buffer.from('WEBPVP8 '), Buffer.alloc(30)]);
    const ids = new Set();
    for (const image of [png(), jpeg, gif, webp]) {
      assertOk(await a.call('upload_image', { session_id, image: image.toString('base64'), timestamp: new Date().toISOString() }), 'upload_image');
      const got = await a.next('image_upload_response');
      assert.deepEqual([got.status, typeof got.message, typeof got.image_id], ['success', 'string', 'string'], JSON.stringify(got));
      ids.add(got.image_id);
    }
    assert.equal(ids.size, 4);
    await b.quiet();
  });

  test('upload_image: what is no image, or too large, is status error', async () => {
    const a = await open();
    const session_id = await started(a);
    for (const image of [Buffer.from('just text, no image').toString('base64'), 'not base64 !!!', '', Buffer.concat([png(), Buffer.alloc(6000)]).toString('base64'), Buffer.from('%PDF-1.4 ....').toString('base64')]) {
      a.send('upload_image', { session_id, image });
      const got = await a.next('image_upload_response');
      assert.equal(got.status, 'error', JSON.stringify(got));
      assert.ok(!('image_id' in got));
      assert.equal(typeof got.message, 'string');
      const ack = await a.call('upload_image', { session_id, image });
      assert.equal(ack.ok, false);
      assert.ok(['BAD_PAYLOAD', 'TOO_LARGE'].includes(ack.error.code), JSON.stringify(ack));
      await a.next('image_upload_response');
    }
  });

  test('upload_image: a missing field or an unknown session is an error', async () => {
    const a = await open();
    const session_id = await started(a);
    const image = png().toString('base64');
    for (const [payload, code] of [
      [{ image }, 'BAD_PAYLOAD'],
      [{ session_id }, 'BAD_PAYLOAD'],
      [undefined, 'BAD_PAYLOAD'],
      [{ session_id: 'unknown', image }, 'NOT_FOUND'],
    ]) {
      assertRefused(await a.call('upload_image', payload), 'upload_image', code);
      assertGateError(await a.next('error'), code);
    }
    await a.quiet('image_upload_response');
  });

  test('request_health_check: health_status to the sender', async () => {
    const [a, b] = [await open(), await open()];
    const got = await health(a);
    assert.deepEqual([got.status, got.graph_initialized, typeof got.active_sessions], ['healthy', true, 'number']);
    assertOk(await a.call('request_health_check'), 'request_health_check');
    await b.quiet();
  });

  test('request_threat_logs: from the file, a JSON array or a JSON object a line', async () => {
    const a = await open();
    const entries = [{ level: 'high', at: 'gate 1' }, { level: 'low', at: 'gate 2' }];
    for (const text of [JSON.stringify(entries), JSON.stringify(entries, null, 2), entries.map((e) => JSON.stringify(e)).join('\n'), `${entries.map((e) => JSON.stringify(e)).join('\n')}\n`]) {
      writeFileSync(logs, text);
      assertOk(await a.call('request_threat_logs', {}), 'request_threat_logs');
      assert.deepEqual(await a.next('threat_logs'), entries);
    }
    writeFileSync(logs, '[]');
    a.send('request_threat_logs');
    assert.deepEqual(await a.next('threat_logs'), []);
    writeFileSync(logs, '{"a": 1}\nthis is no JSON\n');
    a.send('request_threat_logs', {});
    assert.equal(typeof (await a.next('error')).msg, 'string');
    const ack = await a.call('request_threat_logs', {});
    assert.equal(ack.ok, false);
    await a.quiet('threat_logs');
  });

  test('join_session_updates and leave_session_updates', async () => {
    const [a, b] = [await open(), await open()];
    const session_id = await started(a);
    b.send('join_session_updates', { session_id });
    assert.equal(typeof (await b.next('status')).msg, 'string');
    await gw.emit('/', 'session_update', { type: 'note', message: 'm' }, { rooms: [session_id] });
    assert.equal((await b.next('session_update')).message, 'm');
    assertOk(await b.call('leave_session_updates', { session_id }), 'leave_session_updates');
    assert.equal(typeof (await b.next('status')).msg, 'string');
    await gw.emit('/', 'session_update', { type: 'note', message: 'm' }, { rooms: [session_id] });
    await b.quiet('session_update');
    for (const event of ['join_session_updates', 'leave_session_updates']) {
      for (const bad of [{}, undefined, { session_id: '' }]) {
        b.send(event, bad);
        assert.equal((await b.next('error')).msg, 'session_id required');
        assertRefused(await b.call(event, bad), event, 'BAD_PAYLOAD');
        await b.next('error');
      }
    }
    await b.quiet('status');
  });

  test('join_session_updates is no way into somebody’s private room', async () => {
    const [a, b] = [await open(), await open()];
    for (const session_id of [a.id, 'user:ann', 'workflow:w', 'project:p']) {
      const ack = await b.call('join_session_updates', { session_id });
      if (session_id.startsWith('project:')) continue; // a project of another contract is no private room
      assertRefused(ack, 'join_session_updates', 'FORBIDDEN');
    }
    await b.clear();
    await gw.emit('/', 'session_update', { type: 'secret' }, { sids: [a.id] });
    await a.next('session_update');
    await b.quiet('session_update');
  });

  test('notification from the server API reaches everybody', async () => {
    const [a, b] = [await open(), await open()];
    await gw.emit('/', 'notification', { message: 'Maintenance' });
    for (const each of [a, b]) assert.deepEqual(await each.next('notification'), { message: 'Maintenance' });
  });

  test('unknown events: error {msg, code}, an ack besides', async () => {
    const [a, b] = [await open(), await open()];
    assertRefused(await a.call('chat_response', {}), 'chat_response', 'UNKNOWN_EVENT');
    assertGateError(await a.next('error'), 'UNKNOWN_EVENT');
    a.send('notification', { message: 'forged' });
    assertGateError(await a.next('error'), 'UNKNOWN_EVENT');
    await b.quiet();
  });

  test('a binary argument passes both ways', async () => {
    const a = await open();
    const session_id = await started(a);
    app.on('send_message', (body) => ({ emit: [{ event: 'photo', args: [{ $binary: Buffer.from([1, 2]).toString('base64') }, body.args[1] ?? null] }], result: { agent_response: 'x', session_complete: false } }));
    assertOk(await a.call('send_message', { session_id, message: 'm' }), 'send_message');
    const [photo] = await a.nextArgs('photo');
    assert.deepEqual(Buffer.from(photo), Buffer.from([1, 2]));
  });
});

describe('security-gate: without a threat log', () => {
  test('the logs are the application’s; a missing file is an error', async () => {
    const app = await App.start();
    const gw = await Gateway.start({ contracts: ['security-gate@/'], app });
    const missing = await Gateway.start({ contracts: ['security-gate@/'], config: '[contract.security-gate]\nthreat_log = "/nowhere/at/all.json"\n' });
    try {
      const a = await connect(gw, '/', 'security-gate');
      app.on('request_threat_logs', () => ({ result: { logs: [{ from: 'app' }] } }));
      assertOk(await a.call('request_threat_logs', {}), 'request_threat_logs');
      assert.deepEqual(await a.next('threat_logs'), [{ from: 'app' }]);
      app.on('request_threat_logs', (_b, { res }) => (reply(res, 500, ''), ANSWERED));
      a.send('request_threat_logs', {});
      assert.equal(typeof (await a.next('error')).msg, 'string');

      const b = await connect(missing, '/', 'security-gate');
      b.send('request_threat_logs', {});
      const told = await b.next('error');
      assert.equal(typeof told.msg, 'string');
      assert.ok(!told.msg.includes('/nowhere'), 'a path of the machine is nobody’s business');
    } finally {
      await gw.stop();
      await missing.stop();
      await app.stop();
    }
  });

  test('sessions outlive their connection, and run out after their time to live', async () => {
    const gw = await Gateway.start({ contracts: ['security-gate@/'] });
    try {
      const a = await connect(gw, '/', 'security-gate');
      a.send('start_session');
      const { session_id } = await a.next('session_started');
      a.close();
      const b = await connect(gw, '/', 'security-gate');
      assertOk(await b.call('get_profile', { session_id }), 'get_profile');
      assert.equal((await until('one session', async () => (b.send('request_health_check'), await b.next('health_status')))).active_sessions, 1);
    } finally {
      await gw.stop();
    }
  });
});
