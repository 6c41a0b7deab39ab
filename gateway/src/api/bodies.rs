//! The bodies of the API, from which its document is made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ApiError;
use crate::{
    contract::RESERVED,
    wire::{Target, user_room},
};

fn root() -> String {
    "/".to_owned()
}

/// Who is meant: all of these together, less `except`. Nothing given: everybody in the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Select {
    /// Connections, by their public ids.
    pub sids: Option<Vec<String>>,
    /// Users, with all of their connections.
    pub users: Option<Vec<String>>,
    /// Rooms.
    pub rooms: Option<Vec<String>>,
    /// Rooms or connections that are left out.
    pub except: Option<Vec<String>>,
    /// Everybody in the namespace.
    pub all: bool,
}

impl Select {
    /// As the wire knows it. Lists that are there and empty mean nobody: a list that happens to be
    /// empty must not reach everybody.
    pub(super) fn target(&self) -> Target {
        let named = self.sids.is_some() || self.users.is_some() || self.rooms.is_some();
        let mut rooms = self.sids.clone().unwrap_or_default();
        rooms.extend(self.users.iter().flatten().map(|user| user_room(user)));
        rooms.extend(self.rooms.iter().flatten().cloned());
        Target { rooms, all: self.all || !named, except: self.except.clone().unwrap_or_default() }
    }
}

/// An event to send.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Emit {
    /// The namespace.
    #[serde(default = "root")]
    pub namespace: String,
    /// Who gets it.
    #[serde(default)]
    pub to: Select,
    /// The event's name.
    pub event: String,
    /// The only argument. A binary part is `{"$binary": "<base64>"}`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// All arguments, instead of `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Value>>,
    /// Dropped rather than queued for a receiver that is behind.
    #[serde(default)]
    pub volatile: bool,
}

/// `null` is a value, not an absence.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Emit {
    /// The arguments, however they were given.
    pub(super) fn arguments(&mut self) -> Result<Vec<Value>, ApiError> {
        if self.event.is_empty() {
            return Err(ApiError::bad("event: a name is needed"));
        }
        if RESERVED.contains(&self.event.as_str()) {
            return Err(ApiError::bad(format!("event: {} is reserved by the clients", self.event)));
        }
        match (self.data.take(), self.args.take()) {
            (Some(_), Some(_)) => Err(ApiError::bad("data, args: one of them, not both")),
            (Some(data), None) => Ok(vec![data]),
            (None, args) => Ok(args.unwrap_or_default()),
        }
    }
}

/// Connections and the rooms that they join or leave.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rooms {
    /// The namespace.
    #[serde(default = "root")]
    pub namespace: String,
    /// Which connections.
    #[serde(default)]
    pub to: Select,
    /// The rooms.
    pub rooms: Vec<String>,
}

/// Connections that are disconnected.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Disconnect {
    /// The namespace.
    #[serde(default = "root")]
    pub namespace: String,
    /// Which connections.
    #[serde(default)]
    pub to: Select,
    /// Closes the transport as well, with every namespace on it.
    #[serde(default)]
    pub close: bool,
}

/// A lock that an operator frees.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    /// The namespace.
    #[serde(default = "root")]
    pub namespace: String,
    /// The lock's name, such as `file:<projectId>:<filePath>`.
    pub name: String,
}

/// Several commands, done in order.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// At most 1000.
    pub commands: Vec<Command>,
}

/// One command of a batch.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Command {
    /// As `/v1/emit`.
    Emit(Emit),
    /// As `/v1/rooms/join`.
    Join(Rooms),
    /// As `/v1/rooms/leave`.
    Leave(Rooms),
    /// As `/v1/disconnect`.
    Disconnect(Disconnect),
}

/// A login session to store.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    /// Whose it is.
    pub user: SessionUser,
    /// Seconds until it ends, from now and from every renewal.
    #[serde(default = "hour")]
    pub ttl_s: u64,
}

fn hour() -> u64 {
    3600
}

/// Whose a login session is.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionUser {
    /// The user's id.
    pub id: String,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The user's roles.
    #[serde(default)]
    pub roles: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selections() {
        let cases = [
            ("nothing", json!({}), true, 0),
            ("all", json!({"all": true}), true, 0),
            ("only except", json!({"except": ["r"]}), true, 0),
            ("an empty list is nobody", json!({"sids": []}), false, 0),
            ("rooms and users", json!({"rooms": ["r"], "users": ["u"]}), false, 2),
        ];
        for (name, json, all, rooms) in cases {
            let select: Select = serde_json::from_value(json).expect(name);
            let target = select.target();
            assert_eq!((target.all, target.rooms.len()), (all, rooms), "{name}");
        }
    }
}
