//! One timer for all sessions: a wheel of slots that a single task turns.
//!
//! A session stands in the wheel once, at the earliest moment when something of it may be due (a
//! ping, a missing pong, a stalled write, a missing poll). When its turn comes it is asked, does what
//! is due, and says when to ask again. While there are no sessions the task sleeps.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Slots of the wheel. What is further away than one turn waits in its slot for another.
const SLOTS: usize = 512;

/// After so many sessions that were asked, other tasks have their turn.
const ASKED_AT_ONCE: usize = 128;

/// Limits of a tick.
const SHORTEST_TICK: Duration = Duration::from_millis(5);
const LONGEST_TICK: Duration = Duration::from_millis(100);

/// Ticks in the shortest time that is told apart.
const TICKS: u32 = 16;

/// What stands in the wheel.
pub(crate) trait Timed: Send + Sync {
    /// Does what is due; when to ask again, if ever. Times are milliseconds of the wheel's clock.
    fn due(self: Arc<Self>, now: u64) -> Option<u64>;
}

struct Entry {
    at: u64,
    who: Weak<dyn Timed>,
}

/// The wheel, and the clock that goes with it.
pub(crate) struct Wheel {
    slots: Vec<Mutex<Vec<Entry>>>,
    tick: u64,
    begun: Instant,
    now: AtomicU64,
    /// The tick whose slot was looked at last.
    hand: AtomicU64,
    entries: AtomicUsize,
    stopped: AtomicBool,
    turning: AtomicBool,
    wake: Notify,
}

impl std::fmt::Debug for Wheel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wheel")
            .field("entries", &self.entries.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// Whole milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Wheel {
    /// A wheel that tells times apart which are a fraction of `shortest`.
    pub(crate) fn new(shortest: Duration) -> Self {
        let tick = (shortest / TICKS).clamp(SHORTEST_TICK, LONGEST_TICK);
        Self {
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            tick: millis(tick),
            begun: Instant::now(),
            now: AtomicU64::new(0),
            hand: AtomicU64::new(0),
            entries: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            turning: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Milliseconds since the wheel was made, as of the last tick.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Reads the clock.
    pub(crate) fn refresh(&self) -> u64 {
        let now = millis(self.begun.elapsed());
        self.now.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Puts somebody in, to be asked no earlier than `at`.
    pub(crate) fn insert(&self, at: u64, who: Weak<dyn Timed>) {
        self.put(Entry { at, who });
        if self.entries.fetch_add(1, Ordering::AcqRel) == 0 {
            self.wake.notify_one();
        }
    }

    /// Puts an entry into its slot, or, where the hand has passed that, into the next. The hand moves
    /// before it looks at a slot, so under the slot's lock it is certain that it is still to come.
    fn put(&self, entry: Entry) {
        let mut tick = entry.at.div_ceil(self.tick);
        loop {
            let Some(slot) = self.slot(tick) else { return };
            let mut slot = slot.lock();
            let hand = self.hand.load(Ordering::Acquire);
            if hand < tick {
                slot.push(entry);
                return;
            }
            tick = hand + 1;
        }
    }

    fn slot(&self, tick: u64) -> Option<&Mutex<Vec<Entry>>> {
        self.slots.get(usize::try_from(tick).unwrap_or_default() % SLOTS)
    }

    /// Ends the turning.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Starts the turning, the first time that it is asked to.
    pub(crate) fn start(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        if !self.turning.swap(true, Ordering::AcqRel) {
            runtime.spawn(self.clone().turn());
        }
    }

    async fn turn(self: Arc<Self>) {
        while !self.stopped.load(Ordering::Acquire) {
            if self.entries.load(Ordering::Acquire) == 0 {
                self.wake.notified().await;
                self.refresh();
                continue;
            }
            tokio::time::sleep(Duration::from_millis(self.tick)).await;
            let reached = self.refresh() / self.tick;
            // After a standstill longer than a turn, each slot is looked at once.
            let passed = self.hand.load(Ordering::Acquire);
            for tick in (passed + 1).max(reached.saturating_sub(SLOTS as u64))..=reached {
                self.hand.store(tick, Ordering::Release);
                self.ask(tick).await;
            }
        }
    }

    /// Asks those of one slot who are due.
    async fn ask(&self, tick: u64) {
        let Some(slot) = self.slot(tick) else { return };
        let entries = std::mem::take(&mut *slot.lock());
        let now = self.now();
        for (index, entry) in entries.into_iter().enumerate() {
            if index % ASKED_AT_ONCE == ASKED_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            if entry.at > now {
                self.put(entry);
                continue;
            }
            match entry.who.upgrade().and_then(|who| who.due(now)) {
                Some(at) => self.put(Entry { at, ..entry }),
                None => {
                    self.entries.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes when it is asked, and asks to be asked again for as often as it was told to.
    struct Noted {
        every: u64,
        times: Mutex<Vec<u64>>,
        wanted: usize,
        done: Notify,
    }

    impl Timed for Noted {
        fn due(self: Arc<Self>, now: u64) -> Option<u64> {
            let mut times = self.times.lock();
            times.push(now);
            if times.len() == self.wanted {
                self.done.notify_one();
                return None;
            }
            Some(now + self.every)
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_early_or_forgotten() {
        let wheel = Arc::new(Wheel::new(Duration::from_millis(80)));
        wheel.start(&tokio::runtime::Handle::current());
        for every in [1_u64, 30, 120] {
            let noted =
                Arc::new(Noted { every, times: Mutex::default(), wanted: 3, done: Notify::new() });
            let begun = wheel.refresh();
            let timed: Arc<dyn Timed> = noted.clone();
            wheel.insert(begun + every, Arc::downgrade(&timed));
            noted.done.notified().await;
            let times = noted.times.lock().clone();
            let mut earliest = begun;
            for time in times {
                assert!(time >= earliest + every, "every {every}: {time} after {earliest}");
                earliest = time;
            }
        }
        assert_eq!(wheel.entries.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn who_is_gone_is_forgotten() {
        let wheel = Arc::new(Wheel::new(Duration::from_millis(80)));
        let noted =
            Arc::new(Noted { every: 1, times: Mutex::default(), wanted: 1, done: Notify::new() });
        let timed: Arc<dyn Timed> = noted.clone();
        let weak = Arc::downgrade(&timed);
        drop((timed, noted));
        wheel.insert(1, weak);
        wheel.start(&tokio::runtime::Handle::current());
        while wheel.entries.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
    }
}
