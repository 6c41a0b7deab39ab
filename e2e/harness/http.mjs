// What comes in: one HTTP request, with any header there is. What goes out: its answer. It never follows, pools or retries.
import { request } from 'node:http';
import { DEADLINE, deferred, within } from './waiting.mjs';

/** One plain HTTP exchange, with any header there is. */
export async function http(address, { method = 'GET', path = '/', headers = {}, body, ms = DEADLINE } = {}) {
  const [host, port] = splitAddress(address);
  const d = deferred();
  const req = request({ host, port, method, path, headers: { connection: 'close', ...headers }, agent: false }, (res) => {
    const chunks = [];
    res.on('data', (c) => chunks.push(c));
    res.on('end', () => d.resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(chunks).toString() }));
    res.on('error', d.reject);
  });
  req.on('error', d.reject);
  req.on('upgrade', (res, socket) => {
    socket.destroy();
    d.resolve({ status: res.statusCode, headers: res.headers, body: '' });
  });
  req.end(body);
  return within(d.promise, `${method} ${path}`, ms).finally(() => req.destroy());
}

export function splitAddress(address) {
  const at = address.lastIndexOf(':');
  return [address.slice(0, at), Number(address.slice(at + 1))];
}
