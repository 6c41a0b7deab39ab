//! `join`, `leave`, `leave_all`, `member`: rooms, who may enter them, and who is told.

use std::sync::Arc;

use adapter::{Kind, Place, Wish};
use serde_json::{Value, json};

use super::{
    Flow, Stopped,
    announce::{announce, tell},
    flow::Names,
    inner, locks,
};
use crate::{
    contract::{Step, Template},
    core::Core,
    refusal::{Code, Refusal},
    session::{Actor, Session},
    wire::{Target, is_an_id, is_internal},
};

/// Longest room name that a client chooses, in characters.
const LONGEST: usize = 128;

/// Longest room name at all, in characters: a contract's prefix and a client's name.
const LONGEST_OF_ALL: usize = 512;

/// Rooms that are somebody's own, whatever contract asks.
const USER: &str = "user:";

/// Rooms that only a contract's own events lead into.
const GUARDED: [&str; 2] = ["workflow:", "session:"];

/// Who chose a room's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chooser {
    /// The application behind, which may let anybody in anywhere.
    Application,
    /// The peer, whole.
    Client,
    /// The contract's author, at least its beginning.
    Contract,
}

impl Chooser {
    pub(super) fn of(template: &Template) -> Self {
        if template.fixed_start().is_empty() { Self::Client } else { Self::Contract }
    }
}

/// Whether this is a room's name.
///
/// # Errors
/// `BAD_PAYLOAD` for what is none.
pub fn check_room(room: &str, chooser: Chooser) -> Result<(), Refusal> {
    let longest = if chooser == Chooser::Client { LONGEST } else { LONGEST_OF_ALL };
    let length = room.chars().count();
    if length == 0 || length > longest || room.chars().any(char::is_control) || is_internal(room) {
        let message = format!("a room's name is 1 to {LONGEST} printable characters");
        return Err(Refusal::new(Code::BadPayload, message));
    }
    Ok(())
}

/// Whether the session may be in a room of this name.
///
/// # Errors
/// `BAD_PAYLOAD` for what is no name, `FORBIDDEN` for a room that is somebody else's.
pub fn admit_room(session: &Session, room: &str, chooser: Chooser) -> Result<(), Refusal> {
    check_room(room, chooser)?;
    if chooser == Chooser::Application {
        return Ok(());
    }
    let forbidden = |what: &str| Err(Refusal::new(Code::Forbidden, what));
    if let Some(owner) = room.strip_prefix(USER) {
        let own = session.identity().user.as_ref().is_some_and(|user| user.id == owner);
        return if own { Ok(()) } else { forbidden("this room is somebody else's") };
    }
    if chooser == Chooser::Client {
        if GUARDED.iter().any(|guarded| room.starts_with(guarded)) {
            return forbidden("this room cannot be joined by its name");
        }
        if *room != *session.sid && is_an_id(room) {
            return forbidden("this room is another connection's");
        }
    }
    Ok(())
}

fn name(flow: &Flow, template: &Template) -> Result<String, Refusal> {
    template
        .fill_text(flow)
        .ok_or_else(|| Refusal::new(Code::BadPayload, "a room's name is missing"))
}

pub(super) async fn join_step(flow: &mut Flow, template: &Template) -> Result<(), Stopped> {
    let room = name(flow, template)?;
    let users = join(&flow.core, &flow.session, &room, Chooser::of(template)).await?;
    flow.bind("users", users);
    flow.bind("room", Value::from(room));
    Ok(())
}

