//! Token buckets, several at once, all or none.
//!
//! In come charges, out comes a verdict. A bucket is one number: the moment at which it is full again
//! (the generic cell rate algorithm), so a bucket that is full needs no entry and is swept.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::{Duration, Instant},
};

use crate::{Charge, Verdict};

/// The slowest refill that is reckoned with: one token in about eleven days. Slower ones, and rates that
/// are no number, count as this one.
const SLOWEST_PER_SECOND: f64 = 1e-6;

/// All buckets that are not full.
pub(super) struct Buckets {
    /// Seconds after `epoch` at which each bucket is full again.
    full_at: HashMap<String, f64>,
    epoch: Instant,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { full_at: HashMap::new(), epoch: Instant::now() }
    }
}

impl Buckets {
    pub(super) fn charge(&mut self, charges: &[Charge]) -> Verdict {
        let now = self.epoch.elapsed().as_secs_f64();
        // What the buckets would be after the charge; a bucket named twice is charged twice.
        let mut after: HashMap<&str, f64> = HashMap::with_capacity(charges.len());
        let mut short: Option<usize> = None;
        let mut wait = 0.0_f64;
        for (index, charge) in charges.iter().enumerate() {
            let per_token = 1.0 / pace(charge.per_second);
            let room = per_token * f64::from(charge.burst.max(1));
            let entry = after.entry(&charge.bucket);
            let full_at = match &entry {
                Entry::Occupied(seen) => *seen.get(),
                Entry::Vacant(_) => self.full_at.get(&charge.bucket).copied().unwrap_or(now),
            };
            let full_at = full_at.max(now) + per_token * f64::from(charge.cost.max(1));
            let missing = full_at - room - now;
            // A tenth of a microsecond is the sum's rounding, not a missing token.
            if missing > 1e-7 {
                short = short.or(Some(index));
                wait = wait.max(missing);
            }
            entry.insert_entry(full_at);
        }
        if let Some(charge) = short {
            let retry_after = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
            return Verdict::Refused { charge, retry_after };
        }
        for (bucket, full_at) in after {
            self.full_at.insert(bucket.to_owned(), full_at);
        }
        Verdict::Granted
    }

    /// Drops the buckets that are full again.
    pub(super) fn sweep(&mut self) {
        let now = self.epoch.elapsed().as_secs_f64();
        self.full_at.retain(|_, full_at| *full_at > now);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.full_at.len()
    }
}

fn pace(per_second: f64) -> f64 {
    if per_second.is_finite() { per_second.max(SLOWEST_PER_SECOND) } else { SLOWEST_PER_SECOND }
}
