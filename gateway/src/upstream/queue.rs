//! `kind = "redis-stream"`: a call goes into a durable queue, its id comes back.
//!
//! It never waits for a worker, and never drops what waits to make room: a full queue is a refusal.

use std::time::Duration;

use adapter::{Queued, SharedState};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::{Answer, Call, Failure, Reason, UpstreamConfig, backend::Parts};

/// Work of some hours for a few workers, and with images of megabytes what a Redis can be expected to hold.
const CAP: usize = 10_000;

pub(super) struct Queue {
    state: SharedState,
    stream: String,
    cap: usize,
    timeout: Duration,
}

impl Queue {
    pub(super) fn new(
        name: &str,
        config: &UpstreamConfig,
        prefix: &str,
        state: SharedState,
    ) -> Self {
        let stream = config.stream.clone().unwrap_or_else(|| format!("{prefix}:{name}"));
        let cap = config.cap.map_or(CAP, std::num::NonZero::get);
        Self { state, stream, cap, timeout: config.timeout }
    }

    pub(super) async fn open(&self, call: &Call) -> Result<Parts, Failure> {
        let id = format!("job_{:032x}", rand::random::<u128>());
        let message = message(&id, call)?;
        let stored = timeout(self.timeout, self.state.enqueue(&self.stream, &message, self.cap));
        match stored.await {
            Err(_) => Err(Failure::Timeout),
            Ok(Err(error)) => Err(Failure::down(error.to_string())),
            Ok(Ok(Queued::Full)) => Err(Failure::Unavailable(Reason::QueueFull)),
            Ok(Ok(Queued::Stored(_))) => {
                let result = Map::from_iter([("id".to_owned(), Value::String(id))]);
                Ok(Parts::One(Box::new(Answer { result: Some(result), ..Answer::default() })))
            }
        }
    }
}

/// The body of a call with the id that workers tell repetitions by.
fn message(id: &str, call: &Call) -> Result<Value, Failure> {
    let body = serde_json::to_value(call).map_err(|error| Failure::down(error.to_string()))?;
    let mut message = Map::from_iter([("id".to_owned(), Value::String(id.to_owned()))]);
    if let Value::Object(body) = body {
        message.extend(body);
    }
    Ok(Value::Object(message))
}
