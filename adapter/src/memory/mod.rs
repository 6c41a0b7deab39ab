//! The cluster contract kept in the process: one pod, no store, nothing to install.
//!
//! In come the calls of [`State`]; out go its answers, always and at once. Nothing is written to disk,
//! nothing is shared with another process, and no task runs of its own: what has a time to live is
//! passed over from the moment it lapsed, and swept by [`State::tick`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    Charge, Denied, Departed, Held, Hold, Lapsed, Place, Queued, Released, Reply, State,
    StateError, Ticket, Verdict, Wish,
};

mod charges;
mod documents;
mod holds;
mod queues;
#[cfg(test)]
mod tests;
mod turns;

pub use documents::merge_patch;
pub use turns::{Lines, Spot, TurnGuard};

use charges::Buckets;
use documents::Documents;
use holds::Holds;
use queues::{Queues, Replies};

/// The state of a gateway that is one pod. Clones share one state.
#[derive(Clone)]
pub struct MemoryState(Arc<Inner>);

struct Inner {
    pod: String,
    holds: Mutex<Holds>,
    documents: Mutex<Documents>,
    lines: Lines,
    buckets: Mutex<Buckets>,
    queues: Mutex<Queues>,
    replies: Mutex<Replies>,
}

impl MemoryState {
    /// An empty state for the pod of this name.
    pub fn new(pod: impl Into<String>) -> Self {
        let pod = pod.into();
        Self(Arc::new(Inner {
            holds: Mutex::new(Holds::new(pod.clone())),
            pod,
            documents: Mutex::default(),
            lines: Lines::default(),
            buckets: Mutex::default(),
            queues: Mutex::default(),
            replies: Mutex::default(),
        }))
    }

    /// Takes up to `max` messages out of a queue, oldest first, with the ids they were stored under.
    /// There is no worker beside a gateway that is one process, so this is how queued work is seen.
    pub fn take(&self, queue: &str, max: usize) -> Vec<(String, Value)> {
        self.0.queues.lock().take(queue, max)
    }
}

impl std::fmt::Debug for MemoryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryState").field("pod", &self.0.pod).finish_non_exhaustive()
    }
}

#[async_trait]
impl State for MemoryState {
    fn pod(&self) -> &str {
        &self.0.pod
    }

    fn available(&self) -> bool {
        true
    }

    async fn hold(&self, wish: Wish) -> Result<Result<Held, Denied>, StateError> {
        Ok(self.0.holds.lock().hold(wish))
    }

    async fn release(
        &self,
        place: &Place,
        sid: Option<&str>,
        holder: Option<&str>,
    ) -> Result<Vec<Released>, StateError> {
        Ok(self.0.holds.lock().release(place, sid, holder))
    }

    async fn holds(&self, place: &Place) -> Result<Vec<Hold>, StateError> {
        Ok(self.0.holds.lock().holds(place))
    }

    async fn held_by(&self, namespace: &str, sid: &str) -> Result<Vec<Place>, StateError> {
        Ok(self.0.holds.lock().held_by(namespace, sid))
    }

    async fn depart(&self, namespace: &str, sid: &str) -> Result<Departed, StateError> {
        Ok(self.0.holds.lock().depart(namespace, sid))
    }

    async fn tick(&self) -> Result<Lapsed, StateError> {
        self.0.documents.lock().sweep();
        self.0.buckets.lock().sweep();
        self.0.replies.lock().sweep();
        let expired = self.0.holds.lock().expire();
        Ok(Lapsed { expired, departed: Vec::new() })
    }

    async fn read(&self, collection: &str, id: &str) -> Result<Option<Value>, StateError> {
        Ok(self.0.documents.lock().read(collection, id))
    }

    async fn write(
        &self,
        collection: &str,
        id: &str,
        document: Value,
        ttl: Duration,
    ) -> Result<(), StateError> {
        self.0.documents.lock().write(collection, id, document, ttl);
        Ok(())
    }

    async fn patch(
        &self,
        collection: &str,
        id: &str,
        patch: Value,
        ttl: Duration,
    ) -> Result<Option<Value>, StateError> {
        Ok(self.0.documents.lock().patch(collection, id, patch, ttl))
    }

    async fn remove(&self, collection: &str, id: &str) -> Result<bool, StateError> {
        Ok(self.0.documents.lock().remove(collection, id))
    }

    async fn count(&self, collection: &str) -> Result<u64, StateError> {
        Ok(self.0.documents.lock().count(collection))
    }

    fn line_up(&self, key: &str) -> Box<dyn Ticket> {
        Box::new(self.0.lines.line_up(key))
    }

    async fn charge(&self, charges: &[Charge]) -> Result<Verdict, StateError> {
        Ok(self.0.buckets.lock().charge(charges))
    }

    async fn enqueue(
        &self,
        queue: &str,
        message: &Value,
        cap: usize,
    ) -> Result<Queued, StateError> {
        Ok(self.0.queues.lock().enqueue(queue, message, cap))
    }

    async fn begin(&self, key: &str, ttl: Duration) -> Result<Reply, StateError> {
        Ok(self.0.replies.lock().begin(key, ttl))
    }

    async fn answered(
        &self,
        key: &str,
        answer: Option<Value>,
        ttl: Duration,
    ) -> Result<(), StateError> {
        self.0.replies.lock().answered(key, answer, ttl);
        Ok(())
    }
}
