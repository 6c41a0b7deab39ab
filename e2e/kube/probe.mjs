// `helm test` by official clients: each pod's server API sends to a client at each other pod, and each client gets an ack.
//
//   node probe.mjs http://NAME:3001 http://NAME:3002      NAME resolves to the addresses of all pods
//
// Out: a line for each pod, and exit status 0 if all of them reach each other. GATEWAY_API_KEY is the server API's key.
import assert from 'node:assert/strict';
import { lookup } from 'node:dns/promises';
import { io } from 'socket.io-client';

const DEADLINE = 5000;
const [open, internal] = process.argv.slice(2).map((url) => new URL(url));
const at = (url, address) => `http://${address.includes(':') ? `[${address}]` : address}:${url.port}`;

async function connect(address) {
  const socket = io(`${at(open, address)}/toolbox`, { transports: ['websocket'], reconnection: false });
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', reject);
  });
  const { ok } = await socket.timeout(DEADLINE).emitWithAck('ping', {});
  assert.equal(ok, true, `${address} acknowledges`);
  return socket;
}

async function reach(from, socket) {
  const event = `probe:${from}`;
  const heard = new Promise((resolve) => socket.once(event, resolve));
  const answer = await fetch(`${at(internal, from)}/v1/emit`, {
    method: 'POST',
    headers: { authorization: `Bearer ${process.env.GATEWAY_API_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ namespace: '/toolbox', event, data: 1, to: { sids: [socket.id] } }),
    signal: AbortSignal.timeout(DEADLINE),
  });
  assert.equal(answer.status, 200, `${from} takes the call: ${await answer.text()}`);
  await heard;
}

setTimeout(() => {
  console.error('not all of it happened in time');
  process.exit(1);
}, 6 * DEADLINE).unref();
const pods = (await lookup(open.hostname, { all: true })).map((found) => found.address);
const sockets = await Promise.all(pods.map(connect));
await Promise.all(pods.flatMap((from) => sockets.map((socket) => reach(from, socket))));
for (const [n, pod] of pods.entries()) console.log(`${pod} reaches ${pods.length} pods; its client is ${sockets[n].id}`);
for (const socket of sockets) socket.disconnect();
