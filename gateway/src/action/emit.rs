//! `emit` and `relay`: events of the contract to their audiences; and how refusals are told.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Flow, Stopped, Told, rooms};
use crate::{
    contract::{Audience, Audiences, Emit, Refused, Relay, Scope, Template},
    core::Core,
    fanout::enveloped,
    session::Session,
    upstream,
    wire::{Frame, Target, user_room},
};

/// Sends an event that a step describes.
pub(super) fn emit(flow: &mut Flow, emit: &Emit) {
    let Some(name) = emit.event.fill_text(flow) else { return };
    let data = emit.data.fill(flow);
    let target = audience(flow, &emit.to, emit.room.as_ref());
    send_enveloped(flow, &target, &name, data, emit.volatile);
}

/// Passes the sender's own event on. A room that the sender names must be one that it could join.
pub(super) fn relay(flow: &mut Flow, relay: &Relay) -> Result<(), Stopped> {
    if let Some(room) = &relay.room
        && let Some(name) = room.fill_text(flow)
    {
        rooms::admit_room(&flow.session, &name, rooms::Chooser::of(room))?;
    }
    let target = audience(flow, &relay.to, relay.room.as_ref());
    if target.is_nobody() {
        return Ok(());
    }
    let add = match relay.add.as_ref().map(|add| add.fill(flow)) {
        Some(Value::Object(add)) => add,
        Some(_) | None => Map::new(),
    };
    let (core, mount) = (&flow.core, &flow.session.mount);
    let frame = match flow.args() {
        [Value::Object(payload), rest @ ..] if flow.binaries().is_empty() => {
            Frame::merged(&flow.event, payload, &add, rest)
        }
        args => {
            let mut args = args.to_vec();
            match args.first_mut() {
                Some(Value::Object(payload)) => payload.extend(add),
                Some(_) => {}
                None => args.push(Value::Object(add)),
            }
            Frame::event(&flow.event, &args, flow.binaries())
        }
    };
    core.fanout.wire().send(&mount.namespace, &target, frame, relay.volatile);
    Ok(())
}

/// Sends with the contract's envelope, if it has one.
fn send_enveloped(flow: &mut Flow, target: &Target, name: &str, data: Value, volatile: bool) {
    if target.is_nobody() {
        return;
    }
    let data = match flow.served.contract.envelope.clone() {
        Some(envelope) => with_envelope(flow, &envelope, name, data),
        None => data,
    };
    let namespace = flow.session.mount.namespace.clone();
    flow.core.fanout.send(&namespace, target, name, &[data], flow.binaries(), volatile);
}

struct Enveloping<'a> {
    inner: &'a dyn Scope,
    event: &'a str,
    data: &'a Value,
}

impl Scope for Enveloping<'_> {
    fn root(&self, name: &str) -> Option<Cow<'_, Value>> {
        match name {
            "event" => Some(Cow::Owned(Value::from(self.event))),
            "data" => Some(Cow::Borrowed(self.data)),
            _ => self.inner.root(name),
        }
    }
}

/// An event's payload with the envelope beside it.
pub(super) fn with_envelope(
    scope: &dyn Scope,
    envelope: &Template,
    event: &str,
    data: Value,
) -> Value {
    let filled = envelope.fill(&Enveloping { inner: scope, event, data: &data });
    enveloped(data, filled)
}

/// Whom a step's audiences mean. A room that was asked for and is not named is nobody.
fn audience(flow: &Flow, audiences: &Audiences, room: Option<&Template>) -> Target {
    let session = &flow.session;
    let named = room.and_then(|room| room.fill_text(flow)).filter(|room| !room.is_empty());
    let mut target = Target::default();
    for audience in audiences.iter() {
        match audience {
            Audience::Sender => target.rooms.push(session.sid.to_string()),
            Audience::Room => target.rooms.extend(named.clone()),
            Audience::Others => {
                match room {
                    Some(_) => target.rooms.extend(named.clone()),
                    None => target.all = true,
                }
                target.except.push(session.sid.to_string());
            }
            Audience::All => target.all = true,
            Audience::User => target.rooms.push(own_user_room(session)),
            Audience::Joined => {
                let start = named.clone().unwrap_or_default();
                target.rooms.extend(session.rooms_starting(&start));
            }
        }
    }
    target
}

/// The room of all of a user's connections; of an anonymous one, its own.
pub(super) fn own_user_room(session: &Session) -> String {
    match &session.identity().user {
        Some(user) => user_room(&user.id),
        None => session.sid.to_string(),
    }
}

/// Whom an application means: `to` of an answer or of the server API.
pub fn resolve(to: &upstream::Target) -> Target {
    let mut rooms: Vec<String> = to.sids.clone();
    rooms.extend(to.users.iter().map(|user| user_room(user)));
    rooms.extend(to.rooms.iter().cloned());
    let all = to.all || (rooms.is_empty() && to.sids.is_empty());
    Target { rooms, all, except: to.except.clone() }
}

struct Refusing<'a> {
    session: &'a Session,
    event: &'a str,
    payload: Option<&'a Value>,
    error: Value,
}

impl Scope for Refusing<'_> {
    fn root(&self, name: &str) -> Option<Cow<'_, Value>> {
        match name {
            "error" => Some(Cow::Borrowed(&self.error)),
            "event" => Some(Cow::Owned(Value::from(self.event))),
            "payload" => self.payload.map(Cow::Borrowed),
            "ts" => Some(Cow::Owned(Value::from(crate::clock::timestamp()))),
            "sid" => Some(Cow::Owned(Value::from(&*self.session.sid))),
            _ => None,
        }
    }
}

/// Tells the sender of a refusal by the step's event, else the event's, else the contract's. Where an
/// ack tells it already, only those that are always sent are.
pub fn send_refused(
    core: &Core,
    session: &Session,
    event: &str,
    payload: Option<&Value>,
    stopped: &Stopped,
    asked: bool,
) {
    let contract = session.mount.contract();
    let told = if let Some(Told { event, data }) = &stopped.told {
        Some((event.clone(), data.clone()))
    } else {
        let rule: &Refused = contract
            .event
            .get(event)
            .and_then(|event| event.refused.as_ref())
            .unwrap_or(&contract.refused);
        (rule.always || !asked).then(|| {
            let error = stopped.refusal.to_value();
            let scope = Refusing { session, event, payload, error };
            (rule.event.clone(), rule.data.fill(&scope))
        })
    };
    if let Some((name, data)) = told {
        let data = if data.is_null() { Value::Object(Map::new()) } else { data };
        let target = Target::one(&session.sid);
        core.fanout.send(&session.mount.namespace, &target, &name, &[data], &[], false);
    }
}
