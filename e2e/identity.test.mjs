// Who a connection is: algorithms, keys, JWKS with rotation, claims, expiry, refresh; and that ids are no credentials.
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Gateway, JWT_SECRET, Poll, Raw, assert, assertErrorEvent, assertOk, assertRefused, connect, http, jwt, refused, run, scratch, until, user } from './harness.mjs';

const BAD = 'Invalid or expired token';
const soon = (s) => Math.floor(Date.now() / 1000) + s;

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const rsa2 = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');

describe('identity: keys and claims', () => {
  let gw;
  const dir = scratch();
  const pem = (name, key) => {
    const file = join(dir, `${name}.pem`);
    writeFileSync(file, key.publicKey.export({ type: 'spki', format: 'pem' }));
    return file;
  };
  const files = [pem('rsa', rsa), pem('ec', ec), pem('ed', ed)];
  before(async () => {
    gw = await Gateway.start({
      contracts: ['agent-stream@/'],
      config: `[auth]\npublic_keys = ${JSON.stringify(files)}\nissuer = "https://issuer.test"\naudience = "gateway"\nclaims.user = "uid"\nclaims.name = "nick"\nclaims.roles = "groups"\n`,
    });
  });
  after(() => gw?.stop());

  const claims = { uid: 'ann', nick: 'Ann', groups: ['dev'], iss: 'https://issuer.test', aud: 'gateway' };
  for (const [name, options] of [
    ['HS256', {}],
    ['RS256', { alg: 'RS256', key: rsa.privateKey }],
    ['ES256', { alg: 'ES256', key: ec.privateKey }],
    ['EdDSA', { alg: 'EdDSA', key: ed.privateKey }],
  ])
    test(`${name} with a static key; the user, the name and the roles of the configured claims`, async () => {
      const c = await connect(gw, '/', 'agent-stream', { token: jwt(claims, options) });
      const one = await gw.ok('GET', `/v1/connections/${c.id}`);
      assert.deepEqual([one.user, one.roles], [{ id: 'ann', name: 'Ann' }, ['dev']]);
      c.close();
    });

  const pemText = rsa.publicKey.export({ type: 'spki', format: 'pem' });
  for (const [name, token] of [
    ['another RSA key', jwt(claims, { alg: 'RS256', key: rsa2.privateKey })],
    ['HS256 signed with the public key', jwt(claims, { key: pemText })],
    ['RS256 claimed, HS256 signed', jwt(claims).replace(/^[^.]+/, Buffer.from('{"alg":"RS256","typ":"JWT"}').toString('base64url'))],
    ['HS384', jwt(claims, { alg: 'HS384' })],
    ['none', jwt(claims, { alg: 'none' })],
    ['expired', jwt({ ...claims, exp: soon(-10) })],
    ['not yet valid', jwt({ ...claims, nbf: soon(60) })],
    ['another issuer', jwt({ ...claims, iss: 'https://evil.test' })],
    ['no issuer', jwt({ ...claims, iss: undefined })],
    ['another audience', jwt({ ...claims, aud: 'other' })],
    ['a body that was changed', jwt(claims).replace(/\.[^.]+\./, `.${Buffer.from(JSON.stringify({ ...claims, uid: 'eve', exp: soon(600) })).toString('base64url')}.`)],
    ['trailing bytes', `${jwt(claims)}x`],
    ['a huge token', `${jwt(claims)}.${'x'.repeat(100000)}`],
  ])
    test(`refused: ${name}`, async () => assert.equal((await refused(gw, '/', { token })).message, BAD));

  test('an audience among several is one', async () => {
    (await connect(gw, '/', 'agent-stream', { token: jwt({ ...claims, aud: ['other', 'gateway'] }) })).close();
  });

  test('a token within the leeway after its end is still taken', async () => {
    (await connect(gw, '/', 'agent-stream', { token: jwt({ ...claims, exp: soon(-2) }) })).close();
  });

  test('no configured user claim: Invalid token payload', async () => {
    assert.equal((await refused(gw, '/', { token: jwt({ ...claims, uid: undefined, sub: 'ann' }) })).message, 'Invalid token payload');
  });
});

