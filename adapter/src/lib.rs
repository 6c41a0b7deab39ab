//! The cluster contract: what pods share, whoever keeps it.
//!
//! In come the wishes of one pod's connections (hold this lock, count me in this room, charge these
//! buckets); out go answers that are true for the whole cluster. [`memory::MemoryState`] keeps it in
//! the process, `adapter-redis` keeps it in Redis, and both pass [`conformance`].
//!
//! There are five small contracts in [`State`]:
//!
//! * **holds** — what a connection has for as long as it lives: a place in a roster, a lock, a typing
//!   mark, a status, its entry in the list of a user's connections. Whatever ends the connection (its
//!   own wish, a lapse, the death of its pod) ends its holds, and exactly one caller in the cluster is
//!   handed each [`Released`] so that it can be announced once.
//! * **documents** — stored sessions, with a time to live.
//! * **turns** — one at a time, first come first served, for a key, over all pods.
//! * **charges** — token buckets, several at once, all or none.
//! * **queues** and **replies** — durable work for other processes, and answers to repeated requests.
//!
//! It never delivers events to clients: that is the fan-out's work.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod conformance;
pub mod memory;

/// A state backend, shared by every room of the gateway.
pub type SharedState = Arc<dyn State>;

/// Why the state could not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The store behind is down or too slow; the caller refuses with `UNAVAILABLE` or goes on without.
    #[error("the state store is unavailable: {0}")]
    Unavailable(String),
    /// The store answered something that this version does not understand.
    #[error("the state store answered something unexpected: {0}")]
    Corrupt(String),
}

/// What a hold is of. The names are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// One open connection of a user; the key is the user's id.
    User,
    /// A place in a roster; the key is the roster's or room's name.
    Roster,
    /// A lock; the key is its name.
    Lock,
    /// A typing mark; the key is the room. Always has a `ttl`.
    Typing,
    /// A user's presence status; the key is the user's id.
    Status,
}

impl Kind {
    /// The kind's name in keys, logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Roster => "roster",
            Self::Lock => "lock",
            Self::Typing => "typing",
            Self::Status => "status",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is held: a kind and a key inside one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The Socket.IO namespace, such as `/` or `/codx`.
    pub namespace: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// Its name.
    pub key: String,
}

/// One connection's share of a [`Place`]. A connection holds a place at most once: holding it again
/// replaces `holder`, `exclusive`, `data` and `ttl`, and keeps `since`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// The connection's public id.
    pub sid: String,
    /// Who counts as one and the same holder: several connections of one user hold a lock together,
    /// and are one entry of a roster.
    pub holder: String,
    /// The pod that serves the connection. Filled in by the state, whatever the caller wrote.
    pub pod: String,
    /// No other holder may have the place at the same time.
    pub exclusive: bool,
    /// What others are shown of it.
    pub data: Value,
    /// When it began: milliseconds since the Unix epoch. Filled in by the state.
    pub since: u64,
}

/// A wish for a hold.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What is to be held.
    pub place: Place,
    /// The connection's public id.
    pub sid: String,
    /// Who counts as one and the same holder.
    pub holder: String,
    /// No other holder may have the place at the same time.
    pub exclusive: bool,
    /// What others are shown of it.
    pub data: Value,
    /// Lapses by itself after this long without being held again.
    pub ttl: Option<Duration>,
    /// At most this many holds of this place by all (the wish is refused with [`Denied::Full`] beyond).
    pub at_most: Option<u32>,
}

/// A hold that was granted.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// This holder had no share of the place before.
    pub first: bool,
    /// Every share of the place now, this one included, oldest first.
    pub holds: Vec<Hold>,
}

/// Why a hold was not granted.
#[derive(Clone, Debug, PartialEq)]
pub enum Denied {
    /// Somebody else's share stands against it; the oldest such share.
    Conflict(Hold),
    /// The place has `at_most` holds already.
    Full,
}

/// What ended: handed to exactly one caller in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// What was held.
    pub place: Place,
    /// The share that ended.
    pub hold: Hold,
    /// The holder has no share of the place left.
    pub last: bool,
}

/// A connection that is gone, with all that it held.
#[derive(Clone, Debug, PartialEq)]
pub struct Departed {
    /// The namespace of the connection.
    pub namespace: String,
    /// The connection's public id.
    pub sid: String,
    /// Its holds, in the order [`Kind`] declares and then by key. `last` of each is as of the moment
    /// after all of them were released.
    pub released: Vec<Released>,
}

/// What nobody asked to end, and ended all the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lapsed {
    /// Holds whose `ttl` ran out.
    pub expired: Vec<Released>,
    /// Connections of pods that are gone.
    pub departed: Vec<Departed>,
}

/// A charge on one token bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    /// The bucket: a short label and an id, such as `user:/:u1` or `event:/:ai:message:u1`.
    pub bucket: String,
    /// Tokens that return per second; more than 0.
    pub per_second: f64,
    /// Tokens at most; at least 1.
    pub burst: u32,
    /// Tokens taken, at least 1 (a batch takes one for each of its updates).
    pub cost: u32,
}

