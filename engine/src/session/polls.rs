//! A session while polls carry it, and while it goes over to a WebSocket.

use std::task::{Context, Poll};

use super::{Carrier, NotServed, Session, Upgrade, Waiter, wake};
use crate::{packet::Packet, payload::Payload, stats::Cause};

impl Session {
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
}

/// The upgrade.
impl Session {
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
}
