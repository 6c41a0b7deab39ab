//! One session: what waits for its client, what carries it, and whether it has ended.
//!
//! Whoever sends puts packets into the queue and wakes the carrier, which is the WebSocket's task or a
//! poll in flight. The timer asks what is due. All state is behind one lock that is held for a few
//! lines and never while anything is written. It never calls the application.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use engineioxide_core::{ProtocolVersion, TransportType};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    config::EngineIoConfig,
    heartbeat::{Wheel, millis},
    pace::Bucket,
    packet::Packet,
    payload::Payload,
    queue::{Batch, Delivery, Queue},
    stats::Cause,
    websocket::Done,
};

/// The time within which excesses over a pace are counted.
const FLOOD_WINDOW: u64 = 10_000;

/// A deadline is looked at this often before it is due.
const LOOKS: u64 = 4;

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

/// What is to be done about a session whose turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    End(Cause),
    Again(u64),
    Forget,
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

    // --- polling

    /// Begins a poll.
    pub(crate) fn begin_poll(&self) -> Result<(), NotServed> {
        let mut state = self.state.lock();
        match &mut state.carrier {
            Carrier::Websocket => Err(NotServed::Transport),
            Carrier::Polling { polled: true, .. } => Err(NotServed::Overlap),
            Carrier::Polling { polled, .. } => {
                *polled = true;
                Ok(())
            }
        }
    }

    /// What a poll is answered with, once there is something.
    pub(crate) fn answer_poll(&self, context: &Context<'_>) -> Poll<Payload> {
        let most = usize::try_from(self.shared.config.max_payload).unwrap_or(usize::MAX);
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.carrier == Carrier::Websocket {
            // What waits is the WebSocket's by now.
            return Poll::Ready(Payload::one(&Packet::Noop, self.protocol));
        }
        if !state.queue.is_empty() {
            return Poll::Ready(Payload::of(&mut state.queue, self.protocol, self.text_only, most));
        }
        let last = match state.ended {
            Some(Cause::Client) => Some(Packet::Noop),
            Some(_) => Some(Packet::Close),
            None => match state.carrier {
                Carrier::Polling { upgrade: Upgrade::None | Upgrade::Opened, .. } => None,
                Carrier::Polling { upgrade: Upgrade::Probed, .. } | Carrier::Websocket => {
                    Some(Packet::Noop)
                }
            },
        };
        if let Some(last) = last {
            return Poll::Ready(Payload::one(&last, self.protocol));
        }
        state.waiter = Some(Waiter { waker: context.waker().clone(), packets: true });
        Poll::Pending
    }

    /// A poll was answered; whether that was the last one.
    pub(crate) fn end_poll(&self) -> bool {
        let now = self.shared.wheel.now();
        let mut state = self.state.lock();
        if let Carrier::Polling { polled, since, .. } = &mut state.carrier {
            *polled = false;
            *since = now;
            state.waiter = None;
        }
        state.ended.is_some() && state.queue.is_empty()
    }

    /// Whether polls carry it, and it has not ended.
    pub(crate) fn is_polled(&self) -> bool {
        let state = self.state.lock();
        state.ended.is_none() && state.carrier != Carrier::Websocket
    }

    /// Begins to read a request with packets.
    pub(crate) fn begin_post(&self) -> Result<(), NotServed> {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Err(NotServed::Ended);
        }
        match &mut state.carrier {
            Carrier::Websocket => Err(NotServed::Transport),
            Carrier::Polling { posted: true, .. } => Err(NotServed::Overlap),
            Carrier::Polling { posted, .. } => {
                *posted = true;
                Ok(())
            }
        }
    }

    /// The request with packets was read.
    pub(crate) fn end_post(&self) {
        if let Carrier::Polling { posted, .. } = &mut self.state.lock().carrier {
            *posted = false;
        }
    }

    // --- the upgrade

    /// A WebSocket is opened for an upgrade; whether it may be.
    pub(crate) fn begin_upgrade(&self) -> bool {
        let mut state = self.state.lock();
        let ended = state.ended.is_some();
        match &mut state.carrier {
            Carrier::Polling { upgrade: upgrade @ Upgrade::None, .. } if !ended => {
                *upgrade = Upgrade::Opened;
                true
            }
            Carrier::Polling { .. } | Carrier::Websocket => false,
        }
    }

    /// The upgrade was probed: a poll in flight ends.
    pub(crate) fn probe(&self) {
        let mut state = self.state.lock();
        if let Carrier::Polling { upgrade, .. } = &mut state.carrier {
            *upgrade = Upgrade::Probed;
        }
        let waiter = state.waiter.take();
        drop(state);
        wake(waiter);
    }

    /// The client goes over; whether there is still a session to carry.
    pub(crate) fn upgrade(&self) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.carrier = Carrier::Websocket;
        let waiter = state.waiter.take();
        drop(state);
        wake(waiter);
        self.shared.config.tuning.stats.upgraded();
        true
    }

    /// The client did not go over: it goes on polling.
    pub(crate) fn give_up_upgrade(&self) {
        let now = self.shared.wheel.now();
        let mut state = self.state.lock();
        if let Carrier::Polling { upgrade, since, .. } = &mut state.carrier {
            *upgrade = Upgrade::None;
            *since = now;
        }
        drop(state);
        self.shared.config.tuning.stats.upgrade_failed();
    }

    // --- what is due

    /// A sign of life came.
    pub(crate) fn alive(&self) {
        let config = &self.shared.config;
        let next = match self.protocol {
            ProtocolVersion::V3 => config.ping_interval + config.ping_timeout,
            ProtocolVersion::V4 => config.ping_interval,
        };
        let mut state = self.state.lock();
        state.asked = false;
        state.beat = self.shared.wheel.now() + millis(next);
    }

    /// Charges what came; whether the client floods.
    pub(crate) fn charge(&self, packets: u64, bytes: u64) -> bool {
        let tuning = &self.shared.config.tuning;
        if tuning.packets.is_none() && tuning.bytes.is_none() {
            return false;
        }
        let now = self.shared.wheel.now();
        let mut state = self.state.lock();
        let state = &mut *state;
        let take = |bucket: &mut Option<Bucket>, pace, count| match (bucket, pace) {
            (Some(bucket), Some(pace)) => bucket.take(pace, count, now),
            _ => true,
        };
        let slow = take(&mut state.packets, tuning.packets, packets);
        if take(&mut state.bytes, tuning.bytes, bytes) && slow {
            return false;
        }
        if now.saturating_sub(state.excess_since) > FLOOD_WINDOW {
            state.excess_since = now;
            state.excesses = 0;
        }
        state.excesses += 1;
        state.excesses > tuning.excesses
    }

    /// What is due now.
    pub(crate) fn due(&self, now: u64) -> Due {
        let tuning = &self.shared.config.tuning;
        let (write, queue, poll) = (
            millis(tuning.write_timeout),
            millis(tuning.queue_timeout),
            millis(tuning.poll_timeout),
        );
        let mut state = self.state.lock();
        if state.ended.is_some() {
            let fetchable = state.carrier != Carrier::Websocket && now < state.beat;
            return if fetchable { Due::Again(state.beat) } else { Due::Forget };
        }
        let late = |since: Option<u64>, most: u64| since.is_some_and(|since| now >= since + most);
        if late(state.stalled, write) || late(state.queue.since(), queue) {
            return Due::End(Cause::WriteTimeout);
        }
        let look = match state.carrier {
            Carrier::Polling { polled: false, upgrade: Upgrade::None, since, .. }
                if now >= since + poll =>
            {
                return Due::End(Cause::PollTimeout);
            }
            Carrier::Polling { .. } => poll.min(queue) / LOOKS,
            Carrier::Websocket => write.min(queue) / LOOKS,
        };
        if now >= state.beat {
            if state.asked || self.protocol == ProtocolVersion::V3 {
                return Due::End(Cause::Heartbeat);
            }
            state.asked = true;
            state.beat = now + millis(self.shared.config.ping_timeout);
            state.queue.push(Packet::Ping, Delivery::Reliable, now);
        }
        let next =
            state.beat.min(now + look.max(1)).min(now + millis(self.shared.config.ping_interval));
        let waiter = if state.queue.is_empty() { None } else { state.take_waiter_for_packets() };
        drop(state);
        wake(waiter);
        Due::Again(next)
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
