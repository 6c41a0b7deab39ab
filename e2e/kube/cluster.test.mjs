// The chart on a real cluster, from the first install to the last trace of it, with official clients connected meanwhile.
// What comes in: a cluster by KUBECONFIG, and what run.sh says about it. What goes out: what held, with the figures.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from '../harness/waiting.mjs';
import { Crowd } from './live.mjs';

const { CHART, HELM, IMAGE, OLD_API, DNS_SERVER, NODE_ADDRESS } = process.env;
const NAMESPACE = 'gateway-e2e';
const PAIRS = 40;
const MINUTE = 60000;
/** 40 clients in 4 rooms, each heard by the 9 others. */
const SCENARIO = `
name = "note"
about = "40 clients in 4 rooms"
namespace = "/toolbox"
duration = "5s"

[[group]]
name = "member"
clients = 40
rooms = 4
[[group.step]]
event = "subscribe"
data = { channel = "{room}" }
[[group.send]]
event = "message"
data = { type = "note", channel = "{room}", text = "{mark}" }
rate = 1.0
to = "others"
`;
const work = mkdtempSync(join(tmpdir(), 'gateway-kube-'));
const own = 'app.kubernetes.io/instance=gateway';

/** What the tested installation differs from the default in. */
const values = {
  replicaCount: 2,
  image: { repository: IMAGE.replace(/:[^:]*$/, ''), tag: IMAGE.replace(/^.*:/, '') },
  redis: { url: `redis://redis.${NAMESPACE}.svc:6379` },
  // Clients of one machine have one address, and WebSocket alone needs no stickiness.
  service: { public: { type: 'NodePort', sessionAffinity: 'None' } },
  podLabels: { 'e2e/run': 'one' },
  resources: { requests: { cpu: '50m', memory: '64Mi' }, limits: { memory: '512Mi' } },
  readinessProbe: { periodSeconds: 1 },
  ...(DNS_SERVER && { dnsPolicy: 'None', dnsConfig: { nameservers: [DNS_SERVER], searches: [`${NAMESPACE}.svc.cluster.local`, 'svc.cluster.local', 'cluster.local'], options: [{ name: 'ndots', value: '5' }] } }),
};

async function run(program, ...args) {
  const { stdout } = await promisify(execFile)(program, args, { timeout: 4 * MINUTE, maxBuffer: 1 << 26 }).catch((error) => {
    throw new Error(`${program} ${args.join(' ')}: ${error.stderr || error.message}${error.stdout ?? ''}`);
  });
  return stdout;
}
const kubectl = (...args) => run('kubectl', '--namespace', NAMESPACE, ...args);
const list = async (kind, selector = own) => JSON.parse(await kubectl('get', kind, '--selector', selector, '--output', 'json')).items;
/** A server of before 1.25 gets what it knows, made of the same chart. */
const forServer = OLD_API ? ['--post-renderer', OLD_API] : [];
const helm = (...args) => run(HELM, '--namespace', NAMESPACE, ...args);

function write(name, content) {
  const file = join(work, name);
  writeFileSync(file, JSON.stringify(content));
  return file;
}

const upgrade = (changed) => helm('upgrade', '--install', 'gateway', CHART, '--values', write('values.json', { ...values, ...changed }), '--wait', '--timeout', '3m', ...forServer);
const running = async () => (await list('pods', `${own},app.kubernetes.io/name=gateway`)).filter((pod) => !pod.metadata.deletionTimestamp);
const isReady = (pod) => pod.status.conditions?.some((c) => c.type === 'Ready' && c.status === 'True');
const ready = async () => (await running()).filter(isReady);
const names = (pods) => pods.map((pod) => pod.metadata.name).sort();

async function address() {
  if (process.env.GATEWAY_URL) return process.env.GATEWAY_URL;
  const [service] = await list('service', `${own},app.kubernetes.io/component=public`);
  return `http://${NODE_ADDRESS}:${service.spec.ports[0].nodePort}`;
}

