//! Documents with a time to live, in maps, and the merge patch that every state applies.
//!
//! In come writes and patches, out come documents that live. A lapsed document is never read, patched
//! or counted, whether it was swept yet or not.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

/// A document, and when it lapses; `None` is a time too far away for the clock.
struct Document {
    value: Value,
    until: Option<Instant>,
}

impl Document {
    fn lives(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// All collections.
#[derive(Default)]
pub(super) struct Documents(HashMap<String, HashMap<String, Document>>);

impl Documents {
    pub(super) fn read(&mut self, collection: &str, id: &str) -> Option<Value> {
        self.living(collection, id).map(|document| document.value.clone())
    }

    pub(super) fn write(&mut self, collection: &str, id: &str, value: Value, ttl: Duration) {
        let document = Document { value, until: Instant::now().checked_add(ttl) };
        self.0.entry(collection.to_owned()).or_default().insert(id.to_owned(), document);
    }

    pub(super) fn patch(
        &mut self,
        collection: &str,
        id: &str,
        patch: Value,
        ttl: Duration,
    ) -> Option<Value> {
        let document = self.living(collection, id)?;
        merge_patch(&mut document.value, patch);
        document.until = Instant::now().checked_add(ttl);
        Some(document.value.clone())
    }

    pub(super) fn remove(&mut self, collection: &str, id: &str) -> bool {
        let lived = self.living(collection, id).is_some();
        self.forget(collection, id);
        lived
    }

    pub(super) fn count(&self, collection: &str) -> u64 {
        let now = Instant::now();
        let Some(documents) = self.0.get(collection) else { return 0 };
        documents.values().filter(|document| document.lives(now)).count() as u64
    }

    /// Drops what lapsed.
    pub(super) fn sweep(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, documents| {
            documents.retain(|_, document| document.lives(now));
            !documents.is_empty()
        });
    }

    /// The document if it lives; a lapsed one is dropped on the way.
    fn living(&mut self, collection: &str, id: &str) -> Option<&mut Document> {
        let lives = self.0.get(collection)?.get(id)?.lives(Instant::now());
        if !lives {
            self.forget(collection, id);
            return None;
        }
        self.0.get_mut(collection)?.get_mut(id)
    }

    fn forget(&mut self, collection: &str, id: &str) {
        let Some(documents) = self.0.get_mut(collection) else { return };
        documents.remove(id);
        if documents.is_empty() {
            self.0.remove(collection);
        }
    }
}

/// Applies an RFC 7386 merge patch: objects are merged member by member, `null` removes a member, and
/// anything else replaces what was there.
pub fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, change) in patch {
        if change.is_null() {
            // `shift_remove` keeps the order of the members that stay.
            members.shift_remove(&name);
        } else {
            merge_patch(members.entry(name).or_insert(Value::Null), change);
        }
    }
}
