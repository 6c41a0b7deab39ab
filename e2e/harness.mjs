// The one door to what every test needs: a running gateway binary, official clients connected to it, a scripted
// application behind it, and the assertions that the contracts share. Nothing here imports anything of the gateway.
export { default as assert } from 'node:assert/strict';
export * from './harness/app.mjs';
export * from './harness/assertions.mjs';
export * from './harness/chaos.mjs';
export * from './harness/clients.mjs';
export * from './harness/crowd.mjs';
export * from './harness/gateway.mjs';
export * from './harness/http.mjs';
export * from './harness/redis.mjs';
export * from './harness/replicated.mjs';
export * from './harness/tokens.mjs';
export * from './harness/waiting.mjs';
