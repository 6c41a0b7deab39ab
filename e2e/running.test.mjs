// The command line and the two listeners: the ready line, ports, paths, origins, hosts, configuration and its refusals.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { App, Gateway, JWT_SECRET, Poll, Raw, assert, assertOk, connect, deferred, http, refused, run, scratch, until, user, within } from './harness.mjs';

const dir = scratch();
const file = (name, text) => {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
};
const HANDSHAKE = '/socket.io/?EIO=4&transport=polling';

/** The status of a WebSocket handshake with these headers: 101 or what came instead. */
function upgrade(gw, headers) {
  return http(gw.public, { path: '/socket.io/?EIO=4&transport=websocket', headers: { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', ...headers } });
}

describe('running with the demo mounting', () => {
  let gw;
  before(async () => {
    gw = await Gateway.start();
  });
  after(() => gw?.stop());

  test('exactly one line on stdout, with two real addresses', async () => {
    assert.match(gw.stdout, /^ready public=127\.0\.0\.1:\d+ internal=127\.0\.0\.1:\d+\n$/);
    assert.notEqual(gw.public, gw.internal);
    await connect(gw, '/', 'coding-assistant');
    assert.equal(gw.stdout.split('\n').length, 2);
  });

  test('all five contracts are mounted', async () => {
    for (const [nsp, contract, options] of [['/', 'coding-assistant'], ['/codx', 'codx'], ['/agents', 'agent-stream', { token: user('a') }], ['/toolbox', 'toolbox'], ['/debug', 'debug'], ['/gate', 'security-gate']]) {
      const c = await connect(gw, nsp, contract, options);
      await c.settle();
      c.close();
    }
  });

  test('a page at /', async () => {
    const page = await http(gw.public, { path: '/' });
    assert.equal(page.status, 200);
    assert.match(page.headers['content-type'], /^text\/html/);
  });

  test('nothing internal on the public listener, nothing public on the internal one', async () => {
    for (const path of ['/metrics', '/health/live', '/health/ready', '/v1/stats', '/v1/openapi.json', '/v1/rooms']) assert.equal((await http(gw.public, { path })).status, 404, path);
    assert.ok((await http(gw.internal, { path: HANDSHAKE })).status >= 400);
    assert.equal((await http(gw.internal, { path: '/health/live' })).status, 200);
    assert.equal((await http(gw.internal, { path: '/health/ready' })).status, 200);
  });

  test('paths with and without the slash, on both transports; others are 404', async () => {
    for (const path of ['/socket.io', '/socket.io/', '/ws/socket.io', '/ws/socket.io/']) {
      await Poll.open(gw, { path });
      const ws = new WebSocket(`ws://${gw.public}${path}?EIO=4&transport=websocket`);
      await within(new Promise((resolve, reject) => (ws.on('open', resolve), ws.on('error', reject))), path);
      ws.terminate();
    }
    for (const path of ['/socket.iox/', '/ws/', '/ws/socket.io/x', '/Socket.IO/', '/other/socket.io/']) assert.equal((await http(gw.public, { path: `${path}?EIO=4&transport=polling` })).status, 404, path);
  });

  test('secrets are in no log', async () => {
    const token = user('hush');
    await connect(gw, '/toolbox', 'toolbox', { token });
    await refused(gw, '/toolbox', { token: `${token}x` });
    assert.ok(!gw.stderr.includes(token));
    assert.ok(!gw.stderr.includes(JWT_SECRET));
  });
});

describe('origins and hosts', () => {
  let gw;
  before(async () => {
    gw = await Gateway.start({ contracts: ['toolbox@/'], config: '[http]\norigins = ["https://app.test", "https://two.test:8443"]\ntrusted_hosts = ["gw.test", "127.0.0.1"]\n' });
  });
  after(() => gw?.stop());

  test('a foreign origin gets 403 on every transport, a listed one CORS with credentials', async () => {
    for (const origin of ['https://evil.test', 'http://app.test', 'https://app.test.evil.test', 'https://app.test:444', 'null', 'https://two.test']) {
      assert.equal((await http(gw.public, { path: HANDSHAKE, headers: { origin } })).status, 403, `polling ${origin}`);
      assert.equal((await upgrade(gw, { origin })).status, 403, `websocket ${origin}`);
    }
    for (const origin of ['https://app.test', 'https://two.test:8443']) {
      const polling = await http(gw.public, { path: HANDSHAKE, headers: { origin } });
      assert.equal(polling.status, 200);
      assert.equal(polling.headers['access-control-allow-origin'], origin);
      assert.equal(polling.headers['access-control-allow-credentials'], 'true');
      assert.match(String(polling.headers.vary), /origin/i);
      assert.equal((await upgrade(gw, { origin })).status, 101);
      const preflight = await http(gw.public, { method: 'OPTIONS', path: HANDSHAKE, headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' } });
      assert.ok([200, 204].includes(preflight.status));
      assert.equal(preflight.headers['access-control-allow-origin'], origin);
      assert.equal(preflight.headers['access-control-allow-credentials'], 'true');
    }
    const foreign = await http(gw.public, { method: 'OPTIONS', path: HANDSHAKE, headers: { origin: 'https://evil.test', 'access-control-request-method': 'POST' } });
    assert.notEqual(foreign.headers['access-control-allow-origin'], 'https://evil.test');
    assert.notEqual(foreign.headers['access-control-allow-origin'], '*');
  });

  test('no Origin at all is no foreign one: what is no browser connects', async () => {
    await Poll.open(gw);
    assert.equal((await upgrade(gw, {})).status, 101);
  });

  test('a Host that is not trusted gets 400, compared without its port; internal calls do not care', async () => {
    // Not '': Node's client would send its own name in its place.
    for (const host of ['evil.test', 'evil.test:80', 'gw.test.evil.test', '.']) {
      assert.equal((await http(gw.public, { path: HANDSHAKE, headers: { host } })).status, 400, host);
      assert.equal((await http(gw.public, { path: '/socketio/status', headers: { host } })).status, 400, host);
    }
    for (const host of ['gw.test', 'gw.test:8080', 'GW.TEST']) assert.equal((await http(gw.public, { path: HANDSHAKE, headers: { host } })).status, 200, host);
    assert.equal((await upgrade(gw, { host: 'evil.test' })).status, 400);
    assert.equal((await http(gw.internal, { path: '/health/live', headers: { host: 'evil.test' } })).status, 200);
  });
});

describe('configuration', () => {
  test('GATEWAY__ overrides the file, SOCKET_ names work, secrets may be in files', async () => {
    const secret = file('jwt', `${JWT_SECRET}\n`);
    const key = file('key', 'key-from-a-file-0123456789\n');
    const gw = await Gateway.start({
      contracts: ['agent-stream@/'],
      jwtSecret: null,
      apiKey: null,
      config: '[limits]\npayload_bytes = 5000\nrooms_per_connection = 2\n',
      env: { GATEWAY__LIMITS__PAYLOAD_BYTES: '7000', GATEWAY_JWT_SECRET_FILE: secret, GATEWAY_API_KEY_FILE: key, SOCKET_PING_INTERVAL: '11000' },
    });
    try {
      const { handshake } = await Poll.open(gw);
      assert.deepEqual([handshake.maxPayload, handshake.pingInterval], [7000, 11000]);
      assertOk(await (await connect(gw, '/', 'agent-stream', { token: user('a') })).call('workflow:subscribe', { workflowId: 'w' }), 'workflow:subscribe');
      assert.equal((await gw.api('GET', '/v1/stats', undefined, { key: 'key-from-a-file-0123456789' })).status, 200);
    } finally {
      await gw.stop();
    }
  });

  test('socket_paths are exactly those configured', async () => {
    const gw = await Gateway.start({ contracts: ['toolbox@/'], config: '[http]\nsocket_paths = ["/realtime"]\n' });
    try {
      await Poll.open(gw, { path: '/realtime' });
      await Poll.open(gw, { path: '/realtime/' });
      assert.equal((await http(gw.public, { path: HANDSHAKE })).status, 404);
    } finally {
      await gw.stop();
    }
  });

  const serve = ['serve', '--listen', '127.0.0.1:0', '--internal-listen', '127.0.0.1:0'];
  const EXITS = [
    ['an unknown command', ['unheard'], {}, /unheard/],
    ['an unknown option', [...serve, '--unheard'], {}, /--unheard/],
    ['an unknown contract', [...serve, '--contract', 'unheard'], {}, /unheard/],
    ['a mounting without a namespace', [...serve, '--contract', 'codx@nowhere'], {}, /nowhere/],
    ['two contracts at one namespace', [...serve, '--contract', 'codx@/x', '--contract', 'toolbox@/x'], {}, /\/x/],
    ['an address that is none', ['serve', '--listen', 'nowhere'], {}, /nowhere|listen/],
    ['a file that is not there', [...serve, '--config', '/nowhere.toml'], {}, /nowhere\.toml/],
    ['an unknown key', ['check-config', file('unknown.toml', '[limits]\nfoo = 1\n')], {}, /foo/],
    ['an unknown table', ['check-config', file('table.toml', '[unheard]\nx = 1\n')], {}, /unheard/],
    ['a value of the wrong type', ['check-config', file('type.toml', '[limits]\nrooms_per_connection = "many"\n')], {}, /rooms_per_connection/],
    ['a duration that is none', ['check-config', file('duration.toml', '[auth]\nleeway = "soon"\n')], {}, /leeway/],
    ['broken TOML, with the line', ['check-config', file('broken.toml', '[limits]\n\nrooms_per_connection = \n')], {}, /line 3|:3/],
    ['an unknown variable', serve, { GATEWAY__LIMITS__FOO: '1' }, /GATEWAY__LIMITS__FOO|limits\.foo/i],
    ['a variable of the wrong type', serve, { GATEWAY__LIMITS__PAYLOAD_BYTES: 'many' }, /payload_bytes/i],
    ['SOCKET_PING_INTERVAL that is no number', serve, { SOCKET_PING_INTERVAL: 'soon' }, /SOCKET_PING_INTERVAL/],
    ['an upstream of no kind', ['check-config', file('kind.toml', '[upstream.app]\nkind = "carrier-pigeon"\n')], {}, /kind/],
    ['an upstream secret without whsec_', ['check-config', file('secret.toml', '[upstream.app]\nkind = "http"\nurl = "http://127.0.0.1:1/"\nsecret = "plain"\n')], {}, /secret/],
    ['production with any origin', [...serve, '--contract', 'toolbox@/', '--config', file('prod1.toml', 'production = true\n[debug]\nenabled = false\n')], { GATEWAY_JWT_SECRET: JWT_SECRET }, /origins/],
    ['production without a JWT secret', [...serve, '--contract', 'agent-stream@/', '--config', file('prod2.toml', 'production = true\n[http]\norigins = ["https://a.test"]\n')], {}, /jwt_secret|JWT_SECRET/],
    ['production with a short JWT secret', [...serve, '--contract', 'agent-stream@/', '--config', file('prod3.toml', 'production = true\n[http]\norigins = ["https://a.test"]\n')], { GATEWAY_JWT_SECRET: 'short' }, /32/],
    ['production with /debug on', [...serve, '--contract', 'toolbox@/', '--config', file('prod4.toml', 'production = true\n[http]\norigins = ["https://a.test"]\n[debug]\nenabled = true\n')], { GATEWAY_JWT_SECRET: JWT_SECRET }, /debug/],
    ['contract show of an unknown one', ['contract', 'show', 'unheard'], {}, /unheard/],
    ['a token without a name', ['token'], { GATEWAY_JWT_SECRET: JWT_SECRET }, /--sub/],
  ];
  for (const [name, args, env, pattern] of EXITS)
    test(`exit status 2, and why: ${name}`, async () => {
      const { code, stdout, stderr } = await run(args, { env });
      assert.equal(code, 2, `${code}\n${stdout}${stderr}`);
      assert.match(stderr, pattern);
      assert.doesNotMatch(stderr, /panicked/);
      assert.doesNotMatch(stdout, /^ready/m);
    });

  test('production with all that it asks for starts, without /debug', async () => {
    const gw = await Gateway.start({ contracts: ['toolbox@/'], config: 'production = true\n[http]\norigins = ["https://app.test"]\n' });
    try {
      await connect(gw, '/', 'toolbox');
      assert.match((await refused(gw, '/debug')).message, /namespace/i);
    } finally {
      await gw.stop();
    }
  });

  test('default-config is a configuration, and check-config takes it', async () => {
    const { code, stdout } = await run(['default-config']);
    assert.equal(code, 0);
    for (const key of ['socket_paths', 'origins', 'trusted_hosts', 'events_per_second', 'payload_bytes', 'expiry_warning']) assert.ok(stdout.includes(key), key);
    const checked = await run(['check-config', file('default.toml', stdout)]);
    assert.equal(checked.code, 0, checked.stderr);
  });

  test('contract list, show and check', async () => {
    const list = await run(['contract', 'list']);
    assert.equal(list.code, 0);
    for (const name of ['codx', 'coding-assistant', 'agent-stream', 'toolbox', 'security-gate']) {
      assert.ok(list.stdout.includes(name), name);
      const shown = await run(['contract', 'show', name]);
      assert.equal(shown.code, 0);
      assert.ok(shown.stdout.length > 200);
    }
    const empty = scratch();
    writeFileSync(join(empty, 'broken.toml'), 'name = ');
    assert.equal((await run(['contract', 'check', empty])).code, 2);
  });

  test('a sixth contract is a file in a folder, and its own name in a file overrides a built-in one', async () => {
    const folder = scratch();
    const { stdout } = await run(['contract', 'show', 'codx']);
    writeFileSync(join(folder, 'sixth.toml'), stdout.replace(/^name = "codx"$/m, 'name = "sixth"').replaceAll('codx-junior-ping', 'sixth-ping'));
    writeFileSync(join(folder, 'codx.toml'), stdout.replaceAll('codx-junior-ping', 'codx-own-ping'));
    assert.equal((await run(['contract', 'check', folder])).code, 0);
    const gw = await Gateway.start({ contracts: ['sixth@/six', 'codx@/codx'], args: ['--contracts', folder] });
    try {
      const { socket } = await connect(gw, '/six', 'codx');
      assert.equal(await within(socket.emitWithAck('sixth-ping'), 'the ack'), true);
      const own = await connect(gw, '/codx', 'codx');
      assert.equal(await own.call('codx-own-ping'), true);
      assert.equal((await own.call('codx-junior-ping')).error.code, 'UNKNOWN_EVENT');
    } finally {
      await gw.stop();
    }
  });

  test('--help of everything is status 0', async () => {
    for (const args of [['--help'], ['serve', '--help'], ['token', '--help'], ['contract', '--help'], ['--version']]) assert.equal((await run(args)).code, 0, args.join(' '));
  });

  test('SIGTERM: not ready at once, no new handshakes, transports closed without a DISCONNECT, exit 0', async () => {
    const gw = await Gateway.start({ contracts: ['toolbox@/'], env: { GATEWAY__DRAIN__WINDOW: '2s', GATEWAY__DRAIN__GRACE: '6s' } });
    const clients = [];
    for (let i = 0; i < 5; i++) clients.push(await connect(gw, '/', 'toolbox', { transports: [i % 2 ? 'websocket' : 'polling'] }));
    const raw = await Raw.open(gw);
    await raw.join('/');
    gw.terminate();
    const status = (address, path) => http(address, { path }).then((answer) => answer.status, (error) => error.code);
    await until('not ready', async () => [503, 'ECONNREFUSED'].includes(await status(gw.internal, '/health/ready')), 1500);
    assert.ok([503, 'ECONNREFUSED', 'ECONNRESET'].includes(await status(gw.public, HANDSHAKE)));
    for (const c of clients) assert.ok(['transport close', 'transport error'].includes(await c.disconnected(6000)), c.gone);
    await within(raw.closed, 'the close', 6000);
    assert.ok(!raw.inbox.items.some((packet) => String(packet).startsWith('41')), 'a DISCONNECT would keep clients away');
    assert.deepEqual(await within(gw.closed, 'the exit', 8000), { code: 0, signal: null });
  });

  test('SIGTERM: upstream work in flight finishes', async () => {
    const app = await App.start();
    const gw = await Gateway.start({ contracts: ['codx@/'], app, env: { GATEWAY__DRAIN__WINDOW: '1s', GATEWAY__DRAIN__GRACE: '6s' } });
    const go = deferred();
    let finished = false;
    app.on('codx-junior-chat', async (_body, { res }) => {
      await go.promise;
      res.on('close', () => (finished = res.writableFinished));
      return { result: { answer: 1 } };
    });
    const c = await connect(gw, '/', 'codx');
    c.send('codx-junior-chat', { chat: { name: 'c' }, message: 'm' });
    await app.next('codx-junior-chat');
    gw.terminate();
    await until('not ready', async () => [503, 'ECONNREFUSED'].includes(await http(gw.internal, { path: '/health/ready' }).then((a) => a.status, (e) => e.code)), 1500);
    assert.equal(gw.ended, null, 'it waits for the answer');
    go.resolve();
    assert.deepEqual(await within(gw.closed, 'the exit', 8000), { code: 0, signal: null });
    assert.equal(finished, true, 'the answer was taken');
    await app.stop();
  });
});
