//! `presence`: what a user is up to, told where it is, and that it is gone.

use std::sync::Arc;

use adapter::{Kind, Place, Released, Wish};
use serde_json::{Value, json};

use super::{
    Flow, Stopped,
    announce::{actor_of, tell_event},
    flow::Names,
    rooms::roster_holder,
};
use crate::{
    clock,
    contract::Template,
    core::Core,
    mount::Mounted,
    session::{Actor, Session},
    wire::Target,
};

fn place(namespace: &str, kind: Kind, user: &str) -> Place {
    Place { namespace: namespace.to_owned(), kind, key: user.to_owned() }
}

/// The wish for a status that was said at this time, 0 where it was not said but is assumed.
fn wish(session: &Session, actor: &Actor, status: &Value, at: u64) -> Wish {
    Wish {
        place: place(&session.mount.namespace, Kind::Status, &actor.id),
        sid: session.sid.to_string(),
        holder: roster_holder(session, actor),
        exclusive: false,
        data: json!({"actor": actor.to_value(), "status": status, "at": at}),
        ttl: None,
        at_most: None,
    }
}

/// Marks a user as present, once for each connection, so that its going is noticed. A connection that
/// has not said who it is has no presence.
pub(super) async fn mark(core: &Arc<Core>, session: &Arc<Session>) {
    if session.mount.debug || session.mount.contract().presence.is_none() {
        return;
    }
    let actor = session.actor();
    if *actor.id == *session.sid || !session.mark_present() {
        return;
    }
    if let Err(error) =
        core.state.hold(wish(session, &actor, &json!({"status": "online"}), 0)).await
    {
        tracing::debug!(%error, "presence is not kept");
        core.metrics.state_error();
        session.unmark_present();
    }
}

pub(super) async fn presence(flow: &mut Flow, template: &Template) -> Result<(), Stopped> {
    let session = flow.session.clone();
    let contract = session.mount.contract();
    let Some(rule) = &contract.presence else { return Ok(()) };
    let actor = session.actor();
    let status = template.fill(flow);
    session.mark_present();
    if let Err(error) = flow.core.state.hold(wish(&session, &actor, &status, clock::millis())).await
    {
        tracing::debug!(%error, "presence is not kept");
        flow.core.metrics.state_error();
    }
    let rooms = shared_rooms(&flow.core, &session).await;
    let mut names = Names::new().with("actor", actor.to_value());
    if let Value::Object(map) = status {
        for (key, value) in map {
            // The sender's own time of it, where it gave one.
            names =
                if key == "timestamp" { names.first("ts", value) } else { names.with(&key, value) };
        }
    }
    let data = rule.data.fill(&names);
    let target = Target { rooms, ..Target::default() };
    tell_event(&flow.core, &session.mount, &target, &rule.event, data, &names, false);
    Ok(())
}

/// Every room that the session's user is in, by any of its connections.
async fn shared_rooms(core: &Arc<Core>, session: &Arc<Session>) -> Vec<String> {
    let mut rooms = session.rooms();
    let Some(user) = session.identity().user.clone() else { return rooms };
    let namespace = &session.mount.namespace;
    let connections = core.state.holds(&place(namespace, Kind::User, &user.id)).await;
    for hold in connections.unwrap_or_default() {
        if *hold.sid == *session.sid {
            continue;
        }
        for held in core.state.held_by(namespace, &hold.sid).await.unwrap_or_default() {
            if held.kind == Kind::Roster && !rooms.contains(&held.key) {
                rooms.push(held.key);
            }
        }
    }
    rooms
}

/// A user's last connection is gone: it is offline, where it was.
pub(super) fn gone(core: &Core, mount: &Mounted, released: &Released, rooms: &[String]) {
    let contract = mount.contract();
    let Some(rule) = &contract.presence else { return };
    if !released.last || rooms.is_empty() {
        return;
    }
    let actor = actor_of(&released.hold.data, &released.hold.sid);
    let names = Names::new().with("actor", actor.to_value()).with("status", Value::from("offline"));
    let data = rule.data.fill(&names);
    let target =
        Target { rooms: rooms.to_vec(), ..Target::default() }.except(released.hold.sid.clone());
    tell_event(core, mount, &target, &rule.event, data, &names, false);
}
