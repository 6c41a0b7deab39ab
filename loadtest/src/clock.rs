//! Time as all workers of a run share it: microseconds of the Unix epoch, which never go back.
//!
//! In comes how far this machine's clock is from the coordinator's; out goes the coordinator's time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::number::micros;

/// A clock that is read from the wall once and then runs on its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    unix: u64,
}

impl Clock {
    /// A clock that is `ahead` microseconds behind this machine's, so that both machines say the same.
    pub(crate) fn new(ahead: i64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            start: Instant::now(),
            unix: micros(since).saturating_add_signed(ahead.saturating_neg()),
        }
    }

    /// Now.
    pub(crate) fn now(&self) -> u64 {
        self.unix.saturating_add(micros(self.start.elapsed()))
    }
}
