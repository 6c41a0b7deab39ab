/**
 * The demo page's client. What a person does comes in; events of the five contracts go out, and every event, in and
 * out, is shown in the log with its ack. It never speaks to another origin and never puts text from the wire into HTML.
 *
 *   person -> send() -> gateway -> ack   -> log, refusal in words
 *                       gateway -> event -> log, the panel it belongs to
 */
const $ = (id) => document.getElementById(id);

/** Rows that the log and the conversations keep; older ones go, so that a tab left open for days stays small. */
const LOG_ROWS = 200;
const TALK_ROWS = 100;
/** How long an answer may take: the gateway's own actions are quick, an application behind it may work for a while. */
const QUICK_MS = 10_000;
const SLOW_MS = 60_000;
/** The gateway forgets who types after 3 s without renewal: it is renewed before that, and ended sooner than that. */
const TYPING_RENEW_MS = 2_000;
const TYPING_IDLE_MS = 2_500;

const NAMESPACES = ["/", "/toolbox", "/codx", "/gate"];
const FILES = ["README.md", "docs/plan.md", "src/app.jsx", "src/server.js"];
const NAMES = ["Ada", "Bo", "Cleo", "Dana", "Eli", "Fay", "Gus", "Hana", "Ivo", "June", "Kai", "Lena"];

/** All that this tab knows. Sockets share one connection; `people` and `locks` are rebuilt from events after a join. */
const state = { name: "", manager: null, sockets: new Map(), project: null, people: new Map(), locks: new Map(), gate: null, token: null, workflow: null };

// ---- text and elements ----------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

const clock = (at = new Date()) => at.toLocaleTimeString([], { hour12: false });

/** The readable text of an answer, whichever field the application puts it in. */
function textOf(value) {
  if (value == null) return "";
  if (typeof value !== "object") return String(value);
  for (const field of ["text", "content", "message", "response", "agent_response"]) {
    if (typeof value[field] === "string") return value[field];
  }
  return JSON.stringify(value, null, 1);
}

/** A user as events name one: `{user: {id, name?}}`, or only `userId`. */
function userOf(data) {
  const id = data?.user?.id ?? data?.userId ?? data?.id;
  return id == null ? null : { id: String(id), name: String(data?.user?.name ?? data?.name ?? id) };
}

/** Holds for a `{code, message}` of an ack, an `error` or a `room:error`. */
function inWords(error, what) {
  const detail = error?.message ?? error?.msg ?? "no reason given";
  const holder = error?.holder;
  switch (error?.code) {
    case "CONFLICT":
      if (!holder) return `${what}: somebody else has it (${detail}).`;
      return `${what}: ${holder.userId === state.name ? "your other tab" : holder.userId} has it locked (${holder.lockType}) since ${clock(new Date(holder.since))}.`;
    case "RATE_LIMITED":
      return `${what}: too many events at once. Try again in ${Math.ceil((error.retry_after_ms ?? 1000) / 1000)} s.`;
    case "FORBIDDEN": return `${what}: not allowed (${detail}).`;
    case "UNAUTHORIZED": return `${what}: a login is needed (${detail}).`;
    case "UNAVAILABLE": return `${what}: a part behind the gateway is down (${detail}).`;
    case "TIMEOUT": return `${what}: the application took too long (${detail}).`;
    case "NOT_FOUND": return `${what}: not found (${detail}).`;
    default: return `${what}: ${detail}`;
  }
}

/** Shows a notice; one of the same key replaces the former, so that a repeated trouble is shown once. */
function notice(text, { kind = "error", key = text } = {}) {
  clearNotice(key);
  const close = element("button", { type: "button", class: "quiet", "aria-label": "Dismiss" }, "×");
  const node = element("div", { class: `notice ${kind}`, "data-testid": "notice", "data-kind": kind, "data-key": key }, element("p", {}, text), close);
  close.addEventListener("click", () => node.remove());
  $("notices").append(node);
  while ($("notices").children.length > 3) $("notices").firstChild.remove();
  setTimeout(() => node.remove(), kind === "error" ? 12_000 : 5_000);
}

function clearNotice(key) {
  for (const old of $("notices").children) if (old.dataset.key === key) old.remove();
}

