//! The cluster contract, kept in Redis; the Socket.IO adapter, which needs nothing of it, is in
//! [`socketio`], and what finds out what is wrong with either in [`doctor`](mod@doctor).
//!
//! In come the calls of [`adapter::State`]; out go answers that hold for every pod, or `Unavailable`
//! within a bound. One script, so one round trip, answers each call. Nothing here is a copy that could
//! be old: reads are of Redis too. The only thing kept in the process is the mirror, which remembers
//! what this pod's own connections hold, for a Redis that comes back empty.
//!
//! Every key begins with the configured prefix, here `gateway`. `{…}` is written as it stands: it is the
//! hash tag that puts all keys of a script into one slot. In a tag, `%` and `}` are percent-encoded.
//!
//! | key | type | what |
//! |---|---|---|
//! | `gateway:namespaces` | set | namespaces in which anybody ever held anything |
//! | `gateway:{/ns}:hold:<kind>:<key>` | hash | a place: connection → share, a line of header and its data |
//! | `gateway:{/ns}:tally:<kind>:<key>` | hash | its counts: shares of each holder, shares that need a closer look |
//! | `gateway:{/ns}:sid:<sid>` | set | what a connection holds, as `<kind>:<key>` |
//! | `gateway:{/ns}:pod:<pod>#<n>` | set | the connections of one process that hold anything |
//! | `gateway:{/ns}:pods` | sorted set | processes, by the end of their lease |
//! | `gateway:{/ns}:known` | set | processes whose holds Redis knows |
//! | `gateway:{/ns}:gone:<pod>#<n>` | string | a process that was given up, for an hour |
//! | `gateway:{/ns}:notices:<pod>#<n>` | list | shares of its connections that other pods ended |
//! | `gateway:{/ns}:expiring` | sorted set | shares with a time to live, by their end |
//! | `gateway:{/ns}:pulse` | string | when any pod ticked last |
//! | `gateway:doc:{collection}:<id>` | string | a document |
//! | `gateway:docs:{collection}` | sorted set | its documents, by their end |
//! | `gateway:turn:{key}`, `…:line`, `…:seen` | string, sorted sets | who has the turn; who waits; who of them asked lately |
//! | `gateway:{charge}:<bucket>` | string | a bucket: the microsecond at which it is full again |
//! | `gateway:reply:{key}` | string | empty while a request is at work, then its answer |
//! | as the caller names it | stream | a queue |

use std::{fmt, sync::Arc, time::Duration};

use adapter::{
    Charge, Denied, Departed, Held, Hold, Lapsed, Place, Queued, Released, Reply, State,
    StateError, Ticket, Verdict, Wish,
};
use async_trait::async_trait;
use serde_json::Value;
use tokio::runtime::Handle;

mod config;
mod slot;
mod address;
mod chart;
mod nodes;
mod connection;
mod mirror;
mod names;
mod scripts;
mod state;
pub mod socketio;
pub mod doctor;

pub use config::{RedisConfig, RedisUrl};
pub use connection::ConnectError;
pub use doctor::doctor;

use connection::Link;
use names::Names;
use state::{charges::Charges, documents::Documents, holds::Holds, queues::Queues, turns::Turns};

/// The state of a cluster, as one pod sees it. Clones share one connection and one mirror.
#[derive(Clone)]
pub struct RedisState(Arc<Inner>);

struct Inner {
    pod: String,
    link: Arc<Link>,
    holds: Holds,
    documents: Documents,
    turns: Turns,
    charges: Charges,
    queues: Queues,
}

/// Makes the state of the pod of this name. A Redis that is away is no error: the state is unavailable
/// until it is there, as it is after an outage. Must be called within a tokio runtime.
///
/// # Errors
/// Where the configuration cannot work.
pub async fn connect(
    config: RedisConfig,
    pod: impl Into<String>,
) -> Result<RedisState, ConnectError> {
    let pod = pod.into();
    check(&config)?;
    let link = Arc::new(Link::open(&config)?);
    // The first answer, or its absence, says at once whether Redis is there.
    let names = Names::new(&config.prefix);
    if let Err(error) = link.command::<redis::Value>(&names.namespaces(), &redis::cmd("PING")).await
    {
        tracing::debug!(%error, "redis did not answer the first ping");
    }
    Ok(RedisState(Arc::new(Inner {
        holds: Holds::new(link.clone(), names.clone(), &pod, config.lease),
        documents: Documents::new(link.clone(), names.clone()),
        turns: Turns::new(link.clone(), names.clone(), config.turn_lease, Handle::current()),
        charges: Charges::new(link.clone(), names.clone()),
        queues: Queues::new(link.clone(), names),
        link,
        pod,
    })))
}

