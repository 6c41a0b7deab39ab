//! May this event go on? Known, then its shape, then who may, then its limits.
//!
//! In comes an event as it was sent; out goes a [`Permitted`] one, which only this room makes and
//! without which nothing is done. The connection's own bucket was charged before. It never acts.

mod pace;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

pub use pace::pace;

use crate::{
    contract::{Contract, Event},
    fanout,
    mount::Served,
    refusal::{Code, Refusal},
    session::Session,
    wire::placeholders_are_good,
};

/// Longest event name that a refusal repeats.
const NAME_SHOWN: usize = 128;

/// An event that its sender may perform now.
#[must_use = "a permitted event that is not performed is a lost message"]
#[derive(Debug)]
pub struct Permitted {
    /// Its name.
    pub name: String,
    /// Its arguments; the first is the payload.
    pub args: Vec<Value>,
    /// Binary attachments of the arguments.
    pub binaries: Vec<Bytes>,
    served: Arc<Served>,
}

impl Permitted {
    /// What it was checked against, and is handled by.
    pub fn served(&self) -> Arc<Served> {
        self.served.clone()
    }

    /// What the contract says of it.
    pub fn rule(&self) -> Option<&Event> {
        self.served.contract.event.get(&self.name)
    }
}

/// The name as refusals show it.
pub fn shown(name: &str) -> String {
    if name.len() <= NAME_SHOWN {
        return name.to_owned();
    }
    name.chars().take(NAME_SHOWN).collect()
}

/// Checks an event against its contract.
///
/// # Errors
/// The refusal that its sender is told.
pub fn check(
    session: &Session,
    served: Arc<Served>,
    name: String,
    mut args: Vec<Value>,
    binaries: Vec<Bytes>,
) -> Result<Permitted, Refusal> {
    let contract = &served.contract;
    let Some(event) = contract.event.get(&name) else {
        return Err(Refusal::new(Code::UnknownEvent, format!("unknown event {}", shown(&name))));
    };
    if !args.iter().all(|arg| placeholders_are_good(arg, binaries.len())) {
        return Err(Refusal::new(Code::BadPayload, "a binary placeholder without its attachment"));
    }
    shape(event, &mut args)?;
    may(session, event)?;
    identity(session, contract, &args)?;
    Ok(Permitted { name, args, binaries, served })
}

fn shape(event: &Event, args: &mut Vec<Value>) -> Result<(), Refusal> {
    if let (Some(aliases), Some(payload)) = (&event.aliases, args.first_mut()) {
        fanout::rename(payload, aliases);
    }
    let Some(shape) = &event.shape else { return Ok(()) };
    let bad = |message: String| Refusal::new(Code::BadPayload, message);
    if args.first().is_some_and(|payload| !payload.is_null()) {
        return shape.check(&args[0]).map_err(bad);
    }
    // Where nothing was given, what is missing is named rather than the type of nothing.
    let empty = Value::Object(Map::new());
    shape.check(&empty).map_err(bad)?;
    shape.check(&Value::Null).map_err(|_| bad("payload required".to_owned()))?;
    args.clear();
    args.push(empty);
    Ok(())
}

fn may(session: &Session, event: &Event) -> Result<(), Refusal> {
    let identity = session.identity();
    if event.login == Some(true) && identity.user.is_none() {
        return Err(Refusal::new(Code::Unauthorized, "a login is needed"));
    }
    match &event.roles {
        Some(roles) if !roles.iter().any(|role| identity.roles.contains(role)) => {
            Err(Refusal::new(Code::Forbidden, format!("needs the role {}", roles.join(" or "))))
        }
        Some(_) | None => Ok(()),
    }
}

/// Who a payload says that its sender is: refused where it is somebody else, a mere claim where the
/// sender is nobody.
fn identity(session: &Session, contract: &Contract, args: &[Value]) -> Result<(), Refusal> {
    let field = &contract.identity;
    let claimed =
        args.first().and_then(|payload| payload.get(field.as_str())).and_then(Value::as_str);
    let Some(claimed) = claimed else { return Ok(()) };
    match &session.identity().user {
        Some(user) if user.id != claimed => {
            Err(Refusal::new(Code::Forbidden, format!("{field} is not who you are")))
        }
        Some(_) => Ok(()),
        None => {
            session.claim(claimed);
            Ok(())
        }
    }
}
