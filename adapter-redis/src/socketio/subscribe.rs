//! Channels that are listened to.
//!
//! In come wishes to listen to a channel and to stop; out go SUBSCRIBE and UNSUBSCRIBE, whatever came
//! together in one command, and the messages of each channel to whoever wished for it. Wishes are counted:
//! a channel is subscribed to once, by its first wish, and left with its last. One task owns the one
//! connection. When it is lost, everything wished for is subscribed to on the next one, and the gap is told.
//!
//! There is no queue on the way in: a message is handed over on the task that read it, so a pod that is
//! too slow is slowed down by Redis, which in the end closes the connection; that is a gap as any other.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tokio::sync::{Notify, futures::OwnedNotified};
use tracing::{debug, info, warn};

use super::{
    counters::Counters,
    dialer::{Dialed, Dialer, gone, too_late},
    hooks::Hooks,
};

/// Channels that one command names at most.
const BATCH: usize = 4096;
/// The waits between attempts to connect: the first, and the one that it grows to.
const DIAL_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Takes the messages of a channel. It is called on the task that reads from Redis.
pub(crate) trait Inbound: Send + Sync {
    fn receive(&self, role: Role, payload: Bytes);
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Broadcast,
    Request,
    Response,
    Python,
}

/// Whether a channel is listened to.
pub(crate) enum Standing {
    /// It is.
    Stands,
    /// It will be when this is done.
    Soon(OwnedNotified),
    /// Redis has been away for so long that waiting is of no use.
    Away,
}

struct Entry {
    inbound: Weak<dyn Inbound>,
    role: Role,
    wishes: usize,
    stands: bool,
    /// Told when it stands, if anybody waits for it.
    standing: Option<Arc<Notify>>,
}

struct Entries {
    by_channel: HashMap<Arc<str>, Entry>,
    /// Channels that the task has to look at. Only kept while there is a connection.
    changed: HashSet<Arc<str>>,
    connected: bool,
    /// Since when not everything wished for is subscribed to.
    down_since: Option<Instant>,
    /// Whether there was a time when it was; what precedes it is no gap.
    began: bool,
    stand: usize,
    /// What of it was counted.
    counted: usize,
}

impl Entries {
    fn count(&mut self, counters: &Counters) {
        counters.subscriptions.shift(self.counted, self.stand);
        self.counted = self.stand;
    }

    /// Forgets a channel that nobody wishes for. Who still waits for it need not.
    fn remove(&mut self, channel: &str) {
        let entry = self.by_channel.remove(channel);
        if let Some(standing) = entry.and_then(|entry| entry.standing) {
            standing.notify_waiters();
        }
    }
}

/// All channels that are wished for.
pub(crate) struct Table {
    entries: Mutex<Entries>,
    wake: Notify,
    counters: Arc<Counters>,
    /// How long a wish is worth waiting for.
    patience: Duration,
    longest: u64,
    settled: tokio::sync::watch::Sender<bool>,
}

impl Table {
    pub(crate) fn new(counters: Arc<Counters>, patience: Duration, longest: u64) -> Self {
        Self {
            entries: Mutex::new(Entries {
                by_channel: HashMap::new(),
                changed: HashSet::new(),
                connected: false,
                down_since: Some(Instant::now()),
                began: false,
                stand: 0,
                counted: 0,
            }),
            wake: Notify::new(),
            counters,
            patience,
            longest,
            settled: tokio::sync::watch::Sender::new(false),
        }
    }

    /// Whether everything that was wished for when the connection was made is subscribed to.
    pub(crate) fn is_up(&self) -> bool {
        *self.settled.borrow()
    }

    /// Waits until it is, and whatever was wished for since then too.
    pub(crate) async fn up(&self) {
        let mut settled = self.settled.subscribe();
        // The sender lives as long as the table.
        let _ = settled.wait_for(|settled| *settled).await;
        for standing in self.outstanding() {
            standing.await;
        }
    }

    fn outstanding(&self) -> Vec<OwnedNotified> {
        let mut entries = self.entries.lock();
        let outstanding = entries.by_channel.values_mut();
        outstanding
            .filter(|entry| entry.wishes > 0 && !entry.stands)
            .map(|entry| entry.standing.get_or_insert_default().clone().notified_owned())
            .collect()
    }

    /// Wishes for a channel once more.
    pub(crate) fn wish(&self, channel: &str, role: Role, inbound: Weak<dyn Inbound>) -> Standing {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.by_channel.get_mut(channel) {
            entry.wishes += 1;
            // The namespace may have been closed and opened again meanwhile.
            entry.inbound = inbound;
            return self.standing(&mut entries, channel);
        }
        let channel: Arc<str> = channel.into();
        let entry = Entry { inbound, role, wishes: 1, stands: false, standing: None };
        entries.by_channel.insert(channel.clone(), entry);
        if entries.connected {
            entries.changed.insert(channel.clone());
            self.wake.notify_one();
        }
        self.standing(&mut entries, &channel)
    }

