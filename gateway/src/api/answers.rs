//! The answers of the API, from which its document is made.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

pub(super) use crate::cluster::Known;
use crate::cluster::{Connection, Member, RoomCount};

/// It was done.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// Always true.
    pub ok: bool,
}

impl Done {
    pub(super) const OK: Self = Self { ok: true };
}

/// A call was refused.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Refused {
    /// Always false.
    pub ok: bool,
    /// Why.
    pub error: Why,
}

/// Why a call was refused.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Why {
    /// One of the closed list.
    pub code: String,
    /// In words.
    pub message: String,
}

/// What came of each command, in order.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Results {
    /// The batch was done, whatever came of its commands.
    pub ok: bool,
    /// One for each command.
    pub results: Vec<Outcome>,
}

/// What came of one command.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Outcome {
    /// It was done.
    Done(Done),
    /// It was refused.
    Refused(Refused),
}

/// Rooms of a namespace.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct RoomList {
    /// In the order of their names.
    pub rooms: Vec<RoomCount>,
    /// Where to go on, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Pods that did not answer in time, so that what they have is missing here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Connections in a room.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Members {
    /// Each of them.
    pub members: Vec<Member>,
    /// Pods that did not answer in time, so that what they have is missing here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Users in a room.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Presence {
    /// Each of them once.
    pub users: Vec<Present>,
    /// Pods that did not answer in time, so that what they have is missing here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A user in a room.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Present {
    /// Its id.
    pub id: String,
    /// What it last said of itself; `online` where it said nothing.
    pub status: Value,
    /// What it is doing, if it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<Value>,
    /// Its connections in the room.
    pub connections: u64,
}

/// A user's connections.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Connections {
    /// Each of them.
    pub connections: Vec<Connection>,
    /// Pods that did not answer in time, so that what they have is missing here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// The cluster in numbers.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Stats {
    /// Pods.
    pub pods: usize,
    /// Connections; one that is in several namespaces counts once.
    pub connections: u64,
    /// Those of them that have a user.
    pub authenticated: u64,
    /// Users.
    pub users: usize,
    /// Rooms, but for those of single connections.
    pub rooms: usize,
    /// Each namespace.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Pods that did not answer in time, so that what they have is missing here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A namespace in numbers.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(super) struct Namespace {
    /// Connections in it.
    pub connections: u64,
}

/// A stored login session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct LoginSession {
    /// Its id.
    pub id: String,
    /// Whose it is: `{id, name?, roles}`.
    pub user: Value,
    /// Seconds from a renewal to its end.
    pub ttl_s: u64,
    /// When it ends: RFC 3339, UTC.
    pub expires_at: String,
}