describe('identity: a JWKS', () => {
  test('keys by URL, and a new key at once on an unknown kid', async () => {
    let keys = [{ ...rsa.publicKey.export({ format: 'jwk' }), kid: 'one', use: 'sig', alg: 'RS256' }];
    let asked = 0;
    const server = createServer((_req, res) => {
      asked += 1;
      res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ keys }));
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const gw = await Gateway.start({ contracts: ['agent-stream@/'], jwtSecret: null, config: `[auth]\njwks_url = "http://127.0.0.1:${server.address().port}/jwks"\n` });
    try {
      const open = (kid, key) => connect(gw, '/', 'agent-stream', { token: jwt({ sub: 'ann' }, { alg: 'RS256', key: key.privateKey, kid }) });
      await open('one', rsa);
      await open('one', rsa);
      assert.ok(asked <= 2, `asked ${asked} times for one key`);
      await assert.rejects(open('one', rsa2), /Invalid or expired token/);
      keys = [...keys, { ...rsa2.publicKey.export({ format: 'jwk' }), kid: 'two', use: 'sig', alg: 'RS256' }];
      // The last look may be under 10 s old, and then the gateway may refuse until it is.
      await until('the new key is taken', () => open('two', rsa2).catch((e) => (assert.match(e.message, /Invalid or expired token/), null)), 12000);
      const before = asked;
      for (let i = 0; i < 5; i++) await assert.rejects(open(`unknown-${i}`, rsa2), /Invalid or expired token/);
      assert.ok(asked - before <= 1, `asked ${asked - before} times for unknown kids`);
    } finally {
      await gw.stop();
      server.close();
    }
  });
});

describe('identity: expiry and refresh', { concurrency: true }, () => {
  let gw;
  before(async () => {
    gw = await Gateway.start({ contracts: ['agent-stream@/', 'toolbox@/toolbox', 'coding-assistant@/code', 'codx@/codx'], config: '[auth]\nleeway = "1s"\nexpiry_warning = "2s"\n' });
  });
  after(() => gw?.stop());

  test('auth:expiring comes before the end, and then the disconnect', async () => {
    const exp = soon(3);
    const c = await connect(gw, '/', 'agent-stream', { token: user('ann', [], { exp }) });
    const told = await c.next('auth:expiring');
    assert.equal(Date.parse(told.expires_at), exp * 1000, JSON.stringify(told));
    assert.ok(Date.now() < exp * 1000 + 200, 'told in time');
    assert.equal(await c.disconnected(6000), 'io server disconnect');
    const late = Date.now() - exp * 1000;
    assert.ok(late > 500 && late < 3500, `disconnected ${late} ms after the end`);
  });

  for (const [nsp, contract] of [['/', 'agent-stream'], ['/toolbox', 'toolbox'], ['/code', 'coding-assistant'], ['/codx', 'codx']])
    test(`${contract}: auth:refresh with a fresh token keeps the connection`, async () => {
      const c = await connect(gw, nsp, contract, { token: user('ann', [], { exp: soon(2) }) });
      await c.next('auth:expiring');
      assertOk(await c.call('auth:refresh', { token: user('ann', ['fresh'], { exp: soon(600) }) }), 'auth:refresh');
      assert.deepEqual((await gw.ok('GET', `/v1/connections/${c.id}`)).roles, ['fresh']);
      assertRefused(await c.call('auth:refresh', { token: user('eve') }), 'auth:refresh', 'FORBIDDEN');
      assertRefused(await c.call('auth:refresh', { token: 'x.y.z' }), 'auth:refresh', 'UNAUTHORIZED');
      assertRefused(await c.call('auth:refresh', { token: user('ann', [], { exp: soon(-60) }) }), 'auth:refresh', 'UNAUTHORIZED');
      assertRefused(await c.call('auth:refresh', {}), 'auth:refresh', 'BAD_PAYLOAD');
      assertRefused(await c.call('auth:refresh'), 'auth:refresh', 'BAD_PAYLOAD');
      assertRefused(await c.call('auth:refresh', { token: 3 }), 'auth:refresh', 'BAD_PAYLOAD');
      const marker = await connect(gw, '/', 'agent-stream', { token: user('marker', [], { exp: soon(2) }) });
      await marker.disconnected(8000); // a token that ended later than the old one did: the old end is past
      await c.settle();
      c.close();
    });

  test('a token without an end never expires', async () => {
    const c = await connect(gw, '/', 'agent-stream', { token: jwt({ sub: 'ann', exp: undefined }) });
    await c.quiet('auth:expiring');
    c.close();
  });
});

