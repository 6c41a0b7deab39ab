// A cluster of both kinds, while it migrates: servers of Node with the stock adapter (either Redis client), and pods of ours.
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { createAdapter } from '@socket.io/redis-adapter';
import IoRedis from 'ioredis';
import { createClient } from 'redis';
import { Server as Node } from 'socket.io';
import { Client, Gateway, Redis as Server, assert, assertOk, connect, deferred, until, user, within } from './harness.mjs';
import { io } from 'socket.io-client';

/** An answer of the other kind of server takes no longer than this. */
const SOON = 1000;
const NSP = '/toolbox';

async function link(library, port) {
  if (library === 'ioredis') return new IoRedis(port, '127.0.0.1');
  return createClient({ url: `redis://127.0.0.1:${port}` }).connect();
}

for (const library of ['ioredis', 'node-redis']) {
  describe(`a server of Node (${library}) and two pods`, () => {
    let redis;
    let one;
    let two;
    let web;
    let node;
    let links;
    let there;
    before(async () => {
      redis = await Server.start();
      [one, two] = await Promise.all([0, 1].map(() => Gateway.start({ args: ['--redis', redis.url] })));
      links = [await link(library, redis.port), await link(library, redis.port)];
      web = createServer();
      const server = new Node(web, { adapter: createAdapter(...links) });
      server.on('connection', () => {});
      node = server.of(NSP);
      there = [];
      node.on('connection', (socket) => {
        there.push(socket);
        socket.on('subscribe', ({ channel }, done) => done(socket.join(channel)));
      });
      await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));
      await until('the pods and Node see each other', async () => (await redisSubscribers()) === 3);
    });
    after(async () => {
      node?.server.local.disconnectSockets(true);
      await node?.server.close();
      for (const l of links ?? []) await (library === 'ioredis' ? l.quit() : l.close());
      await one?.stop();
      await two?.stop();
      await redis?.stop();
    });
    const redisSubscribers = async () => {
      const ask = new IoRedis(redis.port, '127.0.0.1');
      const [, n] = await ask.pubsub('NUMSUB', `socket.io-request#${NSP}#`);
      ask.disconnect();
      return n;
    };

    /** A client of the Node server. */
    async function atNode(channel) {
      const client = new Client(io(`http://127.0.0.1:${web.address().port}${NSP}`, { forceNew: true, reconnection: false, transports: ['websocket'] }), (c) => c.call('subscribe', { channel: 'barrier' }));
      const d = deferred();
      client.socket.once('connect', d.resolve);
      client.socket.once('connect_error', d.reject);
      await within(d.promise, 'connecting to Node');
      if (channel) await client.call('subscribe', { channel });
      return client;
    }
    async function at(gw, channel, options) {
      const client = await connect(gw, NSP, 'toolbox', options);
      if (channel) assertOk(await client.call('subscribe', { channel }), 'subscribe');
      return client;
    }

    test('rooms, everybody and single connections, both ways, in order, binary too', async () => {
      const [a, b, n] = [await at(one, 'r'), await at(two, 'r'), await atNode('r')];
      for (let i = 0; i < 20; i++) a.send('collaboration_message', { channel: 'r', i, blob: Buffer.from([i]) });
      for (const c of [b, n]) {
        for (let i = 0; i < 20; i++) {
          const got = await c.next('collaboration_message');
          assert.deepEqual([got.i, Buffer.from(got.blob)[0], got.from], [i, i, a.id]);
        }
      }
      for (let i = 0; i < 20; i++) node.to('r').emit('from node', i, Buffer.from([i]));
      for (const c of [a, b, n]) for (let i = 0; i < 20; i++) assert.deepEqual((await c.nextArgs('from node')).map((x) => (typeof x === 'number' ? x : Buffer.from(x)[0])), [i, i]);
      await one.emit(NSP, 'all', 1);
      for (const c of [a, b, n]) assert.equal(await c.next('all'), 1);
      await one.emit(NSP, 'single', 2, { sids: [n.id] });
      assert.equal(await n.next('single'), 2);
      node.to(a.id).emit('single', 3);
      assert.equal(await a.next('single'), 3);
      node.except(a.id).volatile.emit('but a', 4);
      for (const c of [b, n]) assert.equal(await c.next('but a'), 4);
      await a.quiet('but a', 'all', 'single');
      await b.quiet('single', 'all');
      for (const c of [a, b, n]) c.close();
    });

    test('what Node asks is answered by every pod within a second', async () => {
      const [a, b, n] = [await at(one, 'asked', { token: user('ann') }), await at(two, 'asked'), await atNode('asked')];
      const soon = (promise, what) => within(promise, what, SOON);
      const sockets = await soon(node.in('asked').fetchSockets(), 'fetchSockets');
      assert.deepEqual(sockets.map((s) => s.id).sort(), [a.id, b.id, n.id].sort());
      const ann = sockets.find((s) => s.id === a.id);
      assert.ok(ann.rooms.has('asked') && ann.rooms.has(a.id));
      assert.equal(ann.data.user.id, 'ann');
      assert.ok(ann.handshake.address && !JSON.stringify(ann.handshake).includes('eyJ'), 'no credentials');
      assert.ok((await soon(node.adapter.allRooms(), 'allRooms')).has('asked'));
      assert.equal(await soon(node.adapter.serverCount(), 'serverCount'), 3);
      const answered = deferred();
      node.serverSideEmit('hello', (error, answers) => (error ? answered.reject(error) : answered.resolve(answers)));
      assert.equal((await soon(answered.promise, 'serverSideEmit')).length, 2);
      for (const c of [a, b, n]) c.socket.on('question', (done) => done(c.id));
      const acks = await soon(node.in('asked').timeout(SOON).emitWithAck('question'), 'emitWithAck');
      assert.deepEqual(acks.sort(), [a.id, b.id, n.id].sort());
      for (const c of [a, b, n]) c.close();
    });

    test('joins, leaves and disconnects, both ways', async () => {
      const [a, b, n] = [await at(one), await at(two), await atNode()];
      node.socketsJoin('joined');
      await until('the pods know', async () => (await one.ok('GET', `/v1/rooms/joined/members?namespace=${NSP}`)).members.length === 2);
      await two.ok('POST', '/v1/rooms/join', { namespace: NSP, to: { all: true }, rooms: ['by us'] });
      await until('Node knows', () => there.some((s) => s.id === n.id && s.rooms.has('by us')));
      node.in('joined').socketsLeave('joined');
      await until('the pods know', async () => (await one.ok('GET', `/v1/rooms/joined/members?namespace=${NSP}`)).members.length === 0);
      await one.emit(NSP, 'to us', 1, { rooms: ['by us'] });
      for (const c of [a, b, n]) assert.equal(await c.next('to us'), 1);
      await one.ok('POST', '/v1/rooms/leave', { namespace: NSP, to: { sids: [n.id] }, rooms: ['by us'] });
      await until('Node knows', () => !there.some((s) => s.id === n.id && s.rooms.has('by us')));
      node.in(a.id).disconnectSockets();
      assert.equal(await a.disconnected(), 'io server disconnect');
      node.in(b.id).disconnectSockets(true);
      await b.disconnected();
      await one.ok('POST', '/v1/disconnect', { namespace: NSP, to: { sids: [n.id] } });
      assert.equal(await n.disconnected(), 'io server disconnect');
    });
  });
}
