// A Redis server of the test's own, without persistence; it dies with the test.
import { spawn } from 'node:child_process';
import { createServer as createTcpServer } from 'node:net';
import { scratch } from './gateway.mjs';
import { deferred, within } from './waiting.mjs';

export async function freePort() {
  const server = createTcpServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A Redis server of its own, without persistence. */
export class Redis {
  static async start() {
    const r = new Redis();
    r.port = await freePort();
    r.url = `redis://127.0.0.1:${r.port}`;
    process.on('exit', () => r.child.kill('SIGKILL'));
    await r.#run();
    return r;
  }

  /** The same address again, and nothing of what was there. */
  async again() {
    await this.#run();
  }

  /** Stops, or goes on (`SIGSTOP`, `SIGCONT`) without anybody being told. */
  signal(name) {
    this.child.kill(name);
  }

  async #run() {
    const r = this;
    r.child = spawn('redis-server', ['--port', String(r.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', scratch()], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ready = deferred();
    let said = '';
    r.child.stdout.on('data', (d) => {
      said += d;
      if (/Ready to accept connections/.test(said)) ready.resolve();
    });
    r.child.on('error', ready.reject);
    r.child.on('close', () => ready.reject(new Error(`redis-server ended: ${said}`)));
    ready.promise.catch(() => {});
    await within(ready.promise, () => `redis-server: ${said}`, 10000);
  }

  async stop() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const closed = new Promise((resolve) => this.child.on('close', resolve));
    this.child.kill('SIGKILL');
    await closed;
  }
}
