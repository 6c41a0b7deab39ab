//! Messages on their way out.
//!
//! In come messages, at any time and from anywhere, without waiting; out they go to Redis in the order in
//! which they came, as many at once as there are. One task sends them on a connection of its own. What
//! waits is bounded: a message that does not fit is refused, one that waited too long is dropped, and one
//! whose arrival is unknown is not sent again. Only what a server refused because the slot is elsewhere is,
//! before all that came after it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{FromRedisValue, RedisError, RedisResult};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{
    config::AdapterConfig,
    counters::Counters,
    dialer::{Dialed, Dialer, too_late},
};

/// What one round trip carries at most.
const BATCH: usize = 512;
/// Bytes after which a round trip is full. One message may be longer.
const BATCH_BYTES: usize = 1 << 20;
/// How long the task waits before it tries again to connect.
const DIAL_AGAIN: Duration = Duration::from_millis(200);
/// How long nothing is sent after Redis was away: at least, and at most. The other pods lost it too, and
/// what comes before they listen again is lost. It is as long as they wait between two attempts.
const SETTLE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

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

/// What may wait in all buffers together.
pub(crate) struct Budget {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    most_messages: usize,
    most_bytes: usize,
}

impl Budget {
    pub(crate) fn new(config: &AdapterConfig) -> Self {
        Self {
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            most_messages: config.outgoing_messages.get(),
            most_bytes: config.outgoing_bytes.get(),
        }
    }

    /// Takes what a message needs, if it is there.
    fn take(&self, message: &Message) -> bool {
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(message.size(), Ordering::Relaxed);
        let fits = messages < self.most_messages
            && bytes.saturating_add(message.size()) <= self.most_bytes;
        if !fits {
            self.give(message);
        }
        fits
    }

    fn give(&self, message: &Message) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(message.size(), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    /// Messages that were taken out and are being sent.
    in_flight: usize,
}

/// How long Redis was away, and until when the others are waited for.
#[derive(Default)]
struct Away {
    since: Option<Instant>,
    until: Option<Instant>,
}

impl Away {
    fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            let settle = since.elapsed().clamp(SETTLE.0, SETTLE.1);
            self.until = Instant::now().checked_add(settle);
        }
    }

    /// How much longer the others are waited for.
    fn settling(&self) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// The outgoing buffer and the connection that it is sent on.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
    connection: Mutex<Option<Dialed>>,
    away: Mutex<Away>,
    dialer: Dialer,
    up: AtomicBool,
    counters: Arc<Counters>,
    budget: Arc<Budget>,
    age: Duration,
    hang_timeout: Duration,
    ping_interval: Duration,
}

