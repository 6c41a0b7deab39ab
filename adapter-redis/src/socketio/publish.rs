//! Messages on their way out.
//!
//! In come messages, at any time and from anywhere, without waiting; out they go to Redis in the order in
//! which they came, as many at once as there are. One task sends them on a connection of its own. What
//! waits is bounded: a message that does not fit is refused, one that waited too long is dropped, and one
//! whose arrival is unknown is not sent again.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{FromRedisValue, Pipeline, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{config::AdapterConfig, counters::Counters, subscribe::Dialer};

/// What one round trip carries at most.
const BATCH: usize = 512;
/// Bytes after which a round trip is full. One message may be longer.
const BATCH_BYTES: usize = 1 << 20;
/// How long the task waits before it tries again to connect.
const DIAL_AGAIN: Duration = Duration::from_millis(200);

struct Message {
    channel: String,
    payload: Bytes,
    at: Instant,
}

impl Message {
    /// With what a message costs beside its bytes.
    fn size(&self) -> usize {
        self.payload.len() + self.channel.len() + size_of::<Self>()
    }
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Messages that were taken out and are being sent.
    in_flight: usize,
}

/// The outgoing buffer and the connection that it is sent on.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
    connection: Mutex<Option<MultiplexedConnection>>,
    dialer: Dialer,
    up: AtomicBool,
    counters: Arc<Counters>,
    messages: usize,
    bytes: usize,
    age: Duration,
    hang_timeout: Duration,
}

impl Outbox {
    pub(crate) fn new(config: &AdapterConfig, dialer: Dialer, counters: Arc<Counters>) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            connection: Mutex::new(None),
            dialer,
            up: AtomicBool::new(true),
            counters,
            messages: config.outgoing_messages.get(),
            bytes: config.outgoing_bytes.get(),
            age: config.outgoing_age,
            hang_timeout: config.hang_timeout,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Puts a message into the buffer, if there is room for it.
    pub(crate) fn push(&self, channel: String, payload: Bytes) {
        let message = Message { channel, payload, at: Instant::now() };
        let mut queue = self.queue.lock();
        let bytes = queue.bytes.saturating_add(message.size());
        if queue.messages.len() >= self.messages || bytes > self.bytes {
            drop(queue);
            self.counters.refused.one();
            return;
        }
        queue.bytes = bytes;
        queue.messages.push_back(message);
        drop(queue);
        self.filled.notify_one();
    }

    /// Waits until everything was sent that is here now, if it can be by then.
    pub(crate) async fn flush(&self, patience: Duration) -> bool {
        let empty = async {
            loop {
                let emptied = self.emptied.notified();
                if self.is_idle() {
                    return;
                }
                emptied.await;
            }
        };
        tokio::time::timeout(patience, empty).await.is_ok()
    }

    /// Sends what comes, for as long as the task lives.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let filled = self.filled.notified();
            if self.is_empty() {
                // Without messages nobody would find out that Redis is back.
                if self.is_up() {
                    filled.await;
                } else if self.ask::<redis::Value>(&redis::cmd("PING")).await.is_err() {
                    tokio::time::sleep(DIAL_AGAIN).await;
                }
                continue;
            }
            let Ok(mut connection) = self.connection().await else {
                self.drop_stale();
                tokio::time::sleep(DIAL_AGAIN).await;
                continue;
            };
            let (batch, count) = self.take();
            if count > 0 {
                self.send(&mut connection, &batch, count).await;
            }
            self.queue.lock().in_flight = 0;
            self.emptied.notify_waiters();
        }
    }

    async fn send(&self, connection: &mut MultiplexedConnection, batch: &Pipeline, count: usize) {
        let sent = self.within(self.hang_timeout, batch.query_async::<()>(connection)).await;
        match sent {
            Ok(()) => self.counters.published.many(count),
            Err(error) => {
                self.counters.unconfirmed.many(count);
                self.failed(&error);
            }
        }
    }

    fn is_idle(&self) -> bool {
        let queue = self.queue.lock();
        queue.messages.is_empty() && queue.in_flight == 0
    }

    fn is_empty(&self) -> bool {
        self.queue.lock().messages.is_empty()
    }

    fn drop_stale(&self) {
        let mut queue = self.queue.lock();
        while queue.messages.front().is_some_and(|message| message.at.elapsed() > self.age) {
            if let Some(message) = queue.messages.pop_front() {
                queue.bytes = queue.bytes.saturating_sub(message.size());
                self.counters.stale.one();
            }
        }
    }

    fn take(&self) -> (Pipeline, usize) {
        self.drop_stale();
        let mut batch = redis::pipe();
        let (mut count, mut bytes) = (0, 0);
        let mut queue = self.queue.lock();
        while count < BATCH && bytes < BATCH_BYTES {
            let Some(message) = queue.messages.pop_front() else { break };
            bytes += message.payload.len();
            count += 1;
            queue.bytes = queue.bytes.saturating_sub(message.size());
            batch.cmd("PUBLISH").arg(&message.channel).arg(&message.payload[..]).ignore();
        }
        queue.in_flight = count;
        (batch, count)
    }

    /// Asks Redis something on the same connection. An answer that is only late does not end it.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let asking = command.query_async(&mut connection);
        let answer = self.within(self.dialer.response_timeout, asking).await;
        if let Err(error) = &answer
            && !error.is_timeout()
        {
            self.failed(error);
        }
        answer
    }

    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        let answer = tokio::time::timeout(limit, call).await;
        let answer = answer.unwrap_or_else(|_| Err(too_late()))?;
        self.up.store(true, Ordering::Release);
        Ok(answer)
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = self.connection.lock().clone() {
            return Ok(connection);
        }
        match self.dialer.dial(None).await {
            Ok(connection) => {
                *self.connection.lock() = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                self.counters.failed_dials.one();
                self.fell(&error);
                Err(error)
            }
        }
    }

    /// A refusal of Redis leaves the connection as it is; anything else ends it.
    fn failed(&self, error: &RedisError) {
        if error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error() {
            *self.connection.lock() = None;
            self.fell(error);
        } else {
            debug!(%error, "redis refused messages");
        }
    }

    fn fell(&self, error: &RedisError) {
        if self.up.swap(false, Ordering::AcqRel) {
            warn!(%error, "messages cannot be published");
            // The task finds out when they can be again.
            self.filled.notify_one();
        }
    }
}

pub(crate) fn too_late() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}