/** Adds to a conversation and returns the text node's element, which a streamed answer goes on filling. */
function say(log, who, text, kind = "other") {
  const body = element("p", {}, text);
  const node = element("article", { class: `said ${kind}`, "data-testid": "said" }, element("header", {}, element("b", {}, who), element("time", {}, clock())), body);
  $(log).append(node);
  while ($(log).children.length > TALK_ROWS) $(log).firstChild.remove();
  $(log).scrollTop = $(log).scrollHeight;
  const panel = $(log).closest('[role="tabpanel"]');
  if (panel.hidden) $(panel.getAttribute("aria-labelledby")).dataset.unread = "";
  return body;
}

const note = (log, text, kind = "note") => say(log, "", text, kind);

// ---- the event log --------------------------------------------------------------------------------

/** Writes a row and returns how to put the ack into it. */
function record(direction, namespace, event, data) {
  const ack = element("span", { class: "ack" });
  const body = element("pre", {}, data === undefined ? "no payload" : JSON.stringify(data, null, 2));
  const row = element("li", { "data-testid": "log-entry", "data-dir": direction, "data-event": event, "data-namespace": namespace },
    element("details", {}, element("summary", {}, element("time", {}, clock()), element("code", { class: "ns" }, namespace), element("b", {}, event), ack), body));
  row.hidden = !matchesFilter(row);
  $("log").prepend(row);
  while ($("log").children.length > LOG_ROWS) $("log").lastChild.remove();
  $("log-count").textContent = $("log").children.length;
  return (answer, ms) => {
    const refused = answer === undefined || answer?.ok === false;
    row.dataset.ack = answer === undefined ? "none" : refused ? "refused" : "ok";
    ack.textContent = answer === undefined ? "no ack" : `${refused ? answer.error?.code ?? "refused" : "ack"} ${ms} ms`;
    body.append(answer === undefined ? "\n\nno ack" : `\n\nack: ${JSON.stringify(answer, null, 2)}`);
  };
}

function matchesFilter(row) {
  const wanted = $("log-filter").value.trim().toLowerCase();
  return !wanted || `${row.dataset.namespace} ${row.dataset.event}`.toLowerCase().includes(wanted);
}

// ---- the connection -------------------------------------------------------------------------------

/** Sends an event and resolves to its ack, or to `null` where none came; a refusal is shown in words. */
async function send(namespace, event, payload, { what = event, wait = QUICK_MS, quiet = false } = {}) {
  const socket = state.sockets.get(namespace);
  if (!socket?.connected) {
    notice(`${what}: not connected to ${namespace}.`);
    return null;
  }
  const answered = record("out", namespace, event, payload);
  const began = performance.now();
  try {
    const ack = await socket.timeout(wait).emitWithAck(event, payload);
    answered(ack, Math.round(performance.now() - began));
    if (ack?.ok === false && !quiet) notice(inWords(ack.error, what));
    return ack;
  } catch {
    answered(undefined);
    if (socket.connected && !quiet) notice(`${what}: no answer came.`);
    return null;
  }
}

function connect(name, transports) {
  state.name = name;
  state.manager = new io.Manager({ transports, reconnectionDelayMax: 3_000, autoConnect: false });
  state.manager.on("open", showTransport);
  state.manager.on("reconnect_attempt", (attempt) => showLine("waiting", `Trying again (${attempt})`));
  for (const namespace of NAMESPACES) openNamespace(namespace).connect();
  showLine("waiting", "Connecting");
}

function openNamespace(namespace, options) {
  const socket = state.manager.socket(namespace, options);
  state.sockets.set(namespace, socket);
  socket.onAny((event, ...data) => record("in", namespace, event, data.length > 1 ? data : data[0]));
  socket.on("connect", () => {
    record("note", namespace, "connect", { sid: socket.id, recovered: socket.recovered });
    clearNotice(`line ${namespace}`);
    clearNotice("line");
    showNamespace(namespace, true);
  });
  socket.on("disconnect", (reason) => {
    record("note", namespace, "disconnect", { reason });
    showNamespace(namespace, false);
  });
  socket.on("connect_error", (error) => connectFailed(namespace, error));
  socket.on("error", (error) => notice(inWords(error, error?.event ?? namespace)));
  handlers[namespace]?.(socket);
  return socket;
}

