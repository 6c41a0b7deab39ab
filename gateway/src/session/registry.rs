//! Every session of this pod, by namespace and id.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use super::Session;

/// Shards, so that one busy map does not stop the others.
const SHARDS: usize = 16;

/// The sessions of one namespace.
#[derive(Debug, Default)]
pub struct Registry {
    shards: [RwLock<HashMap<Box<str>, Arc<Session>>>; SHARDS],
}

impl Registry {
    fn shard(&self, sid: &str) -> &RwLock<HashMap<Box<str>, Arc<Session>>> {
        let sum =
            sid.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        &self.shards[sum % SHARDS]
    }

    /// Adds a session.
    pub fn insert(&self, session: Arc<Session>) {
        self.shard(&session.sid).write().insert(session.sid.clone(), session);
    }

    /// Takes a session away.
    pub fn remove(&self, sid: &str) -> Option<Arc<Session>> {
        self.shard(sid).write().remove(sid)
    }

    /// The session of this id.
    pub fn find(&self, sid: &str) -> Option<Arc<Session>> {
        self.shard(sid).read().get(sid).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>())
            .collect()
    }
}
