// Names of Services for a cluster that has no DNS of its own: a node for tests.
//
//   node dns.mjs ADDRESS      answers at port 53 of ADDRESS what kubectl says of Services and their pods
//
// In: questions for NAME.NAMESPACE.svc.cluster.local. Out: the Service's address, or those of its pods where it has none.
// Answers come from memory, since whoever asks waits. It never forwards a question, knows nothing but Services, and goes on
// to answer for one that was deleted.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';

const A = 1;
const NXDOMAIN = 3;
const services = new Map();
const endpoints = new Map();

/** Keeps `known` as the API server has it: `NAME.NAMESPACE` → addresses. */
function watch(kind, path, known) {
  const columns = `{.metadata.name}.{.metadata.namespace}{" "}{${path}}{"\\n"}`;
  const child = spawn('kubectl', ['get', kind, '--all-namespaces', '--watch', '--output', `jsonpath=${columns}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  process.on('exit', () => child.kill());
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [name, ...addresses] = line.trim().split(/\s+/);
    known.set(name, addresses);
  });
  child.on('close', (code) => {
    console.error(`kubectl ended with ${code}: ${kind} are watched no more`);
    process.exit(1);
  });
}

/** The addresses of a name, or nothing where there is no such Service. */
function addresses(name) {
  const [, service] = /^([^.]+\.[^.]+)\.svc\.cluster\.local$/i.exec(name) ?? [];
  const found = services.get(service);
  return found?.[0] === 'None' ? (endpoints.get(service) ?? []) : found;
}

/** The one question of a packet. */
function question(packet) {
  const labels = [];
  let at = 12;
  while (packet[at] !== 0) {
    labels.push(packet.toString('latin1', at + 1, at + 1 + packet[at]));
    at += packet[at] + 1;
  }
  return { name: labels.join('.'), type: packet.readUInt16BE(at + 1), end: at + 5 };
}

function answer(packet, { type, end }, found) {
  const list = type === A ? (found ?? []) : [];
  const head = Buffer.alloc(12);
  head.writeUInt16BE(packet.readUInt16BE(0), 0);
  // An authoritative answer; recursion is not to be had.
  head.writeUInt16BE(0x8400 | (packet.readUInt16BE(2) & 0x0100) | (found ? 0 : NXDOMAIN), 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(list.length, 6);
  const records = list.map((ip) => Buffer.from([0xc0, 12, 0, A, 0, 1, 0, 0, 0, 1, 0, 4, ...ip.split('.').map(Number)]));
  return Buffer.concat([head, packet.subarray(12, end), ...records]);
}

watch('services', '.spec.clusterIP', services);
watch('endpoints', '.subsets[*].addresses[*].ip', endpoints);
const socket = createSocket('udp4');
socket.on('message', (packet, peer) => {
  try {
    const asked = question(packet);
    socket.send(answer(packet, asked, addresses(asked.name)), peer.port, peer.address);
  } catch (error) {
    console.error(`no answer for ${peer.address}: ${error.message}`);
  }
});
socket.bind(53, process.argv[2], () => console.log('ready'));
