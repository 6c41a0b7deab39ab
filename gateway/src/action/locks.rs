//! `lock`, `unlock`, `unlocked`: locks with a lease, held by a connection, named by a rule.

use std::{collections::BTreeMap, sync::Arc};

use adapter::{Denied, Hold, Kind, Place, Released, Wish};
use serde_json::{Map, Value, json};

use super::{
    Flow, Stopped,
    announce::{actor_of, tell},
    flow::Names,
};
use crate::{
    clock,
    contract::{LockRule, LockStep},
    core::Core,
    mount::Mounted,
    refusal::{Code, Refusal},
    session::{HeldLock, Session},
    wire::Target,
};

/// Locks of one connection at most.
const LOCKS: usize = 1000;

/// A step's lock: its rule, parameters, name and room.
struct Meant<'a> {
    rule: &'a LockRule,
    with: BTreeMap<String, Value>,
    name: String,
    room: String,
}

fn meant<'a>(
    flow: &Flow,
    rules: &'a BTreeMap<String, LockRule>,
    step: &LockStep,
) -> Result<Meant<'a>, Refusal> {
    let rule = rules
        .get(&step.rule)
        .ok_or_else(|| Refusal::new(Code::Internal, "a lock without a rule"))?;
    let with: BTreeMap<String, Value> =
        step.with.iter().map(|(key, value)| (key.clone(), value.fill(flow))).collect();
    let names = names(&with);
    let missing = || Refusal::new(Code::BadPayload, "what is to be locked is missing");
    let name = rule.name.fill_text(&names).ok_or_else(missing)?;
    let room = rule.room.fill_text(&names).ok_or_else(missing)?;
    Ok(Meant { rule, with, name, room })
}

fn names(with: &BTreeMap<String, Value>) -> Names {
    with.iter().fold(Names::new(), |names, (key, value)| names.with(key, value.clone()))
}

fn place(namespace: &str, name: &str) -> Place {
    Place { namespace: namespace.to_owned(), kind: Kind::Lock, key: name.to_owned() }
}

/// `{userId, lockType, since}` of who has it.
fn holder(hold: &Hold) -> Value {
    json!({
        "userId": actor_of(&hold.data, &hold.sid).id,
        "lockType": if hold.exclusive { "exclusive" } else { "shared" },
        "since": clock::rfc3339(clock::from_millis(hold.since)),
    })
}

pub(super) async fn lock(flow: &mut Flow, step: &LockStep) -> Result<(), Stopped> {
    let contract = flow.served.contract.clone();
    let Meant { rule, with, name, room } = meant(flow, &contract.lock, step)?;
    let kind = step.kind.as_ref().and_then(|kind| kind.fill_text(flow));
    let kind = kind.unwrap_or_else(|| "exclusive".to_owned());
    let session = flow.session.clone();
    if session.lock_count() >= LOCKS {
        return Err(Refusal::new(Code::LimitExceeded, "holds as many locks as one may").into());
    }
    let actor = session.actor();
    let wish = Wish {
        place: place(&session.mount.namespace, &name),
        sid: session.sid.to_string(),
        holder: session.holder(),
        exclusive: kind == "exclusive",
        data: json!({
            "actor": actor.to_value(), "rule": step.rule, "with": with, "room": room, "kind": kind,
        }),
        ttl: None,
        at_most: None,
    };
    match flow.core.state.hold(wish).await? {
        Err(Denied::Conflict(hold)) => {
            Err(Refusal::conflict("somebody else has the lock", holder(&hold)).into())
        }
        Err(Denied::Full) => Err(Refusal::new(Code::LimitExceeded, "held by too many").into()),
        Ok(held) => {
            session.holds_lock(HeldLock { name, room: room.clone() });
            if held.first {
                let names = names(&with)
                    .with("actor", actor.to_value())
                    .with("lockType", Value::from(kind));
                let target = Target::room(room).except(&*session.sid);
                tell(&flow.core, &session.mount, &target, &rule.locked, &names);
            }
            Ok(())
        }
    }
}