/** A refusal by the namespace ends that namespace only; a transport that fails is tried again by the client. */
function connectFailed(namespace, error) {
  const socket = state.sockets.get(namespace);
  record("note", namespace, "connect_error", { message: error.message });
  showNamespace(namespace, false);
  if (socket?.active) {
    showLine("waiting", "Cannot reach the gateway");
    notice(`The gateway cannot be reached (${error.message}). Trying again.`, { key: "line" });
  } else {
    notice(`${namespace} refused the connection: ${error.message}.`, { key: `line ${namespace}` });
  }
}

function disconnect() {
  for (const socket of state.sockets.values()) socket.disconnect();
  state.sockets.clear();
  state.manager = null;
  Object.assign(state, { project: null, gate: null, workflow: null });
  showLine("off", "Not connected");
  for (const namespace of [...NAMESPACES, "/agents"]) showNamespace(namespace, false);
  clearProject();
  showGate();
  showAgents();
}

function showLine(kind, text) {
  $("line-dot").dataset.state = kind;
  $("line-state").textContent = text;
  $("line-transport").hidden = kind !== "on";
  const open = state.manager !== null;
  $("connect").hidden = open;
  $("disconnect").hidden = !open;
  $("name").disabled = $("transports").disabled = open;
  for (const field of document.querySelectorAll("#connect-form .field")) field.hidden = open;
}

function showTransport() {
  const engine = state.manager.engine;
  const show = () => { $("line-transport").textContent = engine.transport.name; };
  show();
  engine.on("upgrade", (transport) => {
    record("note", "/", "upgrade", { transport: transport.name });
    show();
  });
}

/** Marks a namespace as open or not, and enables what works only in an open one. */
function showNamespace(namespace, open) {
  for (const badge of document.querySelectorAll(`[data-ns="${namespace}"]`)) badge.dataset.open = open;
  const gated = { "/": ["join", "ask-input", "ask-send"], "/gate": ["gate-start"] }[namespace] ?? [];
  for (const id of gated) $(id).disabled = !open;
  if (namespace === "/") {
    $("agents-connect").disabled = $("agents-bare").disabled = !open;
    if (open) showLine("on", `Connected as ${state.name}`);
    else if (state.manager) showLine("waiting", "Connection lost");
  }
}

// ---- together: project, people, files, chat -------------------------------------------------------

const mine = (extra = {}) => ({ projectId: state.project, userId: state.name, ...extra });

async function joinProject(project) {
  const ack = await send("/", "project:join", { projectId: project, userId: state.name }, { what: "Join" });
  if (!ack?.ok) return;
  clearProject();
  state.project = project;
  setPerson({ id: state.name, name: state.name, status: "online" });
  for (const user of ack.users ?? []) setPerson({ ...userOf(user), status: user.status ?? "online", activity: user.activity });
  showProject();
}

/** The chat is a channel of the same name in another namespace, which joins it again by itself on its own reconnection. */
const joinChat = () => send("/toolbox", "subscribe", { channel: state.project }, { what: "Chat" });

async function leaveProject() {
  const project = state.project;
  await send("/", "project:leave", { projectId: project, userId: state.name }, { what: "Leave" });
  await send("/toolbox", "unsubscribe", { channel: project }, { what: "Chat", quiet: true });
  state.project = null;
  clearProject();
}

function clearProject() {
  state.people.clear();
  state.locks.clear();
  stopTyping.cancel();
  showProject();
}

function showProject() {
  const joined = state.project !== null;
  $("join").hidden = joined;
  $("leave").hidden = !joined;
  $("project").disabled = joined;
  for (const id of ["presence-send", "chat-input", "chat-send"]) $(id).disabled = !joined;
  $("people-empty").hidden = joined;
  showPeople();
  showFiles();
}

function setPerson(change) {
  if (change?.id == null) return;
  state.people.set(change.id, { ...state.people.get(change.id), ...change });
  showPeople();
}

function showPeople() {
  const rows = [...state.people.values()].sort((a, b) => a.id.localeCompare(b.id)).map((person) => {
    const doing = [person.status, person.activity].filter(Boolean).join(" · ");
    return element("li", { "data-testid": "person", "data-user": person.id, "data-status": person.status },
      element("span", { class: "face", "aria-hidden": "true" }, person.name.slice(0, 1).toUpperCase()),
      element("span", { class: "who" }, element("b", {}, person.name + (person.id === state.name ? " (you)" : "")), element("small", {}, doing)));
  });
  $("people").replaceChildren(...rows);
  const typing = [...state.people.values()].filter((person) => person.typing && person.id !== state.name).map((person) => person.name);
  $("typing").textContent = typing.length ? `${typing.join(" and ")} ${typing.length > 1 ? "are" : "is"} typing` : "";
}

