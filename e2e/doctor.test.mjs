// Commands for operators: who shares a Redis and what will be trouble, whether a pod is well, and a pause for hooks without a shell.
import { after, before, describe, test } from 'node:test';
import { createAdapter } from '@socket.io/redis-adapter';
import IoRedis from 'ioredis';
import { createServer } from 'node:http';
import { Server as Node } from 'socket.io';
import { Gateway, Redis as Server, assert, connect, freePort, run, until } from './harness.mjs';

const LONG = { ms: 30_000 };

describe('gateway doctor', () => {
  let redis;
  let pods;
  before(async () => {
    redis = await Server.start();
    pods = await Promise.all([0, 1].map(() => Gateway.start({ args: ['--redis', redis.url] })));
  });
  after(async () => {
    for (const gw of pods ?? []) await gw.stop();
    await redis?.stop();
  });
  const examine = async (...args) => {
    const { code, stdout, stderr } = await run(['doctor', '--redis', redis.url, '--json', ...args], LONG);
    return { code, stderr, report: JSON.parse(stdout) };
  };
  const names = () => Promise.all(pods.map(async (gw) => (await gw.api('GET', '/health/ready')).body.pod));

  test('names the pods, in words and as JSON', async () => {
    const known = (await names()).sort();
    const { code, report } = await examine();
    assert.equal(code, 0, JSON.stringify(report.findings));
    assert.deepEqual(report.namespaces.find((n) => n.namespace === '/').ours.sort(), known);
    const { stdout } = await run(['doctor', '--redis', redis.url], LONG);
    for (const name of known) assert.ok(stdout.includes(name), stdout);
  });

  test('a server of Node is told from a pod, a pod that hangs is silent, and that is trouble', async () => {
    const links = [new IoRedis(redis.port), new IoRedis(redis.port)];
    const node = new Node(createServer(), { adapter: createAdapter(...links) });
    node.of('/');
    try {
      await until('Node listens', async () => (await links[0].pubsub('NUMSUB', 'socket.io-request#/#'))[1] === 3);
      const root = (await examine()).report.namespaces.find((n) => n.namespace === '/');
      assert.deepEqual([root.servers, root.others, root.silent], [3, 1, 0]);
      pods[0].child.kill('SIGSTOP');
      const { code, report } = await examine();
      pods[0].child.kill('SIGCONT');
      assert.equal(report.namespaces.find((n) => n.namespace === '/').silent, 1);
      assert.ok(report.findings.some((f) => f.severity !== 'note'), JSON.stringify(report.findings));
      assert.equal(code, report.findings.some((f) => f.severity === 'error') ? 1 : 0);
    } finally {
      pods[0].child.kill('SIGCONT');
      await node.close();
      for (const link of links) await link.quit();
    }
  });

  test('settings of Redis that will bite are named', async () => {
    const db = new IoRedis(redis.port);
    try {
      await db.config('SET', 'timeout', '60');
      await db.config('SET', 'maxmemory-policy', 'allkeys-lru');
      await db.config('SET', 'client-output-buffer-limit', 'pubsub 1mb 512kb 10');
      const { report } = await examine();
      const text = JSON.stringify(report.findings);
      for (const setting of ['timeout', 'maxmemory-policy', 'client-output-buffer-limit']) assert.ok(text.includes(setting), `${setting}: ${text}`);
    } finally {
      await db.quit();
    }
  });

  test('no Redis there is status 1, none named is 2, and a password is not shown', async () => {
    const port = await freePort();
    const away = await run(['doctor', '--redis', `redis://:very-secret@127.0.0.1:${port}`], LONG);
    assert.equal(away.code, 1);
    assert.match(away.stdout, /does not answer/);
    assert.ok(!`${away.stdout}${away.stderr}`.includes('very-secret'));
    const none = await run(['doctor']);
    assert.equal(none.code, 2);
    assert.match(none.stderr, /--redis/);
  });
});

describe('gateway health and pause', () => {
  test('health is the status of the pod; a pause ends', async () => {
    const gw = await Gateway.start();
    try {
      await connect(gw, '/toolbox', 'toolbox');
      for (const more of [[], ['--ready']]) {
        const { code, stdout } = await run(['health', '--internal-listen', gw.internal, ...more]);
        assert.equal(code, 0);
        assert.match(stdout, /"status":"ok"/);
      }
    } finally {
      await gw.stop();
    }
    const gone = await run(['health', '--internal-listen', gw.internal]);
    assert.equal(gone.code, 1);
    assert.ok(gone.stderr.includes(gw.internal));
    assert.equal((await run(['pause', '10ms'])).code, 0);
    assert.equal((await run(['pause', 'long'])).code, 2);
  });
});
