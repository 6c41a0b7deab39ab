/**
 * The JavaScript SDK against a real gateway: the document's snippet first, then what a caller meets when things go wrong.
 * Login sessions are made through the server API, as an application's own login page would.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";
import { AICodingAssistantError, AICodingAssistantSocket } from "@ai-coding-assistant/sdk";
import { io } from "socket.io-client";
import { startGateway } from "../page/gateway.mjs";

const KEY = "sdk-test-key";
const open = new Set();
let gateway;

before(async () => {
  gateway = await startGateway({ GATEWAY_API_KEY: KEY });
});

after(async () => {
  for (const socket of open) socket.disconnect();
  await gateway?.stop();
});

async function session(id, name = id) {
  const answer = await fetch(`${gateway.internal}/v1/sessions/${id}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ user: { id: `user-${name}`, name, roles: [] }, ttl_s: 600 }),
  });
  assert.ok(answer.ok, `PUT /v1/sessions/${id}: ${answer.status} ${await answer.text()}`);
  return id;
}

function client(options) {
  const socket = new AICodingAssistantSocket({ baseURL: gateway.origin, ...options });
  open.add(socket);
  return socket;
}

/** Somebody else in the project, on the official client alone. */
async function colleague(projectId) {
  const socket = io(gateway.origin, { forceNew: true });
  open.add(socket);
  const joined = await socket.emitWithAck("project:join", { projectId, userId: "colleague" });
  assert.equal(joined.ok, true, JSON.stringify(joined));
  return socket;
}

const update = (projectId, value) => ({ projectId, userId: "colleague", update: { type: "description", value } });
const next = (socket, event) => new Promise((resolve) => socket.once(event, resolve));
const failsWith = (code, event) => (error) => {
  assert.ok(error instanceof AICodingAssistantError, error.stack);
  assert.deepEqual({ code: error.code, event: error.event }, { code, event }, error.message);
  return true;
};

test("the document's snippet", async () => {
  const sessionId = await session("snippet", "Ada");
  const socket = client({ sessionId });
  await socket.connect();
  assert.deepEqual({ id: socket.user.id, name: socket.user.name }, { id: "user-Ada", name: "Ada" });

  const users = await socket.joinProject("project-123");
  assert.deepEqual(users.map((user) => user.id), ["user-Ada"]);

  const response = await socket.sendAIMessage({ message: "Create a React component", projectId: "project-123" });
  assert.match(JSON.stringify(response), /Create a React component/);

  const updated = next(socket, "project:updated");
  const other = await colleague("project-123");
  other.emit("project:update", update("project-123", "Updated project description"));
  const data = await updated;
  assert.equal(data.project.id, "project-123");
  assert.equal(data.update.value, "Updated project description");
});

test("each answer goes to its own question", async () => {
  const socket = client({ userId: "asker" });
  await socket.connect();
  const questions = ["one", "two", "three"].map((word) => `question ${word}`);
  const answers = await Promise.all(questions.map((message) => socket.sendAIMessage({ message })));
  questions.forEach((question, index) => assert.match(JSON.stringify(answers[index]), new RegExp(question)));
});

test("an unknown session is refused, and the connection closed", async () => {
  const socket = client({ sessionId: "no-such-session" });
  const told = next(socket, "auth:error");
  await assert.rejects(socket.connect(), failsWith("UNAUTHORIZED", "auth:session"));
  assert.equal((await told).code, "UNAUTHORIZED");
  assert.equal(socket.connected, false);
});

test("refusals reject with the gateway's code", async () => {
  const socket = client({ userId: "clumsy" });
  await socket.connect();
  await assert.rejects(socket.sendAIMessage({ message: "" }), failsWith("BAD_PAYLOAD", "ai:message"));
  await assert.rejects(socket.request("no:such:event"), failsWith("UNKNOWN_EVENT", "no:such:event"));
  await assert.rejects(socket.request("file:lock", { projectId: "elsewhere", filePath: "a", lockType: "shared" }), failsWith("FORBIDDEN", "file:lock"));
});

test("a lock that somebody else holds names the holder", async () => {
  const other = await colleague("locks");
  const held = await other.emitWithAck("file:lock", { projectId: "locks", userId: "colleague", filePath: "a.js", lockType: "exclusive" });
  assert.equal(held.ok, true, JSON.stringify(held));
  const socket = client({ userId: "late" });
  await socket.connect();
  await socket.joinProject("locks");
  await assert.rejects(
    socket.request("file:lock", { projectId: "locks", userId: "late", filePath: "a.js", lockType: "exclusive" }),
    (error) => failsWith("CONFLICT", "file:lock")(error) && error.details.holder.userId === "colleague",
  );
});

test("after a lost connection the session and the projects are back", async () => {
  const socket = client({ sessionId: await session("lasting", "Bo"), reconnectionDelay: 10 });
  await socket.connect();
  await socket.joinProject("lasting");
  const other = await colleague("lasting");

  const lost = next(socket, "disconnect");
  const back = next(socket, "connect");
  socket.socket.io.engine.close();
  await lost;
  await assert.rejects(socket.request("test:ping"), failsWith("NOT_CONNECTED", "test:ping"));
  await back;
  await socket.request("test:ping"); // Waits for the login, as every call does.

  const updated = next(socket, "project:updated");
  other.emit("project:update", update("lasting", "again"));
  assert.equal((await updated).update.value, "again");
  const users = await socket.joinProject("lasting");
  assert.ok(users.some((user) => user.id === "user-Bo"), JSON.stringify(users));
});

test("a server that never answers is a time-out, one that is not there an error", async () => {
  const accepted = [];
  const silent = createServer((socket) => accepted.push(socket)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const baseURL = `http://127.0.0.1:${silent.address().port}`;
  await assert.rejects(client({ baseURL }).connect({ timeout: 200 }), failsWith("TIMEOUT", undefined));
  for (const socket of accepted) socket.destroy();
  silent.close();
  await once(silent, "close");
  await assert.rejects(client({ baseURL }).connect(), failsWith("CONNECT_ERROR", undefined));
});

test("handlers come and go; after disconnect nothing is sent", async () => {
  const socket = client({ userId: "quiet" });
  const heard = [];
  const handler = (data) => heard.push(data);
  socket.on("test:response", handler);
  await socket.connect();
  await socket.request("test:event", { count: 1 });
  socket.off("test:response", handler);
  await socket.request("test:event", { count: 2 });
  assert.deepEqual(heard.map(({ count }) => count), [1]);
  socket.disconnect();
  await assert.rejects(socket.joinProject("any"), failsWith("NOT_CONNECTED", "project:join"));
});

test("the types admit the snippet and refuse what is wrong", () => {
  const compiler = fileURLToPath(new URL("node_modules/typescript/bin/tsc", import.meta.url));
  const file = fileURLToPath(new URL("types.test-d.ts", import.meta.url));
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext"];
  execFileSync(process.execPath, [compiler, ...options, file], { stdio: "pipe" });
});
