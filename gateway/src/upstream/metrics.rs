//! What is counted of upstream calls. Labels are the configured names and the enum here, nothing else.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use tokio::time::Instant;

use super::{Failure, Reason};

/// From an answer out of memory to a language model that takes its time.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Refused,
    Unavailable,
    Timeout,
    QueueFull,
    BreakerOpen,
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::Refused,
        Self::Unavailable,
        Self::Timeout,
        Self::QueueFull,
        Self::BreakerOpen,
        Self::Cancelled,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::QueueFull => "queue_full",
            Self::BreakerOpen => "breaker_open",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Refused { .. } => Self::Refused,
            Failure::Unavailable(Reason::QueueFull) => Self::QueueFull,
            Failure::Unavailable(Reason::BreakerOpen) => Self::BreakerOpen,
            Failure::Unavailable(Reason::Down(_) | Reason::Broken(_)) => Self::Unavailable,
            Failure::Timeout => Self::Timeout,
        }
    }
}

/// All series; hands each upstream its own.
pub(super) struct Metrics {
    calls: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGaugeVec,
    waiting: IntGaugeVec,
    open: IntGaugeVec,
}

/// The series of one upstream, looked up once.
#[derive(Clone)]
pub(super) struct Handles {
    calls: [IntCounter; Outcome::ALL.len()],
    duration: Histogram,
    pub(super) in_flight: IntGauge,
    pub(super) waiting: IntGauge,
    pub(super) open: IntGauge,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["upstream"]);
        let calls = Opts::new("gateway_upstream_calls_total", "Upstream calls, by how they ended");
        let duration = HistogramOpts::new(
            "gateway_upstream_duration_seconds",
            "Time from a call's slot to the end of its answer",
        );
        let metrics = Self {
            calls: IntCounterVec::new(calls, &["upstream", "outcome"])?,
            duration: HistogramVec::new(duration.buckets(BUCKETS.to_vec()), &["upstream"])?,
            in_flight: gauge("gateway_upstream_in_flight", "Upstream calls that have a slot")?,
            waiting: gauge("gateway_upstream_waiting", "Upstream calls that wait for a slot")?,
            open: gauge("gateway_upstream_breaker_open", "1 while the upstream is left alone")?,
        };
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
        Ok(metrics)
    }

    pub(super) fn of(&self, upstream: &str) -> Handles {
        let calls = |outcome: Outcome| self.calls.with_label_values(&[upstream, outcome.as_str()]);
        Handles {
            calls: Outcome::ALL.map(calls),
            duration: self.duration.with_label_values(&[upstream]),
            in_flight: self.in_flight.with_label_values(&[upstream]),
            waiting: self.waiting.with_label_values(&[upstream]),
            open: self.open.with_label_values(&[upstream]),
        }
    }
}

/// One more, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(IntGauge);

impl Counted {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts one call when it is dropped: as it ended, or as cancelled where nobody said how.
pub(super) struct Meter {
    handles: Handles,
    started: Option<Instant>,
    outcome: Outcome,
}

impl Meter {
    pub(super) fn new(handles: &Handles) -> Self {
        Self { handles: handles.clone(), started: None, outcome: Outcome::Cancelled }
    }

    /// The call has its slot.
    pub(super) fn start(&mut self, now: Instant) {
        self.started = Some(now);
    }

    /// The call has ended.
    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(counter) = self.handles.calls.get(self.outcome as usize) {
            counter.inc();
        }
        if let Some(started) = self.started {
            self.handles.duration.observe(started.elapsed().as_secs_f64());
        }
    }
}
