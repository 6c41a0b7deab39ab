//! The namespace for trying things out: `echo`, `join`, `leave`, `rooms`. A template, not a contract.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    action::{self, Chooser, Done, Reply},
    clock,
    core::Core,
    refusal::{Code, Refusal},
    session::Session,
    wire::placeholders_are_good,
};

/// Handles an event of a debug namespace.
///
/// # Errors
/// The refusal that its sender is told.
pub async fn perform(
    core: &Arc<Core>,
    session: &Arc<Session>,
    name: &str,
    args: Vec<Value>,
    binaries: Vec<Bytes>,
) -> Result<Done, Refusal> {
    if !args.iter().all(|arg| placeholders_are_good(arg, binaries.len())) {
        return Err(Refusal::new(Code::BadPayload, "a binary placeholder without its attachment"));
    }
    let room = || {
        let room = args.first().and_then(|payload| payload.get("room")).and_then(Value::as_str);
        room.ok_or_else(|| Refusal::new(Code::BadPayload, "room required"))
    };
    let usual = |fields: Value| {
        let mut ack = json!({"ok": true, "event": name, "ts": clock::timestamp()});
        if let (Value::Object(ack), Value::Object(fields)) = (&mut ack, fields) {
            ack.extend(fields);
        }
        ack
    };
    let ack = match name {
        "echo" => return Ok(Done { ack: Reply::Args(args), binaries, disconnect: false }),
        "join" => {
            action::join(core, session, room()?, Chooser::Client).await?;
            usual(json!({"room": room()?}))
        }
        "leave" => {
            action::admit_room(session, room()?, Chooser::Client)?;
            action::leave(core, session, room()?).await;
            usual(json!({"room": room()?}))
        }
        "rooms" => Value::from(session.rooms()),
        _ => {
            return Err(Refusal::new(
                Code::UnknownEvent,
                format!("unknown event {}", crate::gate::shown(name)),
            ));
        }
    };
    Ok(Done { ack: Reply::Args(vec![ack]), binaries, disconnect: false })
}
