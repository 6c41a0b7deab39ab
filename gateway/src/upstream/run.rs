//! One call from its place in line to its last part.
//!
//! It goes through the breaker and the lane, hands on what the backend gives, and sees to it that however it
//! ends, the slot is free, the breaker knows, and it is counted once.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{Span, debug, warn};

use super::{
    Answer, Call, Failure, Inner, Reason,
    backend::Parts,
    breaker::Pass,
    lane::{Place, Slot},
    metrics::{Meter, Outcome},
};

pub(super) struct Run {
    upstream: Arc<Inner>,
    call: Call,
    span: Span,
    stage: Stage,
    held: Option<Held>,
    meter: Option<Meter>,
}

enum Stage {
    Refused(Failure),
    InLine(Place),
    Open(Parts),
    Over,
}

/// What a call has while it runs.
struct Held {
    pass: Pass,
    _slot: Slot,
}

impl Run {
    /// Takes a slot or a place in line, or knows why not.
    pub(super) fn begin(upstream: Arc<Inner>, call: Call) -> Self {
        let stage = if upstream.breaker.refuses(Instant::now()) {
            Stage::Refused(Failure::Unavailable(Reason::BreakerOpen))
        } else {
            let full = || Stage::Refused(Failure::Unavailable(Reason::QueueFull));
            upstream.lane.enter().map_or_else(full, Stage::InLine)
        };
        let meter = Some(Meter::new(&upstream.metrics));
        Self { upstream, call, span: Span::current(), stage, held: None, meter }
    }

    /// The next part. After a failure, and after the last part, `None`.
    pub(super) async fn next(&mut self) -> Option<Result<Answer, Failure>> {
        let part = self.step().await;
        match part {
            Ok(Some(answer)) => {
                if let Some(held) = &mut self.held {
                    held.pass.answered();
                }
                if matches!(&self.stage, Stage::Open(parts) if parts.is_over()) {
                    self.end_well();
                }
                Some(Ok(answer))
            }
            Ok(None) => {
                self.end_well();
                None
            }
            Err(failure) => {
                self.end_badly(&failure);
                Some(Err(failure))
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Answer>, Failure> {
        let mut parts = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return Ok(None),
            Stage::Refused(failure) => return Err(failure),
            Stage::InLine(place) => self.start(place).await?,
            Stage::Open(parts) => parts,
        };
        let part = parts.next().await?;
        self.stage = Stage::Open(parts);
        Ok(part)
    }

    async fn start(&mut self, place: Place) -> Result<Parts, Failure> {
        let no_slots = || Failure::Unavailable(Reason::QueueFull);
        let slot = place.slot().await.ok_or_else(no_slots)?;
        let now = Instant::now();
        // The breaker may have opened while this call stood in line.
        let shut = || Failure::Unavailable(Reason::BreakerOpen);
        let pass = self.upstream.breaker.enter(now).ok_or_else(shut)?;
        self.held = Some(Held { pass, _slot: slot });
        if let Some(meter) = &mut self.meter {
            meter.start(now);
        }
        self.upstream.backend.open(&self.call, &self.span).await
    }

    fn end_well(&mut self) {
        self.stage = Stage::Over;
        if let Some(held) = self.held.take() {
            held.pass.succeeded();
        }
        if let Some(meter) = self.meter.take() {
            meter.end(Outcome::Ok);
        }
    }

    fn end_badly(&mut self, failure: &Failure) {
        self.stage = Stage::Over;
        let outcome = Outcome::of(failure);
        if let Some(held) = self.held.take() {
            match outcome {
                // An application that says no is well.
                Outcome::Ok | Outcome::Refused => held.pass.succeeded(),
                Outcome::Unavailable | Outcome::Timeout => held.pass.failed(Instant::now()),
                Outcome::QueueFull | Outcome::BreakerOpen | Outcome::Cancelled => drop(held),
            }
        }
        if let Some(meter) = self.meter.take() {
            meter.end(outcome);
        }
        let outcome = outcome.as_str();
        match failure {
            Failure::Timeout | Failure::Unavailable(Reason::Down(_) | Reason::Broken(_)) => {
                warn!(outcome, reason = %failure, "upstream call failed");
            }
            // One line for each refusal would flood the log exactly when it matters.
            Failure::Unavailable(Reason::QueueFull | Reason::BreakerOpen)
            | Failure::Refused { .. } => debug!(outcome, "upstream call refused"),
        }
    }
}
