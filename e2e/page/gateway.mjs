/**
 * Starts the gateway binary for the tests of the page and of the SDK. Its `ready` line comes in, the two addresses go out; the process ends
 * with `stop`. It never picks a port: the gateway does.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const built = (profile) => fileURLToPath(new URL(`../../target/${profile}/gateway`, import.meta.url));

/** The binary under test: `GATEWAY_BIN`, else the release build, else the debug one. */
export const binary = () => process.env.GATEWAY_BIN ?? [built("release"), built("debug")].find(existsSync) ?? built("release");

/** Resolves once the gateway says that it is ready; rejects with its log when it ends before that. */
export async function startGateway(environment = {}) {
  const child = spawn(binary(), ["serve", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment },
  });
  const log = [];
  child.stderr.on("data", (chunk) => log.push(chunk));
  const ended = new Promise((_, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the gateway ended with ${code} before it was ready:\n${Buffer.concat(log)}`)));
  });
  const ready = new Promise((resolve) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const match = /^ready public=(\S+) internal=(\S+)$/.exec(line);
      if (match) resolve({ origin: `http://${match[1]}`, internal: `http://${match[2]}` });
    });
  });
  ended.catch(() => {});
  const addresses = await Promise.race([ready, ended]);
  return { ...addresses, stop: () => stop(child) };
}

function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  return gone;
}
