// Every configuration of deploy/balancers, with the real program, before three pods: clients that poll, upgrade, or use
// WebSocket alone get through, are spread over the pods, hear each other, and come back when a pod leaves.
import { Agent } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { io } from 'socket.io-client';
import { Redis, assert, until } from '../harness.mjs';
import { Setup } from './setup.mjs';

const EACH = 10;
const ACKS = 5;
const TRANSPORTS = { polling: ['polling'], upgrade: ['polling', 'websocket'], websocket: ['websocket'] };
const BALANCERS = [
  { name: 'HAProxy, cookie', program: 'haproxy', files: ['haproxy-cookie.cfg'] },
  { name: 'HAProxy, learns the sid', program: 'haproxy', files: ['haproxy-sid.cfg'], cookies: false },
  { name: 'nginx, cookie', program: 'nginx', files: ['nginx.conf'] },
  { name: 'nginx, address', program: 'nginx', files: ['nginx-address.conf'], cookies: false },
  { name: 'Envoy, cookie', program: 'envoy', files: ['envoy.yaml'] },
  { name: 'Traefik, cookie', program: 'traefik', files: ['traefik.yaml', 'traefik-pods.yaml'] },
  { name: 'Caddy, cookie', program: 'caddy', files: ['Caddyfile'] },
];

/** A client as applications make it: it reconnects by itself. Each has an address of its own, as clients have. */
class Client {
  heard = [];

  constructor(url, number, transports, cookies) {
    const agent = new Agent({ localAddress: `127.${200 + (number % 50)}.${number}.1`, keepAlive: true });
    this.socket = io(`${url}/toolbox`, { transports, agent, forceNew: true, withCredentials: cookies, reconnectionDelay: 100, reconnectionDelayMax: 1000 });
    this.transports = transports;
    this.errors = [];
    this.socket.on('connect_error', (error) => this.errors.push(`${error.message} ${error.description ?? ''}`));
    this.socket.on('now', (data) => this.heard.push(data));
  }

  /** Connected, and by the best transport that it may use. */
  get isSettled() {
    return this.socket.connected && this.socket.io.engine.transport.name === this.transports.at(-1);
  }

  async settled() {
    await until('a client connects', () => this.isSettled, 20000).catch((error) => {
      throw new Error(`${error.message} by ${this.transports}: ${this.errors.slice(-3).join('; ')}`);
    });
  }

  async talk() {
    for (let n = 0; n < ACKS; n++) {
      const { ok } = await this.socket.timeout(5000).emitWithAck('ping', {});
      assert.equal(ok, true);
    }
  }
}

describe('load balancers', { timeout: 600000 }, () => {
  let redis;
  let setup;
  before(async () => {
    redis = await Redis.start();
    setup = await Setup.start(redis);
  });
  after(async () => {
    await setup?.stop();
    await redis?.stop();
  });

  for (const { name, program, files, cookies = true } of BALANCERS) {
    describe(name, () => {
      let clients = [];
      before(() => setup.balance(program, ...files));
      after(async () => {
        for (const client of clients) client.socket.disconnect();
        await setup.unbalance();
        const gone = async () => (await setup.pods[0].api('GET', '/v1/stats')).connections === 0;
        await until('everybody is gone', gone, 20000);
      });

      for (const [kind, transports] of Object.entries(TRANSPORTS)) {
        test(`${EACH} clients by ${kind}: ${ACKS} acks each`, async () => {
          const mine = Array.from({ length: EACH }, () => new Client(setup.url, clients.length + Math.floor(Math.random() * 200) + 1, transports, cookies));
          clients = clients.concat(mine);
          await Promise.all(mine.map((client) => client.settled()));
          await Promise.all(mine.map((client) => client.talk()));
        });
      }

      test('they are spread over the pods, and hear what any pod sends to all', async (t) => {
        const spread = await setup.spread();
        t.diagnostic(`connections: ${spread}`);
        assert.ok(spread.every((count) => count > 0), `every pod has some: ${spread}`);
        for (const [from, pod] of setup.pods.entries()) {
          await pod.api('POST', '/v1/emit', { namespace: '/toolbox', event: 'now', data: from, to: { all: true } });
        }
        await until('everybody hears every pod', () => clients.every((client) => new Set(client.heard).size === 3), 10000);
      });

      test('a pod leaves: everybody is back at another, and talks', async (t) => {
        const leaving = setup.pods[1];
        await leaving.stop('SIGTERM');
        try {
          assert.equal(leaving.code, 0, leaving.said.slice(-500));
          const started = Date.now();
          const others = setup.pods.filter((pod) => pod !== leaving);
          // A client may not have noticed yet that its pod is gone; the pods that are left know whom they have.
          await until('the other pods have everybody', async () => (await setup.spread(others)).reduce((sum, count) => sum + count) === clients.length, 20000);
          await Promise.all(clients.map((client) => client.settled()));
          t.diagnostic(`all back ${Date.now() - started} ms after it was gone`);
          await Promise.all(clients.map((client) => client.talk()));
        } finally {
          setup.pods[1] = await setup.pod(2);
        }
      });
    });
  }
});
