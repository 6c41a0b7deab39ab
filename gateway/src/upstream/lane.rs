//! How many calls run and wait: a wish comes in, a slot or a place in line goes out.
//!
//! Places are served in the order in which they were taken. It never lets more run than there are slots, nor
//! more wait than there are places; what is dropped frees what it held.

use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use prometheus::IntGauge;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::metrics::{Counted, Handles};

pub(super) struct Lane {
    slots: Arc<Semaphore>,
    line: Arc<Semaphore>,
    in_flight: IntGauge,
    waiting: IntGauge,
}

/// Leave to run; ends when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

/// A slot, or a place in line for one.
pub(super) enum Place {
    Slot(Slot),
    InLine(InLine),
}

type Turn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

pub(super) struct InLine {
    turn: Turn,
    in_flight: IntGauge,
    _place: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Lane {
    pub(super) fn new(slots: NonZeroU32, places: u32, metrics: &Handles) -> Self {
        let sized = |count: u32| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            slots: sized(slots.get()),
            line: sized(places),
            in_flight: metrics.in_flight.clone(),
            waiting: metrics.waiting.clone(),
        }
    }

    /// A slot if one is free, else a place in line if one is free.
    pub(super) fn enter(&self) -> Option<Place> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(Place::Slot(Slot::new(permit, &self.in_flight)));
        }
        let place = Arc::clone(&self.line).try_acquire_owned().ok()?;
        // Tokio's budget could end the first poll before it takes its place, hence `unconstrained`.
        let turn = tokio::task::unconstrained(Arc::clone(&self.slots).acquire_owned());
        let mut turn: Turn = Box::pin(turn);
        // The first poll takes the place; whoever waits for the turn polls again with a waker that wakes.
        match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => {
                permit.ok().map(|permit| Place::Slot(Slot::new(permit, &self.in_flight)))
            }
            Poll::Pending => Some(Place::InLine(InLine {
                turn,
                in_flight: self.in_flight.clone(),
                _place: place,
                _counted: Counted::new(&self.waiting),
            })),
        }
    }
}

impl Place {
    /// Waits for the slot. `None` would mean that there are no slots any more, which nobody brings about.
    pub(super) async fn slot(self) -> Option<Slot> {
        match self {
            Self::Slot(slot) => Some(slot),
            Self::InLine(mut place) => {
                let permit = place.turn.as_mut().await.ok()?;
                Some(Slot::new(permit, &place.in_flight))
            }
        }
    }
}

impl Slot {
    fn new(permit: OwnedSemaphorePermit, in_flight: &IntGauge) -> Self {
        Self { _permit: permit, _counted: Counted::new(in_flight) }
    }
}