/** Who holds a file, by user: several where the lock is shared. */
const holders = (file) => state.locks.get(file) ?? state.locks.set(file, new Map()).get(file);

function showFiles() {
  const joined = state.project !== null;
  // The rows are made anew: whoever was on a row's button by keyboard stays on that row.
  const focused = document.activeElement.closest('[data-testid="file-row"]')?.dataset.file;
  $("files").replaceChildren(...FILES.map((file) => {
    const held = [...holders(file)];
    const own = holders(file).has(state.name);
    const by = held.map(([user, kind]) => `${user === state.name ? "you" : user} (${kind})`).join(", ");
    const button = (testid, label, action) => {
      const node = element("button", { type: "button", "data-testid": testid, disabled: !joined, "aria-label": `${label} ${file}` }, label);
      node.addEventListener("click", () => action(file));
      return node;
    };
    return element("li", { "data-testid": "file-row", "data-file": file, "data-lock": own ? "own" : held.length ? "other" : "free" },
      element("span", { class: "who" }, element("code", {}, file), element("small", { "data-testid": "lock-state" }, by ? `locked by ${by}` : "free")),
      own ? button("unlock", "Unlock", unlockFile) : button("lock", "Lock", lockFile), button("save", "Save", saveFile));
  }));
  if (focused) $("files").querySelector(`[data-file="${focused}"] button`)?.focus();
}

function setLock(file, user, kind) {
  if (!FILES.includes(file)) return;
  if (kind) holders(file).set(user, kind);
  else holders(file).delete(user);
  showFiles();
}

/** A conflict names the holder, which is news to a tab that joined after the lock was taken. */
function learnHolder(file, ack) {
  const holder = ack?.error?.holder;
  if (holder) setLock(file, holder.userId, holder.lockType);
}

async function lockFile(filePath) {
  const lockType = $("lock-type").value;
  const ack = await send("/", "file:lock", mine({ filePath, lockType }), { what: filePath });
  if (ack?.ok) setLock(filePath, state.name, lockType);
  else learnHolder(filePath, ack);
}

async function unlockFile(filePath) {
  const ack = await send("/", "file:unlock", mine({ filePath }), { what: filePath });
  if (ack?.ok) setLock(filePath, state.name, null);
}

async function saveFile(path) {
  const file = { path, action: "updated", timestamp: new Date().toISOString() };
  const ack = await send("/", "file:change", mine({ file }), { what: path });
  if (ack?.ok) notice(`${path} saved; the others are told.`, { kind: "info" });
  else learnHolder(path, ack);
}

/** Tells the others once that typing began, renews it, and ends it when the person pauses, sends or leaves the field. */
const stopTyping = Object.assign((projectId = state.project) => {
  if (stopTyping.renewed === 0) return;
  stopTyping.cancel();
  if (projectId) void send("/", "user:typing", mine({ isTyping: false }), { quiet: true });
}, {
  renewed: 0,
  timer: 0,
  cancel() {
    clearTimeout(stopTyping.timer);
    stopTyping.renewed = 0;
  },
});

function typed() {
  if (!$("chat-input").value) return stopTyping();
  clearTimeout(stopTyping.timer);
  stopTyping.timer = setTimeout(stopTyping, TYPING_IDLE_MS);
  if (Date.now() - stopTyping.renewed < TYPING_RENEW_MS) return;
  stopTyping.renewed = Date.now();
  void send("/", "user:typing", mine({ isTyping: true }), { quiet: true });
}

async function chat(text) {
  $("chat-input").value = "";
  stopTyping();
  const ack = await send("/toolbox", "message", { type: "chat", channel: state.project, text, name: state.name }, { what: "Chat" });
  if (ack?.ok) say("chat-log", "You", text, "own");
  else if ($("chat-input").value === "") $("chat-input").value = text;
}

// ---- assistant ------------------------------------------------------------------------------------

