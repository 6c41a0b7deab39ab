//! What was counted and timed.
//!
//! In come single events, each with its time; out goes a [`Tally`] that can be merged with those of other workers, and
//! written to JSON and back without losing a count: a histogram is written as its buckets.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::number::{float, per};

/// Longest time that is told apart, in microseconds: ten minutes. Longer ones count as this.
const LONGEST: u64 = 600_000_000;

/// Reasons for refusals that are told apart; the rest are counted together.
const MOST_REASONS: usize = 32;

/// Seconds that are told apart; a run may be longer, its plot is not.
const MOST_SLOTS: usize = 7200;

/// Times in microseconds, each with an error of at most a thousandth.
#[derive(Clone, Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    #[expect(clippy::expect_used, reason = "the bounds are constants that the library allows")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds"))
    }
}

impl Times {
    /// For many short spans: an error of at most a hundredth, in an eighth of the memory.
    #[expect(clippy::expect_used, reason = "the bounds are constants that the library allows")]
    pub(crate) fn coarse() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 2).expect("constant bounds"))
    }

    /// Takes note of a time.
    pub(crate) fn add(&mut self, micros: u64) {
        self.0.saturating_record(micros.clamp(1, LONGEST));
    }

    /// Adds what others have measured.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (micros, count) in other.buckets() {
            self.0.saturating_record_n(micros, count);
        }
    }

    /// Adds times of which there are so many each.
    pub(crate) fn add_all(&mut self, buckets: &[(u64, u64)]) {
        for (micros, count) in buckets {
            self.0.saturating_record_n((*micros).clamp(1, LONGEST), *count);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of all, in percent, did not exceed; 0 where there is none.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_percentile(percent) }
    }

    /// The longest.
    pub(crate) fn max(&self) -> u64 {
        self.0.max()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Every bucket that is not empty: its time and its count.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0
            .iter_recorded()
            .map(|step| (step.value_iterated_to().min(LONGEST), step.count_at_value()))
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.buckets())
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut times = Self::default();
        for (micros, count) in Vec::<(u64, u64)>::deserialize(from)? {
            if !(1..=LONGEST).contains(&micros) {
                return Err(D::Error::custom(format!("{micros} us is out of bounds")));
            }
            times.0.saturating_record_n(micros, count);
        }
        Ok(times)
    }
}

/// What is counted. Messages are counted from the first to the last, the warm-up included, so that none can be lost
/// unseen; rates and times are those of the measured part alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Connections that became ready.
    pub connected: u64,
    /// Clients that never did.
    pub never_connected: u64,
    /// Attempts to connect that the server refused or broke off.
    pub connects_refused: u64,
    /// Connections that ended although nobody asked for it and their clients did read.
    pub disconnected: u64,
    /// Connections of slow consumers that were cut off, as they should be.
    pub slow_disconnected: u64,
    /// Clients that were ready again after their connection had ended.
    pub reconnected: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that were due while their sender was not connected.
    pub unsent: u64,
    /// Messages heard that had to be heard, each once.
    pub delivered: u64,
    /// Messages that had to be heard and were not.
    pub lost: u64,
    /// Messages that went by while their receiver was cut off by the server.
    pub missed: u64,
    /// Messages heard again.
    pub duplicated: u64,
    /// Messages heard after a later one of the same sender and room.
    pub out_of_order: u64,
    /// Messages heard that nobody had to hear: sent before the join, or to a room that was left.
    pub stray: u64,
    /// Acks.
    pub acked: u64,
    /// Acks that did not come.
    pub unacked: u64,
    /// Acks that came again, or that nobody asked for.
    pub acks_duplicated: u64,
    /// Events that the server refused, by ack or by event.
    pub refused: u64,
    /// Steps done: joins, leaves, logins.
    pub steps: u64,
    /// All other events that came.
    pub other_events: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

impl Counts {
    fn merge(&mut self, other: &Self) {
        let Self {
            connected,
            never_connected,
            connects_refused,
            disconnected,
            slow_disconnected,
            reconnected,
            sent,
            unsent,
            delivered,
            lost,
            missed,
            duplicated,
            out_of_order,
            stray,
            acked,
            unacked,
            acks_duplicated,
            refused,
            steps,
            other_events,
            bytes_in,
            bytes_out,
        } = other;
        self.connected += connected;
        self.never_connected += never_connected;
        self.connects_refused += connects_refused;
        self.disconnected += disconnected;
        self.slow_disconnected += slow_disconnected;
        self.reconnected += reconnected;
        self.sent += sent;
        self.unsent += unsent;
        self.delivered += delivered;
        self.lost += lost;
        self.missed += missed;
        self.duplicated += duplicated;
        self.out_of_order += out_of_order;
        self.stray += stray;
        self.acked += acked;
        self.unacked += unacked;
        self.acks_duplicated += acks_duplicated;
        self.refused += refused;
        self.steps += steps;
        self.other_events += other_events;
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
    }
}

/// One second of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Messages sent in it.
    pub sent: u64,
    /// Messages heard in it.
    pub delivered: u64,
    /// Acks in it.
    pub acked: u64,
    /// Steps done in it.
    pub steps: u64,
    /// How long what was heard in it took; where nothing is heard, how long acks took: microseconds and counts.
    pub times: Vec<(u64, u64)>,
}