/// Puts a session into a room, and tells the others where its rule says so. Gives the users that are
/// in it, where it keeps a roster.
///
/// # Errors
/// As [`admit_room`], and `LIMIT_EXCEEDED`.
pub async fn join(
    core: &Arc<Core>,
    session: &Arc<Session>,
    room: &str,
    chooser: Chooser,
) -> Result<Value, Refusal> {
    admit_room(session, room, chooser)?;
    let namespace = &session.mount.namespace;
    if *room == *session.sid || session.has_ended() {
        return Ok(Value::Null);
    }
    session
        .enter(room, core.limits.load().rooms_per_connection)
        .map_err(|_full| Refusal::new(Code::LimitExceeded, "in as many rooms as one may be"))?;
    // It is in it from now on; the other pods reach it there when this is over, and nobody is told before.
    let reached = core.fanout.wire().join(namespace, &session.sid, room);
    let contract = session.mount.contract();
    let rule = contract.room_rule(room);
    let personal = room.starts_with(USER) || rule.as_ref().is_some_and(|(rule, _)| rule.personal);
    if personal && session.identity().user.is_some() {
        session.joined_personally(room);
    }
    let Some((rule, param)) = rule.filter(|(rule, _)| rule.roster) else {
        reached.await;
        return Ok(Value::Null);
    };
    let actor = session.actor();
    let place = place(namespace, room);
    let wish = Wish {
        place,
        sid: session.sid.to_string(),
        holder: roster_holder(session, &actor),
        exclusive: false,
        data: json!({"actor": actor.to_value()}),
        ttl: None,
        at_most: None,
    };
    let (held, ()) = tokio::join!(core.metrics.asked("hold", core.state.hold(wish)), reached);
    let held = match held {
        Ok(Ok(held)) => held,
        Ok(Err(_)) => return Ok(json!([actor.to_value()])),
        Err(error) => {
            // The join holds on this pod; it is registered when the state is back.
            tracing::debug!(%error, "joined locally only");
            core.metrics.state_error();
            return Ok(json!([actor.to_value()]));
        }
    };
    if session.has_ended() {
        // It ended while the roster was asked; nobody else would take it out.
        leave(core, session, room).await;
        return Ok(Value::Null);
    }
    if held.first
        && let Some(joined) = &rule.joined
    {
        let names = room_names(room, param, &actor);
        let target = Target::room(room).except(&*session.sid);
        tell(core, &session.mount, &target, joined, &names);
    }
    Ok(users(&held.holds))
}

/// Each user of a roster once, in the order that they came.
pub(super) fn users(holds: &[adapter::Hold]) -> Value {
    let mut seen: Vec<&str> = Vec::new();
    let mut users = Vec::new();
    for hold in holds {
        if !seen.contains(&hold.holder.as_str()) {
            seen.push(&hold.holder);
            users.push(hold.data.get("actor").cloned().unwrap_or(Value::Null));
        }
    }
    Value::from(users)
}

pub(super) fn place(namespace: &str, room: &str) -> Place {
    Place { namespace: namespace.to_owned(), kind: Kind::Roster, key: room.to_owned() }
}

/// Who counts once in a roster: a proven user, a claimed one, or the connection.
pub(super) fn roster_holder(session: &Session, actor: &Actor) -> String {
    let proven = session.identity().user.is_some();
    let kind = if proven {
        "user"
    } else if *actor.id == *session.sid {
        "sid"
    } else {
        "claim"
    };
    format!("{kind}:{}", actor.id)
}

pub(super) fn room_names(room: &str, param: Option<(&str, &str)>, actor: &Actor) -> Names {
    let names = Names::new()
        .with("actor", actor.to_value())
        .with("user", actor.to_value())
        .with("room", Value::from(room));
    match param {
        Some((name, value)) => names.with(name, Value::from(value)),
        None => names,
    }
}

pub(super) async fn leave_step(flow: &mut Flow, template: &Template) -> Result<(), Stopped> {
    let room = name(flow, template)?;
    admit_room(&flow.session, &room, Chooser::of(template))?;
    if *room == *flow.session.sid {
        return Err(Refusal::new(Code::Forbidden, "one's own room cannot be left").into());
    }
    leave(&flow.core, &flow.session, &room).await;
    flow.bind("room", Value::from(room));
    Ok(())
}

/// Takes a session out of a room, with what it held there, and tells the others.
pub async fn leave(core: &Arc<Core>, session: &Arc<Session>, room: &str) {
    locks::release_in(core, session, room).await;
    super::typing::stop(core, session, room).await;
    let namespace = &session.mount.namespace;
    core.fanout.wire().leave(namespace, &session.sid, room);
    session.left(room);
    let keeps = session.mount.contract().room_rule(room).is_some_and(|(rule, _)| rule.roster);
    if !keeps {
        return;
    }
    match core.state.release(&place(namespace, room), Some(&session.sid), None).await {
        Ok(released) => {
            for one in &released {
                announce(core, &session.mount, one, "left", &[]).await;
            }
        }
        Err(error) => {
            tracing::debug!(%error, "left locally only");
            core.metrics.state_error();
        }
    }
}

pub(super) async fn leave_all(flow: &mut Flow, list: &[Step]) -> Result<(), Stopped> {
    for room in flow.session.rooms() {
        leave(&flow.core, &flow.session, &room).await;
        flow.bind("room", Value::from(room));
        inner(flow, list).await?;
    }
    Ok(())
}

pub(super) fn member(flow: &Flow, template: &Template) -> Result<(), Stopped> {
    let room = name(flow, template)?;
    if flow.session.is_in(&room) {
        return Ok(());
    }
    Err(Refusal::new(Code::Forbidden, "for members only: join first").into())
}
