// What comes in: claims. What goes out: a JWT, good or bad, by any algorithm that a test asks for.
import { createHmac, sign as signWith } from 'node:crypto';

export const JWT_SECRET = 'e2e-jwt-secret-that-is-longer-than-32-bytes';

const b64 = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** A JWT; by default HS256 with the suite's secret, valid for an hour. `key`: a secret or a private KeyObject. */
export function jwt(claims, { alg = 'HS256', key = JWT_SECRET, kid } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const body = { iat: now, exp: now + 3600, ...claims };
  for (const name of Object.keys(body)) if (body[name] === undefined) delete body[name];
  const signed = `${b64({ alg, typ: 'JWT', ...(kid ? { kid } : {}) })}.${b64(body)}`;
  const data = Buffer.from(signed);
  const signature =
    alg === 'none' ? Buffer.alloc(0)
    : alg.startsWith('HS') ? createHmac(`sha${alg.slice(2)}`, key).update(data).digest()
    : alg === 'EdDSA' ? signWith(null, data, key)
    : alg.startsWith('ES') ? signWith('sha256', data, { key, dsaEncoding: 'ieee-p1363' })
    : signWith('sha256', data, key);
  return `${signed}.${signature.toString('base64url')}`;
}

export const user = (id, roles = [], more = {}) => jwt({ sub: id, name: `Name of ${id}`, roles, ...more });
