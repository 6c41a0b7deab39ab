/**
 * The realtime client of AI Coding Assistant. Calls come in, promises of the gateway's acks go out: a refusal, a lost
 * connection and a time-out all reject with a code. It is a thin layer on socket.io-client and never hides it: whatever
 * is not here is on `socket`.
 */
import { io } from "socket.io-client";

const CONNECT_MS = 20_000;
const REQUEST_MS = 20_000;
/** An assistant may think for a while. */
const ANSWER_MS = 60_000;

/** Why a call was refused or failed: `code` is the gateway's, or `TIMEOUT`, `NOT_CONNECTED`, `CONNECT_ERROR` of this side. */
export class AICodingAssistantError extends Error {
  constructor(code, message, { event, details, cause } = {}) {
    super(event ? `${event}: ${message}` : message, { cause });
    this.name = "AICodingAssistantError";
    this.code = code;
    this.event = event;
    this.details = details ?? {};
  }
}

export class AICodingAssistantSocket {
  #sessionId;
  #userId;
  #timeout;
  #projects = new Set();
  /** Settles when the present connection is logged in and back in its projects; replaced at each reconnection. */
  #ready = Promise.resolve();

  /** The user that the session belongs to, once connected. */
  user = null;

  constructor({ baseURL, sessionId, userId, timeout = REQUEST_MS, ...options }) {
    this.#sessionId = sessionId;
    this.#userId = userId;
    this.#timeout = timeout;
    /** The socket of the official client. */
    this.socket = io(baseURL, { ...options, autoConnect: false });
    this.socket.on("connect", () => {
      this.#ready = this.#restore();
      this.#ready.catch(() => {}); // `connect` and every later call await it; `auth:error` tells the rest.
    });
  }

  get connected() {
    return this.socket.connected;
  }

  /** Connects, and logs in where there is a session. A connection that cannot be had is not tried again. */
  async connect({ timeout = CONNECT_MS } = {}) {
    try {
      await this.#open(timeout);
      await this.#ready;
    } catch (error) {
      this.socket.disconnect();
      throw error;
    }
  }

  /** Joins a project and resolves to those present. After a reconnection it is joined again. */
  async joinProject(projectId) {
    const { users } = await this.request("project:join", this.#as({ projectId }));
    this.#projects.add(projectId);
    return users;
  }

  async leaveProject(projectId) {
    this.#projects.delete(projectId);
    await this.request("project:leave", this.#as({ projectId }));
  }

  /** Sends a message to the assistant and resolves to its response. */
  async sendAIMessage({ message, projectId, context }, { timeout = ANSWER_MS } = {}) {
    const payload = this.#as({ message, ...(projectId && { projectId }), ...(context && { context }) });
    return (await this.request("ai:message", payload, { timeout })).response;
  }

  /** Sends any event and resolves to its ack, rejecting where that says no. */
  async request(event, payload = {}, { timeout = this.#timeout } = {}) {
    if (!this.socket.connected) throw new AICodingAssistantError("NOT_CONNECTED", "not connected", { event });
    await this.#ready;
    return this.#ask(event, payload, timeout);
  }

  on(event, handler) {
    this.socket.on(event, handler);
    return this;
  }

  once(event, handler) {
    this.socket.once(event, handler);
    return this;
  }

  off(event, handler) {
    this.socket.off(event, handler);
    return this;
  }

  disconnect() {
    this.socket.disconnect();
  }

  /** Where nobody is logged in, the payload says who speaks; a logged-in user is known to the gateway. */
  #as(payload) {
    return this.#sessionId || !this.#userId ? payload : { ...payload, userId: this.#userId };
  }

  #open(timeout) {
    if (this.socket.connected) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const settle = (error) => {
        clearTimeout(timer);
        this.socket.off("connect", connected).off("connect_error", failed);
        error ? reject(error) : resolve();
      };
      const connected = () => settle();
      const failed = (cause) => settle(new AICodingAssistantError(cause.data?.code ?? "CONNECT_ERROR", cause.message, { cause }));
      const timer = setTimeout(() => settle(new AICodingAssistantError("TIMEOUT", `no connection within ${timeout} ms`)), timeout);
      this.socket.on("connect", connected).on("connect_error", failed);
      this.socket.connect();
    });
  }

  /** A new connection knows nothing of the former one: log in again, then return to the projects. */
  async #restore() {
    if (this.#sessionId) {
      this.user = (await this.#ask("auth:session", { sessionId: this.#sessionId }, this.#timeout)).user;
    }
    for (const projectId of this.#projects) await this.#ask("project:join", this.#as({ projectId }), this.#timeout);
  }

  async #ask(event, payload, timeout) {
    let ack;
    try {
      ack = await this.socket.timeout(timeout).emitWithAck(event, payload);
    } catch (cause) {
      if (!this.socket.connected) throw new AICodingAssistantError("NOT_CONNECTED", "the connection was lost", { event, cause });
      throw new AICodingAssistantError("TIMEOUT", `no answer within ${timeout} ms`, { event, cause });
    }
    if (ack?.ok === false) {
      const { code, message, ...details } = ack.error ?? {};
      throw new AICodingAssistantError(code ?? "INTERNAL", message ?? "refused", { event, details });
    }
    return ack ?? {};
  }
}
