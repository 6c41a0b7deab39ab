// Names of Services for a cluster that has no DNS of its own: a node for tests.
//
//   node dns.mjs ADDRESS      answers at port 53 of ADDRESS, by asking the API server through kubectl
//
// In: questions for NAME.NAMESPACE.svc.cluster.local. Out: the Service's address, or those of its pods where it has none.
// It never forwards a question, and knows nothing but Services.
import { execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { promisify } from 'node:util';

const A = 1;
const NXDOMAIN = 3;

async function kubectl(...args) {
  const { stdout } = await promisify(execFile)('kubectl', [...args, '-o', 'json', '--ignore-not-found'], { timeout: 5000 });
  return stdout ? JSON.parse(stdout) : undefined;
}

/** The addresses of a name, or nothing where there is no such Service. */
async function addresses(name) {
  const [, service, namespace] = /^([^.]+)\.([^.]+)\.svc\.cluster\.local$/i.exec(name) ?? [];
  if (!service) return undefined;
  const found = await kubectl('get', 'service', service, '-n', namespace);
  if (!found) return undefined;
  if (found.spec.clusterIP !== 'None') return [found.spec.clusterIP];
  const endpoints = await kubectl('get', 'endpoints', service, '-n', namespace);
  return (endpoints?.subsets ?? []).flatMap((subset) => (subset.addresses ?? []).map((address) => address.ip));
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

const socket = createSocket('udp4');
socket.on('message', async (packet, peer) => {
  try {
    const asked = question(packet);
    socket.send(answer(packet, asked, await addresses(asked.name)), peer.port, peer.address);
  } catch (error) {
    console.error(`no answer for ${peer.address}: ${error.message}`);
  }
});
socket.bind(53, process.argv[2], () => console.log('ready'));