    /// How it is with a channel that was wished for.
    pub(crate) fn watch(&self, channel: &str) -> Standing {
        self.standing(&mut self.entries.lock(), channel)
    }

    fn standing(&self, entries: &mut Entries, channel: &str) -> Standing {
        let hopeless = entries.down_since.is_some_and(|since| since.elapsed() > self.patience);
        match entries.by_channel.get_mut(channel) {
            Some(entry) if entry.stands => Standing::Stands,
            Some(entry) if !hopeless => {
                let standing = entry.standing.get_or_insert_default();
                Standing::Soon(standing.clone().notified_owned())
            }
            _ => Standing::Away,
        }
    }

    /// Takes one wish back.
    pub(crate) fn forgo(&self, channel: &str) {
        let mut guard = self.entries.lock();
        let entries = &mut *guard;
        let Some((channel, entry)) = entries.by_channel.get_key_value(channel) else { return };
        let (channel, wishes) = (channel.clone(), entry.wishes.saturating_sub(1));
        if let Some(entry) = entries.by_channel.get_mut(&channel) {
            entry.wishes = wishes;
        }
        if wishes > 0 {
            return;
        }
        if entries.connected {
            entries.changed.insert(channel);
            self.wake.notify_one();
        } else {
            entries.remove(&channel);
        }
    }

    /// Everything that is wished for; from here on changes are remembered.
    fn begin(&self) -> Vec<Arc<str>> {
        let mut entries = self.entries.lock();
        entries.connected = true;
        entries.changed.clear();
        entries.by_channel.keys().cloned().collect()
    }

    /// What has changed: channels to leave and channels to subscribe to.
    fn changes(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let mut guard = self.entries.lock();
        let entries = &mut *guard;
        let (mut leave, mut subscribe) = (Vec::new(), Vec::new());
        let changed: Vec<_> = entries.changed.iter().take(BATCH).cloned().collect();
        for channel in changed {
            entries.changed.remove(&channel);
            match entries.by_channel.get(&channel) {
                Some(entry) if entry.wishes == 0 => {
                    entries.stand -= usize::from(entry.stands);
                    entries.remove(&channel);
                    leave.push(channel);
                }
                Some(entry) if !entry.stands => subscribe.push(channel),
                _ => {}
            }
        }
        entries.count(&self.counters);
        (leave, subscribe)
    }

    fn stand(&self, channels: &[Arc<str>]) {
        let mut guard = self.entries.lock();
        let entries = &mut *guard;
        for channel in channels {
            let Some(entry) = entries.by_channel.get_mut(channel) else { continue };
            entries.stand += usize::from(!entry.stands);
            entry.stands = true;
            if let Some(standing) = entry.standing.take() {
                standing.notify_waiters();
            }
        }
        entries.count(&self.counters);
    }

    /// Everything stands. Gives the time for which it did not, if it had stood before.
    fn rise(&self) -> Option<Duration> {
        let mut entries = self.entries.lock();
        let lost = entries.down_since.take().map(|since| since.elapsed());
        let gap = lost.filter(|_| entries.began);
        entries.began = true;
        drop(entries);
        self.settled.send_replace(true);
        gap
    }

    fn fall(&self) {
        let mut guard = self.entries.lock();
        let entries = &mut *guard;
        entries.connected = false;
        entries.changed.clear();
        entries.stand = 0;
        for entry in entries.by_channel.values_mut() {
            entry.stands = false;
        }
        entries.by_channel.retain(|_, entry| entry.wishes > 0);
        if entries.down_since.is_none() {
            entries.down_since = Some(Instant::now());
            self.counters.gaps.one();
        }
        entries.count(&self.counters);
        drop(guard);
        self.settled.send_replace(false);
    }

    /// Whether a channel that was left is one that is still wished for.
    fn misses(&self, data: &[Value]) -> bool {
        let Some(Value::BulkString(channel)) = data.first() else { return false };
        let Ok(channel) = std::str::from_utf8(channel) else { return false };
        let entries = self.entries.lock();
        entries.by_channel.get(channel).is_some_and(|entry| entry.stands)
    }

    fn deliver(&self, data: Vec<Value>) {
        let mut data = data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
            (data.next(), data.next())
        else {
            return;
        };
        self.counters.received.one();
        if payload.len() as u64 > self.longest {
            self.counters.malformed.one();
            debug!(bytes = payload.len(), "a message is longer than is read");
            return;
        }
        let Ok(channel) = std::str::from_utf8(&channel) else { return };
        let target = {
            let entries = self.entries.lock();
            entries.by_channel.get(channel).map(|entry| (entry.inbound.clone(), entry.role))
        };
        // A channel that was left may have messages on their way.
        if let Some((inbound, role)) = target
            && let Some(inbound) = inbound.upgrade()
        {
            inbound.receive(role, payload.into());
        }
    }
}

/// What the connection hands over to the table, and whether it does at all.
#[derive(Clone)]
pub(crate) struct Heard {
    table: Arc<Table>,
    pushes: Arc<AtomicU64>,
    gone: Arc<Notify>,
}

