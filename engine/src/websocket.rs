//! A WebSocket that carries a session: one task, which reads, writes and nothing else.
//!
//! ```text
//!              read into the stack        whole messages
//! stream ──────────────────────▶ Decoder ─────────────▶ handler
//! stream ◀────────────────────── heads and shared payloads, many in one write ◀── queue of the session
//! ```
//!
//! While nothing is read or written the task holds no buffer. A client that does not read is noticed
//! by what [`Session::stall`] notes; while much waits for it, nothing is read from it either. The task
//! ends with its session, and the session with it.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use engineioxide_core::ProtocolVersion;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    engine::Engine,
    frame::{Decoder, Head, Incoming, Opcode, close_payload},
    handler::EngineIoHandler,
    packet::{Packet, Received},
    queue::{Batch, emptied},
    session::{Next, Session},
    socket::Socket,
    stats::{Cause, Traffic},
};

/// Read at once, on the stack.
const READ: usize = 8 << 10;

/// Reads before other tasks have their turn.
const READS: usize = 16;

/// Packets of one write: each has a head and a payload.
const WRITTEN_AT_ONCE: usize = 32;

/// Control frames that may wait, in bytes; further pings are not answered until they are written.
const URGENT: usize = 512;

/// How far the WebSocket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is to be probed first.
    Unprobed,
    /// It was probed, and the client may go over.
    Probed,
    /// It carries the session.
    Carrying,
}

/// Why the task stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The session has ended, and everything that may leave has left.
    Ended(Cause),
    /// The session ends for this cause, which a close frame of this code tells.
    End(Cause, u16),
    /// There is nobody to tell.
    Lost(Cause),
}

impl Stop {
    const fn because(cause: Cause) -> Self {
        Self::End(cause, cause.close_code())
    }
}

/// A WebSocket and the session that it carries.
pub(crate) struct WebSocket<H: EngineIoHandler, I> {
    engine: Arc<Engine<H>>,
    socket: Arc<Socket<H::Data>>,
    stream: I,
    decoder: Decoder,
    phase: Phase,
    /// What is being written, and how much of its first frame is.
    batch: Batch,
    begun: usize,
    /// Packets of the batch that are written, and not yet counted out.
    done: Done,
    /// Control frames that leave before the next packet.
    urgent: Vec<u8>,
    sent: Traffic,
    received: Traffic,
}

/// What of a batch is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
}

