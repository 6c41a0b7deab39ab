//! Durable queues for other processes, and remembered replies.
//!
//! In come messages, out go entries of a Redis stream, each with one field, `event`. A queue at its cap
//! refuses; nothing is ever trimmed to make room. Replies lapse by themselves.

use std::{sync::Arc, time::Duration};

use adapter::{Queued, Reply, StateError};
use redis::Script;
use serde_json::Value;

use super::{stored::corrupt, ttl_millis};
use crate::{connection::Link, names::Names, scripts};

/// Queues and replies in Redis.
pub(crate) struct Queues {
    link: Arc<Link>,
    names: Names,
    enqueue: Script,
    begin: Script,
}

impl Queues {
    pub(crate) fn new(link: Arc<Link>, names: Names) -> Self {
        Self { link, names, enqueue: scripts::enqueue(), begin: scripts::begin() }
    }

    pub(crate) async fn enqueue(
        &self,
        queue: &str,
        message: &Value,
        cap: usize,
    ) -> Result<Queued, StateError> {
        let mut call = self.enqueue.key(queue);
        call.arg(cap).arg(message.to_string());
        let id: Option<String> = self.link.script(queue, &call).await?;
        Ok(id.map_or(Queued::Full, Queued::Stored))
    }

    pub(crate) async fn begin(&self, key: &str, ttl: Duration) -> Result<Reply, StateError> {
        let name = self.names.reply(key);
        let mut call = self.begin.key(&name);
        call.arg(ttl_millis(ttl));
        let known: Option<String> = self.link.script(&name, &call).await?;
        match known.as_deref() {
            None => Ok(Reply::New),
            Some("") => Ok(Reply::InProgress),
            Some(text) => {
                serde_json::from_str(text).map(Reply::Done).map_err(|_| corrupt("a reply"))
            }
        }
    }

    pub(crate) async fn answered(
        &self,
        key: &str,
        answer: Option<Value>,
        ttl: Duration,
    ) -> Result<(), StateError> {
        let name = self.names.reply(key);
        let command = match answer {
            Some(answer) => redis::Cmd::pset_ex(&name, answer.to_string(), ttl_millis(ttl)),
            None => redis::Cmd::del(&name),
        };
        self.link.command::<redis::Value>(&name, &command).await.map(drop)
    }
}
