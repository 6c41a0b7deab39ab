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

    /// Takes so many; how many of them there were not. What is missing is not owed.
    pub(crate) fn take(&mut self, pace: Pace, count: u64, now: u64) -> u64 {
        let grown = now.saturating_sub(self.since).saturating_mul(pace.per_second.get().into());
        self.since = now;
        self.left = self.left.saturating_add(grown).min(u64::from(pace.burst) * ONE);
        let asked = count.saturating_mul(ONE);
        let missing = asked.saturating_sub(self.left).div_ceil(ONE);
        self.left = self.left.saturating_sub(asked);
        missing
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
            (0, 3, 0),
            (0, 1, 1),
            (50, 1, 1),
            (250, 2, 0),
            (250, 5, 5),
            (1_000_000, 4, 1),
            (2_000_000, 3, 0),
        ];
        for (now, count, want) in cases {
            assert_eq!(bucket.take(pace, count, now), want, "{count} at {now}");
        }
    }
}
