//! What ended is announced: departures, locks given back, marks that lapsed, whoever ended them.
//!
//! In comes one [`Released`] hold, which exactly one pod of the cluster is handed; out go the events
//! that the contract's rule for it declares. The rule is found by the hold's kind and key.

use std::sync::Arc;

use adapter::{Kind, Released};
use serde_json::{Value, json};

use super::{emit::with_envelope, flow::Names, locks, presence, rooms::room_names, roster};
use crate::{contract::Announcement, core::Core, mount::Mounted, session::Actor, wire::Target};

/// Announces the end of a hold. `reason` says how it ended; `rooms` are where its connection was, for
/// ends that are told there.
pub async fn announce(
    core: &Arc<Core>,
    mount: &Arc<Mounted>,
    released: &Released,
    reason: &'static str,
    rooms: &[String],
) {
    match released.place.kind {
        Kind::Roster => match released.place.key.strip_prefix(roster::LIST) {
            Some(list) => roster::left(core, mount, list).await,
            None => left_room(core, mount, released),
        },
        Kind::Lock => locks::unlocked_by(core, mount, released, reason),
        Kind::Typing => super::typing::stopped(core, mount, released),
        Kind::Status => presence::gone(core, mount, released, rooms),
        _ => {}
    }
}

/// The user of a room's roster is gone from it.
fn left_room(core: &Core, mount: &Mounted, released: &Released) {
    if !released.last {
        return;
    }
    let room = &released.place.key;
    let contract = mount.contract();
    let Some((rule, param)) = contract.room_rule(room) else { return };
    let Some(left) = &rule.left else { return };
    let names = room_names(room, param, &actor_of(&released.hold.data, &released.hold.sid));
    let target = Target::room(room.clone()).except(released.hold.sid.clone());
    tell(core, mount, &target, left, &names);
}

/// Who held it.
pub(super) fn actor_of(data: &Value, sid: &str) -> Actor {
    data.get("actor")
        .and_then(Actor::from_value)
        .or_else(|| Actor::from_value(&json!({"id": sid})))
        .unwrap_or_else(|| Actor { id: sid.into(), name: None })
}

/// Sends an announcement, with the contract's envelope.
pub(super) fn tell(
    core: &Core,
    mount: &Mounted,
    target: &Target,
    announcement: &Announcement,
    names: &Names,
) {
    tell_event(
        core,
        mount,
        target,
        &announcement.event,
        announcement.data.fill(names),
        names,
        false,
    );
}

/// Sends an event with the contract's envelope.
pub(super) fn tell_event(
    core: &Core,
    mount: &Mounted,
    target: &Target,
    event: &str,
    data: Value,
    names: &Names,
    volatile: bool,
) {
    let data = match &mount.contract().envelope {
        Some(envelope) => with_envelope(names, envelope, event, data),
        None => data,
    };
    core.fanout.send(&mount.namespace, target, event, &[data], &[], volatile);
}

/// Everything that lapsed anywhere in the cluster and was handed to this pod.
pub async fn lapses(core: &Arc<Core>) {
    let lapsed = match core.metrics.asked("tick", core.state.tick()).await {
        Ok(lapsed) => lapsed,
        Err(error) => {
            tracing::debug!(%error, "the state does not answer");
            core.metrics.state_error();
            return;
        }
    };
    for released in &lapsed.expired {
        if let Some(mount) = core.mount(&released.place.namespace).cloned() {
            if let Some(session) = mount.sessions.find(&released.hold.sid) {
                session.lost_lock(&released.place.key);
            }
            announce(core, &mount, released, "expired", &[]).await;
        }
    }
    for departed in &lapsed.departed {
        if let Some(mount) = core.mount(&departed.namespace).cloned() {
            super::depart::announce_all(core, &mount, departed, &[]).await;
        }
    }
}
