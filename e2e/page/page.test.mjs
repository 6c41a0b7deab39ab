/**
 * Two people with a browser each try the demo page, as the page invites them to. The gateway is the built one, the browser
 * a real one; at the end nothing may have been written to the console as an error and no request may have left the origin.
 * With SCREENSHOT_DIR set, pictures of the page go there.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { binary, startGateway } from "./gateway.mjs";

const BROWSER = {
  executablePath: process.env.CHROMIUM_BIN ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
};
const pictures = process.env.SCREENSHOT_DIR ?? mkdtempSync(join(tmpdir(), "gateway-page-"));
mkdirSync(pictures, { recursive: true });

const KEY = "page-test-key";
/** Any secret of its own makes a gateway give out no demo tokens. */
const SECRET = "a-secret-of-the-page-tests-of-32-bytes-or-more";
let gateway;
let browser;
const troubles = [];
const origins = new Set();

before(async () => {
  gateway = await startGateway({ GATEWAY_API_KEY: KEY });
  browser = await chromium.launch(BROWSER);
});

after(async () => {
  await browser?.close();
  await gateway?.stop();
});

/** Opens the page as a person's own browser would: own storage, watched console, watched requests. */
async function person(name, { origin = gateway.origin, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 960, height: 1000 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => troubles.push(`${name}: ${error.stack}`));
  if (origin === gateway.origin) {
    page.on("console", (message) => { if (message.type() === "error") troubles.push(`${name}: ${message.text()}`); });
    page.on("request", (request) => origins.add(new URL(request.url()).origin));
    page.on("websocket", (socket) => origins.add(new URL(socket.url()).origin));
  }
  await page.goto(origin);
  const get = (id) => page.getByTestId(id);
  const seen = (id, text) => get(id).filter({ hasText: text }).first().waitFor();
  return { name, page, get, seen, picture: (title) => page.screenshot({ path: join(pictures, `${title}.png`), fullPage: true }) };
}

async function connect(who, transport = "polling,websocket") {
  await who.get("name").fill(who.name);
  await who.get("transport-select").selectOption(transport);
  await who.get("connect").click();
  await who.seen("state", `Connected as ${who.name}`);
}

async function joinProject(who) {
  await who.get("join").click();
  await who.page.locator(`[data-testid=person][data-user="${who.name}"]`).waitFor();
}

const file = (who, path) => who.page.locator(`[data-testid=file-row][data-file="${path}"]`);
const logged = (who, event, more = "") => who.page.locator(`[data-testid=log-entry][data-event="${event}"]${more}`).first().waitFor({ state: "attached" });

test("two people share a project, talk, and meet each other's locks", async (t) => {
  const ada = await person("Ada");
  const bo = await person("Bo");

  await t.test("both connect, the connection moves to WebSocket", async () => {
    await connect(ada);
    await ada.seen("transport", "websocket");
    await connect(bo, "polling");
    await bo.seen("transport", "polling");
  });

  await t.test("each sees the other in the project", async () => {
    await joinProject(ada);
    await joinProject(bo);
    await ada.seen("person", "Bo");
    await bo.seen("person", "Ada");
    await logged(ada, "user:joined", "[data-dir=in]");
    await logged(bo, "project:join", "[data-dir=out][data-ack=ok]");
  });

  await t.test("a status is told to the other", async () => {
    await bo.get("status").selectOption("busy");
    await bo.get("activity").fill("reading the plan");
    await bo.get("presence-send").click();
    await ada.seen("person", "busy · reading the plan");
  });

  await t.test("typing is seen, a message arrives, typing ends", async () => {
    await bo.get("chat-input").pressSequentially("Hello Ada");
    await ada.seen("typing", "Bo is typing");
    await ada.picture("together-typing");
    await bo.get("chat-send").click();
    await ada.get("chat-log").getByText("Hello Ada").waitFor();
    await bo.get("chat-log").getByText("Hello Ada").waitFor();
    await ada.get("typing").filter({ hasNotText: "typing" }).waitFor({ state: "attached" });
    assert.equal(await ada.get("chat-log").getByText("Hello Ada").count(), 1, "the message came once");
  });

  await t.test("a locked file is refused to the other, by name, until it is unlocked", async () => {
    const path = "docs/plan.md";
    await file(ada, path).getByTestId("lock").click();
    await file(bo, path).getByText("locked by Ada (exclusive)").waitFor();
    await file(bo, path).getByTestId("lock").click();
    await bo.seen("notice", `${path}: Ada has it locked (exclusive)`);
    await logged(bo, "file:lock", "[data-ack=refused]");
    await bo.picture("together-conflict");
    await file(bo, path).getByTestId("save").click();
    await logged(bo, "file:change", "[data-ack=refused]");
    await file(ada, path).getByTestId("unlock").click();
    await file(bo, path).getByText("free").waitFor();
    await file(bo, path).getByTestId("lock").click();
    await file(ada, path).getByText("locked by Bo (exclusive)").waitFor();
  });

  await t.test("an answer for the project is seen by both, with its progress", async () => {
    await ada.get("tab-assistant").click();
    await bo.get("tab-assistant").click();
    await ada.get("ask-input").fill("Create a to-do list");
    await ada.get("ask-send").click();
    await logged(ada, "ai:processing", "[data-dir=in]");
    for (const who of [ada, bo]) await who.get("ask-log").locator("article", { hasText: "Assistant" }).getByText("Create a to-do list").waitFor();
    await logged(ada, "ai:message", "[data-ack=ok]");
    await ada.get("ask-progress").waitFor({ state: "hidden" });
  });

  await t.test("a streamed answer grows in one bubble until its ack", async () => {
    await ada.get("ask-how").selectOption("codx");
    await ada.get("ask-input").fill("Split this up");
    await ada.get("ask-send").click();
    await logged(ada, "codx-junior-chat", "[data-dir=out][data-ack=ok]");
    const answer = ada.get("ask-log").locator("article.streamed[data-complete]");
    await answer.waitFor();
    assert.equal(await answer.count(), 1, "one bubble");
    const parts = await ada.page.locator("[data-testid=log-entry][data-event=codx-junior-chat][data-dir=in]").count();
    assert.ok(parts > 1, `the answer came in ${parts} part(s)`);
    assert.match(await answer.innerText(), /Split this up/);
    await ada.picture("assistant");
  });

  await t.test("leaving is seen, and frees the locks", async () => {
    await ada.get("tab-together").click();
    await bo.get("tab-together").click();
    await bo.get("leave").click();
    await ada.page.locator('[data-testid=person][data-user="Bo"]').waitFor({ state: "detached" });
    await file(ada, "docs/plan.md").getByText("free").waitFor();
    await ada.picture("together-alone");
  });
});