async function ask(message, how) {
  $("ask-input").value = "";
  say("ask-log", "You", message, "own");
  if (how === "codx") return askStreamed(message);
  const payload = state.project ? mine({ message }) : { message, userId: state.name };
  const ack = await send("/", "ai:message", payload, { what: "Assistant", wait: SLOW_MS });
  if (!ack?.ok) showStep(null);
}

/** The parts of the answer come as events of the same name; the ack says that there will be no more. */
async function askStreamed(message) {
  streamed.body = null;
  showStep("Streaming");
  const payload = { chat: { name: state.project ?? "demo" }, message };
  await send("/codx", "codx-junior-chat", payload, { what: "Assistant", wait: SLOW_MS });
  streamed.body?.parentElement.setAttribute("data-complete", "");
  streamed.body = null;
  showStep(null);
}

const streamed = { body: null };

function streamPart(part) {
  if (streamed.body) streamed.body.append("\n" + textOf(part));
  else streamed.body = say("ask-log", "Assistant", textOf(part), "streamed");
  $("ask-log").scrollTop = $("ask-log").scrollHeight;
}

/** Shows how far an answer is; `null` hides it. Without a number the bar only says that work goes on. */
function showStep(text, percent) {
  $("ask-progress").hidden = text === null;
  $("ask-step").textContent = text ?? "";
  if (typeof percent === "number") $("ask-bar").value = percent <= 1 ? percent * 100 : percent;
  else $("ask-bar").removeAttribute("value");
}

function processing({ status, progress, error, message }) {
  if (status === "completed") return showStep(null);
  if (status === "error") {
    showStep(null);
    return note("ask-log", inWords(error ?? { message }, "The assistant failed"), "bad");
  }
  showStep(textOf(message) || (status === "started" ? "Started" : "Working"), progress);
}

// ---- gate -----------------------------------------------------------------------------------------

function showGate() {
  const open = state.gate !== null;
  $("gate-session").textContent = open ? `Session ${state.gate.slice(0, 8)}` : "No session";
  $("gate-session").title = state.gate ?? "";
  for (const id of ["gate-profile", "gate-end", "gate-input", "gate-send"]) $(id).disabled = !open;
  if (!open) $("profile-card").hidden = true;
}

async function gate(event, payload = {}) {
  const wait = event === "send_message" ? SLOW_MS : QUICK_MS;
  return send("/gate", event, payload, { what: "Gate", wait });
}

function showProfile(profile) {
  const rows = Object.entries(profile.visitor_profile ?? {});
  rows.push(["Decision", profile.decision ?? "none yet"], ["Confidence", profile.decision_confidence ?? "unknown"], ["Session", profile.session_active ? "active" : "complete"]);
  $("profile").replaceChildren(...rows.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value))]));
  $("profile-card").hidden = false;
}

// ---- agents ---------------------------------------------------------------------------------------

/** A gateway in demo mode hands out tokens; any other answers 404, and the person pastes one. */
async function demoToken() {
  const query = new URLSearchParams({ sub: state.name, role: $("agents-role").value.trim() || "viewer" });
  try {
    const answer = await fetch(`/demo/token?${query}`);
    return answer.ok ? (await answer.json()).token : null;
  } catch {
    return null;
  }
}

async function connectAgents() {
  const pasting = !$("token-field").hidden;
  const token = pasting ? $("agents-token").value.trim() : await demoToken();
  if (!token) {
    $("token-field").hidden = false;
    $("role-field").hidden = true;
    $("agents-token").focus();
    return notice(pasting ? "Paste a token first." : "This gateway gives out no demo tokens. Paste one made with “gateway token”.", { kind: "info" });
  }
  openAgents(token);
}

function openAgents(token) {
  state.token = token;
  let socket = state.sockets.get("/agents");
  // The function is asked at each connect, so that a reconnection brings the token of that moment.
  socket ??= openNamespace("/agents", { auth: (give) => give(state.token ? { token: state.token } : {}) });
  socket.disconnect().connect();
}

function showAgents(text = "Not connected.") {
  const open = state.sockets.get("/agents")?.connected ?? false;
  $("agents-state").textContent = text;
  $("follow").disabled = !open;
  $("follow").hidden = state.workflow !== null;
  $("unfollow").hidden = state.workflow === null;
  $("workflow").disabled = state.workflow !== null;
  showHowto();
}

