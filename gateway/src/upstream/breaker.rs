//! The circuit breaker: how calls ended comes in, whether another may be made goes out.
//!
//! ```text
//! closed ──failures in a row──▶ open ──after the reset──▶ one probe ──answered──▶ closed
//!                                ▲                            │
//!                                └──────────failed────────────┘
//! ```
//!
//! It never waits, takes the time as an argument, and lets no more than one probe out at a time. How a call
//! ended that began before the last change of state says nothing about now and is not counted.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::time::Instant;

pub(super) struct Breaker {
    failures: u32,
    reset: Duration,
    state: Mutex<State>,
    gauge: IntGauge,
}

#[derive(Default)]
struct State {
    in_a_row: u32,
    /// When it opened, while it is not closed.
    opened: Option<Instant>,
    probing: bool,
    /// Counts changes of state.
    epoch: u64,
}

/// A call that may be made. Dropped without a word on how it ended, it counts for nothing.
pub(super) struct Pass {
    breaker: Arc<Breaker>,
    epoch: u64,
    probe: bool,
}

impl Breaker {
    pub(super) fn new(failures: NonZeroU32, reset: Duration, gauge: IntGauge) -> Self {
        Self { failures: failures.get(), reset, state: Mutex::default(), gauge }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().opened.is_none()
    }

    /// Whether [`Self::enter`] would say no now.
    pub(super) fn refuses(&self, now: Instant) -> bool {
        self.bars(&self.state.lock(), now)
    }

    /// Leave to make a call.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Option<Pass> {
        let mut state = self.state.lock();
        if self.bars(&state, now) {
            return None;
        }
        let probe = state.opened.is_some();
        state.probing |= probe;
        Some(Pass { breaker: Arc::clone(self), epoch: state.epoch, probe })
    }

    fn bars(&self, state: &State, now: Instant) -> bool {
        let too_early =
            |opened: Instant| now.saturating_duration_since(opened) < self.reset || state.probing;
        state.opened.is_some_and(too_early)
    }

    fn close(&self, state: &mut State) {
        let epoch = state.epoch + 1;
        *state = State { epoch, ..State::default() };
        self.gauge.set(0);
        tracing::info!("breaker closed");
    }

    fn open(&self, state: &mut State, now: Instant) {
        let epoch = state.epoch + 1;
        *state = State { epoch, opened: Some(now), ..State::default() };
        self.gauge.set(1);
        tracing::warn!(reset = ?self.reset, "breaker open");
    }
}

impl Pass {
    /// Something good came back. A probe has done its work then, however long the rest takes.
    pub(super) fn answered(&mut self) {
        if !self.probe {
            return;
        }
        let mut state = self.breaker.state.lock();
        if self.epoch == state.epoch {
            self.breaker.close(&mut state);
            self.epoch = state.epoch;
        }
        self.probe = false;
    }

    /// It ended well.
    pub(super) fn succeeded(mut self) {
        self.answered();
        let mut state = self.breaker.state.lock();
        if self.epoch == state.epoch {
            state.in_a_row = 0;
        }
    }

    /// It failed.
    pub(super) fn failed(mut self, now: Instant) {
        let was_probe = std::mem::take(&mut self.probe);
        let mut state = self.breaker.state.lock();
        if self.epoch != state.epoch {
            return;
        }
        state.in_a_row = state.in_a_row.saturating_add(1);
        if was_probe || state.in_a_row >= self.breaker.failures {
            self.breaker.open(&mut state, now);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.probe {
            return;
        }
        let mut state = self.breaker.state.lock();
        if self.epoch == state.epoch {
            // The probe was called off; the next call may be one.
            state.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Arc<Breaker>, Instant) {
        let gauge = IntGauge::new("open", "open").unwrap();
        let failures = NonZeroU32::new(2).unwrap();
        (Arc::new(Breaker::new(failures, Duration::from_secs(5), gauge)), Instant::now())
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn opens_after_failures_in_a_row_and_closes_after_one_probe() {
        let (breaker, t0) = breaker();
        breaker.enter(t0).unwrap().failed(t0);
        breaker.enter(t0).unwrap().succeeded();
        breaker.enter(t0).unwrap().failed(t0);
        assert!(breaker.is_closed(), "a success in between starts the count anew");
        breaker.enter(t0).unwrap().failed(t0);
        assert!(!breaker.is_closed() && breaker.gauge.get() == 1);
        assert!(breaker.enter(after(t0, 4)).is_none(), "before the reset");
        let mut probe = breaker.enter(after(t0, 5)).expect("after the reset");
        assert!(breaker.enter(after(t0, 5)).is_none(), "a second probe");
        probe.answered();
        assert!(breaker.is_closed() && breaker.gauge.get() == 0);
        probe.failed(after(t0, 6));
        assert!(breaker.is_closed(), "what follows its first answer is one failure among others");
    }

    #[test]
    fn a_failed_probe_starts_the_reset_anew() {
        let (breaker, t0) = breaker();
        breaker.enter(t0).unwrap().failed(t0);
        breaker.enter(t0).unwrap().failed(t0);
        breaker.enter(after(t0, 5)).unwrap().failed(after(t0, 7));
        assert!(breaker.refuses(after(t0, 11)));
        assert!(!breaker.refuses(after(t0, 12)));
    }

    #[test]
    fn a_probe_that_is_called_off_lets_another_go() {
        let (breaker, t0) = breaker();
        breaker.enter(t0).unwrap().failed(t0);
        breaker.enter(t0).unwrap().failed(t0);
        drop(breaker.enter(after(t0, 5)).unwrap());
        assert!(!breaker.is_closed());
        assert!(breaker.enter(after(t0, 5)).is_some());
    }

    #[test]
    fn calls_from_before_a_change_do_not_count() {
        let (breaker, t0) = breaker();
        let (early, late) = (breaker.enter(t0).unwrap(), breaker.enter(t0).unwrap());
        breaker.enter(t0).unwrap().failed(t0);
        breaker.enter(t0).unwrap().failed(t0);
        early.succeeded();
        assert!(!breaker.is_closed());
        late.failed(after(t0, 4));
        assert!(!breaker.refuses(after(t0, 5)), "the reset runs from when it opened");
    }
}
