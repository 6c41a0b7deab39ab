//! One at a time, first come first served, for a key, within one process.
//!
//! In comes a key, out comes a spot in its line; the spot becomes a guard, and the guard's end wakes the
//! next. A key has an entry only while somebody has the turn or waits for it. Whoever gives up his spot
//! is taken out of the line, so a line is never longer than the number of those who wait.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{StateError, Ticket, Turn};

/// The lines of all keys. Clones share them.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// A key is present while its turn is had; the queue is of those behind.
    keys: HashMap<String, VecDeque<Waiter>>,
    next: u64,
}

struct Waiter {
    number: u64,
    wake: oneshot::Sender<TurnGuard>,
}

impl Lines {
    /// Takes a spot in the line for `key`, at once; where nobody is before it, it has the turn already.
    pub fn line_up(&self, key: &str) -> Spot {
        let mut waiting = self.0.lock();
        let number = waiting.next;
        waiting.next = waiting.next.wrapping_add(1);
        let Some(line) = waiting.keys.get_mut(key) else {
            waiting.keys.insert(key.to_owned(), VecDeque::new());
            return Spot(Some(Position::Turn(self.guard(key))));
        };
        let (wake, woken) = oneshot::channel();
        line.push_back(Waiter { number, wake });
        Spot(Some(Position::Behind { lines: self.clone(), key: key.to_owned(), number, woken }))
    }

    /// How many keys have somebody at them.
    pub fn keys(&self) -> usize {
        self.0.lock().keys.len()
    }

    fn guard(&self, key: &str) -> TurnGuard {
        TurnGuard { lines: self.clone(), key: key.to_owned() }
    }

    /// Hands the turn on. A waiter who leaves in this very moment gets a guard nobody reads, whose own
    /// end hands the turn on again.
    fn pass_on(&self, key: &str) {
        let next = {
            let mut waiting = self.0.lock();
            let next = waiting.keys.get_mut(key).and_then(VecDeque::pop_front);
            if next.is_none() {
                waiting.keys.remove(key);
            }
            next
        };
        if let Some(waiter) = next {
            drop(waiter.wake.send(self.guard(key)));
        }
    }

    fn leave(&self, key: &str, number: u64) {
        let mut waiting = self.0.lock();
        if let Some(line) = waiting.keys.get_mut(key) {
            line.retain(|waiter| waiter.number != number);
        }
    }
}

/// The turn itself; dropping it wakes the next in line.
pub struct TurnGuard {
    lines: Lines,
    key: String,
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        self.lines.pass_on(&self.key);
    }
}

/// A spot in a line. Dropping it leaves the line.
pub struct Spot(Option<Position>);

enum Position {
    Turn(TurnGuard),
    Behind { lines: Lines, key: String, number: u64, woken: oneshot::Receiver<TurnGuard> },
}

impl Spot {
    /// Waits until the turn comes.
    ///
    /// # Errors
    /// `Unavailable` where the line itself is gone, which no caller can bring about.
    pub async fn wait(mut self) -> Result<TurnGuard, StateError> {
        // The position stays inside `self` while it waits, so that a caller who stops waiting leaves
        // the line by the drop of the spot.
        let guard = match self.0.as_mut() {
            Some(Position::Behind { woken, .. }) => Some(woken.await),
            Some(Position::Turn(_)) | None => None,
        };
        match (guard, self.0.take()) {
            (Some(Ok(guard)), _) | (None, Some(Position::Turn(guard))) => Ok(guard),
            (Some(Err(_)) | None, _) => {
                Err(StateError::Unavailable("the line was given up".to_owned()))
            }
        }
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        if let Some(Position::Behind { lines, key, number, .. }) = &self.0 {
            lines.leave(key, *number);
        }
    }
}

#[async_trait]
impl Ticket for Spot {
    async fn turn(self: Box<Self>) -> Result<Turn, StateError> {
        self.wait().await.map(Turn::new)
    }
}
