//! The sessions of an engine: found by the secret that only their client knows.
//!
//! A session id on the wire is `<pod>.<secret>`, or the secret alone where the pod has no name. The
//! secret has 128 random bits; nobody but the client ever sees it, and it is not the connection's
//! public id.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use engineioxide_core::TransportType;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use crate::{socket::Socket, stats::Cause};

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 32;

/// The secret part of a session id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Secret(u128);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    pub(crate) fn new() -> Self {
        Self(rand::random())
    }

    /// The session id of this secret on a pod.
    pub(crate) fn id(self, pod: &str) -> String {
        let secret = BASE64_URL_SAFE_NO_PAD.encode(self.0.to_be_bytes());
        if pod.is_empty() { secret } else { format!("{pod}.{secret}") }
    }

    /// The secret of a session id, if it is of this pod.
    pub(crate) fn read(id: &str, pod: &str) -> Option<Self> {
        let secret = match id.rsplit_once('.') {
            Some((named, secret)) if named == pod => secret,
            None if pod.is_empty() => id,
            Some(_) | None => return None,
        };
        let mut bytes = [0; 16];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(secret, &mut bytes).ok()?;
        (length == bytes.len()).then(|| Self(u128::from_be_bytes(bytes)))
    }
}

/// Part of the table. The keys are random, so a hash that nobody could steer is not needed.
type Shard<D> = Mutex<HashMap<Secret, Arc<Socket<D>>, FxBuildHasher>>;

/// The sessions of one engine.
pub(crate) struct Table<D: Default + Send + Sync + 'static>(Vec<Shard<D>>);

impl<D: Default + Send + Sync + 'static> Table<D> {
    pub(crate) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    fn shard(&self, secret: Secret) -> Option<&Shard<D>> {
        self.0.get(usize::try_from(secret.0 % SHARDS as u128).unwrap_or_default())
    }

    pub(crate) fn insert(&self, socket: Arc<Socket<D>>) {
        if let Some(shard) = self.shard(socket.secret()) {
            shard.lock().insert(socket.secret(), socket);
        }
    }

    pub(crate) fn find(&self, secret: Secret) -> Option<Arc<Socket<D>>> {
        self.shard(secret)?.lock().get(&secret).cloned()
    }

    pub(crate) fn remove(&self, secret: Secret) {
        // The session is dropped when the lock is given back.
        let removed = self.shard(secret).and_then(|shard| shard.lock().remove(&secret));
        drop(removed);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().len()).sum()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Socket<D>>> {
        self.0.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }
}

/// What a [`Sessions`] needs of its engine.
pub(crate) trait AllSessions: Send + Sync {
    fn count(&self) -> usize;
    fn end_all(&self, cause: Cause);
}

/// The sessions of the engine that is built with it, from outside. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions(Arc<OnceLock<Weak<dyn AllSessions>>>);

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sessions").field(&self.count()).finish()
    }
}

impl Sessions {
    pub(crate) fn of(&self, engine: Weak<dyn AllSessions>) {
        // The first engine that is built with it.
        self.0.set(engine).ok();
    }

    fn engine(&self) -> Option<Arc<dyn AllSessions>> {
        self.0.get().and_then(Weak::upgrade)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.engine().map_or(0, |engine| engine.count())
    }

    /// Ends all of them. Each one's handlers are told, and each client is: after what waits for it.
    pub fn close_all(&self) {
        if let Some(engine) = self.engine() {
            engine.end_all(Cause::Server);
        }
    }
}

/// What a [`Connection`] needs of its session.
pub(crate) trait Linked: Send + Sync {
    fn end(&self, cause: Cause);
    fn ended(&self) -> Option<Cause>;
    fn queued(&self) -> usize;
    fn transport(&self) -> TransportType;
}

/// One session, from outside: the engine leaves it in the extensions of the request that began the
/// session. Cheap to clone.
#[derive(Clone)]
pub struct Connection(pub(crate) Weak<dyn Linked>);

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Ends the session. [`Cause::Server`] lets what waits for the client leave first; any other cause
    /// gives it up.
    pub fn end(&self, cause: Cause) {
        if let Some(session) = self.0.upgrade() {
            session.end(cause);
        }
    }

    /// Why the session ended; `None` while it goes on.
    pub fn ended(&self) -> Option<Cause> {
        self.0.upgrade().map_or(Some(Cause::Server), |session| session.ended())
    }

    /// Bytes that wait for the client.
    pub fn queued(&self) -> usize {
        self.0.upgrade().map_or(0, |session| session.queued())
    }

    /// What carries the session; `None` where it is over.
    pub fn transport(&self) -> Option<TransportType> {
        self.0.upgrade().map(|session| session.transport())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_pod_and_carry_their_secret() {
        let secret = Secret::new();
        for pod in ["", "a", "gateway-7f-2_b"] {
            let id = secret.id(pod);
            assert_eq!(Secret::read(&id, pod), Some(secret), "{id}");
            assert_eq!(Secret::read(&id, "other"), None, "{id}");
            let random = id.rsplit('.').next().map(str::len);
            assert_eq!(random, Some(22), "128 bits");
        }
        let id = secret.id("a");
        for (name, text) in [
            ("empty", ""),
            ("pod only", "a."),
            ("short", &id[..id.len() - 1]),
            ("without its pod", &id[2..]),
            ("longer", &format!("{id}A")),
            ("another character", &id.replace('.', ".!")),
        ] {
            assert_eq!(Secret::read(text, "a"), None, "{name}");
        }
    }
}
