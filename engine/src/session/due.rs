//! What is due of a session: pings, missing pongs, stalled writes, missing polls; and what its client
//! may send.

use engineioxide_core::ProtocolVersion;

use super::{Carrier, Session, Upgrade, wake};
use crate::{heartbeat::millis, pace::Bucket, packet::Packet, queue::Delivery, stats::Cause};

/// The time within which excesses over a pace are counted.
const FLOOD_WINDOW: u64 = 10_000;

/// A deadline is looked at this often before it is due.
const LOOKS: u64 = 4;

/// What is to be done about a session whose turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    End(Cause),
    Again(u64),
    Forget,
}

impl Session {
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
            _ => 0,
        };
        // However many arrive in one reading, each packet over the pace is one; bytes are one together.
        let over = take(&mut state.packets, tuning.packets, packets)
            + take(&mut state.bytes, tuning.bytes, bytes).min(1);
        if over == 0 {
            return false;
        }
        if now.saturating_sub(state.excess_since) > FLOOD_WINDOW {
            state.excess_since = now;
            state.excesses = 0;
        }
        state.excesses = state.excesses.saturating_add(u32::try_from(over).unwrap_or(u32::MAX));
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
}