/// Whether charges were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All buckets had enough, and all were charged.
    Granted,
    /// At least one had not, and none was charged. Ask again after this long. A cost above the burst
    /// is never granted.
    Refused {
        /// Which of the charges was short (the first, in the order given).
        charge: usize,
        /// When it could be granted.
        retry_after: Duration,
    },
}

/// What became of a queued message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queued {
    /// Stored under this id.
    Stored(String),
    /// The queue is at its cap; nothing was stored, nothing was dropped.
    Full,
}

/// What is known of a request that may be a repetition.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Never seen: go ahead, and say the answer with [`State::answered`].
    New,
    /// Somebody is at it.
    InProgress,
    /// It was answered with this.
    Done(Value),
}

/// One's turn at a key; it ends when this is dropped.
pub struct Turn(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl Turn {
    /// A turn that ends when `guard` is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

/// A place in the line for a turn, taken at once, so that order is that of the calls.
#[async_trait]
pub trait Ticket: Send {
    /// Waits for the turn.
    ///
    /// # Errors
    /// `Unavailable` where the store cannot be asked in time.
    async fn turn(self: Box<Self>) -> Result<Turn, StateError>;
}

/// The state that pods share. Cheap to call; every method may be called from many tasks at once.
#[async_trait]
pub trait State: Send + Sync + fmt::Debug + 'static {
    /// The name of this pod, unique in the cluster.
    fn pod(&self) -> &str;

    /// Whether the store answers now. Memory always does.
    fn available(&self) -> bool;

    // ---- holds ------------------------------------------------------------------------------

    /// Grants or denies a hold. Two holds conflict where their holders differ and one of them is
    /// exclusive.
    async fn hold(&self, wish: Wish) -> Result<Result<Held, Denied>, StateError>;

    /// Ends the shares of a place: `Some(sid)` the one of that connection, `None` those of everybody.
    /// An unknown place gives an empty list. With `holder`, only that holder's.
    async fn release(
        &self,
        place: &Place,
        sid: Option<&str>,
        holder: Option<&str>,
    ) -> Result<Vec<Released>, StateError>;

    /// Every share of a place, oldest first.
    async fn holds(&self, place: &Place) -> Result<Vec<Hold>, StateError>;

    /// What one connection holds.
    async fn held_by(&self, namespace: &str, sid: &str) -> Result<Vec<Place>, StateError>;

    /// Ends everything that a connection of this pod holds.
    async fn depart(&self, namespace: &str, sid: &str) -> Result<Departed, StateError>;

    /// Renews this pod's lease and collects what lapsed, of any pod. Called about once a second by
    /// every pod; each entry is returned to one caller in the cluster only.
    async fn tick(&self) -> Result<Lapsed, StateError>;

    // ---- documents --------------------------------------------------------------------------

    /// Reads a document of a collection.
    async fn read(&self, collection: &str, id: &str) -> Result<Option<Value>, StateError>;

    /// Writes a document, whole, with a time to live from now.
    async fn write(
        &self,
        collection: &str,
        id: &str,
        document: Value,
        ttl: Duration,
    ) -> Result<(), StateError>;

    /// Applies an RFC 7386 merge patch to a document and restarts its time to live. `None` where
    /// there is no such document; else the document after the patch.
    async fn patch(
        &self,
        collection: &str,
        id: &str,
        patch: Value,
        ttl: Duration,
    ) -> Result<Option<Value>, StateError>;

    /// Removes a document. Whether there was one.
    async fn remove(&self, collection: &str, id: &str) -> Result<bool, StateError>;

    /// How many documents of a collection live.
    async fn count(&self, collection: &str) -> Result<u64, StateError>;

    // ---- turns ------------------------------------------------------------------------------

    /// Takes a place in the line for `key`. Turns of one pod come in the order of these calls; no two
    /// pods have the turn at once. A turn held by a pod that died is free again within 10 s.
    fn line_up(&self, key: &str) -> Box<dyn Ticket>;

    // ---- charges ----------------------------------------------------------------------------

    /// Charges several buckets, all or none, in one round trip.
    async fn charge(&self, charges: &[Charge]) -> Result<Verdict, StateError>;

    // ---- queues and replies -----------------------------------------------------------------

    /// Appends a message to a durable queue, unless it has `cap` messages already.
    async fn enqueue(&self, queue: &str, message: &Value, cap: usize)
    -> Result<Queued, StateError>;

    /// Whether a request with this key was made within `ttl`; marks it as begun if not.
    async fn begin(&self, key: &str, ttl: Duration) -> Result<Reply, StateError>;

    /// Remembers the answer to a begun request, or with `None` forgets that it was begun.
    async fn answered(
        &self,
        key: &str,
        answer: Option<Value>,
        ttl: Duration,
    ) -> Result<(), StateError>;
}
