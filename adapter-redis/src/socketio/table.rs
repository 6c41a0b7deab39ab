//! What is wished for, and what of it stands.
//!
//! In come wishes to listen to a channel and to stop, and what a connection did about them; out come the
//! changes that are to be made, and the messages of each channel to whoever wished for it. Wishes are
//! counted: a channel is subscribed to once, by its first wish, and left with its last. It connects to
//! nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::Value;
use tokio::sync::{Notify, futures::OwnedNotified};
use tracing::debug;

use super::counters::Counters;

/// Channels that one command names at most.
pub(super) const BATCH: usize = 4096;

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
    /// Sharded channels that are being left, and how often. What Redis leaves otherwise it took away.
    leaving: HashMap<Arc<str>, usize>,
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
    pub(super) wake: Notify,
    pub(super) counters: Arc<Counters>,
    /// How long a wish is worth waiting for.
    patience: Duration,
    longest: u64,
    /// Whether its channels are.
    sharded: bool,
    settled: tokio::sync::watch::Sender<bool>,
}

impl Table {
    pub(crate) fn new(
        counters: Arc<Counters>,
        patience: Duration,
        longest: u64,
        sharded: bool,
    ) -> Self {
        Self {
            entries: Mutex::new(Entries {
                by_channel: HashMap::new(),
                changed: HashSet::new(),
                leaving: HashMap::new(),
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
            sharded,
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
    pub(super) fn begin(&self) -> Vec<Arc<str>> {
        let mut entries = self.entries.lock();
        entries.connected = true;
        entries.changed.clear();
        entries.leaving.clear();
        entries.by_channel.keys().cloned().collect()
    }

    /// What has changed: channels to leave and channels to subscribe to.
    pub(super) fn changes(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
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
                    if self.sharded {
                        *entries.leaving.entry(channel.clone()).or_default() += 1;
                    }
                    leave.push(channel);
                }
                Some(entry) if !entry.stands => subscribe.push(channel),
                _ => {}
            }
        }
        entries.count(&self.counters);
        (leave, subscribe)
    }

    pub(super) fn stand(&self, channels: &[Arc<str>]) {
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
    pub(super) fn rise(&self) -> Option<Duration> {
        let mut entries = self.entries.lock();
        let lost = entries.down_since.take().map(|since| since.elapsed());
        let gap = lost.filter(|_| entries.began);
        entries.began = true;
        drop(entries);
        self.settled.send_replace(true);
        gap
    }

    pub(super) fn fall(&self) {
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

    /// Whether a sharded channel that is heard no more is one that is still wished for. It may be one that
    /// was only just subscribed to.
    pub(super) fn misses(&self, data: &[Value]) -> bool {
        let Some(Value::BulkString(channel)) = data.first() else { return false };
        let Ok(channel) = std::str::from_utf8(channel) else { return false };
        let mut entries = self.entries.lock();
        match entries.leaving.get_mut(channel) {
            Some(1) => drop(entries.leaving.remove(channel)),
            Some(times) => *times -= 1,
            None => return entries.by_channel.contains_key(channel),
        }
        false
    }

    pub(super) fn deliver(&self, data: Vec<Value>) {
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