pub(super) async fn unlock(flow: &mut Flow, step: &LockStep) -> Result<(), Stopped> {
    let contract = flow.served.contract.clone();
    let meant = meant(flow, &contract.lock, step)?;
    let (core, session) = (flow.core.clone(), flow.session.clone());
    let place = place(&session.mount.namespace, &meant.name);
    let released = core.state.release(&place, None, Some(&session.holder())).await?;
    session.lost_lock(&meant.name);
    if released.is_empty() {
        let held = !core.state.holds(&place).await?.is_empty();
        return Err(if held {
            Refusal::new(Code::Forbidden, "somebody else has the lock")
        } else {
            Refusal::new(Code::NotFound, "there is no such lock")
        }
        .into());
    }
    announce_one(&core, &session, &released, "unlocked");
    Ok(())
}

/// Several shares of one holder are one lock to others.
fn announce_one(core: &Core, session: &Session, released: &[Released], reason: &'static str) {
    if let Some(last) = released.iter().find(|released| released.last) {
        // The sender is left out, whichever of its user's connections had taken the lock.
        let mut last = last.clone();
        last.hold.sid = session.sid.to_string();
        unlocked_by(core, &session.mount, &last, reason);
    }
}

pub(super) async fn unlocked(flow: &mut Flow, step: &LockStep) -> Result<(), Stopped> {
    let contract = flow.served.contract.clone();
    let meant = meant(flow, &contract.lock, step)?;
    let session = &flow.session;
    let mine = session.holder();
    let holds = flow.core.state.holds(&place(&session.mount.namespace, &meant.name)).await?;
    match holds.iter().find(|hold| hold.exclusive && hold.holder != mine) {
        Some(hold) => Err(Refusal::conflict("somebody else has it locked", holder(hold)).into()),
        None => Ok(()),
    }
}

/// Gives back what a session had locked in a room that it leaves.
pub(super) async fn release_in(core: &Arc<Core>, session: &Arc<Session>, room: &str) {
    for lock in session.take_locks(room) {
        let place = place(&session.mount.namespace, &lock.name);
        match core.state.release(&place, Some(&session.sid), None).await {
            Ok(released) => announce_one(core, session, &released, "left"),
            Err(error) => {
                tracing::debug!(%error, "a lock is given back later");
                core.metrics.state_error();
            }
        }
    }
}

/// Tells the room that a lock is free.
pub(super) fn unlocked_by(core: &Core, mount: &Mounted, released: &Released, reason: &str) {
    if !released.last {
        return;
    }
    let data = &released.hold.data;
    let contract = mount.contract();
    let rule = data.get("rule").and_then(Value::as_str).and_then(|rule| contract.lock.get(rule));
    let (Some(rule), Some(room)) = (rule, data.get("room").and_then(Value::as_str)) else { return };
    let with: Map<String, Value> =
        data.get("with").and_then(Value::as_object).cloned().unwrap_or_default();
    let names = names(&with.into_iter().collect())
        .with("actor", actor_of(data, &released.hold.sid).to_value())
        .with("reason", Value::from(reason));
    let target = Target::room(room).except(released.hold.sid.clone());
    tell(core, mount, &target, &rule.unlocked, &names);
}

/// An operator frees a lock. Whether there was one.
///
/// # Errors
/// Where the state does not answer.
pub async fn free(core: &Arc<Core>, mount: &Arc<Mounted>, name: &str) -> Result<bool, Refusal> {
    let released = core.state.release(&place(&mount.namespace, name), None, None).await?;
    for one in &released {
        if let Some(session) = mount.sessions.find(&one.hold.sid) {
            session.lost_lock(name);
        }
        let mut told = one.clone();
        // Its holder is told too: it was not the one to give it back.
        told.hold.sid = String::new();
        unlocked_by(core, mount, &told, "released");
    }
    Ok(!released.is_empty())
}
