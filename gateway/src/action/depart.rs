//! A connection is over: what it held ends, and those concerned are told once.

use std::sync::Arc;

use adapter::{Departed, Kind};

use super::announce::announce;
use crate::{core::Core, mount::Mounted, session::Session};

/// Ends all that a session held. `rooms` of the session are taken before the wire forgets them.
pub async fn depart(core: &Arc<Core>, session: &Arc<Session>) {
    let rooms = session.rooms();
    let mount = &session.mount;
    match core.state.depart(&mount.namespace, &session.sid).await {
        Ok(departed) => announce_all(core, mount, &departed, &rooms).await,
        Err(error) => {
            tracing::debug!(%error, "a departure is registered later");
            core.metrics.state_error();
        }
    }
}

/// Announces every end of a departure.
pub(super) async fn announce_all(
    core: &Arc<Core>,
    mount: &Arc<Mounted>,
    departed: &Departed,
    rooms: &[String],
) {
    let mut rooms = rooms.to_vec();
    for released in &departed.released {
        if released.place.kind == Kind::Roster && !rooms.contains(&released.place.key) {
            rooms.push(released.place.key.clone());
        }
    }
    for released in &departed.released {
        announce(core, mount, released, "disconnected", &rooms).await;
    }
}
