//! The state contract, a file for each of its parts.

pub(crate) mod charges;
pub(crate) mod documents;
pub(crate) mod holds;
pub(crate) mod queues;
pub(crate) mod stored;
pub(crate) mod tick;
pub(crate) mod turns;

use std::time::Duration;

/// A time to live as Redis takes it: whole milliseconds, at least one, at most some thousand years.
pub(crate) fn ttl_millis(ttl: Duration) -> u64 {
    const MOST: u64 = 100_000_000_000_000;
    u64::try_from(ttl.as_millis()).unwrap_or(MOST).clamp(1, MOST)
}
