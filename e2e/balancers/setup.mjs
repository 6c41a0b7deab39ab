// What comes in: a configuration of deploy/balancers. What goes out: three pods on one Redis, and that balancer before them.
// Pods and balancer have loopback addresses of their own with the ports that the files name, as they would on a network.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { request } from 'node:http';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { API_KEY, JWT_SECRET, binary, deferred, http, until, within } from '../harness.mjs';

const FILES = new URL('../../deploy/balancers/', import.meta.url);
/** A network of this process' own: nobody else picks these addresses, so its ports are free. */
const NET = `127.${1 + (process.pid >> 8) % 200}.${process.pid & 255}`;
export const PUBLIC = 23001;
const INTERNAL = 23002;
const FRONT = 23080;
const tool = (name) => (process.env.BALANCERS_BIN ? join(process.env.BALANCERS_BIN, name) : name);

/** How each program is started on a configuration. */
const PROGRAMS = {
  haproxy: (file) => ['haproxy', '-db', '-f', file],
  nginx: (file, dir) => ['nginx', '-p', dir, '-c', file, '-e', join(dir, 'error.log'), '-g', `daemon off; pid ${join(dir, 'pid')};`],
  envoy: (file) => [tool('envoy'), '--concurrency', '1', '--base-id', String(process.pid % 32768), '--log-level', 'warning', '-c', file],
  traefik: (file) => [tool('traefik'), `--configFile=${file}`],
  caddy: (file) => [tool('caddy'), 'run', '--adapter', 'caddyfile', '--config', file],
};

class Process {
  said = '';

  constructor([program, ...args], env, cwd) {
    this.child = spawn(program, args, { env: { PATH: process.env.PATH, HOME: cwd, ...env }, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    process.on('exit', () => this.child.kill('SIGKILL'));
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on('data', (d) => (this.said += d));
    const failed = deferred();
    this.child.on('error', failed.reject);
    this.failed = failed.promise;
    this.failed.catch(() => {});
    this.ended = new Promise((resolve) => this.child.on('close', (code) => resolve((this.code = code ?? -1))));
  }

  /** Waits until `ask` says yes, and fails with what the program said if it ended before. */
  until(what, ask) {
    const asked = async () => {
      if (this.code !== undefined) throw new Error(`${what}: it ended with ${this.code}: ${this.said}`);
      return ask().catch((error) => ((this.last = error.message), false));
    };
    return Promise.race([this.failed, until(what, asked, 20000).catch((e) => { throw new Error(`${e.message}; ${this.last}\n${this.said.slice(-2000)}`); })]);
  }

  async stop(signal = 'SIGKILL') {
    this.child.kill(signal);
    await within(this.ended, () => `it ends: ${this.said.slice(-500)}`, 45000);
  }
}

/** A pod of the gateway at an address of its own. */
export class Pod extends Process {
  constructor(number, redis, dir) {
    const host = `${NET}.${number}`;
    const env = {
      GATEWAY_API_KEY: API_KEY,
      GATEWAY_JWT_SECRET: JWT_SECRET,
      REDIS_URL: redis.url,
      GATEWAY__HTTP__TRUSTED_PROXIES: `["${NET}.100", "127.0.0.1"]`,
      GATEWAY__DRAIN__WINDOW: '2s',
      GATEWAY__DRAIN__GRACE: '10s',
    };
    super([binary(), 'serve', '--listen', `${host}:${PUBLIC}`, '--internal-listen', `${host}:${INTERNAL}`], env, dir);
    this.host = host;
  }

  async metric(name) {
    const { body } = await http(`${this.host}:${INTERNAL}`, { path: '/metrics' });
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(body)?.[1]);
  }

  async api(method, path, body) {
    const headers = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' };
    const answer = await http(`${this.host}:${INTERNAL}`, { method, path, headers, body: JSON.stringify(body) });
    assert.equal(answer.status, 200, answer.body);
    return JSON.parse(answer.body);
  }

  get isReady() {
    return async () => {
      const { status, body } = await http(`${this.host}:${INTERNAL}`, { path: '/health/ready' });
      return status === 200 && JSON.parse(body).redis === 'up';
    };
  }
}

/** The text of a file, with the addresses of this network in place of names. */
function here(name) {
  return readFileSync(new URL(name, FILES), 'utf8')
    .replaceAll(/gateway-([123])(?=[:,])/g, `${NET}.$1`)
    .replaceAll(/\b3001\b/g, String(PUBLIC))
    .replaceAll(/\b3002\b/g, String(INTERNAL))
    .replace(/^:8080 \{/m, `http://:${FRONT} {\n\tbind ${NET}.100`)
    .replaceAll(/(bind |")?:8080\b/g, (_, before = '') => `${before}${NET}.100:${FRONT}`)
    .replaceAll('listen 8080', `listen ${NET}.100:${FRONT}`)
    .replaceAll('address: 0.0.0.0, port_value: 8080', `address: ${NET}.100, port_value: ${FRONT}`);
}

export class Setup {
  static async start(redis) {
    const setup = new Setup();
    setup.dir = mkdtempSync(join(tmpdir(), 'gateway-balancers-'));
    setup.redis = redis;
    setup.url = `http://${NET}.100:${FRONT}`;
    setup.pods = await Promise.all([1, 2, 3].map((number) => setup.pod(number)));
    return setup;
  }

  async pod(number) {
    const pod = new Pod(number, this.redis, this.dir);
    await pod.until(`pod ${number} is ready`, pod.isReady);
    return pod;
  }

  /** Handshakes that each pod has answered. */
  handshakes() {
    return Promise.all(this.pods.map((pod) => pod.metric('gateway_handshake_duration_seconds_count')));
  }

  /** Starts a balancer and waits until it has found every pod: each answers somebody who comes for the first time. */
  async balance(program, ...files) {
    for (const name of files) writeFileSync(join(this.dir, name), here(name));
    this.balancer = new Process(PROGRAMS[program](join(this.dir, files[0]), this.dir), {}, this.dir);
    const before = await this.handshakes();
    let asked = 0;
    await this.balancer.until(`${program} has found every pod`, async () => {
      asked += 1;
      assert.equal(await this.knock(`127.200.${asked % 250}.1`), 200);
      return (await this.handshakes()).every((count, pod) => count > before[pod]);
    });
  }

  /** A handshake of somebody at this address, and its status. */
  knock(localAddress) {
    const d = deferred();
    const req = request(`${this.url}/socket.io/?EIO=4&transport=polling`, { localAddress, agent: false }, (res) => {
      res.resume();
      d.resolve(res.statusCode);
    });
    req.on('error', d.reject);
    req.end();
    return within(d.promise, 'a handshake', 3000).finally(() => req.destroy());
  }

  /** How many are in a namespace, on each pod. */
  async spread(pods = this.pods) {
    return Promise.all(pods.map((pod) => pod.metric('gateway_sessions')));
  }

  /** Ends the balancer alone; the pods stay for the next. */
  async unbalance() {
    // Not killed: workers of nginx outlive a master that could not tell them.
    await this.balancer?.stop('SIGTERM');
    this.balancer = undefined;
  }

  async stop() {
    await this.unbalance();
    await Promise.all((this.pods ?? []).map((pod) => pod.stop()));
    rmSync(this.dir, { recursive: true, force: true });
  }
}
