// SIGHUP: keys, limits, contracts and the log level are read again, taken over whole or refused whole; nobody is disconnected.
import { writeFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Gateway, assert, assertOk, assertRefused, connect, jwt, refused, until } from './harness.mjs';
import { scratch } from './harness/gateway.mjs';

const contract = (reply) => `
name = "live"
about = "answers"
[event.ask]
about = "answers"
do = []
ack = { answer = "${reply}" }
`;

describe('SIGHUP', () => {
  test('keys, limits, contracts and the log level are taken over; a bad file is refused and the old one stays', async () => {
    const dir = scratch();
    const contracts = join(dir, 'contracts');
    mkdirSync(contracts);
    const secret = join(dir, 'secret');
    const file = join(dir, 'gateway.toml');
    const old = 'the-old-secret-that-is-longer-than-32-bytes';
    const fresh = 'the-new-secret-that-is-longer-than-32-bytes';
    const config = (more = '') => `
      contracts.dir = "${contracts}"
      mount = [{ contract = "live", namespace = "/", auth = "required" }]
      ${more}
    `;
    writeFileSync(join(contracts, 'live.toml'), contract('one'));
    writeFileSync(secret, old);
    writeFileSync(file, config());
    const gw = await Gateway.start({ args: ['--config', file], jwtSecret: null, env: { GATEWAY_JWT_SECRET_FILE: secret } });
    const outcomes = async () => [await gw.metric('gateway_reloads_total', '{outcome="taken"}'), await gw.metric('gateway_reloads_total', '{outcome="refused"}')].map((n) => n ?? 0);
    const hangup = async (taken, refusals) => {
      gw.child.kill('SIGHUP');
      await until('it was read again', async () => (await outcomes()).join() === [taken, refusals].join());
    };
    try {
      const token = (key) => jwt({ sub: 'ann' }, { key });
      const a = await connect(gw, '/', 'toolbox', { token: token(old) });
      assert.equal((await a.call('ask')).answer, 'one');

      writeFileSync(join(contracts, 'live.toml'), contract('two'));
      writeFileSync(secret, fresh);
      writeFileSync(file, config('limits.user = { events_per_second = 1, burst = 2 }\nlog.level = "gateway=debug"'));
      await hangup(1, 0);
      assert.equal((await a.call('ask')).answer, 'two', 'the connection stays, and what is new holds');
      assert.match((await refused(gw, '/', { token: token(old) })).message, /Invalid/);
      const b = await connect(gw, '/', 'toolbox', { token: token(fresh) });
      await until('the log says more', () => /DEBUG/.test(gw.stderr));
      const acks = await Promise.all(Array.from({ length: 10 }, () => b.call('ask')));
      assert.ok(acks.filter((x) => x.ok).length <= 3, 'the new limit holds');
      assertRefused(acks.find((x) => !x.ok), 'ask', 'RATE_LIMITED');

      for (const [what, write] of [
        ['a contract that is wrong', () => writeFileSync(join(contracts, 'live.toml'), `${contract('three')}\nnosuch = 1`)],
        ['a key that is unknown', () => (writeFileSync(join(contracts, 'live.toml'), contract('three')), writeFileSync(file, config('nosuch = 1')))],
        ['a secret that is gone', () => (writeFileSync(file, config()), writeFileSync(secret, ''))],
        ['a log level that is none', () => (writeFileSync(secret, fresh), writeFileSync(file, config('log.level = "gateway=loud"')))],
      ]) {
        write();
        const [taken, refusals] = await outcomes();
        await hangup(taken, refusals + 1);
        await until('there are tokens again', async () => (await a.call('ask')).ok);
        assert.equal((await until('an answer', async () => { const x = await a.call('ask'); return x.ok && x; })).answer, 'two', what);
        await connect(gw, '/', 'toolbox', { token: token(fresh) });
      }
      assert.match(gw.stderr, /nosuch/, 'what is wrong is named');

      // A change of what cannot be changed is named, the rest is taken over.
      writeFileSync(file, config('drain.window = "3s"'));
      await hangup(2, 4);
      assert.match(gw.stderr, /need a restart.*drain\.window|drain\.window.*need a restart/);
      assertOk(await a.call('ask'), 'ask');
      assert.equal((await a.call('ask')).answer, 'three');
    } finally {
      await gw.stop();
    }
  });
});
