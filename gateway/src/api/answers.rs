//! The answers of the API, from which its document is made.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

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
}

/// A room and how many are in it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct RoomCount {
    /// Its name.
    pub room: String,
    /// Connections in it.
    pub connections: u64,
}

/// Connections in a room.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Members {
    /// Each of them.
    pub members: Vec<Member>,
}

/// A connection in a room.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Member {
    /// Its public id.
    pub sid: String,
    /// `{id, name?}`, or null.
    pub user: Option<User>,
    /// The pod that serves it.
    pub pod: String,
}

/// A user.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct User {
    /// Its id.
    pub id: String,
    /// Its name, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl From<&crate::identity::User> for User {
    fn from(user: &crate::identity::User) -> Self {
        Self { id: user.id.clone(), name: user.name.clone() }
    }
}

/// Users in a room.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Presence {
    /// Each of them once.
    pub users: Vec<Present>,
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
}

/// A connection.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Connection {
    /// Its public id.
    pub sid: String,
    /// The namespace.
    pub namespace: String,
    /// The pod that serves it.
    pub pod: String,
    /// The rooms that it is in, but for its own.
    pub rooms: Vec<String>,
    /// Since when: RFC 3339, UTC.
    pub since: String,
}

/// A connection and whose it is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Known {
    /// Its public id.
    pub sid: String,
    /// The namespace.
    pub namespace: String,
    /// `{id, name?}`, or null.
    pub user: Option<User>,
    /// The user's roles.
    pub roles: Vec<String>,
    /// The rooms that it is in, but for its own.
    pub rooms: Vec<String>,
    /// The pod that serves it.
    pub pod: String,
    /// Since when: RFC 3339, UTC.
    pub since: String,
}

/// The cluster in numbers.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Stats {
    /// Pods.
    pub pods: usize,
    /// Connections; one that is in several namespaces counts once.
    pub connections: usize,
    /// Those of them that have a user.
    pub authenticated: usize,
    /// Users.
    pub users: usize,
    /// Rooms, but for those of single connections.
    pub rooms: usize,
    /// Each namespace.
    pub namespaces: BTreeMap<String, Namespace>,
}

/// A namespace in numbers.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
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
