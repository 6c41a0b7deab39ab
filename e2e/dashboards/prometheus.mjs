// What comes in: pods. What goes out: a real Prometheus that scrapes them every second, and what it answers.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, http, scratch, until, within } from '../harness.mjs';

export class Prometheus {
  said = '';

  /** `targets`: addresses of internal listeners, by the name of the pod. */
  static async start(targets) {
    const prometheus = new Prometheus();
    const dir = scratch();
    const scrape = Object.entries(targets).map(([pod, address]) => ({ targets: [address], labels: { pod, namespace: 'live' } }));
    const config = { global: { scrape_interval: '1s', scrape_timeout: '1s' }, scrape_configs: [{ job_name: 'gateway', static_configs: scrape }] };
    writeFileSync(join(dir, 'prometheus.yml'), JSON.stringify(config));
    prometheus.address = `127.0.0.1:${await freePort()}`;
    const args = [`--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/data`, `--web.listen-address=${prometheus.address}`, '--enable-feature=exemplar-storage', '--log.level=warn'];
    prometheus.child = spawn('prometheus', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    prometheus.child.stderr.on('data', (d) => (prometheus.said += d));
    process.on('exit', () => prometheus.child.kill('SIGKILL'));
    prometheus.ended = new Promise((resolve, reject) => prometheus.child.on('close', resolve).on('error', reject));
    prometheus.ended.catch(() => {});
    await until('Prometheus sees every pod', async () => {
      if (prometheus.child.exitCode !== null) throw new Error(`Prometheus ended: ${prometheus.said}`);
      const { result } = await prometheus.query('up == 1').catch(() => ({ result: [] }));
      return result.length === scrape.length;
    }, 30000);
    return prometheus;
  }

  async get(path) {
    const { status, body } = await http(this.address, { path: `/api/v1/${path}` });
    const { data, error } = JSON.parse(body);
    assert.equal(status, 200, error);
    return data;
  }

  /** The result of an expression now; an expression that cannot be read fails. */
  query(expression) {
    return this.get(`query?query=${encodeURIComponent(expression)}`);
  }

  exemplars(expression) {
    const now = Date.now() / 1000;
    return this.get(`query_exemplars?query=${encodeURIComponent(expression)}&start=${now - 600}&end=${now}`);
  }

  async stop() {
    this.child.kill();
    await within(this.ended, 'Prometheus ends', 20000);
  }
}
