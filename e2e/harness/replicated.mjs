// Redis servers that stand in for one another: a master with a replica behind three sentinels, and a cluster of three masters with a
// replica each. They die with the test.
import { execFile, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { scratch } from './gateway.mjs';
import { freePort } from './redis.mjs';
import { until } from './waiting.mjs';

const exec = promisify(execFile);
const HOST = '127.0.0.1';

/** One server or sentinel. */
async function server(options, args = []) {
  const port = await freePort();
  const dir = scratch();
  const file = join(dir, 'redis.conf');
  writeFileSync(file, [`port ${port}`, `bind ${HOST}`, `dir ${dir}`, ...options(port)].join('\n'));
  const child = spawn('redis-server', [file, ...args], { stdio: 'ignore' });
  process.on('exit', () => child.kill('SIGKILL'));
  await until(`redis at ${port}`, async () => (await ask(port, 'PING').catch(() => '')) === 'PONG', 10_000);
  return { port, child };
}

async function ask(port, ...command) {
  const { stdout } = await exec('redis-cli', ['-h', HOST, '-p', String(port), ...command], { timeout: 5000 });
  return stdout.trim();
}

const PLAIN = () => ['save ""', 'appendonly no', 'repl-diskless-sync yes', 'repl-diskless-sync-delay 0'];

/** A master and a replica, watched by three sentinels. */
export class Sentinels {
  static async start() {
    const s = new Sentinels();
    const master = await server(PLAIN);
    const replica = await server((port) => [...PLAIN(port), `replicaof ${HOST} ${master.port}`]);
    await until('the replica follows', async () => (await ask(replica.port, 'INFO', 'replication')).includes('master_link_status:up'), 10_000);
    const watch = () => [
      `sentinel monitor mymaster ${HOST} ${master.port} 2`,
      'sentinel down-after-milliseconds mymaster 1000',
      'sentinel failover-timeout mymaster 5000',
    ];
    const sentinels = await Promise.all([0, 1, 2].map(() => server(watch, ['--sentinel'])));
    s.master = master;
    s.all = [master, replica, ...sentinels];
    s.url = `redis+sentinel://${sentinels.map(({ port }) => `${HOST}:${port}`).join(',')}/mymaster`;
    await until('the sentinels know each other and the replica', async () => {
      const views = await Promise.all(sentinels.map(({ port }) => ask(port, 'SENTINEL', 'master', 'mymaster')));
      return views.every((view) => /num-slaves\n1\n/.test(view) && /num-other-sentinels\n2\n/.test(view));
    }, 20_000);
    return s;
  }

  /** The master dies. */
  fail() {
    this.master.child.kill('SIGKILL');
  }

  stop() {
    for (const { child } of this.all) child.kill('SIGKILL');
  }
}

/** Three masters with a replica each. */
export class RedisCluster {
  static async start() {
    const c = new RedisCluster();
    const options = (port) => [...PLAIN(port), 'cluster-enabled yes', 'cluster-node-timeout 1000', 'cluster-require-full-coverage no', 'cluster-config-file nodes.conf'];
    c.all = await Promise.all(Array.from({ length: 6 }, () => server(options)));
    c.url = `redis+cluster://${c.all.slice(0, 2).map(({ port }) => `${HOST}:${port}`).join(',')}`;
    await exec('redis-cli', ['--cluster', 'create', ...c.all.map(({ port }) => `${HOST}:${port}`), '--cluster-replicas', '1', '--cluster-yes'], { timeout: 30_000 });
    await until('the cluster is whole', async () => (await Promise.all(c.all.map(({ port }) => ask(port, 'CLUSTER', 'INFO')))).every((info) => info.includes('cluster_state:ok')), 30_000);
    await until('replicas follow', async () => {
      const infos = await Promise.all(c.all.map(({ port }) => ask(port, 'INFO', 'replication')));
      return infos.filter((info) => info.includes('master_link_status:up')).length === 3;
    }, 30_000);
    return c;
  }

  /** One of the masters dies: the one that has the most to do. */
  async fail() {
    const roles = await Promise.all(this.all.map(({ port }) => ask(port, 'INFO', 'replication')));
    const masters = this.all.filter((_, i) => roles[i].includes('role:master'));
    const keys = await Promise.all(masters.map(({ port }) => ask(port, 'DBSIZE')));
    const most = keys.map(Number).indexOf(Math.max(...keys.map(Number)));
    masters[most].child.kill('SIGKILL');
  }

  stop() {
    for (const { child } of this.all) child.kill('SIGKILL');
  }
}
