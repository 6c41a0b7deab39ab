//! How much a client may send: so many in the long run, so many at once.
//!
//! Time is the engine's own clock, in milliseconds, so that nothing is asked of the system for each
//! frame.

use std::num::NonZeroU32;

/// A limit on what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: u32,
}

/// What a client has left of a [`Pace`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// In thousandths.
    left: u64,
    since: u64,
}

/// Thousandths of one.
const ONE: u64 = 1000;

impl Bucket {
    /// A full one.
    pub(crate) fn new(pace: Pace, now: u64) -> Self {
        Self { left: u64::from(pace.burst) * ONE, since: now }
    }

    /// Takes so many; whether there were as many. What is missing is not owed.
    pub(crate) fn take(&mut self, pace: Pace, count: u64, now: u64) -> bool {
        let grown = now.saturating_sub(self.since).saturating_mul(pace.per_second.get().into());
        self.since = now;
        self.left = self.left.saturating_add(grown).min(u64::from(pace.burst) * ONE);
        let asked = count.saturating_mul(ONE);
        let good = asked <= self.left;
        self.left = self.left.saturating_sub(asked);
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let pace = Pace { per_second: NonZeroU32::new(10).expect("not zero"), burst: 3 };
        let mut bucket = Bucket::new(pace, 0);
        let cases = [
            (0, 3, true),
            (0, 1, false),
            (50, 1, false),
            (250, 2, true),
            (250, 1, false),
            (1_000_000, 4, false),
            (2_000_000, 3, true),
        ];
        for (now, count, want) in cases {
            assert_eq!(bucket.take(pace, count, now), want, "{count} at {now}");
        }
    }
}
