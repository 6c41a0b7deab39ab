// Every panel of every dashboard and every alert, on a real Prometheus that scrapes three pods under load. A panel that
// fails or is empty is a mistake in the panel, or a series that the gateway does not have.
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { io } from 'socket.io-client';
import { App, Gateway, Redis, assert, deferred, http, jwt, until, user } from '../harness.mjs';
import { Prometheus } from './prometheus.mjs';

const CHART = new URL('../../helm/gateway/', import.meta.url);
const read = (name) => readFileSync(new URL(name, CHART), 'utf8');
const dashboards = readdirSync(new URL('dashboards', CHART)).map((name) => JSON.parse(read(`dashboards/${name}`)));
/** Long enough for a few scrapes. */
const WINDOW = '15s';

/** What Grafana puts in for its variables where all of each are chosen. */
const filled = (expression) => expression.replaceAll('$__rate_interval', WINDOW).replaceAll(/\$\w+/g, '.*');
const expressions = () => [...read('alerts.yaml').matchAll(/^ {8}expr: (\|\n(?:^ {10}.*\n)+|.*\n)/gm)].map(([, text]) => text.replace(/^\|\n/, '').trim());

/** Somebody who does a bit of everything, right and wrong, until told to stop. */
async function busy(gw, number, stop) {
  const options = { transports: ['websocket'], forceNew: true };
  const toolbox = io(`${gw.url}/toolbox`, options);
  const assistant = io(gw.url, options);
  const sockets = [toolbox, assistant];
  const channel = `c${number}`;
  const ask = (socket, ...event) => socket.timeout(5000).emitWithAck(...event).catch(() => {}); // what is refused or late is what is counted
  await ask(toolbox, 'subscribe', { channel });
  await ask(assistant, 'project:join', { projectId: 'live', userId: `u${number}` });
  while (!stop.aborted) {
    await ask(toolbox, 'ping', {});
    await ask(toolbox, 'message', { type: 'note', channel, text: 'hello' });
    await ask(toolbox, 'message', 'not an object');
    await ask(toolbox, 'no such event', {});
    await ask(assistant, 'ai:message', { projectId: 'live', message: 'hello' });
    await ask(assistant, 'file:lock', { projectId: 'live', filePath: 'a.rs', userId: `u${number}` });
    // Who cannot get in, for each reason that there is.
    const refused = io(`${gw.url}/agents`, { ...options, reconnection: false, auth: { token: number % 2 ? 'none' : jwt({ sub: 'late', exp: 1 }) } });
    sockets.push(refused);
    const known = io(`${gw.url}/agents`, { ...options, auth: { token: user(`k${number}`) } });
    await until('the refusal', () => !refused.active && known.connected, 5000);
    known.disconnect();
    await http(gw.public, { path: '/socketio/status', headers: { host: 'elsewhere.example' } });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  for (const socket of sockets) socket.disconnect();
}

describe('dashboards and alerts on live data', { timeout: 180000 }, () => {
  let redis;
  let app;
  let collector;
  let pods = [];
  let prometheus;
  let load;
  const stop = new AbortController();

  before(async () => {
    redis = await Redis.start();
    app = await App.start();
    collector = createServer((request, response) => request.resume().on('end', () => response.end()));
    const listening = deferred();
    collector.listen(0, '127.0.0.1', listening.resolve);
    await listening.promise;
    const env = {
      REDIS_URL: redis.url,
      GATEWAY__HTTP__TRUSTED_HOSTS: '["127.0.0.1"]',
      GATEWAY__TRACE__ENDPOINT: `http://127.0.0.1:${collector.address().port}/v1/traces`,
      GATEWAY__TRACE__SAMPLE: '1.0',
    };
    pods = await Promise.all([1, 2, 3].map(() => Gateway.start({ app, env })));
    prometheus = await Prometheus.start(Object.fromEntries(pods.map((gw, n) => [`gateway-${n + 1}`, gw.internal])));
    load = Promise.all(pods.flatMap((gw, n) => [busy(gw, 2 * n, stop.signal), busy(gw, 2 * n + 1, stop.signal)]));
    for (const gw of pods) gw.child.kill('SIGHUP');
    // A rate needs two scrapes with something in between.
    const rates = 'rate(gateway_upstream_calls_total{outcome="ok"}[15s]) > 0';
    await until('calls are seen at every pod', async () => (await prometheus.query(`count(${rates})`)).result[0]?.value[1] === '3', 60000);
  });
  after(async () => {
    stop.abort();
    await load;
    await prometheus?.stop();
    for (const gw of pods) await gw.stop();
    collector?.close();
    collector?.closeAllConnections();
    await app?.stop();
    await redis?.stop();
  });

  for (const dashboard of dashboards) {
    describe(dashboard.title, () => {
      for (const panel of dashboard.panels) {
        test(panel.title, async () => {
          for (const target of panel.targets) {
            const full = async () => (await prometheus.query(filled(target.expr))).result.some((series) => !Number.isNaN(Number(series.value[1])));
            await until(`${target.expr} has data`, full, 20000);
          }
        });
      }

      test('its variables have values', async () => {
        for (const { name, type, definition } of dashboard.templating.list) {
          if (type !== 'query') continue;
          const [, series] = /^label_values\((.*), \w+\)$/.exec(definition);
          const { result } = await prometheus.query(`count by (${name}) (${filled(series)})`);
          assert.ok(result.length > 0 && result.every((one) => one.metric[name]), `${definition}`);
        }
      });
    });
  }

  test('every alert can be asked, about series that are there', async () => {
    const all = expressions();
    assert.ok(all.length > 20, `the rules were read: ${all.length}`);
    for (const expression of all) {
      await prometheus.query(expression);
      for (const [name] of expression.matchAll(/\bgateway_\w+/g)) {
        const { result } = await prometheus.query(`count(${name})`);
        assert.ok(result.length > 0, `${name} of ${expression}`);
      }
    }
  });

  test('a slow event leads to its trace: exemplars', async () => {
    const found = async () => (await prometheus.exemplars('gateway_event_duration_seconds_bucket')).flatMap((series) => series.exemplars);
    const exemplars = await until('an exemplar', async () => {
      const list = await found();
      return list.length > 0 && list;
    }, 20000);
    assert.match(exemplars[0].labels.trace_id, /^[0-9a-f]{32}$/);
  });

  test('promtool finds no fault with the metrics, and each is explained', async () => {
    const { body } = await http(pods[0].internal, { path: '/metrics' });
    execFileSync('promtool', ['check', 'metrics'], { input: body, stdio: ['pipe', 'pipe', 'pipe'] });
    const explained = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
    const names = [...body.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name);
    assert.deepEqual(names.filter((name) => !explained.includes(`\`${name}`)), [], 'series that docs/operations.md does not explain');
  });
});
