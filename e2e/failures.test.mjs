// What fails, and what must happen then: three pods and a Redis, real processes, people who talk all the time.
import { describe, test } from 'node:test';
import { Crowd, Gateway, Redis as Server, RedisCluster, Sentinels, Way, assert, until } from './harness.mjs';

/** Whatever dies, what it held is gone within 10 s; a second more is the test's own. */
const LEASE = 11_000;

/** Three pods, each with a way of its own to Redis, and people who come back to another pod where theirs is gone. */
async function cluster(work, { each = 2 } = {}) {
  const redis = await Server.start();
  const links = await Promise.all([0, 1, 2].map(() => Way.to(`127.0.0.1:${redis.port}`)));
  const pods = await Promise.all(links.map((link) => Gateway.start({ args: ['--redis', `redis://${link.address}`] })));
  const fronts = await Promise.all(pods.map((_, i) => Way.to(...pods.map((_, j) => pods[(i + j) % 3].public))));
  let crowd;
  try {
    await until('all pods know each other', async () => (await Promise.all(pods.map((gw) => gw.ok('GET', '/v1/stats')))).every((s) => s.pods === 3 && !s.missing));
    crowd = await Crowd.at(fronts.map((front) => front.address), each);
    await crowd.lists(pods, crowd.people);
    await work({ redis, links, pods, fronts, crowd });
  } finally {
    crowd?.end();
    for (const front of fronts) front.close();
    for (const gw of pods) await gw.stop();
    for (const link of links) link.close();
    redis.signal('SIGCONT');
    await redis.stop();
  }
}

const degraded = (gw) => async () => {
  const { status, body } = await gw.api('GET', '/health/ready');
  assert.equal(status, 200);
  return body.status === 'degraded' && body.redis === 'down';
};
const well = (gw) => async () => {
  const { status, body } = await gw.api('GET', '/health/ready');
  return status === 200 && body.status === 'ok' && body.redis === 'up';
};