describe('identity: what others see of a session is no credential', () => {
  let gw;
  before(async () => {
    gw = await Gateway.start({ contracts: ['codx@/', 'toolbox@/toolbox'] });
  });
  after(() => gw?.stop());

  for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']])
    test(`over ${transports.join(' then ')}: the ids that another client sees let nobody poll, post or upgrade`, async () => {
      const victim = await connect(gw, '/', 'codx', { transports });
      if (transports.length > 1) await until('upgraded', () => victim.socket.io.engine.transport.name === 'websocket');
      const other = await connect(gw, '/', 'codx');
      await victim.call('codx-junior-login', { username: 'victim' });
      const map = await other.call('codx-junior-login', { username: 'other' });
      const seen = new Set([victim.id, ...Object.keys(map).filter((sid) => sid !== other.id)]);
      const members = await gw.ok('GET', `/v1/connections/${victim.id}`);
      seen.add(members.sid);
      for (const sid of seen) {
        for (const t of ['polling', 'websocket']) {
          const answer = await http(gw.public, { path: `/socket.io/?EIO=4&transport=${t}&sid=${sid}` });
          assert.ok(answer.status >= 400 && answer.status < 500, `${t} GET with ${sid}: ${answer.status} ${answer.body}`);
        }
        const post = await http(gw.public, { method: 'POST', path: `/socket.io/?EIO=4&transport=polling&sid=${sid}`, headers: { 'content-type': 'text/plain' }, body: '1' });
        assert.ok(post.status >= 400 && post.status < 500, `POST: ${post.status}`);
        await assert.rejects(Raw.open(gw, { query: `EIO=4&transport=websocket&sid=${sid}` }));
      }
      assert.equal(await victim.call('codx-junior-ping'), true);
      victim.close();
      other.close();
    });

  test('who is told of a sender without a user gets no credential either', async () => {
    const [a, b] = [await connect(gw, '/toolbox', 'toolbox'), await connect(gw, '/toolbox', 'toolbox')];
    for (const c of [a, b]) await c.call('subscribe', { channel: 'x' });
    await a.call('collaboration_message', { channel: 'x', text: 'hi' });
    const { from } = await b.next('collaboration_message');
    const answer = await http(gw.public, { path: `/socket.io/?EIO=4&transport=polling&sid=${from}` });
    assert.ok(answer.status >= 400 && answer.status < 500);
  });

  test('session ids cannot be guessed: long, and no two alike', async () => {
    const sids = new Set();
    for (let i = 0; i < 20; i++) sids.add((await Poll.open(gw)).sid);
    assert.equal(sids.size, 20);
    for (const sid of sids) assert.ok(sid.length >= 16, sid);
  });
});

describe('identity: optional and required', () => {
  test('anonymous where that is allowed; refusals are events, never a silent drop', async () => {
    const gw = await Gateway.start();
    try {
      for (const [nsp, contract] of [['/', 'coding-assistant'], ['/codx', 'codx'], ['/toolbox', 'toolbox'], ['/gate', 'security-gate']]) {
        const c = await connect(gw, nsp, contract);
        c.send('no:such:event', 1);
        const told = await c.next('error');
        assert.equal(told.code, 'UNKNOWN_EVENT');
        if (contract !== 'security-gate') assertErrorEvent(told, 'no:such:event', 'UNKNOWN_EVENT');
        assert.equal((await refused(gw, nsp, { token: 'bad' })).message, BAD, nsp);
      }
      assert.equal((await refused(gw, '/agents')).message, 'Authentication required');
    } finally {
      await gw.stop();
    }
  });

  test('gateway token prints a JWT that the gateway takes', async () => {
    const { code, stdout } = await run(['token', '--sub', 'ops', '--role', 'teacher', '--role', 'admin', '--ttl', '1h'], { env: { GATEWAY_JWT_SECRET: JWT_SECRET } });
    assert.equal(code, 0);
    const gw = await Gateway.start({ contracts: ['agent-stream@/'] });
    try {
      const c = await connect(gw, '/', 'agent-stream', { token: stdout.trim() });
      const one = await gw.ok('GET', `/v1/connections/${c.id}`);
      assert.deepEqual([one.user.id, one.roles], ['ops', ['teacher', 'admin']]);
    } finally {
      await gw.stop();
    }
  });
});
