// What comes in: what a test wants of a gateway. What goes out: the real binary, running, and its server API; or a command of it, ended.
// It never leaves a process behind, and a gateway that ended or panicked fails whoever waits for it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { http } from './http.mjs';
import { JWT_SECRET } from './tokens.mjs';
import { DEADLINE, death, deferred, until, within } from './waiting.mjs';

// Every server of a test is one more that must not outlive it.
process.setMaxListeners(0);

export const API_KEY = 'e2e-api-key-0123456789';

export function binary() {
  const named = process.env.GATEWAY_BIN;
  if (named) return named;
  const found = ['../../target/release/gateway', '../../target/debug/gateway']
    .map((p) => fileURLToPath(new URL(p, import.meta.url)))
    .find(existsSync);
  assert.ok(found, 'no gateway binary: build it, or name it in GATEWAY_BIN');
  return found;
}

/** The environment that every gateway starts in: nothing of the machine's that could configure it. */
function cleanEnv(extra) {
  return { PATH: process.env.PATH, HOME: process.env.HOME, RUST_BACKTRACE: '1', ...extra };
}

/** Runs a command of the binary to its end. */
export async function run(args, { env = {}, ms = DEADLINE } = {}) {
  const child = spawn(binary(), args, { env: cleanEnv(env), stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (d) => (stdout += d));
  child.stderr.on('data', (d) => (stderr += d));
  const d = deferred();
  child.on('close', (code, signal) => d.resolve({ code, signal, stdout, stderr }));
  try {
    return await within(d.promise, () => `gateway ${args.join(' ')} did not end; it said: ${stdout}${stderr}`, ms);
  } finally {
    child.kill('SIGKILL');
  }
}

export function scratch() {
  const dir = mkdtempSync(join(tmpdir(), 'gateway-e2e-'));
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export class Gateway {
  stdout = '';
  stderr = '';
  clients = new Set();
  ended = null;

  /**
   * `contracts`: mountings such as `codx@/`; none means the demo mounting. `config`: the text of a TOML file.
   * `app`: a fake application that becomes `[upstream.app]`. `args`, `env`: passed as they are.
   */
  static async start({ contracts = [], config = '', app, appConfig = '', args = [], env = {}, apiKey = API_KEY, jwtSecret = JWT_SECRET } = {}) {
    const gw = new Gateway();
    if (app) config = `${config}\n[upstream.app]\nkind = "http"\nurl = "${app.url}"\n${appConfig}\n`;
    const all = ['serve', '--listen', '127.0.0.1:0', '--internal-listen', '127.0.0.1:0'];
    for (const c of contracts) all.push('--contract', c);
    if (config) {
      const file = join(scratch(), 'gateway.toml');
      writeFileSync(file, config);
      all.push('--config', file);
    }
    const secrets = {};
    if (apiKey) secrets.GATEWAY_API_KEY = apiKey;
    if (jwtSecret) secrets.GATEWAY_JWT_SECRET = jwtSecret;
    gw.child = spawn(binary(), [...all, ...args], { env: cleanEnv({ ...secrets, ...env }), stdio: ['ignore', 'pipe', 'pipe'] });
    process.on('exit', () => gw.child.kill('SIGKILL'));
    const ready = deferred();
    gw.child.stderr.on('data', (d) => (gw.stderr += d));
    gw.child.stdout.on('data', (d) => {
      gw.stdout += d;
      const line = /^ready public=(\S+) internal=(\S+)$/m.exec(gw.stdout);
      if (line) ready.resolve(line);
    });
    gw.child.on('error', ready.reject);
    gw.closed = new Promise((resolve) => gw.child.on('close', (code, signal) => resolve((gw.ended = { code, signal }))));
    gw.closed.then(({ code, signal }) => {
      if (gw.public && !gw.ending) death.reject(new Error(`the gateway ended by itself (${code ?? signal}):\n${gw.stderr.slice(-2000)}`));
    });
    gw.closed.then(({ code, signal }) => ready.reject(new Error(`gateway ended (${code ?? signal}) before it was ready:\n${gw.stderr}`)));
    try {
      const [, pub, internal] = await within(ready.promise, () => `the ready line; the gateway said:\n${gw.stdout}${gw.stderr}`, 15000);
      gw.public = pub;
      gw.internal = internal;
      gw.url = `http://${pub}`;
    } catch (error) {
      gw.child.kill('SIGKILL');
      throw error;
    }
    return gw;
  }

  /** Closes the clients and kills the process; fails when it had died before, or had panicked anywhere. */
  async stop() {
    for (const c of this.clients) c.close();
    const died = this.ending ? null : this.ended;
    this.ending = true;
    this.child.kill('SIGKILL');
    await this.closed;
    assert.equal(died, null, `the gateway ended by itself:\n${this.stderr.slice(-4000)}`);
    assert.doesNotMatch(this.stderr, /panicked at/, 'the gateway panicked');
  }

  /** Asks the process to end in its own way, or (`SIGKILL`) leaves it no way at all. */
  terminate(signal = 'SIGTERM') {
    this.ending = true;
    this.child.kill(signal);
  }

  /** One call of the server API. */
  async api(method, path, body, { key = API_KEY, headers = {} } = {}) {
    const all = { ...headers };
    if (key) all.authorization = `Bearer ${key}`;
    if (body !== undefined) all['content-type'] ??= 'application/json';
    const payload = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
    const answer = await http(this.internal, { method, path, headers: all, body: payload });
    let json;
    try {
      json = JSON.parse(answer.body);
    } catch {
      json = undefined;
    }
    return { status: answer.status, headers: answer.headers, body: json, text: answer.body };
  }

  /** As `api`, for a call that must succeed. */
  async ok(method, path, body, options) {
    const answer = await this.api(method, path, body, options);
    assert.equal(answer.status, 200, `${method} ${path}: ${answer.status} ${answer.text}`);
    return answer.body;
  }

  /** Closes every client that a test has left open, and waits until the gateway has seen them go. */
  async empty() {
    for (const c of this.clients) c.close();
    await until('nobody is connected', async () => (await this.ok('GET', '/v1/stats')).connections === 0);
  }

  emit(namespace, event, data, to, more = {}) {
    return this.ok('POST', '/v1/emit', { namespace, event, data, ...(to ? { to } : {}), ...more });
  }

  async session(id, user, ttl_s = 600) {
    return this.ok('PUT', `/v1/sessions/${encodeURIComponent(id)}`, { user: { roles: [], name: user.id, ...user }, ttl_s });
  }

  async metric(name, labels = '') {
    const { body } = await http(this.internal, { path: '/metrics' });
    const line = body.split('\n').find((l) => l.startsWith(`${name}${labels}`) && !l.startsWith('#'));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
  }
}
