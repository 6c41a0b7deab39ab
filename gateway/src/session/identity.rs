//! Who a connection is, and who acts when it sends an event.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::identity::User;

/// Who a connection is.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The proven user; none: anonymous.
    pub user: Option<User>,
    /// The proven roles.
    pub roles: Vec<String>,
    /// What proves it.
    pub credential: Credential,
    /// When the proof ends.
    pub expires_at: Option<SystemTime>,
}

/// What proves an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing does.
    #[default]
    None,
    /// A stored login session of this id.
    Session(String),
    /// A signed token.
    Token,
}

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The user's id, a claimed id, or the connection's own.
    pub id: Box<str>,
    /// The user's name, if it is known.
    pub name: Option<Box<str>>,
}

impl Actor {
    pub(super) fn of_user(user: &User) -> Self {
        Self { id: user.id.as_str().into(), name: user.name.as_deref().map(Into::into) }
    }

    pub(super) fn claimed(id: &str) -> Self {
        Self { id: id.into(), name: None }
    }

    pub(super) fn nameless(sid: &str) -> Self {
        Self { id: sid.into(), name: None }
    }

    /// `{id, name?}`.
    pub fn to_value(&self) -> Value {
        match &self.name {
            Some(name) => json!({"id": self.id, "name": name}),
            None => json!({"id": self.id}),
        }
    }

    /// Reads `{id, name?}`.
    pub fn from_value(value: &Value) -> Option<Self> {
        Some(Self {
            id: value.get("id")?.as_str()?.into(),
            name: value.get("name").and_then(Value::as_str).map(Into::into),
        })
    }
}

pub(super) fn user_value(user: &User) -> Value {
    Actor::of_user(user).to_value()
}