/** What every change of the cluster must leave whole. `wave`: the most clients that one leaving pod may send away in a second. */
function assertWhole(report, t) {
  t.diagnostic(JSON.stringify(report));
  assert.ok(report.acknowledged > PAIRS * 10, `the clients talked: ${report.acknowledged}`);
  assert.equal(report.lost, 0, 'acknowledged messages that were lost');
  assert.equal(report.outOfOrder, 0, 'messages out of order');
  assert.equal(report.doubled, 0, 'messages that came twice and were sent once');
  assert.ok(!report.reasons.includes('io server disconnect'), 'a client that the server disconnects never comes back');
}

describe('the chart on a cluster', { timeout: 20 * MINUTE }, () => {
  let url;
  before(async () => {
    await run('kubectl', 'create', 'namespace', NAMESPACE);
    await kubectl('apply', '--filename', new URL('../../k8s/overlays/demo-redis/redis.yaml', import.meta.url).pathname);
    await kubectl('create', 'secret', 'generic', 'gateway', '--from-literal=GATEWAY_API_KEY=e2e-api-key-0123456789', '--from-literal=GATEWAY_JWT_SECRET=e2e-jwt-secret-that-is-longer-than-32-bytes');
    await kubectl('rollout', 'status', 'deployment/redis', '--timeout=120s');
  });
  after(async () => {
    await run('kubectl', 'delete', 'namespace', NAMESPACE, '--timeout=120s');
    rmSync(work, { recursive: true, force: true });
  });

  /** A test that shows what the pods said, if it fails. */
  function step(name, does) {
    test(name, async (t) => {
      try {
        await does(t);
      } catch (error) {
        const said = await kubectl('logs', '--selector', own, '--tail=30', '--prefix').catch((none) => none.message);
        t.diagnostic(`pods:\n${await kubectl('get', 'pods', '--output', 'wide').catch((none) => none.message)}\n${said}`);
        throw error;
      }
    });
  }

  /** A crowd that is gone when the test is over, however it ends. */
  async function crowded(t) {
    const crowd = await Crowd.start(url, PAIRS);
    t.after(() => crowd.leave());
    return crowd;
  }

  step('helm install --wait', async (t) => {
    const started = Date.now();
    await upgrade({});
    t.diagnostic(`${((Date.now() - started) / 1000).toFixed(1)} s`);
    assert.equal((await ready()).length, 2);
    url = await address();
  });

  step('helm test: messages between clients on all pods', async () => {
    assert.match(await helm('test', 'gateway', '--timeout', '1m'), /Phase: +Succeeded/);
  });

  step('a first look needs neither Redis nor a Secret', async () => {
    const file = write('one.json', { ...values, replicaCount: 1, existingSecret: { name: '' }, redis: { url: '' }, service: { public: { type: 'ClusterIP' } }, podDisruptionBudget: { enabled: false } });
    await helm('install', 'look', CHART, '--values', file, '--wait', '--timeout', '2m', ...forServer);
    await helm('uninstall', 'look', '--wait');
  });

  step('scale 2 → 5 → 2 under live clients', async (t) => {
    const crowd = await crowded(t);
    await upgrade({ replicaCount: 5 });
    assert.equal((await ready()).length, 5);
    // Those who come now are spread over all five; three of these leave.
    const late = await crowded(t);
    await upgrade({ replicaCount: 2 });
    await until('two pods are left', async () => (await list('pods', `${own},app.kubernetes.io/name=gateway`)).length === 2, 2 * MINUTE);
    await Promise.all([crowd.back(), late.back()]);
    assertWhole(await crowd.stop(), t);
    const moved = await late.stop();
    assertWhole(moved, t);
    assert.ok(moved.reconnects > 0, 'some were at a pod that left');
  });

  step('a rolling upgrade under live clients: none lost, all back, spread out', async (t) => {
    const before = names(await running());
    const crowd = await crowded(t);
    await upgrade({ config: '[log]\nlevel = "debug"\nformat = "json"\n' });
    await until('the old pods are gone', async () => names(await list('pods', `${own},app.kubernetes.io/name=gateway`)).every((name) => !before.includes(name)), 2 * MINUTE);
    await crowd.back();
    const report = await crowd.stop();
    assertWhole(report, t);
    assert.ok(report.reconnects >= PAIRS * 2, `everybody moved at least once: ${report.reconnects}`);
    // Half of the clients leave one pod over ten seconds; all at once would be all of them in one.
    assert.ok(report.mostInOneSecond <= PAIRS * 2 * 0.4, `spread out: ${report.mostInOneSecond} in a second`);
    assert.ok(report.longestAway < 10000, `soon back: ${report.longestAway} ms`);
  });

  step('a pod that is killed: everybody is back, what was acknowledged before was received', async (t) => {
    const crowd = await crowded(t);
    const [{ metadata }] = await ready();
    await kubectl('delete', 'pod', metadata.name, '--grace-period=0', '--force');
    await until('another takes its place', async () => (await ready()).length === 2 && !names(await running()).includes(metadata.name), MINUTE);
    await crowd.back();
    const report = await crowd.stop();
    t.diagnostic(JSON.stringify(report));
    assert.equal(report.outOfOrder, 0);
    assert.ok(!report.reasons.includes('io server disconnect'));
  });

  step('kubectl drain is held by the disruption budget', async (t) => {
    await until('two pods are ready', async () => (await ready()).length === 2, 2 * MINUTE);
    const nodes = JSON.parse(await run('kubectl', 'get', 'nodes', '--output', 'json')).items;
    const [pod] = await ready();
    const node = pod.spec.nodeName;
    const drain = run('kubectl', 'drain', node, `--pod-selector=${own}`, '--ignore-daemonsets', '--timeout=25s');
    let fewest = Infinity;
    const ended = drain.then(() => '', (error) => error.message);
    let said;
    ended.then((text) => (said = text));
    try {
      await until('the drain ends', async () => {
        fewest = Math.min(fewest, (await ready()).length);
        return said !== undefined;
      }, MINUTE);
    } finally {
      await run('kubectl', 'uncordon', node);
    }
    t.diagnostic(`fewest pods ready: ${fewest}`);
    assert.ok(fewest >= 1, 'one pod is always there');
    if (nodes.length === 1) assert.match(said, /violate the pod's disruption budget/);
    await until('both pods are back', async () => (await ready()).length === 2, MINUTE);
  });

  step('load from inside the cluster: two workers, one report', async (t) => {
    await upgrade({ loadtest: { enabled: true, workers: 2, scenario: SCENARIO, args: ['--fail-if=lost>0'] } });
    const job = async () => (await list('jobs', `${own},app.kubernetes.io/component=loadtest`)).find((found) => !found.metadata.name.endsWith('-workers'));
    const { metadata } = await job();
    await until('the run ends', async () => (await job()).status.succeeded ?? (await job()).status.failed, 2 * MINUTE);
    const said = await kubectl('logs', `job/${metadata.name}`);
    t.diagnostic(said.trim().split('\n').slice(0, 12).join(' | '));
    assert.equal((await job()).status.succeeded, 1, said);
    await upgrade({});
  });

  step('the API server takes what else the chart makes', async () => {
    for (const kind of ['networkpolicy', 'autoscaling', 'traefik', 'websocket-only']) {
      const text = await helm('template', 'other', CHART, '--values', join(CHART, 'ci', `${kind}-values.yaml`), ...forServer);
      const file = join(work, `${kind}.yaml`);
      writeFileSync(file, text);
      await kubectl('apply', '--dry-run=server', '--filename', file);
    }
  });

  step('helm rollback, and uninstall leaves nothing', async () => {
    await helm('rollback', 'gateway', '--wait', '--timeout', '3m');
    await helm('uninstall', 'gateway', '--wait', '--timeout', '2m');
    const kinds = 'all,configmap,secret,serviceaccount,poddisruptionbudget,networkpolicy,ingress,horizontalpodautoscaler,endpoints,role,rolebinding';
    const left = async () => [...(await list(kinds)), ...(await list('secret', 'owner=helm'))].map((o) => `${o.kind}/${o.metadata.name}`);
    await until('nothing is left', async () => (await left()).length === 0, 2 * MINUTE).catch(async () => assert.deepEqual(await left(), []));
  });
});
