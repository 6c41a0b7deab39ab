//! One session: what waits for its client, what carries it, and whether it has ended.
//!
//! Whoever sends puts packets into the queue and wakes the carrier, which is the WebSocket's task or a
//! poll in flight. The timer asks what is due. All state is behind one lock that is held for a few
//! lines and never while anything is written. It never calls the application.

mod due;
mod polls;

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use engineioxide_core::{ProtocolVersion, TransportType};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    config::EngineIoConfig,
    heartbeat::{Wheel, millis},
    pace::Bucket,
    packet::Packet,
    queue::{Batch, Delivery, Queue},
    stats::Cause,
    websocket::Done,
};

pub(crate) use due::Due;

/// What all sessions of an engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EngineIoConfig,
    pub(crate) wheel: Arc<Wheel>,
}

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    /// Requests.
    Polling {
        /// A poll is in flight.
        polled: bool,
        /// A request with packets is being read.
        posted: bool,
        /// Since when no poll is in flight.
        since: u64,
        upgrade: Upgrade,
    },
    /// A WebSocket.
    Websocket,
}

/// How far an upgrade is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    None,
    /// A WebSocket was opened for it.
    Opened,
    /// It was probed: polls end at once, so that the client can go over.
    Probed,
}

/// Whom to wake, and what for.
#[derive(Debug)]
struct Waiter {
    waker: Waker,
    packets: bool,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    carrier: Carrier,
    waiter: Option<Waiter>,
    ended: Option<Cause>,
    /// Nothing carries it any more.
    gone: bool,
    /// A ping was sent and not answered (Engine.IO 4).
    asked: bool,
    /// When the next ping is sent, or the client is given up; of a session that has ended, until when
    /// its client may fetch what waits for it.
    beat: u64,
    /// Since when a write makes no progress.
    stalled: Option<u64>,
    packets: Option<Bucket>,
    bytes: Option<Bucket>,
    excesses: u32,
    excess_since: u64,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) protocol: ProtocolVersion,
    /// The client reads no bytes in polls (Engine.IO 3).
    text_only: bool,
    shared: Arc<Shared>,
    state: Mutex<State>,
    gone: Notify,
}

/// What a WebSocket's task finds to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Packets,
    Nothing,
    /// And nothing will come.
    Ended(Cause),
}

/// Why packets were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    Full,
    Ended,
}

/// Why a poll or a post is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotServed {
    /// A WebSocket carries the session.
    Transport,
    /// There is one already.
    Overlap,
    /// The session has ended.
    Ended,
}

fn wake(waiter: Option<Waiter>) {
    if let Some(waiter) = waiter {
        waiter.waker.wake();
    }
}

impl State {
    /// Whoever waits for packets, to be woken when the lock is given back.
    fn take_waiter_for_packets(&mut self) -> Option<Waiter> {
        if self.waiter.as_ref().is_some_and(|waiter| waiter.packets) {
            self.waiter.take()
        } else {
            None
        }
    }