impl Outbox {
    pub(crate) fn new(
        config: &AdapterConfig,
        budget: Arc<Budget>,
        dialer: Dialer,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            connection: Mutex::new(None),
            away: Mutex::default(),
            dialer,
            up: AtomicBool::new(true),
            counters,
            budget,
            age: config.outgoing_age,
            hang_timeout: config.hang_timeout,
            ping_interval: config.ping_interval.max(Duration::from_millis(10)),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Puts a message into the buffer, if there is room for it.
    pub(crate) fn push(&self, channel: String, payload: Bytes) {
        let message = Message { channel, payload, at: Instant::now() };
        if !self.budget.take(&message) {
            self.counters.refused.one();
            return;
        }
        self.queue.lock().messages.push_back(message);
        self.filled.notify_one();
    }

    /// Waits until everything was sent that is here now, if it can be by then.
    pub(crate) async fn flush(&self, deadline: tokio::time::Instant) -> bool {
        let empty = async {
            loop {
                let emptied = self.emptied.notified();
                if self.is_idle() {
                    return;
                }
                emptied.await;
            }
        };
        tokio::time::timeout_at(deadline, empty).await.is_ok()
    }

    /// Sends what comes, for as long as the task lives.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let filled = self.filled.notified();
            if self.is_empty() {
                // Without messages nobody would find out that Redis is back.
                if self.is_up() {
                    self.idle(filled).await;
                } else if self.ask::<redis::Value>(&redis::cmd("PING")).await.is_err() {
                    tokio::time::sleep(DIAL_AGAIN).await;
                }
                continue;
            }
            let Ok(dialed) = self.connection().await else {
                self.drop_stale();
                tokio::time::sleep(DIAL_AGAIN).await;
                continue;
            };
            let settling = self.away.lock().settling();
            if let Some(left) = settling {
                tokio::time::sleep(left).await;
                continue;
            }
            let batch = self.take();
            let refused = if batch.is_empty() { batch } else { self.send(&dialed, batch).await };
            let again = self.put_back(refused);
            self.emptied.notify_waiters();
            if again {
                self.dialer.nodes.look_again().await;
            }
        }
    }

    /// Waits for a message. Meanwhile the connection is used now and then: else Redis may close it, and the
    /// first message after a quiet time would find that out.
    async fn idle(&self, filled: impl Future<Output = ()>) {
        let waited = tokio::time::timeout(self.ping_interval, filled).await;
        let quiet = waited.is_err() && self.connection.lock().is_some();
        if quiet && let Err(error) = self.ask::<redis::Value>(&redis::cmd("PING")).await {
            debug!(%error, "an idle connection failed");
        }
    }

    /// Sends messages, and gives those that the server refused because another has their slot.
    async fn send(&self, dialed: &Dialed, batch: Vec<Message>) -> Vec<Message> {
        let verb = if self.dialer.is_sharded() { "SPUBLISH" } else { "PUBLISH" };
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for message in &batch {
            pipeline.cmd(verb).arg(&message.channel).arg(&message.payload[..]);
        }
        let mut connection = dialed.connection.clone();
        let sending = pipeline.query_async::<Vec<RedisResult<i64>>>(&mut connection);
        let answers = match self.within(self.hang_timeout, sending).await {
            Ok(answers) => answers,
            Err(error) => {
                self.counters.unconfirmed.many(batch.len());
                self.failed(&error);
                return Vec::new();
            }
        };
        let mut refused = Vec::new();
        for (message, answer) in batch.into_iter().zip(answers) {
            match answer {
                Ok(_) => self.counters.published.one(),
                Err(error) if error.is_cluster_error() => refused.push(message),
                Err(error) => {
                    self.counters.unconfirmed.one();
                    self.failed(&error);
                }
            }
        }
        refused
    }

    /// Puts messages back to where they were taken from; whether there were any.
    fn put_back(&self, messages: Vec<Message>) -> bool {
        let again = !messages.is_empty();
        if again {
            *self.connection.lock() = None;
            self.away.lock().begin();
        }
        let mut queue = self.queue.lock();
        queue.in_flight = 0;
        for message in messages.into_iter().rev() {
            if self.budget.take(&message) {
                queue.messages.push_front(message);
            } else {
                self.counters.refused.one();
            }
        }
        again
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
                self.budget.give(&message);
                self.counters.stale.one();
            }
        }
    }

    fn take(&self) -> Vec<Message> {
        self.drop_stale();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut queue = self.queue.lock();
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(message) = queue.messages.pop_front() else { break };
            bytes += message.payload.len();
            self.budget.give(&message);
            batch.push(message);
        }
        queue.in_flight = batch.len();
        batch
    }

    /// Asks Redis something on the same connection. An answer that is only late does not end it.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> RedisResult<T> {
        let mut connection = self.connection().await?.connection;
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

    async fn connection(&self) -> RedisResult<Dialed> {
        let open = self.connection.lock().clone();
        // One whose server was replaced would take messages that nobody hears.
        match open {
            Some(dialed) if self.dialer.is_right(&dialed.node) => return Ok(dialed),
            Some(_) => self.away.lock().begin(),
            None => {}
        }
        match self.dialer.dial(None).await {
            Ok(dialed) => {
                self.away.lock().end();
                *self.connection.lock() = Some(dialed.clone());
                Ok(dialed)
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
            if let Some(dialed) = self.connection.lock().take() {
                self.dialer.failed(&dialed.node);
            }
            self.fell(error);
        } else {
            debug!(%error, "redis refused messages");
        }
    }

    fn fell(&self, error: &RedisError) {
        self.away.lock().begin();
        if self.up.swap(false, Ordering::AcqRel) {
            warn!(%error, "messages cannot be published");
            // The task finds out when they can be again.
            self.filled.notify_one();
        }
    }
}
