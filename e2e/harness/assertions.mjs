// What every contract promises: the forms of acks, refusals, error events, times and envelopes.
import assert from 'node:assert/strict';

const CODES = ['BAD_PAYLOAD', 'UNKNOWN_EVENT', 'UNAUTHORIZED', 'FORBIDDEN', 'RATE_LIMITED', 'NOT_FOUND', 'CONFLICT', 'LIMIT_EXCEEDED', 'TOO_LARGE', 'UNAVAILABLE', 'TIMEOUT', 'INTERNAL'];

/** RFC 3339, UTC, milliseconds, `Z`, and now. */
export function assertTs(ts, what = 'ts') {
  assert.match(String(ts), /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/, what);
  const off = Math.abs(Date.now() - Date.parse(ts));
  assert.ok(off < 60000, `${what} ${ts} is not now`);
}

/** `{ok: true, event, ts}` and these fields. */
export function assertOk(ack, event, fields = {}) {
  assert.equal(ack?.ok, true, `${event}: ${JSON.stringify(ack)}`);
  assert.equal(ack.event, event);
  assertTs(ack.ts);
  for (const [k, v] of Object.entries(fields)) assert.deepEqual(ack[k], v, `${event}: ack.${k}`);
  return ack;
}

/** `{ok: false, event, ts, error: {code, message}}`. */
export function assertRefused(ack, event, code) {
  assert.equal(ack?.ok, false, `${event} should be refused with ${code}: ${JSON.stringify(ack)}`);
  assert.equal(ack.event, event);
  assertTs(ack.ts);
  assert.ok(CODES.includes(code), `${code} is no code of the list`);
  assert.equal(ack.error?.code, code, `${event}: ${JSON.stringify(ack)}`);
  assert.equal(typeof ack.error.message, 'string');
  assert.ok(ack.error.message.length > 0, `${event}: an empty message`);
  return ack.error;
}

/** The refusal event of a client that sent no ack: `{code, message, event}`, without an envelope. */
export function assertErrorEvent(payload, event, code) {
  assert.equal(payload?.code, code, JSON.stringify(payload));
  assert.equal(payload.event, event);
  assert.equal(typeof payload.message, 'string');
  assert.ok(payload.message.length > 0);
  assert.ok(!('data' in payload) && !('timestamp' in payload), 'a refusal has no envelope');
}

/** The envelope of coding-assistant: the fields of `data` at the top, and `event`, `data`, `timestamp` beside them. */
export function assertEnvelope(payload, event, fields = {}, beside = {}) {
  const shown = JSON.stringify(payload);
  assert.equal(payload?.event, event, `the envelope's event: ${shown}`);
  assert.match(String(payload.timestamp), /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$/, `the envelope's timestamp: ${shown}`);
  assert.equal(typeof payload.data, 'object', `the envelope's data: ${shown}`);
  for (const [k, v] of Object.entries(fields)) {
    assert.deepEqual(payload[k], v, `${event}: ${k} at the top of ${shown}`);
    assert.deepEqual(payload.data[k], v, `${event}: data.${k} of ${shown}`);
  }
  for (const [k, v] of Object.entries(beside)) assert.deepEqual(payload[k], v, `${event}: the envelope's ${k} of ${shown}`);
  if ('metadata' in payload) {
    assert.equal(typeof payload.metadata.source, 'string');
    assert.ok(['low', 'medium', 'high'].includes(payload.metadata.priority), `priority of ${shown}`);
  }
}

/** A payload keeps what it has, and gains nothing but the fields named. */
export function without(payload, ...names) {
  const rest = { ...payload };
  for (const n of names) delete rest[n];
  return rest;
}

export const png = () =>
  Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');
