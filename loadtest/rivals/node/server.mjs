// What comes in: the events of the load. What goes out: acks, and what is said to a channel, to the others in it.
// There is no check, no limit and no state but the library's rooms. With REDIS_URL, pods share their rooms by the
// library's own adapter.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const http = createServer();
const io = new Server(http, { perMessageDeflate: false });

if (process.env.REDIS_URL) {
  const { createAdapter } = await import('@socket.io/redis-adapter');
  const { createClient } = await import('redis');
  const publisher = createClient({ url: process.env.REDIS_URL });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber));
}

const done = (event) => ({ ok: true, event, ts: new Date().toISOString() });

io.on('connection', (socket) => {
  // The request of the handshake is of no use any more; the documentation advises to let go of it.
  socket.conn.request = null;
  socket.on('ping', (...args) => args.at(-1)?.(done('ping')));
  socket.on('subscribe', async ({ channel }, ack) => {
    await socket.join(channel);
    ack?.(done('subscribe'));
  });
  socket.on('unsubscribe', async ({ channel }, ack) => {
    await socket.leave(channel);
    ack?.(done('unsubscribe'));
  });
  for (const event of ['message', 'progress_update', 'collaboration_message'])
    socket.on(event, (payload, ack) => {
      socket.to(payload.channel).emit(event, payload);
      ack?.(done(event));
    });
  socket.on('broadcast', (payload, ack) => {
    io.to(payload.channel).emit('broadcast', payload);
    ack?.(done('broadcast'));
  });
});

http.listen(0, '127.0.0.1', () => console.log(`ready public=127.0.0.1:${http.address().port}`));
