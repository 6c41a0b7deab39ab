//! Queued work and remembered replies, in the process.
//!
//! In come messages up to a cap, out they go in order through `take`; nothing is ever dropped to make
//! room. Replies are remembered for their time to live and not a moment longer.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Queued, Reply};

/// All queues. A queue that is empty has no entry.
#[derive(Default)]
pub(super) struct Queues {
    queues: HashMap<String, VecDeque<(String, Value)>>,
    stored: u64,
}

impl Queues {
    pub(super) fn enqueue(&mut self, queue: &str, message: &Value, cap: usize) -> Queued {
        if self.queues.get(queue).map_or(0, VecDeque::len) >= cap {
            return Queued::Full;
        }
        self.stored += 1;
        let id = format!("{}-0", self.stored);
        self.queues.entry(queue.to_owned()).or_default().push_back((id.clone(), message.clone()));
        Queued::Stored(id)
    }

    pub(super) fn take(&mut self, queue: &str, max: usize) -> Vec<(String, Value)> {
        let Some(messages) = self.queues.get_mut(queue) else { return Vec::new() };
        let taken = messages.drain(..max.min(messages.len())).collect();
        if messages.is_empty() {
            self.queues.remove(queue);
        }
        taken
    }
}

/// What is known of one request.
struct Known {
    answer: Option<Value>,
    until: Option<Instant>,
}

impl Known {
    fn lives(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// All requests that are begun or answered.
#[derive(Default)]
pub(super) struct Replies(HashMap<String, Known>);

impl Replies {
    pub(super) fn begin(&mut self, key: &str, ttl: Duration) -> Reply {
        let now = Instant::now();
        if let Some(known) = self.0.get(key).filter(|known| known.lives(now)) {
            return known.answer.clone().map_or(Reply::InProgress, Reply::Done);
        }
        self.0.insert(key.to_owned(), Known { answer: None, until: now.checked_add(ttl) });
        Reply::New
    }

    pub(super) fn answered(&mut self, key: &str, answer: Option<Value>, ttl: Duration) {
        if answer.is_none() {
            self.0.remove(key);
            return;
        }
        let until = Instant::now().checked_add(ttl);
        self.0.insert(key.to_owned(), Known { answer, until });
    }

    /// Drops what lapsed.
    pub(super) fn sweep(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, known| known.lives(now));
    }
}
