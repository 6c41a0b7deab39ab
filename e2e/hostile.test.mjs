// Peers that break every rule, beside a steady neighbour on the same gateway that must notice nothing.
import { connect as tcp } from 'node:net';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';
import WebSocket from 'ws';
import { Gateway, Poll, Raw, assert, assertOk, assertRefused, connect, deferred, http, splitAddress, user, within } from './harness.mjs';

describe('hostile', () => {
  let gw;
  let neighbour;
  let friend;
  let polling;
  before(async () => {
    gw = await Gateway.start({ env: { GATEWAY__LIMITS__IP__CONNECTS_PER_SECOND: '0' } });
    neighbour = await connect(gw, '/toolbox', 'toolbox', { token: user('nora') });
    friend = await connect(gw, '/toolbox', 'toolbox');
    polling = await connect(gw, '/toolbox', 'toolbox', { transports: ['polling'] });
    for (const c of [neighbour, friend, polling]) assertOk(await c.call('subscribe', { channel: 'home' }), 'subscribe');
  });
  after(() => gw?.stop());
  beforeEach(async () => {
    for (const c of [neighbour, friend, polling]) await c.clear();
  });
  /** After each test the neighbours are still the same connections, hear each other, and heard nothing else. */
  afterEach(async () => {
    await neighbour.quiet();
    assertOk(await neighbour.call('collaboration_message', { channel: 'home', blob: Buffer.from([1]) }), 'collaboration_message');
    for (const c of [friend, polling]) assert.deepEqual(Buffer.from((await c.next('collaboration_message')).blob), Buffer.from([1]));
    for (const c of [neighbour, friend, polling]) assert.equal(c.gone, undefined);
  });

  /** The raw peer either was closed or still answers; both are right, silence is not. */
  async function closedOrAlive(raw, label) {
    raw.send('4299["codx-junior-ping"]');
    raw.send('42/toolbox,98["ping"]');
    raw.send('4297["test:ping"]');
    const alive = raw.next(/^43(\/toolbox,)?\d+\[|^44|^40/).catch(() => null);
    const ended = await within(Promise.race([raw.closed, alive]), `${label}: neither closed nor alive`);
    assert.notEqual(ended, null, `${label}: neither closed nor alive`);
    raw.close();
  }

  const PACKETS = [
    ['an empty frame', ''],
    ['an unknown engine packet', '9hello'],
    ['a letter', 'x'],
    ['an open packet from a client', '0{"sid":"mine"}'],
    ['a close packet', '1'],
    ['a ping from a client', '2'],
    ['a pong that nobody asked for', '3'],
    ['an upgrade outside a probe', '5'],
    ['a noop', '6'],
    ['a message without a packet', '4'],
    ['an unknown packet type', '49'],
    ['an event before connect', '42["test:ping"]'],
    ['an event without a body', '42'],
    ['an event that is an object', '42{"a":1}'],
    ['an event that is an empty list', '42[]'],
    ['an event whose name is a number', '42[1,2]'],
    ['an event whose name is null', '42[null]'],
    ['an event whose name is a list', '42[["test:ping"]]'],
    ['broken JSON', '42["test:ping"'],
    ['half a string', '42["test:ping\\'],
    ['an ack number beyond all bounds', '4299999999999999999999999999["test:ping"]'],
    ['a negative ack number', '42-1["test:ping"]'],
    ['an ack for nothing', '430["x"]'],
    ['an ack without a number', '43["x"]'],
    ['an ack that is an object', '431{}'],
    ['a connect with a list', '40[1]'],
    ['a connect with half a JSON', '40{"token":'],
    ['a second connect', '40'],
    ['a connect error from a client', '44{"message":"x"}'],
    ['a namespace without a comma', '40/gate'],
    ['a namespace that is not there', '40/nowhere,'],
    ['a namespace with a query', '40/codx?x=1,'],
    ['a namespace that climbs', '40/../v1,'],
    ['a very long namespace', `40/${'n'.repeat(50000)},`],
    ['an event to a namespace not joined', '42/gate,["start_session"]'],
    ['a disconnect of a namespace not joined', '41/gate,'],
    ['a reserved event name', '42["disconnect","x"]'],
    ['a reserved event name, connect', '42["connect",{}]'],
    ['a reserved event name, connect_error', '42["connect_error",{}]'],
    ['a name of a prototype', '42["__proto__",{"__proto__":{"x":1}}]'],
    ['a very long name', `42["${'e'.repeat(100000)}"]`],
    ['deep nesting', `42["test:event",${'['.repeat(60000)}${']'.repeat(60000)}]`],
    ['many arguments', `42["test:event"${',1'.repeat(50000)}]`],
    ['duplicate keys', '42["test:event",{"a":1,"a":2}]'],
    ['a lone surrogate', '42["test:event",{"a":"\\ud800"}]'],
    ['a number beyond a double', '42["test:event",{"a":1e999}]'],
    ['a nul in a name', '42["test\\u0000event"]'],
    ['a binary event without attachments', '450-["test:event"]'],
    ['a binary event without a count', '45-["test:event"]'],
    ['a binary event with a negative count', '45-1-["test:event"]'],
    ['a binary event with a count beyond all bounds', '4599999999999-["test:event",{"_placeholder":true,"num":0}]'],
    ['a binary ack for nothing', '461-7[{"_placeholder":true,"num":0}]'],
    ['an unterminated binary event', '451-["test:event",{"_placeholder":true,"num":0}]'],
    ['a record separator', '42["test:event"]\u001e42["test:event"]'],
    ['a binary frame that nobody announced', Buffer.from([1, 2, 3])],
    ['an empty binary frame', Buffer.alloc(0)],
  ];
  for (const [name, packet] of PACKETS)
    test(`WebSocket: ${name}`, async () => {
      const raw = await Raw.open(gw);
      if (!name.includes('before connect')) await raw.join('/');
      raw.send(packet);
      await closedOrAlive(raw, name);
    });

  for (const [name, packet] of PACKETS.filter(([, p]) => typeof p === 'string'))
    test(`polling: ${name}`, async () => {
      const p = await Poll.open(gw);
      await p.post('40');
      const answer = await p.post(packet);
      assert.ok(answer.status < 500, `${answer.status} ${answer.body}`);
    });

  test('forged placeholders in binary events are refused or inert, never another’s data', async () => {
    const forged = [
      ['an index out of range', '451-1["test:event",{"a":{"_placeholder":true,"num":5}}]', 1],
      ['a negative index', '451-1["test:event",{"a":{"_placeholder":true,"num":-1}}]', 1],
      ['an index that is a string', '451-1["test:event",{"a":{"_placeholder":true,"num":"0"}}]', 1],
      ['an index that is a float', '451-1["test:event",{"a":{"_placeholder":true,"num":0.5}}]', 1],
      ['a huge index', '451-1["test:event",{"a":{"_placeholder":true,"num":18446744073709551615}}]', 1],
      ['no index', '451-1["test:event",{"a":{"_placeholder":true}}]', 1],
      ['one attachment twice', '451-1["test:event",{"a":{"_placeholder":true,"num":0},"b":{"_placeholder":true,"num":0}}]', 1],
      ['attachments that nothing names', '452-1["test:event",{"a":1}]', 2],
      ['fewer attachments than said', '453-1["test:event",{"a":{"_placeholder":true,"num":0}}]', 1],
      ['more attachments than said', '451-1["test:event",{"a":{"_placeholder":true,"num":0}}]', 3],
      ['a placeholder in a text event', '421["test:event",{"a":{"_placeholder":true,"num":0}}]', 0],
      ['a placeholder as the name', '451-1[{"_placeholder":true,"num":0}]', 1],
      ['a wrapped binary in a text event', '421["test:event",{"a":{"$binary":"AAAA"}}]', 0],
      ['a text packet in between', '451-1["test:event",{"a":{"_placeholder":true,"num":0}}]', -1],
    ];
    for (const [name, text, attachments] of forged) {
      const raw = await Raw.open(gw);
      await raw.join('/');
      raw.send(text);
      if (attachments < 0) raw.send('42["test:ping"]');
      for (let i = 0; i < Math.abs(attachments); i++) raw.send(Buffer.from(`attachment ${i}`));
      await closedOrAlive(raw, name);
    }
  });

  test('an event relayed with a forged placeholder breaks no receiver', async () => {
    const raw = await Raw.open(gw);
    await raw.join('/toolbox');
    raw.send('42/toolbox,1["subscribe",{"channel":"trap"}]');
    await raw.next(/^43\/toolbox,1\[/);
    const hearer = await connect(gw, '/toolbox', 'toolbox');
    assertOk(await hearer.call('subscribe', { channel: 'trap' }), 'subscribe');
    raw.send('42/toolbox,["collaboration_message",{"channel":"trap","x":{"_placeholder":true,"num":0}}]');
    raw.send('42/toolbox,["collaboration_message",{"channel":"trap","x":{"_placeholder":true,"num":99}}]');
    raw.send('42/toolbox,["collaboration_message",{"channel":"trap","x":{"$binary":"!!"}}]');
    raw.send('42/toolbox,2["collaboration_message",{"channel":"trap","last":true}]');
    await raw.next(/^43\/toolbox,2\[/);
    await hearer.next('collaboration_message', (p) => p.last);
    await hearer.settle();
    hearer.close();
    raw.close();
  });

  test('a message over the limit: refused or closed, on both transports', async () => {
    const raw = await Raw.open(gw);
    await raw.join('/');
    raw.send(`421["test:event","${'x'.repeat(1_100_000)}"]`);
    const answer = await within(Promise.race([raw.closed, raw.next(/^431|^42\["error"/)]), 'an end');
    if (typeof answer === 'string') assert.match(answer, /TOO_LARGE/);
    const binary = await Raw.open(gw);
    await binary.join('/');
    binary.send('451-1["test:event",{"_placeholder":true,"num":0}]');
    binary.send(Buffer.alloc(1_100_000));
    await within(Promise.race([binary.closed, binary.next(/^431.*TOO_LARGE/)]), 'an end of the binary one');
    const p = await Poll.open(gw);
    await p.post('40');
    const post = await p.post(`421["test:event","${'x'.repeat(1_100_000)}"]`).catch((e) => ({ status: 413, body: e.code }));
    assert.ok(post.status >= 400 && post.status < 500, `${post.status}`);
    raw.close();
    binary.close();
  });

  test('a body of 100 MB against a limit of 1 MB is cut off early', async () => {
    const p = await Poll.open(gw);
    const [host, port] = splitAddress(gw.public);
    const socket = tcp({ host, port });
    const ended = deferred();
    let said = '';
    let sent = 0;
    socket.on('data', (d) => (said += d));
    socket.on('error', () => ended.resolve());
    socket.on('close', () => ended.resolve());
    socket.write(`POST ${p.query} HTTP/1.1\r\nHost: ${gw.public}\r\nContent-Type: text/plain\r\nContent-Length: 100000000\r\n\r\n`);
    const chunk = Buffer.alloc(1 << 20, 0x78);
    const answered = () => /^HTTP\/1.1 4\d\d/.test(said);
    const pump = () => {
      while (sent < 100_000_000 && !socket.destroyed && !answered()) {
        sent += chunk.length;
        if (!socket.write(chunk)) return void socket.once('drain', pump);
      }
      if (answered()) socket.destroy();
    };
    socket.on('data', () => answered() && socket.destroy());
    pump();
    await within(ended.promise, () => `an early end; sent ${sent}, got ${said.slice(0, 100)}`, 10000);
    assert.ok(sent < 60_000_000, `${sent} bytes were taken`);
  });

  test('a WebSocket message of 100 MB is cut off', async () => {
    const raw = await Raw.open(gw);
    await raw.join('/');
    raw.ws.send(Buffer.alloc(100_000_000), () => {});
    await within(raw.closed, 'the close', 10000);
  });

  test('HTTP that is none of ours', async () => {
    const base = '/socket.io/?EIO=4';
    const p = await Poll.open(gw);
    for (const [name, options] of [
      ['no query', { path: '/socket.io/' }],
      ['no transport', { path: base }],
      ['an unknown transport', { path: `${base}&transport=flash` }],
      ['EIO 2', { path: '/socket.io/?EIO=2&transport=polling' }],
      ['EIO 99', { path: '/socket.io/?EIO=99&transport=polling' }],
      ['an unknown sid', { path: `${base}&transport=polling&sid=unknown` }],
      ['a strange sid', { path: `${base}&transport=polling&sid=%00%ff..%2f` }],
      ['a very long sid', { path: `${base}&transport=polling&sid=${'s'.repeat(5000)}` }],
      ['a POST without a sid', { method: 'POST', path: `${base}&transport=polling`, body: '40' }],
      ['a PUT', { method: 'PUT', path: p.query, body: 'x' }],
      ['a DELETE', { method: 'DELETE', path: p.query }],
      ['a websocket transport without an upgrade', { path: `${base}&transport=websocket` }],
      ['a body that is no UTF-8', { method: 'POST', path: p.query, body: Buffer.from([0xff, 0xfe, 0x80]), headers: { 'content-type': 'text/plain;charset=UTF-8' } }],
    ]) {
      const answer = await http(gw.public, options);
      assert.ok(answer.status >= 400 && answer.status < 500, `${name}: ${answer.status} ${answer.body.slice(0, 200)}`);
    }
    const twice = await Poll.open(gw);
    await twice.post('40');
    await twice.poll();
    const polls = [twice.poll(), twice.poll()];
    const first = await within(Promise.race(polls), 'one of two polls at once');
    assert.ok(first.status < 500);
    for (const poll of polls) poll.catch(() => {});
  });

  test('connections that say nothing, or half of something, hold nobody up', async () => {
    const [host, port] = splitAddress(gw.public);
    const sockets = [];
    for (const start of ['', 'GET', 'GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n', 'POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12', '\u0016\u0003\u0001\u0002\u0000']) {
      for (let i = 0; i < 10; i++) {
        const s = tcp({ host, port });
        s.on('error', () => {});
        await new Promise((resolve) => s.once('connect', resolve));
        s.write(start);
        sockets.push(s);
      }
    }
    const c = await connect(gw, '/codx', 'codx');
    assert.equal(await c.call('codx-junior-ping'), true);
    c.close();
    for (const s of sockets) s.destroy();
  });

  test('a WebSocket that breaks its own protocol is closed', async () => {
    const [host, port] = splitAddress(gw.public);
    for (const bytes of [Buffer.from([0x81, 0x05, 1, 2, 3, 4, 5]), Buffer.from([0xff, 0x80, 1, 2, 3, 4]), Buffer.from([0x83, 0x80, 0, 0, 0, 0]), Buffer.from([0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])]) {
      const s = tcp({ host, port });
      s.on('error', () => {});
      const closed = new Promise((resolve) => s.on('close', resolve));
      const open = deferred();
      s.once('data', open.resolve);
      s.write(`GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: ${gw.public}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`);
      await within(open.promise, 'the upgrade');
      s.resume();
      s.write(bytes);
      await within(closed, `the close after ${bytes.toString('hex')}`);
    }
  });

  test('a text frame that is no UTF-8 is closed', async () => {
    const raw = await Raw.open(gw);
    await raw.join('/');
    raw.ws._sender.send(Buffer.from([0x34, 0x32, 0xff, 0xfe]), { binary: false, fin: true, opcode: 1, mask: true }, () => {});
    await within(raw.closed, 'the close');
  });

  test('names, rooms and payloads of the odd kind are answered, one by one', async () => {
    const c = await connect(gw, '/', 'coding-assistant');
    for (const event of ['', ' ', '*', 'constructor', '__proto__', 'toString', 'hasOwnProperty', '../x', '%00', '🚀', 'a'.repeat(128), 'connection', 'newListener2']) assertRefused(await c.call(event, {}), event, 'UNKNOWN_EVENT');
    for (const room of ['__proto__', 'constructor', '*', '#', 'socket.io#/#', '{x}', '%s', '../..', '🚀', ' ', "'; DROP TABLE rooms; --", 'project:', 'project:*', 'user:', 'session:x']) {
      const ack = await c.call('room:join', { room });
      assert.equal(typeof ack.ok, 'boolean', room);
      if (ack.ok) await c.next('room:joined', (p) => p.room === room);
      else assert.ok(['FORBIDDEN', 'BAD_PAYLOAD'].includes(ack.error.code), JSON.stringify(ack));
    }
    for (const args of [[], [null], [undefined], [[]], [1e308], [''], [{}, {}, {}], [Buffer.alloc(0)], [[Buffer.from('x')]]]) {
      for (const event of ['project:join', 'file:lock', 'batch:update', 'user:typing', 'ai:message', 'auth:session', 'room:join']) {
        const ack = await c.call(event, ...args);
        assert.equal(ack.ok, false, `${event} ${JSON.stringify(args)}: ${JSON.stringify(ack)}`);
        assert.equal(ack.error.code, 'BAD_PAYLOAD', `${event} ${JSON.stringify(args)}`);
      }
    }
    c.close();
  });

  test('an event name with a JSON escape is refused by a readable name, and the connection stays', async () => {
    const c = await connect(gw, '/', 'coding-assistant');
    for (const [name, told] of [['\n', '\u240a'], ['say "it"', 'say \uff02it\uff02'], ['a\\b', 'a\uff3cb'], ['\u0000', '\u2400']])
      assertRefused(await c.call(name, {}), told, 'UNKNOWN_EVENT');
    c.close();
  });

  test('a thousand connections that open and vanish', async () => {
    const vanish = () =>
      new Promise((resolve) => {
        const ws = new WebSocket(`ws://${gw.public}/socket.io/?EIO=4&transport=websocket`, { perMessageDeflate: false });
        ws.on('open', () => (ws.send('40'), ws.terminate()));
        ws.on('close', resolve);
        ws.on('error', () => {});
      });
    for (let i = 0; i < 10; i++) await Promise.all(Array.from({ length: 100 }, vanish));
  });

  test('handlers that throw nothing: a flood of unknown acks and refusals ends in a disconnect, not in a leak', async () => {
    const raw = await Raw.open(gw);
    await raw.join('/');
    for (let i = 0; i < 3000; i++) raw.send(`43${i}[]`);
    for (let i = 0; i < 3000; i++) raw.send('42["flood"]');
    await within(raw.closed, 'the disconnect of a flooding client', 15000);
  });
});