async function follow(workflowId) {
  const ack = await send("/agents", "workflow:subscribe", { workflowId }, { what: "Follow" });
  if (!ack?.ok) return;
  state.workflow = workflowId;
  note("agent-log", `Following workflow ${workflowId}.`);
  showAgents($("agents-state").textContent);
}

async function unfollow() {
  await send("/agents", "workflow:unsubscribe", { workflowId: state.workflow }, { what: "Stop" });
  state.workflow = null;
  showAgents($("agents-state").textContent);
}

function showHowto() {
  const workflowId = $("workflow").value || "demo";
  const body = { namespace: "/agents", to: { rooms: [`workflow:${workflowId}`] }, event: "agent:thought", data: { workflowId, data: { content: "Looking at the request" } } };
  $("howto-emit").textContent = `curl http://127.0.0.1:3002/v1/emit \\\n  -H "Authorization: Bearer $GATEWAY_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${JSON.stringify(body)}'`;
}

// ---- what the gateway sends -----------------------------------------------------------------------

const handlers = {
  "/": (socket) => {
    // A new connection is in no room: what the person joined is joined again.
    socket.on("connect", () => state.project && joinProject(state.project));
    socket.on("user:joined", (data) => setPerson({ ...userOf(data), status: "online" }));
    socket.on("user:left", (data) => { state.people.delete(userOf(data)?.id); showPeople(); });
    socket.on("user:presence", (data) => {
      const user = userOf(data);
      if (state.people.has(user?.id)) setPerson({ id: user.id, status: data.status, activity: data.activity });
    });
    socket.on("user:typing", (data) => {
      const user = userOf(data);
      if (state.people.has(user?.id)) setPerson({ id: user.id, typing: data.isTyping === true });
    });
    socket.on("file:locked", ({ filePath, userId, lockType }) => setLock(filePath, userId, lockType));
    socket.on("file:unlocked", ({ filePath, userId }) => setLock(filePath, userId, null));
    socket.on("file:updated", ({ file, userId }) => notice(`${file?.path} was saved by ${userId ?? "somebody"}.`, { kind: "info" }));
    socket.on("ai:message", (data) => say("ask-log", userOf(data)?.name ?? "Somebody", textOf(data.message)));
    socket.on("ai:processing", processing);
    socket.on("ai:response", (data) => say("ask-log", "Assistant", textOf(data.response)));
    socket.on("auth:error", (error) => notice(inWords(error, "Login")));
    socket.on("room:error", ({ room, error }) => notice(inWords(error, `Room ${room}`)));
    socket.on("notification", (data) => notice(textOf(data), { kind: "info" }));
  },
  "/toolbox": (socket) => {
    socket.on("connect", () => state.project && joinChat());
    socket.on("message", ({ type, name, from, text }) => {
      if (type === "chat") say("chat-log", String(name ?? from), textOf(text));
    });
  },
  "/codx": (socket) => {
    socket.on("connect", () => send("/codx", "codx-junior-login", { username: state.name }, { quiet: true }));
    socket.on("codx-junior-chat", streamPart);
  },
  "/gate": (socket) => {
    socket.on("disconnect", () => { state.gate = null; showGate(); });
    socket.on("system_status", ({ healthy, active_sessions: active }) => {
      $("gate-health").textContent = `${healthy ? "Healthy" : "Not healthy"}, ${active} active ${active === 1 ? "session" : "sessions"}`;
    });
    socket.on("session_started", ({ session_id: id, status, message }) => {
      state.gate = status === "success" ? id : null;
      note("gate-log", message, status === "success" ? "note" : "bad");
      showGate();
      if (state.gate) $("gate-input").focus();
    });
    socket.on("chat_response", (data) => say("gate-log", "Guard", textOf(data)));
    socket.on("profile_data", showProfile);
    socket.on("session_update", ({ type, final_response: verdict, message }) => {
      note("gate-log", type === "session_complete" ? `Session complete: ${textOf(verdict)}` : textOf(message));
    });
    socket.on("session_ended", ({ status, message }) => {
      state.gate = null;
      note("gate-log", message, status === "success" ? "note" : "bad");
      showGate();
    });
    socket.on("notification", ({ message }) => notice(textOf(message), { kind: "info" }));
  },
  "/agents": (socket) => {
    socket.on("connect", () => {
      showAgents(`Connected as ${state.name}.`);
      if (state.workflow) void follow(state.workflow);
    });
    socket.on("connect_error", (error) => showAgents(`Refused: ${error.message}.`));
    socket.on("disconnect", (reason) => { state.workflow = reason === "io client disconnect" ? null : state.workflow; showAgents(); });
    socket.on("agent:thought", ({ data }) => say("agent-log", "Thinks", textOf(data)));
    socket.on("agent:tool_call", ({ data }) => say("agent-log", `Uses ${data?.tool_name} (${data?.status ?? "called"})`, textOf(data?.message ?? "")));
    socket.on("agent:result", ({ data }) => say("agent-log", "Result", textOf(data), "streamed"));
    socket.on("agent:error", ({ data }) => say("agent-log", `Failed: ${data?.code}`, textOf(data), "bad"));
    socket.on("auth:expiring", async () => {
      const token = await demoToken();
      if (!token) return notice("The token of the agent stream expires soon. Connect with a fresh one.", { kind: "info" });
      state.token = token;
      await send("/agents", "auth:refresh", { token }, { what: "Token" });
    });
  },
};

