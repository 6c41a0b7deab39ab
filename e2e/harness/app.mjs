// What comes in: the gateway's calls of the application behind it. What goes out: the answers that the test scripts.
import { createServer } from 'node:http';
import { DEADLINE, Inbox } from './waiting.mjs';

/** What a handler returns when it answers through `call.res` by itself. */
export const ANSWERED = Symbol('answered');

/** An HTTP application whose answers the test scripts, event by event; without a handler it answers 204. */
export class App {
  calls = new Inbox();
  handlers = new Map();
  sockets = new Set();

  static async start() {
    const app = new App();
    app.server = createServer((req, res) => void app.#serve(req, res));
    app.server.keepAliveTimeout = 60000;
    app.server.on('connection', (s) => {
      app.sockets.add(s);
      s.on('close', () => app.sockets.delete(s));
    });
    await new Promise((resolve) => app.server.listen(0, '127.0.0.1', resolve));
    app.port = app.server.address().port;
    app.url = `http://127.0.0.1:${app.port}/events`;
    return app;
  }

  async #serve(req, res) {
    const chunks = [];
    for await (const c of req) chunks.push(c);
    const raw = Buffer.concat(chunks).toString();
    const body = JSON.parse(raw);
    const call = { body, raw, headers: req.headers, method: req.method, path: req.url, req, res };
    this.calls.push(call);
    const handler = this.handlers.get(body.event);
    try {
      const answer = handler ? await handler(body, call) : undefined;
      if (answer === ANSWERED) return;
      if (answer === undefined) return void res.writeHead(204).end();
      reply(res, 200, answer);
    } catch (error) {
      reply(res, 500, { error: { code: 'INTERNAL', message: String(error) } });
    }
  }

  on(event, handler) {
    this.handlers.set(event, handler);
  }

  /** The next call that came for this event. */
  next(event, match = () => true, ms = DEADLINE) {
    return this.calls.next((c) => c.body.event === event && match(c.body), `a call of the application with ${event}`, ms);
  }

  reset() {
    this.handlers.clear();
    this.calls.items.length = 0;
  }

  async stop() {
    for (const s of this.sockets) s.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

export function reply(res, status, body) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  res.writeHead(status, { 'content-type': 'application/json' }).end(text);
}

/** Begins a streamed answer; each `line` is on the wire when the call returns. */
export function stream(res) {
  res.writeHead(200, { 'content-type': 'application/x-ndjson' });
  res.flushHeaders();
  return { line: (part) => res.write(`${JSON.stringify(part)}\n`), end: () => res.end() };
}