impl<H, I> WebSocket<H, I>
where
    H: EngineIoHandler,
    I: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Carries a session that began with this WebSocket.
    pub(crate) fn carrying(
        engine: Arc<Engine<H>>,
        socket: Arc<Socket<H::Data>>,
        stream: I,
    ) -> Self {
        Self::new(engine, socket, stream, Phase::Carrying)
    }

    /// Is to carry a session once the client has probed it and goes over.
    pub(crate) fn upgrading(
        engine: Arc<Engine<H>>,
        socket: Arc<Socket<H::Data>>,
        stream: I,
    ) -> Self {
        Self::new(engine, socket, stream, Phase::Unprobed)
    }

    fn new(engine: Arc<Engine<H>>, socket: Arc<Socket<H::Data>>, stream: I, phase: Phase) -> Self {
        let config = &engine.shared().config;
        let decoder = Decoder::new(config.ws_max_message_size, config.ws_max_frame_size);
        Self {
            engine,
            socket,
            stream,
            decoder,
            phase,
            batch: Batch::new(),
            begun: 0,
            done: Done::default(),
            urgent: Vec::new(),
            sent: Traffic::default(),
            received: Traffic::default(),
        }
    }

    fn session(&self) -> &Session {
        self.socket.session()
    }

    /// Runs until the session or the stream is over.
    pub(crate) async fn run(mut self) {
        if self.phase != Phase::Carrying {
            let limit = self.engine.shared().config.upgrade_timeout;
            let upgraded =
                poll_fn(|context| self.poll_drive(context, |phase| phase == Phase::Carrying));
            match tokio::time::timeout(limit, upgraded).await {
                Ok(None) => {}
                Ok(Some(stop)) => return self.finish(stop).await,
                Err(_late) => return self.finish(Stop::because(Cause::Client)).await,
            }
        }
        let stop = poll_fn(|context| self.poll_drive(context, |_| false)).await;
        if let Some(stop) = stop {
            self.finish(stop).await;
        }
    }

    /// Reads and writes what there is, until there is a reason to stop or `reached` is true.
    fn poll_drive(
        &mut self,
        context: &mut Context<'_>,
        reached: impl Fn(Phase) -> bool,
    ) -> Poll<Option<Stop>> {
        if self.phase == Phase::Carrying {
            // Whatever is sent from here on is seen before the task sleeps.
            self.session().awake();
        }
        let driven = self.poll_read_and_write(context, reached);
        let stats = &self.engine.shared().config.tuning.stats;
        if self.received.bytes > 0 {
            stats.received(std::mem::take(&mut self.received));
        }
        if self.sent.bytes > 0 {
            stats.sent(std::mem::take(&mut self.sent));
        }
        driven
    }

    fn poll_read_and_write(
        &mut self,
        context: &mut Context<'_>,
        reached: impl Fn(Phase) -> bool,
    ) -> Poll<Option<Stop>> {
        let mut reads = 0;
        let held_back = loop {
            if !self.may_read() {
                break true;
            }
            match self.poll_read(context) {
                Poll::Pending => break false,
                Poll::Ready(Err(stop)) => return Poll::Ready(Some(stop)),
                Poll::Ready(Ok(())) if reached(self.phase) => return Poll::Ready(None),
                Poll::Ready(Ok(())) => reads += 1,
            }
            if reads == READS {
                // Answers leave before more is read, and other tasks have their turn.
                context.waker().wake_by_ref();
                break false;
            }
        };
        match self.poll_write(context) {
            Poll::Pending => self.stalled(context).map(Some),
            Poll::Ready(Ok(Some(cause))) => Poll::Ready(Some(Stop::Ended(cause))),
            Poll::Ready(Ok(None)) => {
                if held_back {
                    // What waited has left, so the client is read from again.
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Poll::Ready(Err(_lost)) => Poll::Ready(Some(Stop::Lost(Cause::Broken))),
        }
    }

    /// Whether the client may be read from: not while much waits that it does not read.
    fn may_read(&self) -> bool {
        let most = self.engine.shared().config.tuning.queue_bytes / 2;
        self.session().queued() < most
    }

    // --- in

    /// Reads once, and hands on what came.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
        if read.is_err() {
            return Poll::Ready(Err(Stop::Lost(Cause::Broken)));
        }
        let mut input = buffer.filled();
        if input.is_empty() {
            return Poll::Ready(Err(Stop::Lost(Cause::Client)));
        }
        let bytes = input.len() as u64;
        self.received.bytes += bytes;
        loop {
            match self.decoder.next(&mut input) {
                Ok(Some(incoming)) => {
                    self.received.packets += 1;
                    if let Err(stop) = self.take(incoming) {
                        return Poll::Ready(Err(stop));
                    }
                }
                Ok(None) => break,
                Err(broken) => {
                    return Poll::Ready(Err(Stop::End(Cause::BadPacket, broken.code())));
                }
            }
        }
        let frames = self.decoder.take_frames();
        if self.session().charge(frames, bytes) {
            return Poll::Ready(Err(Stop::because(Cause::Flood)));
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, incoming: Incoming) -> Result<(), Stop> {
        let protocol = self.socket.protocol;
        let bad = Stop::because(Cause::BadPacket);
        let received = match incoming {
            Incoming::Text(text) => Received::read(text, protocol).map_err(|_| bad)?,
            Incoming::Binary(bytes) => Received::read_binary(bytes, protocol).map_err(|_| bad)?,
            Incoming::Ping(payload) => {
                self.control(Opcode::Pong, &payload);
                return Ok(());
            }
            Incoming::Pong => return Ok(()),
            Incoming::Close => return Err(Stop::because(Cause::Client)),
        };
        match (self.phase, received) {
            (Phase::Carrying, received) => self.engine.receive(&self.socket, received)?,
            (Phase::Unprobed, Received::Probe) => {
                let (head, rest) = Packet::Probed.frame(protocol);
                self.urgent.extend_from_slice(head.as_bytes());
                self.urgent.extend_from_slice(rest);
                self.session().probe();
                self.phase = Phase::Probed;
            }
            (Phase::Probed, Received::Upgrade) => {
                if !self.session().upgrade() {
                    return Err(Stop::because(Cause::Client));
                }
                self.phase = Phase::Carrying;
            }
            (Phase::Unprobed | Phase::Probed, _) => return Err(bad),
        }
        Ok(())
    }

    // --- out

    /// Queues a control frame, to leave before the next packet.
    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.urgent.len() + payload.len() < URGENT {
            self.urgent.extend_from_slice(Head::new(opcode, None, payload.len()).as_bytes());
            self.urgent.extend_from_slice(payload);
        }
    }

    /// Writes all that waits; then why the session has ended, if it has.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Cause>>> {
        loop {
            if self.begun == 0 && !self.urgent.is_empty() {
                let n = ready!(Pin::new(&mut self.stream).poll_write(context, &self.urgent))?;
                wrote_something(n)?;
                self.sent.bytes += n as u64;
                self.urgent.drain(..n.min(self.urgent.len()));
                if self.urgent.is_empty() {
                    self.urgent = Vec::new();
                }
                continue;
            }
            if self.batch.is_empty() {
                if self.phase != Phase::Carrying {
                    return Poll::Ready(Ok(None));
                }
                let done = std::mem::take(&mut self.done);
                emptied(&mut self.batch);
                match self.socket.session().next_batch(&mut self.batch, done, context) {
                    Next::Packets => {}
                    Next::Nothing => return Poll::Ready(Ok(None)),
                    Next::Ended(cause) => return Poll::Ready(Ok(Some(cause))),
                }
            }
            let n = ready!(self.poll_write_batch(context))?;
            wrote_something(n)?;
            self.sent.bytes += n as u64;
            self.begun += n;
            self.count_out();
        }
    }

    /// Writes as many packets as the stream takes at once.
    fn poll_write_batch(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let protocol = self.socket.protocol;
        let mut frames: SmallVec<[(Head, &[u8]); WRITTEN_AT_ONCE]> = SmallVec::new();
        for waiting in self.batch.iter().take(WRITTEN_AT_ONCE) {
            frames.push(waiting.packet.frame(protocol));
        }
        let mut slices: SmallVec<[IoSlice<'_>; 2 * WRITTEN_AT_ONCE]> = SmallVec::new();
        let mut skip = self.begun;
        for part in frames.iter().flat_map(|(head, payload)| [head.as_bytes(), payload]) {
            let rest = part.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            if !rest.is_empty() {
                slices.push(IoSlice::new(rest));
            }
        }
        let stream = Pin::new(&mut self.stream);
        if stream.is_write_vectored() {
            return stream.poll_write_vectored(context, &slices);
        }
        // A stream that takes one piece at a time would send each head on its own.
        let joined: Vec<u8> =
            slices.iter().flat_map(|slice| slice.iter()).copied().take(READ).collect();
        stream.poll_write(context, &joined)
    }

    /// Takes out of the batch what is written whole.
    fn count_out(&mut self) {
        let protocol = self.socket.protocol;
        while let Some(first) = self.batch.front() {
            let size = frame_size(&first.packet, protocol);
            if self.begun < size {
                return;
            }
            self.begun -= size;
            self.done.packets += 1;
            self.done.bytes += first.packet.size();
            self.sent.packets += 1;
            self.batch.pop_front();
        }
    }

    /// The client does not read: waits for it, or gives it up where its session was ended.
    fn stalled(&mut self, context: &Context<'_>) -> Poll<Stop> {
        if self.phase != Phase::Carrying {
            return Poll::Pending;
        }
        let done = std::mem::take(&mut self.done);
        match self.socket.session().stall(done, context) {
            Some(cause) => Poll::Ready(Stop::Ended(cause)),
            None => Poll::Pending,
        }
    }

    // --- the end

    /// Ends the session, says so to the client if it can be told, and lets the stream go.
    async fn finish(&mut self, stop: Stop) {
        let (cause, code) = match stop {
            Stop::Ended(cause) => (cause, cause.close_code()),
            Stop::End(cause, code) => (cause, code),
            Stop::Lost(cause) => {
                if self.phase == Phase::Carrying {
                    self.socket.end(cause);
                }
                return;
            }
        };
        if self.phase == Phase::Carrying {
            self.socket.end(cause);
        }
        if cause != Cause::Server {
            // What was begun is written out, since a close frame cannot stand within another.
            self.batch.truncate(usize::from(self.begun > 0));
        }
        let reason = match cause {
            Cause::Client | Cause::Server => "",
            told => told.code(),
        };
        let limit = self.engine.shared().config.tuning.close_timeout;
        let told = async {
            poll_fn(|context| self.poll_write(context)).await?;
            self.urgent.clear();
            self.control(Opcode::Close, &close_payload(code, reason));
            poll_fn(|context| self.poll_write(context)).await?;
            poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await?;
            poll_fn(|context| self.poll_drain(context)).await
        };
        // Whoever does not listen any more is not waited for.
        let _: Result<io::Result<()>, _> = tokio::time::timeout(limit, told).await;
    }

    /// Reads what the client still sends, until it closes: a stream that is dropped with something
    /// unread would be reset, and the client might lose what was said last.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS {
            let mut space = [MaybeUninit::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn wrote_something(n: usize) -> io::Result<()> {
    if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
}

fn frame_size(packet: &Packet, protocol: ProtocolVersion) -> usize {
    let (head, payload) = packet.frame(protocol);
    head.as_bytes().len() + payload.len()
}

/// However the task ends, by a panic above or with the runtime, the session does not outlive it.
impl<H: EngineIoHandler, I> Drop for WebSocket<H, I> {
    fn drop(&mut self) {
        if self.phase == Phase::Carrying {
            self.socket.end(Cause::Broken);
            self.socket.session().let_go(self.batch.len());
            self.socket.forget();
        } else {
            self.socket.session().give_up_upgrade();
        }
    }
}

impl<H: EngineIoHandler> Engine<H> {
    /// Hands on what a client sent, over either transport.
    fn receive(&self, socket: &Arc<Socket<H::Data>>, received: Received) -> Result<(), Stop> {
        match self.hand_on(socket, received) {
            Ok(()) => match socket.session().ended() {
                None => Ok(()),
                Some(cause) => Err(Stop::Ended(cause)),
            },
            Err(cause) => Err(Stop::because(cause)),
        }
    }
}

/// Bytes of a pong are those of its ping, so a control frame's payload is never long.
const _: () = assert!(crate::frame::CONTROL + 16 < URGENT, "a pong fits");