    const fn transport(&self) -> TransportType {
        match self.carrier {
            Carrier::Polling { .. } => TransportType::Polling,
            Carrier::Websocket => TransportType::Websocket,
        }
    }
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        protocol: ProtocolVersion,
        transport: TransportType,
        text_only: bool,
    ) -> Self {
        let now = shared.wheel.refresh();
        let (interval, timeout) =
            (millis(shared.config.ping_interval), millis(shared.config.ping_timeout));
        let carrier = match transport {
            TransportType::Polling => Carrier::Polling {
                polled: false,
                posted: false,
                since: now,
                upgrade: Upgrade::None,
            },
            TransportType::Websocket => Carrier::Websocket,
        };
        let beat = match protocol {
            ProtocolVersion::V3 => now + interval + timeout,
            ProtocolVersion::V4 => now + interval,
        };
        let tuning = &shared.config.tuning;
        let state = State {
            queue: Queue::default(),
            carrier,
            waiter: None,
            ended: None,
            gone: false,
            asked: false,
            beat,
            stalled: None,
            packets: tuning.packets.map(|pace| Bucket::new(pace, now)),
            bytes: tuning.bytes.map(|pace| Bucket::new(pace, now)),
            excesses: 0,
            excess_since: now,
        };
        Self { protocol, text_only, shared, state: Mutex::new(state), gone: Notify::new() }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn transport(&self) -> TransportType {
        self.state.lock().transport()
    }

    pub(crate) fn ended(&self) -> Option<Cause> {
        self.state.lock().ended
    }

    /// Bytes that wait for the client.
    pub(crate) fn queued(&self) -> usize {
        self.state.lock().queue.bytes()
    }

    // --- what is sent

    /// Whether another message may wait. Volatile ones give way to it.
    pub(crate) fn reserve(&self) -> Result<(), NotSent> {
        let mut state = self.state.lock();
        self.make_room(&mut state)
    }

    fn make_room(&self, state: &mut State) -> Result<(), NotSent> {
        let (room, stats) = (self.shared.config.room(), &self.shared.config.tuning.stats);
        if state.ended.is_some() {
            return Err(NotSent::Ended);
        }
        if state.queue.has_room(room) {
            return Ok(());
        }
        stats.reached_high_water();
        stats.gave_up_volatile(state.queue.drop_volatile());
        if state.queue.has_room(room) { Ok(()) } else { Err(NotSent::Full) }
    }

    /// Queues the packets of one message, one behind the other.
    pub(crate) fn send(&self, packets: impl IntoIterator<Item = Packet>) -> Result<(), NotSent> {
        let mut state = self.state.lock();
        self.make_room(&mut state)?;
        let now = self.shared.wheel.now();
        for packet in packets {
            state.queue.push(packet, Delivery::Reliable, now);
        }
        let waiter = state.take_waiter_for_packets();
        drop(state);
        wake(waiter);
        Ok(())
    }

    /// Queues the packets of one message, if little waits; whether it did.
    pub(crate) fn send_volatile(&self, packets: impl IntoIterator<Item = Packet>) -> bool {
        let (room, now) = (self.shared.config.room(), self.shared.wheel.now());
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        if !state.queue.has_volatile_room(room) {
            drop(state);
            self.shared.config.tuning.stats.gave_up_volatile(1);
            return false;
        }
        for packet in packets {
            state.queue.push(packet, Delivery::Volatile, now);
        }
        let waiter = state.take_waiter_for_packets();
        drop(state);
        wake(waiter);
        true
    }

    // --- the WebSocket

    /// The task runs: it needs not be woken until it sleeps again.
    pub(crate) fn awake(&self) {
        self.state.lock().waiter = None;
    }

    /// What was written of a batch is done with, and the next is taken. Where there is none, the task
    /// is woken for the next packet.
    pub(crate) fn next_batch(&self, batch: &mut Batch, done: Done, context: &Context<'_>) -> Next {
        let mut state = self.state.lock();
        state.stalled = None;
        state.queue.written(done.packets, done.bytes);
        if !state.queue.is_empty() {
            state.queue.take(batch);
            return Next::Packets;
        }
        if let Some(cause) = state.ended {
            return Next::Ended(cause);
        }
        state.waiter = Some(Waiter { waker: context.waker().clone(), packets: true });
        Next::Nothing
    }

    /// A write waits for the client to read. The task is woken when the session ends, unless it has:
    /// then why.
    pub(crate) fn stall(&self, done: Done, context: &Context<'_>) -> Option<Cause> {
        let now = self.shared.wheel.now();
        let mut state = self.state.lock();
        if done.packets > 0 {
            state.stalled = None;
        }
        state.stalled.get_or_insert(now);
        state.queue.written(done.packets, done.bytes);
        state.waiter = Some(Waiter { waker: context.waker().clone(), packets: false });
        state.ended
    }

    /// Nothing carries the session any more, and so many packets of a batch were not written.
    pub(crate) fn let_go(&self, unwritten: usize) {
        let mut state = self.state.lock();
        state.gone = true;
        state.waiter = None;
        let dropped = state.queue.clear() + unwritten;
        state.queue = Queue::default();
        drop(state);
        self.shared.config.tuning.stats.gave_up(dropped);
        self.gone.notify_waiters();
    }

    // --- the end

    /// Ends the session, once. `None` where it has ended before; else whether its table forgets it at
    /// once: a polling client that this side closes may still fetch what waits for it.
    pub(crate) fn end(&self, cause: Cause) -> Option<bool> {
        let now = self.shared.wheel.now();
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return None;
        }
        state.ended = Some(cause);
        state.beat = now + millis(self.shared.config.tuning.poll_timeout);
        let mut dropped = 0;
        if cause == Cause::Server {
            state.queue.push(Packet::Close, Delivery::Reliable, now);
        } else {
            dropped = state.queue.clear();
        }
        let transport = state.transport();
        let polling = state.carrier != Carrier::Websocket;
        state.gone |= polling;
        let forget = polling && cause != Cause::Server;
        let (gone, waiter) = (state.gone, state.waiter.take());
        drop(state);
        wake(waiter);
        if gone {
            self.gone.notify_waiters();
        }
        let stats = &self.shared.config.tuning.stats;
        stats.closed(transport, cause);
        stats.gave_up(dropped);
        Some(forget)
    }

    /// Waits until nothing carries the session any more.
    pub(crate) async fn until_gone(&self) {
        let notified = self.gone.notified();
        if !self.state.lock().gone {
            notified.await;
        }
    }
}