for (const transport of ["websocket", "polling"]) {
  test(`a person whose tab is closed is gone at once, over ${transport}`, async () => {
    const [stays, goes] = [await person("Gus"), await person("Hana")];
    await connect(stays);
    await joinProject(stays);
    await connect(goes, transport);
    await joinProject(goes);
    await stays.seen("person", "Hana");
    await goes.page.close();
    await stays.page.locator('[data-testid=person][data-user="Hana"]').waitFor({ state: "detached", timeout: 10_000 });
  });
}

test("a visitor speaks at the gate until the session is complete", async () => {
  const visitor = await person("Dana");
  await connect(visitor);
  await visitor.get("tab-gate").click();
  await visitor.seen("gate-health", "Healthy");
  await visitor.get("gate-start").click();
  await visitor.seen("gate-session", /^Session \S+/);
  for (const [index, text] of ["I have a parcel", "For Eli", "Thank you"].entries()) {
    await visitor.get("gate-input").fill(text);
    await visitor.get("gate-send").click();
    await visitor.get("gate-log").locator("article", { hasText: "Guard" }).nth(index).waitFor();
  }
  await visitor.get("gate-log").getByText("Session complete").waitFor();
  await visitor.get("gate-profile").click();
  await visitor.seen("profile", "Decision");
  await visitor.picture("gate");
  await visitor.get("gate-end").click();
  await visitor.seen("gate-session", "No session");
});

test("the agent stream refuses without a token and admits with the demo one", async () => {
  const viewer = await person("Fay", { colorScheme: "dark" });
  await connect(viewer);
  await viewer.get("tab-agents").click();
  await viewer.get("agents-bare").click();
  await viewer.seen("agents-state", "Refused: Authentication required");
  await viewer.get("agents-connect").click();
  await viewer.seen("agents-state", "Connected as Fay");
  await viewer.get("follow").click();
  await viewer.get("agent-log").getByText("Following workflow demo").waitFor();
  await emitAsShown(viewer);
  await viewer.get("agent-log").getByText("Looking at the request").waitFor();
  await viewer.picture("agents-dark");
  await viewer.page.setViewportSize({ width: 1440, height: 900 });
  await viewer.get("tab-together").click();
  await joinProject(viewer);
  await viewer.picture("desktop-dark");
  await viewer.get("tab-agents").click();
  await viewer.get("unfollow").click();
  await logged(viewer, "workflow:unsubscribe", "[data-ack=ok]");
});

/** Sends what the page tells a person to send from a terminal. */
async function emitAsShown(who) {
  const command = await who.page.locator("#howto-emit").textContent();
  const body = /-d '(.*)'/s.exec(command)[1];
  const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
  const answer = await fetch(`${gateway.internal}/v1/emit`, { method: "POST", headers, body });
  assert.equal(answer.status, 200, await answer.text());
}

test("where no demo tokens are given out, a person pastes one", async () => {
  const strict = await startGateway({ GATEWAY_JWT_SECRET: SECRET });
  try {
    const viewer = await person("June", { origin: strict.origin });
    await connect(viewer);
    await viewer.get("tab-agents").click();
    await viewer.get("agents-connect").click();
    await viewer.seen("notice", "gives out no demo tokens");
    await viewer.get("agents-token").fill("not a token");
    await viewer.get("agents-connect").click();
    await viewer.seen("agents-state", "Refused: Invalid or expired token");
    const token = execFileSync(binary(), ["token", "--sub", "June"], { env: { ...process.env, GATEWAY_JWT_SECRET: SECRET }, encoding: "utf8" });
    await viewer.get("agents-token").fill(token.trim());
    await viewer.get("agents-connect").click();
    await viewer.seen("agents-state", "Connected as June");
  } finally {
    await strict.stop();
  }
});

test("the page fits a phone, in light and in dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const phone = await person("Ivo", { viewport: { width: 390, height: 844 }, colorScheme, deviceScaleFactor: 2 });
    await phone.picture(`phone-${colorScheme}-start`);
    await connect(phone);
    await joinProject(phone);
    await phone.get("chat-input").fill("Hello from a phone");
    await phone.get("chat-send").click();
    await phone.get("chat-log").getByText("Hello from a phone").waitFor();
    const width = await phone.page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 390, `the ${colorScheme} page is ${width} px wide`);
    await phone.picture(`phone-${colorScheme}-joined`);
    await phone.page.context().close();
  }
});

test("the page is quiet: no error in the console, no request to another origin", () => {
  assert.deepEqual(troubles, []);
  const own = new URL(gateway.origin);
  assert.deepEqual([...origins].sort(), [own.origin, `ws://${own.host}`].sort());
});