impl Slot {
    /// The time that this share of what was timed in it, in percent, did not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        let mut times = Times::coarse();
        times.add_all(&self.times);
        times.percentile(percent)
    }
}

/// Everything that a run measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// What was counted.
    pub counts: Counts,
    /// Why events and connects were refused.
    pub reasons: BTreeMap<String, u64>,
    /// From the moment a connect was due to its namespace being joined.
    pub connects: Times,
    /// The same, from the moment a connection was cut.
    pub reconnects: Times,
    /// Steps: from the request to its answer.
    pub steps: Times,
    /// Messages: from the moment they were due to their being heard.
    pub deliveries: Times,
    /// Those among them whose sender and receiver are on different servers.
    pub across: Times,
    /// Acks: from the moment the event was due.
    pub acks: Times,
    /// How late the tool itself sent.
    pub lag: Times,
    /// Messages sent in the measured part.
    pub sent_measured: u64,
    /// Messages heard in the measured part.
    pub delivered_measured: u64,
    /// Acks in the measured part.
    pub acked_measured: u64,
    /// Steps done in the measured part.
    pub steps_measured: u64,
    /// Second by second, from the start of sending.
    pub slots: Vec<Slot>,
    /// The workers' shares of the measured part in which they were at work, each.
    pub busy: Vec<f64>,
    /// Most memory that a worker had, in bytes, and for how many clients.
    pub memory: Vec<(u64, u64)>,
}

impl Tally {
    /// Counts a refusal for this reason.
    pub(crate) fn refuse(&mut self, reason: &str) {
        let reason = reason.get(..80).unwrap_or(reason);
        let known = self.reasons.len() < MOST_REASONS || self.reasons.contains_key(reason);
        let reason = if known { reason } else { "other" };
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    /// The slot of a second since the start of sending.
    pub(crate) fn slot(&mut self, second: u64) -> Option<&mut Slot> {
        let at = usize::try_from(second).ok().filter(|at| *at < MOST_SLOTS)?;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, Slot::default);
        }
        self.slots.get_mut(at)
    }

    /// Adds what another worker has measured at the same time.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
        self.connects.merge(&other.connects);
        self.reconnects.merge(&other.reconnects);
        self.steps.merge(&other.steps);
        self.deliveries.merge(&other.deliveries);
        self.across.merge(&other.across);
        self.acks.merge(&other.acks);
        self.lag.merge(&other.lag);
        self.sent_measured += other.sent_measured;
        self.delivered_measured += other.delivered_measured;
        self.acked_measured += other.acked_measured;
        self.steps_measured += other.steps_measured;
        for (second, theirs) in (0..).zip(&other.slots) {
            let Some(slot) = self.slot(second) else { break };
            slot.sent += theirs.sent;
            slot.delivered += theirs.delivered;
            slot.acked += theirs.acked;
            slot.steps += theirs.steps;
            slot.times.extend(&theirs.times);
        }
        self.busy.extend(&other.busy);
        self.memory.extend(&other.memory);
    }

    /// The times that a run is judged by: those of deliveries where messages are heard, else those of acks, else those
    /// of steps, else those of connects.
    pub(crate) fn main_times(&self) -> (&'static str, &Times) {
        let candidates =
            [("delivery", &self.deliveries), ("ack", &self.acks), ("step", &self.steps)];
        let found = candidates.into_iter().find(|(_, times)| times.count() > 0);
        found.unwrap_or(("connect", &self.connects))
    }

    /// Bytes of memory of the busiest worker for each of its clients.
    pub(crate) fn bytes_per_client(&self) -> f64 {
        let each = self.memory.iter().map(|(bytes, clients)| per(float(*bytes), float(*clients)));
        each.fold(0.0, f64::max)
    }

    /// The share of its time in which the busiest worker was at work.
    pub(crate) fn busiest(&self) -> f64 {
        self.busy.iter().copied().fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_survives_json_and_merging() {
        let mut one = Tally::default();
        for micros in [1, 10, 1000, 123_456, LONGEST, LONGEST * 2] {
            one.deliveries.add(micros);
        }
        one.counts.sent = 6;
        one.refuse("RATE_LIMITED");
        one.slot(2).unwrap().times.push((50, 3));
        let text = serde_json::to_string(&one).unwrap();
        let mut two: Tally = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&two).unwrap(), text);
        two.merge(&one);
        assert_eq!(
            (two.deliveries.count(), two.counts.sent, two.reasons["RATE_LIMITED"]),
            (12, 12, 2)
        );
        for percent in [0.0, 50.0, 99.0, 100.0] {
            assert_eq!(two.deliveries.percentile(percent), one.deliveries.percentile(percent));
        }
        assert_eq!((two.slots[2].times.len(), two.slots[2].percentile(50.0)), (2, 50));
    }

    #[test]
    fn reasons_are_bounded() {
        let mut tally = Tally::default();
        for n in 0..1000 {
            tally.refuse(&format!("reason {n}"));
        }
        assert!(tally.reasons.len() <= MOST_REASONS + 1);
        assert_eq!(tally.reasons.values().sum::<u64>(), 1000);
    }
}
