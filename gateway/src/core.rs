//! The handles that handling an event needs, built once by `gateway.rs`. Cheap to clone by `Arc`.

use std::{sync::Arc, time::Duration};

use adapter::{SharedState, memory::MemoryState};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Limits,
    drain::Tasks,
    fanout::Fanout,
    identity::Verifier,
    metrics::EventMetrics,
    mount::Mounted,
    session::{Expiries, Session},
    upstream::Upstreams,
};

/// Upstream events that may wait for their session's turn on one pod.
pub const WAITING_FOR_TURN: usize = 10_000;

/// What the rooms of an event's way share.
#[derive(Debug)]
pub struct Core {
    /// Who hears it.
    pub fanout: Fanout,
    /// What pods share.
    pub state: SharedState,
    /// Stands in for the shared state's charges while that is away.
    pub local_pace: MemoryState,
    /// The applications behind.
    pub upstreams: Upstreams,
    /// Whose token it is.
    pub verifier: Verifier,
    /// What is counted.
    pub metrics: EventMetrics,
    /// What one may use.
    pub limits: Limits,
    /// Namespaces that are served.
    pub mounts: Vec<Arc<Mounted>>,
    /// Starts tasks.
    pub tasks: Tasks,
    /// Places in the lines for turns.
    pub turns: Arc<Semaphore>,
    /// Work in flight is given up from now on, and answered `UNAVAILABLE`.
    pub abandon: CancellationToken,
    /// What is due when.
    pub expiries: Expiries,
    /// How long before its end a token is warned of.
    pub expiry_warning: Duration,
    /// How long after its end a token is still good.
    pub leeway: Duration,
}

impl Core {
    /// The mounting of a namespace.
    pub fn mount(&self, namespace: &str) -> Option<&Arc<Mounted>> {
        self.mounts.iter().find(|mount| mount.namespace == namespace)
    }

    /// Its identity's end is noticed when it comes.
    pub fn watch_expiry(&self, session: &Session) {
        if let Some(ends) = session.identity().expires_at {
            let namespace = &session.mount.namespace;
            self.expiries.proof(ends, self.expiry_warning, self.leeway, namespace, &session.sid);
        }
    }

    /// Every session of a user on this pod, in one namespace.
    pub fn sessions_of(&self, mount: &Mounted, user: &str) -> Vec<Arc<Session>> {
        let target = crate::wire::Target::room(crate::wire::user_room(user));
        let sids = self.fanout.members(&mount.namespace, &target);
        sids.iter().filter_map(|sid| mount.sessions.find(sid)).collect()
    }
}
