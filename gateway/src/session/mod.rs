//! A session: one connection in one namespace, from its CONNECT to its end.
//!
//! In come who it is and what it did; out goes what the other rooms ask of it: its identity, who acts
//! (which is not the payload's to say), its own pace, its place in line. It never does I/O.

mod expiry;
mod identity;
mod line;
mod pace;
mod registry;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

use opentelemetry::trace::SpanContext;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use expiry::{Due, Expiries};
pub use identity::{Actor, Credential, Identity};
pub use line::{Line, Overfull, Released};
pub use pace::{Bucket, Flood};
pub use registry::Registry;

use crate::{mount::Mounted, trace, wire::Peer};

/// One connection in one namespace.
#[derive(Debug)]
pub struct Session {
    /// Its public id, which others may see.
    pub sid: Box<str>,
    /// The namespace and contract it is in.
    pub mount: Arc<Mounted>,
    /// The peer's address.
    pub ip: IpAddr,
    /// When it connected.
    pub since: SystemTime,
    /// The span of its handshake, where that is exported.
    pub begun: Option<SpanContext>,
    /// What its lines in the log are in.
    pub span: tracing::Span,
    /// Its transport, for disconnecting it.
    pub peer: Peer,
    /// Its events, in order.
    pub line: Line,
    identity: RwLock<Arc<Identity>>,
    claimed: Mutex<Option<Actor>>,
    bucket: Mutex<Bucket>,
    flood: Mutex<Flood>,
    rooms: Mutex<BTreeSet<String>>,
    personal: Mutex<Vec<String>>,
    locks: Mutex<Vec<HeldLock>>,
    working: AtomicUsize,
    idle: Notify,
    present: AtomicBool,
    opened: AtomicBool,
    flooded: AtomicBool,
    ended: AtomicBool,
    departed: CancellationToken,
}

/// A session is in as many rooms as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomsFull;

/// A lock that a session holds, and the room that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLock {
    /// The lock's name.
    pub name: String,
    /// Leaving this room gives it back.
    pub room: String,
}

/// An event that is being handled; dropped when that is over.
#[derive(Debug)]
pub struct Work(Arc<Session>);

