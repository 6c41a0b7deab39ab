//! `typing`: marks that lapse by themselves.

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
    contract::TypingStep,
    core::Core,
    mount::Mounted,
    session::{Actor, Session},
    wire::Target,
};

fn place(namespace: &str, room: &str) -> Place {
    Place { namespace: namespace.to_owned(), kind: Kind::Typing, key: room.to_owned() }
}

pub(super) async fn typing(flow: &mut Flow, step: &TypingStep) -> Result<(), Stopped> {
    let session = flow.session.clone();
    let contract = session.mount.contract();
    let Some(rule) = &contract.typing else { return Ok(()) };
    let on = step.on.fill(flow) == Value::Bool(true);
    let rooms = match step.room.as_ref().and_then(|room| room.fill_text(flow)) {
        Some(room) => vec![room],
        None => session.rooms_starting(&rule.rooms),
    };
    let actor = session.actor();
    for room in rooms {
        let place = place(&session.mount.namespace, &room);
        let kept = if on {
            let wish = Wish {
                place,
                sid: session.sid.to_string(),
                holder: roster_holder(&session, &actor),
                exclusive: false,
                data: json!({"actor": actor.to_value()}),
                ttl: Some(rule.ttl),
                at_most: None,
            };
            flow.core.state.hold(wish).await.map(|_| ())
        } else {
            flow.core.state.release(&place, Some(&session.sid), None).await.map(|_| ())
        };
        if let Err(error) = kept {
            tracing::debug!(%error, "a typing mark is not kept");
            flow.core.metrics.state_error();
        }
        tell(&flow.core, &session.mount, &room, &session.sid, &actor, on);
    }
    Ok(())
}

fn tell(core: &Core, mount: &Mounted, room: &str, sid: &str, actor: &Actor, on: bool) {
    let contract = mount.contract();
    let Some(rule) = &contract.typing else { return };
    let mut parts = serde_json::Map::new();
    if let Some((_, Some((param, value)))) = contract.room_rule(room) {
        parts.insert(param.to_owned(), Value::from(value));
    }
    parts.insert("name".to_owned(), Value::from(room));
    let names = Names::new()
        .with("actor", actor.to_value())
        .with("room", Value::Object(parts))
        .with("typing", Value::Bool(on));
    let data = rule.data.fill(&names);
    let target = Target::room(room).except(sid);
    tell_event(core, mount, &target, &rule.event, data, &names, true);
}

/// A session types no more in a room that it leaves.
pub(super) async fn stop(core: &Arc<Core>, session: &Arc<Session>, room: &str) {
    if session.mount.contract().typing.is_none() {
        return;
    }
    let place = place(&session.mount.namespace, room);
    match core.state.release(&place, Some(&session.sid), None).await {
        Ok(released) => released.iter().for_each(|one| stopped(core, &session.mount, one)),
        Err(error) => tracing::debug!(%error, "a typing mark lapses later"),
    }
}

/// A mark ended without being taken back.
pub(super) fn stopped(core: &Core, mount: &Mounted, released: &Released) {
    if released.last {
        let actor = actor_of(&released.hold.data, &released.hold.sid);
        tell(core, mount, &released.place.key, &released.hold.sid, &actor, false);
    }
}
