//! Documents with a time to live.
//!
//! In come reads, writes and patches; out come documents as they were written. Redis lets a document
//! lapse by itself; a list of deadlines per collection says how many there are.
//!
//! A patch is applied here and swapped in if nobody wrote meanwhile: Lua would give back other numbers
//! and other empty lists than it was given.

use std::{sync::Arc, time::Duration};

use adapter::{StateError, memory::merge_patch};
use serde_json::Value;

use super::{stored::corrupt, ttl_millis};
use crate::{connection::Link, names::Names, scripts::DocumentScripts};

/// How often a patch is applied anew because another writer was quicker. Each time one of them gets
/// through, so this many must have been at one document at once.
const SWAPS: usize = 100;

/// Documents in Redis.
pub(crate) struct Documents {
    link: Arc<Link>,
    names: Names,
    scripts: DocumentScripts,
}

impl Documents {
    pub(crate) fn new(link: Arc<Link>, names: Names) -> Self {
        Self { link, names, scripts: DocumentScripts::new() }
    }

    pub(crate) async fn read(
        &self,
        collection: &str,
        id: &str,
    ) -> Result<Option<Value>, StateError> {
        let text = self.text(collection, id).await?;
        text.map(|text| parse(&text)).transpose()
    }

    async fn text(&self, collection: &str, id: &str) -> Result<Option<String>, StateError> {
        let name = self.names.document(collection, id);
        self.link.command(&name, redis::cmd("GET").arg(&name)).await
    }

    pub(crate) async fn write(
        &self,
        collection: &str,
        id: &str,
        document: &Value,
        ttl: Duration,
    ) -> Result<(), StateError> {
        let mut call = self.scripts.write.key(self.names.document(collection, id));
        call.key(self.names.collection(collection));
        call.arg(id).arg(document.to_string()).arg(ttl_millis(ttl));
        self.link.script(&self.names.collection(collection), &call).await
    }

    pub(crate) async fn patch(
        &self,
        collection: &str,
        id: &str,
        patch: &Value,
        ttl: Duration,
    ) -> Result<Option<Value>, StateError> {
        let Some(mut stands) = self.text(collection, id).await? else { return Ok(None) };
        for _ in 0..SWAPS {
            let mut document = parse(&stands)?;
            merge_patch(&mut document, patch.clone());
            let mut call = self.scripts.swap.key(self.names.document(collection, id));
            call.key(self.names.collection(collection));
            call.arg(id).arg(document.to_string()).arg(ttl_millis(ttl)).arg(&stands);
            let answer: Vec<String> =
                self.link.script(&self.names.collection(collection), &call).await?;
            match answer.as_slice() {
                [done] if done == "done" => return Ok(Some(document)),
                [none] if none == "none" => return Ok(None),
                [_, other] => stands.clone_from(other),
                _ => return Err(corrupt("the answer to a patch")),
            }
        }
        Err(StateError::Unavailable("too many writers at one document".to_owned()))
    }

    pub(crate) async fn remove(&self, collection: &str, id: &str) -> Result<bool, StateError> {
        let mut call = self.scripts.remove.key(self.names.document(collection, id));
        call.key(self.names.collection(collection)).arg(id);
        self.link.script(&self.names.collection(collection), &call).await
    }

    pub(crate) async fn count(&self, collection: &str) -> Result<u64, StateError> {
        let call = self.scripts.count.key(self.names.collection(collection));
        self.link.script(&self.names.collection(collection), &call).await
    }
}

fn parse(text: &str) -> Result<Value, StateError> {
    serde_json::from_str(text).map_err(|_| corrupt("a document"))
}
