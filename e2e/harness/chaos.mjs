// What comes in: connections to a port of the test's own. What goes out: the same bytes to a server behind, until the test makes the
// way fail: cut (as by a reset) or hung (as by a lost network: nothing is refused, nothing arrives).
import { connect as dial, createServer } from 'node:net';

/** A way to the first of several addresses that does not refuse. */
export class Way {
  #pairs = new Set();
  #hung = false;

  static async to(...addresses) {
    const way = new Way();
    way.addresses = addresses;
    way.server = createServer((client) => way.#serve(client));
    await new Promise((resolve) => way.server.listen(0, '127.0.0.1', resolve));
    way.port = way.server.address().port;
    way.address = `127.0.0.1:${way.port}`;
    return way;
  }

  #serve(client, at = 0) {
    client.on('error', () => client.destroy());
    if (at === this.addresses.length) return client.destroy();
    const [host, port] = this.addresses[at].split(':');
    const server = dial({ host, port: Number(port) });
    let open = false;
    server.on('connect', () => {
      open = true;
      const pair = { client, server };
      this.#pairs.add(pair);
      const end = () => {
        this.#pairs.delete(pair);
        client.destroy();
        server.destroy();
      };
      client.on('close', end);
      server.on('close', end);
      client.on('data', (bytes) => server.write(bytes));
      server.on('data', (bytes) => client.write(bytes));
      if (this.#hung) this.#stall(pair);
    });
    server.on('error', () => {
      server.destroy();
      if (!open && !client.destroyed) this.#serve(client, at + 1);
    });
  }

  #stall({ client, server }) {
    client.pause();
    server.pause();
  }

  /** Nothing passes any more, and nobody is told. */
  hang() {
    this.#hung = true;
    for (const pair of this.#pairs) this.#stall(pair);
  }

  /** What was hung is gone, as after a time-out; new connections pass. */
  heal() {
    this.#hung = false;
    this.cut();
  }

  /** Resets every connection. */
  cut() {
    for (const { client, server } of this.#pairs) {
      client.destroy();
      server.destroy();
    }
  }

  close() {
    this.cut();
    this.server.close();
  }
}