impl Heard {
    pub(crate) fn push(&self, push: PushInfo) {
        self.pushes.fetch_add(1, Ordering::Relaxed);
        match push.kind {
            PushKind::Message | PushKind::SMessage => self.table.deliver(push.data),
            // A slot that moves takes its channels along: they are to be found where it is now.
            PushKind::SUnsubscribe if self.table.misses(&push.data) => self.gone.notify_one(),
            PushKind::Disconnection => self.gone.notify_one(),
            _ => {}
        }
    }
}

/// The task that keeps what is wished for subscribed to.
pub(crate) struct Subscriber {
    pub(crate) table: Arc<Table>,
    pub(crate) dialer: Dialer,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) ping_interval: Duration,
    pub(crate) hang_timeout: Duration,
}

impl Subscriber {
    pub(crate) async fn run(self) {
        let mut wait = DIAL_AGAIN.0;
        loop {
            let heard =
                Heard { table: self.table.clone(), pushes: Arc::default(), gone: Arc::default() };
            match self.dialer.dial(Some(&heard)).await {
                Ok(dialed) => {
                    wait = DIAL_AGAIN.0;
                    let Err(error) = self.listen(&dialed, &heard).await;
                    let server = dialed.node.name();
                    warn!(server, %error, "the subscribing connection is lost");
                    self.dialer.failed(&dialed.node);
                    self.table.fall();
                }
                Err(error) => {
                    self.table.counters.failed_dials.one();
                    debug!(%error, "redis cannot be subscribed to");
                }
            }
            // Pods that lost Redis together do not return together.
            let jitter = rand::random_range(0.5..1.0);
            tokio::time::sleep(wait.mul_f64(jitter)).await;
            wait = (wait * 2).min(DIAL_AGAIN.1);
        }
    }

    /// Subscribes to everything, then to what changes, until the connection fails.
    async fn listen(&self, dialed: &Dialed, heard: &Heard) -> Result<Infallible, RedisError> {
        let mut connection = dialed.connection.clone();
        for channels in self.table.begin().chunks(BATCH) {
            self.subscribe(&mut connection, heard, channels).await?;
        }
        if let Some(lost) = self.table.rise() {
            info!(?lost, "everything is subscribed to again");
            self.hooks.on_gap(lost);
        }
        let mut ping = tokio::time::interval(self.ping_interval);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut rounds = self.dialer.nodes.rounds();
        loop {
            tokio::select! {
                () = heard.gone.notified() => return Err(gone()),
                Ok(()) = rounds.changed() => if !self.dialer.is_right(&dialed.node) {
                    return Err(gone());
                },
                () = self.table.wake.notified() => self.follow(&mut connection, heard).await?,
                _ = ping.tick() => {
                    let mut asking = connection.clone();
                    self.patient(heard, redis::cmd("PING").exec_async(&mut asking)).await?;
                }
            }
        }
    }

    async fn follow(
        &self,
        connection: &mut MultiplexedConnection,
        heard: &Heard,
    ) -> RedisResult<()> {
        loop {
            let (leave, subscribe) = self.table.changes();
            if leave.is_empty() && subscribe.is_empty() {
                return Ok(());
            }
            if !leave.is_empty() {
                let names: Vec<&str> = leave.iter().map(AsRef::as_ref).collect();
                if self.dialer.is_sharded() {
                    let leaving = each("SUNSUBSCRIBE", &names);
                    self.patient(heard, leaving.exec_async(connection)).await?;
                } else {
                    self.patient(heard, connection.unsubscribe(names)).await?;
                }
            }
            self.subscribe(connection, heard, &subscribe).await?;
        }
    }

    async fn subscribe(
        &self,
        connection: &mut MultiplexedConnection,
        heard: &Heard,
        channels: &[Arc<str>],
    ) -> RedisResult<()> {
        if channels.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = channels.iter().map(AsRef::as_ref).collect();
        if self.dialer.is_sharded() {
            let subscribing = each("SSUBSCRIBE", &names);
            self.patient(heard, subscribing.exec_async(connection)).await?;
        } else {
            self.patient(heard, connection.subscribe(names)).await?;
        }
        self.table.stand(channels);
        Ok(())
    }

    /// Waits for an answer as long as Redis says anything at all: behind many messages it comes late.
    async fn patient<T>(
        &self,
        heard: &Heard,
        call: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        tokio::pin!(call);
        loop {
            let before = heard.pushes.load(Ordering::Relaxed);
            match tokio::time::timeout(self.hang_timeout, &mut call).await {
                Ok(answer) => return answer,
                Err(_) if heard.pushes.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(too_late()),
            }
        }
    }
}

/// A command for each channel: the library waits for one answer to a command, and there is one for each
/// channel.
fn each(command: &str, channels: &[&str]) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    for channel in channels {
        pipeline.cmd(command).arg(channel).ignore();
    }
    pipeline
}