fn check(config: &RedisConfig) -> Result<(), ConnectError> {
    let breaks_names = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
    if config.prefix.is_empty() || config.prefix.contains(breaks_names) {
        return Err(ConnectError::Prefix(config.prefix.clone()));
    }
    if config.connect_timeout.is_zero() || config.response_timeout.is_zero() {
        return Err(ConnectError::Times("connect_timeout and response_timeout must not be zero"));
    }
    let shortest = Duration::from_millis(100);
    if config.lease < shortest || config.turn_lease < shortest {
        return Err(ConnectError::Times("lease and turn_lease must be at least 100ms"));
    }
    Ok(())
}

impl fmt::Debug for RedisState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RedisState");
        shown.field("pod", &self.0.pod).field("up", &self.0.link.is_up()).finish_non_exhaustive()
    }
}

#[async_trait]
impl State for RedisState {
    fn pod(&self) -> &str {
        &self.0.pod
    }

    fn available(&self) -> bool {
        self.0.link.is_up()
    }

    async fn hold(&self, wish: Wish) -> Result<Result<Held, Denied>, StateError> {
        self.0.holds.hold(wish).await
    }

    async fn release(
        &self,
        place: &Place,
        sid: Option<&str>,
        holder: Option<&str>,
    ) -> Result<Vec<Released>, StateError> {
        self.0.holds.release(place, sid, holder).await
    }

    async fn holds(&self, place: &Place) -> Result<Vec<Hold>, StateError> {
        self.0.holds.holds(place).await
    }

    async fn held_by(&self, namespace: &str, sid: &str) -> Result<Vec<Place>, StateError> {
        self.0.holds.held_by(namespace, sid).await
    }

    async fn depart(&self, namespace: &str, sid: &str) -> Result<Departed, StateError> {
        self.0.holds.depart(namespace, sid).await
    }

    async fn tick(&self) -> Result<Lapsed, StateError> {
        let (lapsed, ()) = tokio::join!(self.0.holds.tick(), self.0.charges.look());
        lapsed
    }

    async fn read(&self, collection: &str, id: &str) -> Result<Option<Value>, StateError> {
        self.0.documents.read(collection, id).await
    }

    async fn write(
        &self,
        collection: &str,
        id: &str,
        document: Value,
        ttl: Duration,
    ) -> Result<(), StateError> {
        self.0.documents.write(collection, id, &document, ttl).await
    }

    async fn patch(
        &self,
        collection: &str,
        id: &str,
        patch: Value,
        ttl: Duration,
    ) -> Result<Option<Value>, StateError> {
        self.0.documents.patch(collection, id, &patch, ttl).await
    }

    async fn remove(&self, collection: &str, id: &str) -> Result<bool, StateError> {
        self.0.documents.remove(collection, id).await
    }

    async fn count(&self, collection: &str) -> Result<u64, StateError> {
        self.0.documents.count(collection).await
    }

    fn line_up(&self, key: &str) -> Box<dyn Ticket> {
        self.0.turns.line_up(key)
    }

    async fn charge(&self, charges: &[Charge]) -> Result<Verdict, StateError> {
        self.0.charges.charge(charges).await
    }

    async fn enqueue(
        &self,
        queue: &str,
        message: &Value,
        cap: usize,
    ) -> Result<Queued, StateError> {
        self.0.queues.enqueue(queue, message, cap).await
    }

    async fn begin(&self, key: &str, ttl: Duration) -> Result<Reply, StateError> {
        self.0.queues.begin(key, ttl).await
    }

    async fn answered(
        &self,
        key: &str,
        answer: Option<Value>,
        ttl: Duration,
    ) -> Result<(), StateError> {
        self.0.queues.answered(key, answer, ttl).await
    }
}