impl Drop for Work {
    fn drop(&mut self) {
        if self.0.working.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Session {
    /// A session that begins.
    pub fn new(
        sid: &str,
        mount: Arc<Mounted>,
        ip: IpAddr,
        peer: Peer,
        identity: Identity,
        bucket: Bucket,
        waiting: usize,
    ) -> Self {
        Self {
            sid: sid.into(),
            mount,
            ip,
            since: SystemTime::now(),
            begun: trace::context(&tracing::Span::current()),
            span: tracing::info_span!("connection", sid, %ip),
            peer,
            line: Line::new(waiting),
            identity: RwLock::new(Arc::new(identity)),
            claimed: Mutex::new(None),
            bucket: Mutex::new(bucket),
            flood: Mutex::new(Flood::default()),
            rooms: Mutex::default(),
            personal: Mutex::default(),
            locks: Mutex::default(),
            working: AtomicUsize::new(0),
            idle: Notify::new(),
            present: AtomicBool::new(false),
            opened: AtomicBool::new(false),
            flooded: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            departed: CancellationToken::new(),
        }
    }

    /// Who it is now.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.read().clone()
    }

    /// It is somebody else from now on: logged in, refreshed or logged out.
    pub fn become_identity(&self, identity: Identity) -> Arc<Identity> {
        std::mem::replace(&mut *self.identity.write(), Arc::new(identity))
    }

    /// Who acts: the authenticated user, else whom an anonymous connection last claimed to be, else
    /// its own id.
    pub fn actor(&self) -> Actor {
        if let Some(user) = &self.identity.read().user {
            return Actor::of_user(user);
        }
        self.claimed.lock().clone().unwrap_or_else(|| Actor::nameless(&self.sid))
    }

    /// An anonymous connection says who it is. It is believed only as a name to show.
    pub fn claim(&self, id: &str) {
        let mut claimed = self.claimed.lock();
        if claimed.as_ref().is_none_or(|actor| *actor.id != *id) {
            *claimed = Some(Actor::claimed(id));
        }
    }

    /// Who counts as one and the same holder of locks and places: a proven user over all connections,
    /// else this connection alone.
    pub fn holder(&self) -> String {
        match &self.identity.read().user {
            Some(user) => format!("user:{}", user.id),
            None => format!("sid:{}", self.sid),
        }
    }

    /// Takes `cost` tokens of the connection's own bucket.
    ///
    /// # Errors
    /// When there could be enough.
    pub fn charge(&self, cost: u32, now: Instant) -> Result<(), std::time::Duration> {
        self.bucket.lock().take(cost, now)
    }

    /// Counts a refusal for its pace; `true` where there were too many in a short time.
    pub fn flooding(&self, most: u32, now: Instant) -> bool {
        self.flood.lock().count(most, now)
    }

    /// A room was joined as the user that it is now, and is left when that ends.
    pub fn joined_personally(&self, room: &str) {
        let mut rooms = self.personal.lock();
        if !rooms.iter().any(|have| have == room) {
            rooms.push(room.to_owned());
        }
    }

    /// A room is entered.
    ///
    /// # Errors
    /// [`RoomsFull`]: it is in as many as it may be; 0 is any number.
    pub fn enter(&self, room: &str, most: u32) -> Result<(), RoomsFull> {
        let mut rooms = self.rooms.lock();
        let full = most > 0 && rooms.len() >= usize::try_from(most).unwrap_or(usize::MAX);
        if full && !rooms.contains(room) {
            return Err(RoomsFull);
        }
        rooms.insert(room.to_owned());
        Ok(())
    }

    /// A room was left.
    pub fn left(&self, room: &str) {
        self.rooms.lock().remove(room);
        self.personal.lock().retain(|have| have != room);
    }

    /// The rooms it is in, but for its own.
    pub fn rooms(&self) -> Vec<String> {
        self.rooms.lock().iter().cloned().collect()
    }

    /// Those of them whose names start so.
    pub fn rooms_starting(&self, start: &str) -> Vec<String> {
        self.rooms.lock().iter().filter(|room| room.starts_with(start)).cloned().collect()
    }

    /// Whether it is in a room.
    pub fn is_in(&self, room: &str) -> bool {
        *room == *self.sid || self.rooms.lock().contains(room)
    }

    /// It holds a lock.
    pub fn holds_lock(&self, lock: HeldLock) {
        let mut locks = self.locks.lock();
        if !locks.contains(&lock) {
            locks.push(lock);
        }
    }

    /// Its locks that are of a room, taken away.
    pub fn take_locks(&self, room: &str) -> Vec<HeldLock> {
        self.locks.lock().extract_if(.., |lock| lock.room == room).collect()
    }

    /// It does not hold a lock any more.
    pub fn lost_lock(&self, name: &str) {
        self.locks.lock().retain(|lock| lock.name != name);
    }

    /// How many locks it holds.
    pub fn lock_count(&self) -> usize {
        self.locks.lock().len()
    }

    /// Work of this session that is in flight, until the guard is dropped.
    pub fn work(self: &Arc<Self>) -> Work {
        self.working.fetch_add(1, Ordering::AcqRel);
        Work(self.clone())
    }

    /// Waits until none of its events is being handled.
    pub async fn until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if !self.is_working() {
                return;
            }
            idle.await;
        }
    }

    /// Whether some of its events are still being handled.
    pub fn is_working(&self) -> bool {
        self.working.load(Ordering::Acquire) > 0
    }

    /// The rooms that were joined as the user, taken away.
    pub fn take_personal(&self) -> Vec<String> {
        std::mem::take(&mut *self.personal.lock())
    }

    /// Whether this is the first time that its user's presence is marked; it is from now on.
    pub fn mark_present(&self) -> bool {
        !self.present.swap(true, Ordering::AcqRel)
    }

    /// Whether its user's presence may have to be marked.
    pub fn wants_mark(&self) -> bool {
        self.mount.contract().presence.is_some() && !self.present.load(Ordering::Acquire)
    }

    /// Presence is to be marked anew, for another user.
    pub fn unmark_present(&self) {
        self.present.store(false, Ordering::Release);
    }

    /// Its line is open from now on; `true` the first time.
    pub fn open(&self) -> bool {
        !self.opened.swap(true, Ordering::AcqRel)
    }

    /// Whether its line was opened.
    pub fn is_open(&self) -> bool {
        self.opened.load(Ordering::Acquire)
    }

    /// It is over; `true` the first time.
    pub fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    /// It is cut off for flooding; `true` the first time.
    pub fn flood_out(&self) -> bool {
        !self.flooded.swap(true, Ordering::AcqRel)
    }

    /// All that it held has ended.
    pub fn gone(&self) {
        self.departed.cancel();
    }

    /// Waits until all that it held has ended.
    pub async fn until_gone(&self) {
        self.departed.cancelled().await;
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The user as others are told, or null.
    pub fn user_value(&self) -> Value {
        self.identity.read().user.as_ref().map_or(Value::Null, identity::user_value)
    }
}
