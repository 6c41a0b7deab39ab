//! What an application is told: an event that its sender may perform, as the body of one request.
//!
//! It holds what contracts promise to applications and nothing else: no token, no Engine.IO session id.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use crate::identity::User;

/// One event on its way to an application. Serialised, it is the body that the application reads.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// The contract that declares the event.
    pub contract: String,
    /// The namespace that it came in.
    pub namespace: String,
    /// The event's name.
    pub event: String,
    /// Its arguments, binary ones already in JSON.
    pub args: Vec<Value>,
    /// Who sent it.
    pub connection: Caller,
    /// The session that it names, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// That session's stored state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
    /// Whether the contract lets it be sent again where it is not known to have arrived.
    #[serde(skip)]
    pub idempotent: bool,
}

/// The connection that an event came from.
#[derive(Clone, Debug, Serialize)]
pub struct Caller {
    /// Its public id.
    pub sid: String,
    /// Whose it is, if that is known.
    pub user: Option<User>,
    /// That user's roles.
    pub roles: Vec<String>,
    /// The peer's address.
    pub ip: IpAddr,
}