// ---- what the person does -------------------------------------------------------------------------

/** Runs `action` with the trimmed text of `input` when the form is sent; an empty text is not sent. */
function onSubmit(form, input, action) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input ? $(input).value.trim() : "";
    if (text || !input) void action(text);
  });
}

function wireForms() {
  onSubmit("connect-form", "name", (name) => { if (!state.manager) connect(name, $("transports").value.split(",")); });
  onSubmit("project-form", "project", async (project) => {
    if (state.project) return;
    await joinProject(project);
    if (state.project) await joinChat();
  });
  onSubmit("presence-form", null, async () => {
    const change = { status: $("status").value, activity: $("activity").value.trim() };
    const ack = await send("/", "user:presence", { userId: state.name, ...change, timestamp: new Date().toISOString() }, { what: "Status" });
    if (ack?.ok) setPerson({ id: state.name, ...change });
  });
  onSubmit("chat-form", "chat-input", chat);
  onSubmit("ask-form", "ask-input", (text) => ask(text, $("ask-how").value));
  onSubmit("gate-form", "gate-input", async (message) => {
    $("gate-input").value = "";
    say("gate-log", "You", message, "own");
    await gate("send_message", { session_id: state.gate, message });
  });
  onSubmit("agents-form", null, connectAgents);
  onSubmit("workflow-form", "workflow", (workflow) => { if (!state.workflow) return follow(workflow); });
}

function wireButtons() {
  $("disconnect").addEventListener("click", disconnect);
  $("leave").addEventListener("click", leaveProject);
  $("chat-input").addEventListener("input", typed);
  $("chat-input").addEventListener("blur", () => stopTyping());
  $("gate-start").addEventListener("click", () => gate("start_session"));
  $("gate-profile").addEventListener("click", () => gate("get_profile", { session_id: state.gate }));
  $("gate-end").addEventListener("click", () => gate("end_session", { session_id: state.gate }));
  $("agents-bare").addEventListener("click", () => openAgents(null));
  $("unfollow").addEventListener("click", unfollow);
  $("workflow").addEventListener("input", showHowto);
  $("log-clear").addEventListener("click", () => { $("log").replaceChildren(); $("log-count").textContent = "0"; });
  $("log-filter").addEventListener("input", () => { for (const row of $("log").children) row.hidden = !matchesFilter(row); });
}

/** The tab pattern of WAI-ARIA: one tab stop, arrows move between tabs. */
function wireTabs() {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const select = (tab) => {
    for (const other of tabs) {
      other.setAttribute("aria-selected", other === tab);
      other.tabIndex = other === tab ? 0 : -1;
      $(other.getAttribute("aria-controls")).hidden = other !== tab;
    }
    delete tab.dataset.unread;
  };
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", ({ key }) => {
      if (!steps[key]) return;
      const next = tabs.at((index + steps[key]) % tabs.length);
      select(next);
      next.focus();
    });
  }
}

$("name").value = NAMES[Math.floor(Math.random() * NAMES.length)];
// On a narrow window the log is long below the panels: it waits folded.
$("journal").open = matchMedia("(min-width: 58rem)").matches;
wireForms();
wireButtons();
wireTabs();
showProject();
showGate();
showAgents();