describe('what fails, and what must happen then', { concurrency: 2 }, () => {
  test('a pod is killed: what it held is released, its people come back elsewhere, each departure is told once', () => cluster(async ({ pods, crowd }) => {
    const [lost, rest] = [crowd.at(0), [...crowd.at(1), ...crowd.at(2)]];
    assert.equal((await lost[0].lock('f')).ok, true);
    await until('the lock is known', () => crowd.told('file:locked', 'p0-0', rest).every((n) => n === 1));
    crowd.watchNeighbours([1, 2]);
    // Nobody of them comes back before their departure is told: what is told is of the dead pod.
    for (const p of lost) p.socket.io.reconnection(false);
    pods[0].terminate('SIGKILL');
    await until('all departures are told', () => lost.every((p) => crowd.told('user:left', p.name, rest).every((n) => n === 1)), LEASE);
    await until('the lock is free', () => crowd.told('file:unlocked', 'p0-0', rest).every((n) => n === 1), LEASE);
    await crowd.lists(pods.slice(1), rest);
    for (const p of lost) {
      p.socket.io.reconnection(true);
      p.socket.connect();
    }
    await crowd.hears('everybody again, at other pods');
    await crowd.lists(pods.slice(1), crowd.people);
    assert.equal((await rest[0].lock('f')).ok, true);
    for (const p of lost) for (const n of crowd.told('user:left', p.name, rest)) assert.equal(n, 1, `${p.name} left once`);
    for (const gw of pods.slice(1)) assert.equal((await gw.ok('GET', '/v1/stats')).pods, 2);
    crowd.check();
  }));

  test('a pod gets SIGTERM: transports are closed without a DISCONNECT, its people come back elsewhere, exit 0', () => cluster(async ({ pods, crowd }) => {
    crowd.watchNeighbours([1, 2]);
    pods[0].terminate('SIGTERM');
    await until('it is not ready', async () => (await pods[0].api('GET', '/health/ready').catch(() => ({ status: 503 }))).status === 503);
    assert.deepEqual(await pods[0].closed, { code: 0, signal: null });
    await crowd.hears('everybody again, at other pods');
    await crowd.lists(pods.slice(1), crowd.people);
    for (const p of crowd.at(0)) assert.ok(p.reasons.every((reason) => reason === 'transport close'), `${p.name}: ${p.reasons}`);
    crowd.check();
  }));

  test('a pod hangs (SIGSTOP): the others release what it held and name it missing; when it goes on, all is right again', () => cluster(async ({ pods, crowd }) => {
    const rest = [...crowd.at(1), ...crowd.at(2)];
    crowd.watchNeighbours([1, 2]);
    pods[0].child.kill('SIGSTOP');
    await until('its departures are told', () => crowd.at(0).every((p) => crowd.told('user:left', p.name, rest).every((n) => n === 1)), LEASE);
    const name = (await pods[1].api('GET', '/health/ready')).body.pod;
    const stats = await pods[1].ok('GET', '/v1/stats');
    assert.equal(stats.missing?.length, 1, `one of the pods is missing at ${name}: ${JSON.stringify(stats)}`);
    assert.equal(stats.connections, 4);
    pods[0].child.kill('SIGCONT');
    await crowd.hears('everybody again', crowd.people, 30_000);
    await crowd.lists(pods, crowd.people, 20_000);
    crowd.check();
  }));

  test('Redis restarts, empty: nobody is disconnected, everything is subscribed and registered again, locks by who holds them', () => cluster(async ({ redis, pods, crowd }) => {
    assert.equal((await crowd.people[0].lock('f')).ok, true);
    crowd.watchNeighbours([0, 1, 2]);
    await redis.stop();
    for (const gw of pods) await until('degraded', degraded(gw));
    for (const gw of pods) assert.equal(await gw.metric('gateway_redis_up'), 0);
    await redis.again();
    for (const gw of pods) await until('well', well(gw), LEASE);
    await crowd.hears('everybody again');
    await crowd.lists(pods, crowd.people);
    assert.equal((await crowd.people[5].lock('f')).error.code, 'CONFLICT', 'the lock is still held');
    assert.deepEqual(crowd.people.map((p) => p.reasons), crowd.people.map(() => []), 'nobody was disconnected');
    assert.deepEqual(crowd.people.flatMap((p) => p.told.filter((t) => t.event === 'user:left')), [], 'nobody was said to be gone');
    crowd.check();
  }));

  test('Redis is away for a minute: local delivery goes on, what needs it is UNAVAILABLE in time, nothing grows', () => cluster(async ({ redis, pods, crowd }) => {
    crowd.watchNeighbours([0, 1, 2]);
    await redis.stop();
    const began = Date.now();
    for (const gw of pods) await until('degraded', degraded(gw));
    const memory = () => Promise.all(pods.map((gw) => gw.metric('process_resident_memory_bytes')));
    const before = await memory();
    while (Date.now() - began < 60_000) {
      const answer = await crowd.people[1].lock('g');
      assert.equal(answer.error?.code, 'UNAVAILABLE');
      const n = crowd.people[0].said;
      await until('people go on talking', () => crowd.people[0].said > n + 20);
    }
    const after = await memory();
    after.forEach((bytes, i) => assert.ok(bytes < before[i] + 50e6, `pod ${i} grew from ${before[i]} to ${bytes} bytes`));
    await redis.again();
    for (const gw of pods) await until('well', well(gw), LEASE);
    await crowd.hears('everybody again');
    await crowd.lists(pods, crowd.people);
    assert.equal((await crowd.people[1].lock('g')).ok, true);
    assert.deepEqual(crowd.people.map((p) => p.reasons), crowd.people.map(() => []));
    crowd.check();
  }));

  test('Redis hangs (SIGSTOP): as if it were away, until it goes on', () => cluster(async ({ redis, pods, crowd }) => {
    crowd.watchNeighbours([0, 1, 2]);
    redis.signal('SIGSTOP');
    const answer = await crowd.people[0].lock('f');
    assert.equal(answer.error?.code, 'UNAVAILABLE');
    for (const gw of pods) await until('degraded', degraded(gw));
    const n = crowd.people[0].said;
    await until('people go on talking', () => crowd.people[0].said > n + 100, 15_000);
    redis.signal('SIGCONT');
    for (const gw of pods) await until('well', well(gw), LEASE);
    await crowd.hears('everybody again');
    await crowd.lists(pods, crowd.people);
    assert.deepEqual(crowd.people.map((p) => p.reasons), crowd.people.map(() => []));
    crowd.check();
  }));

  test('one pod is cut off from Redis: it goes on by itself, the others release what it held, and take it back', () => cluster(async ({ links, pods, crowd }) => {
    const rest = [...crowd.at(1), ...crowd.at(2)];
    crowd.watchNeighbours([0, 1, 2]);
    links[0].hang();
    await until('degraded', degraded(pods[0]));
    await until('its departures are told', () => crowd.at(0).every((p) => crowd.told('user:left', p.name, rest).every((n) => n === 1)), LEASE);
    assert.ok(await well(pods[1])());
    links[0].heal();
    await until('well', well(pods[0]), LEASE);
    await crowd.hears('everybody again');
    await crowd.lists(pods, crowd.people);
    assert.deepEqual(crowd.people.map((p) => p.reasons), crowd.people.map(() => []));
    crowd.check();
  }));

  for (const [what, Kind, config] of [
    ['Sentinel makes another master', Sentinels, ''],
    ['a Redis Cluster replaces a master', RedisCluster, ''],
    ['a Redis Cluster with sharded channels replaces a master', RedisCluster, 'adapter.pubsub = "sharded"'],
  ]) {
    test(`${what}: nobody is disconnected, everything is subscribed and registered again`, async () => {
      const redis = await Kind.start();
      const pods = await Promise.all([0, 1].map(() => Gateway.start({ args: ['--redis', redis.url], config })));
      let crowd;
      try {
        await until('the pods know each other', async () => (await Promise.all(pods.map((gw) => gw.ok('GET', '/v1/stats')))).every((s) => s.pods === 2 && !s.missing));
        crowd = await Crowd.at(pods.map((gw) => gw.public));
        await crowd.lists(pods, crowd.people);
        assert.equal((await crowd.people[0].lock('f')).ok, true);
        crowd.watchNeighbours([0, 1]);
        await redis.fail();
        await until('it is noticed', async () => (await Promise.all(pods.map((gw) => degraded(gw)()))).some(Boolean));
        for (const gw of pods) await until('well', well(gw), 30_000);
        await crowd.hears('everybody again');
        await crowd.lists(pods, crowd.people);
        assert.equal((await crowd.people[3].lock('f')).error?.code, 'CONFLICT', 'the lock is still held');
        assert.deepEqual(crowd.people.map((p) => p.reasons), crowd.people.map(() => []), 'nobody was disconnected');
        crowd.check();
      } finally {
        crowd?.end();
        for (const gw of pods) await gw.stop();
        redis.stop();
      }
    });
  }
});
