// A process of stock packages, driven by a test.
//
// In comes one line of JSON for each thing to do, `{id, code}`: the body of an async function. Out goes
// one line for each, `{id, value}` or `{id, error}`. What the functions share is below. It never retries.
"use strict";

const http = require("node:http");
const readline = require("node:readline");
const { Server } = require("socket.io");
const client = require("socket.io-client");
const { createAdapter } = require("@socket.io/redis-adapter");
const { Emitter } = require("@socket.io/redis-emitter");
const IoRedis = require("ioredis");
const redis = require("redis");

const servers = {};
const clients = {};
const redises = [];

/** A connection to Redis by the client library of this name; `cluster` is that of ioredis to a cluster. */
async function connect(library, path) {
  const make = {
    ioredis: () => new IoRedis(path),
    cluster: () => new IoRedis.Cluster([path]),
    redis: () => redis.createClient({ socket: { path } }),
  };
  const connection = make[library]();
  connection.on("error", () => {});
  if (library === "redis") await connection.connect();
  redises.push(connection);
  return connection;
}

/** A Socket.IO server in the cluster. Gives its port. */
async function serve(name, path, { library = "ioredis", options = {} } = {}) {
  const [publish, subscribe] = [await connect(library, path), await connect(library, path)];
  const web = http.createServer();
  const io = new Server(web, { adapter: createAdapter(publish, subscribe, options) });
  io.on("connection", (socket) => {
    socket.data = { server: name };
    socket.on("join", (room, done) => done(socket.join(room)));
  });
  io.of("/");
  await new Promise((resolve) => web.listen(0, "127.0.0.1", resolve));
  servers[name] = io;
  return web.address().port;
}

/** A client that remembers what it hears and acknowledges it: an echo as it is, the others by its name. */
async function join(name, port, namespace = "/") {
  const socket = client.io(`http://127.0.0.1:${port}${namespace}`, {
    transports: ["websocket"],
    forceNew: true,
  });
  const heard = [];
  const waiting = [];
  socket.onAny((event, ...args) => {
    const acknowledge = typeof args.at(-1) === "function" ? args.pop() : undefined;
    heard.push([event, ...args]);
    waiting.splice(0).forEach((wake) => wake());
    acknowledge?.(...(event === "echo" ? args : [name, ...args]));
  });
  socket.on("disconnect", (reason) => {
    heard.push(["disconnect", reason]);
    waiting.splice(0).forEach((wake) => wake());
  });
  clients[name] = { socket, heard, waiting };
  await new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  return socket.id;
}

/** Everything that a client has heard up to an event of this name, which it waits for. */
async function until(name, event) {
  const { heard, waiting } = clients[name];
  for (;;) {
    const at = heard.findIndex(([heardEvent]) => heardEvent === event);
    if (at >= 0) return heard.splice(0, at + 1);
    await new Promise((resolve) => waiting.push(resolve));
  }
}

/** Binary data as text, so that it fits into JSON. */
function plain(value) {
  if (Buffer.isBuffer(value) || value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
    return { hex: Buffer.from(value).toString("hex") };
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Set) return [...value].map(plain);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  }
  return value;
}

const names = { serve, join, until, connect, servers, clients, Emitter, Buffer };
const AsyncFunction = (async () => {}).constructor;

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, code } = JSON.parse(line);
  let answer;
  try {
    const value = await new AsyncFunction(...Object.keys(names), code)(...Object.values(names));
    answer = { id, value: plain(value) ?? null };
  } catch (error) {
    answer = { id, error: String(error?.stack ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
process.stdin.on("end", () => process.exit(0));
