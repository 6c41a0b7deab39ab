//! Socket.IO, behind a port of our own: the only room that knows which library speaks it.
//!
//! In come connections that the edge let through; out go handshakes, events and endings to an
//! [`Application`], and frames to receivers. A frame is encoded once for all of them. It never decides
//! who may do what.

mod cluster;
mod elsewhere;
mod fabric;
mod frame;
mod peer;
mod server;

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

pub use adapter_redis::socketio::{AdapterConfig, Profile};
pub use cluster::Cluster;
pub use elsewhere::{Order, Orders};
pub use frame::{Frame, NotBase64, lift_binary, lower_binary, placeholders_are_good};
pub use peer::{Ack, Peer};
pub use server::{SERVICE_PATH, Service, Wire, WireConfig};

use crate::{accept::Place, session::Session};

/// Where our own pods ask each other: a namespace that servers of Node do not have, so that they are
/// neither asked nor waited for.
pub const CLUSTER: &str = "/_gateway";

/// What the other pods answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// One answer of each pod that was in time.
    pub said: Vec<Value>,
    /// The pods that were not, by name where they have one.
    pub missing: Vec<String>,
}

/// A room name that no peer can choose, for every connection of a user.
pub fn user_room(user: &str) -> String {
    format!("\u{1}user:{user}")
}

/// Whether a room is the gateway's own.
pub fn is_internal(room: &str) -> bool {
    room.starts_with('\u{1}')
}

/// Whether this is the id of a connection, of whatever pod, rather than a room's name.
pub fn is_an_id(room: &str) -> bool {
    room.parse::<engineioxide::socket::Sid>().is_ok_and(|sid| sid.is_minted())
}

/// Who receives a frame, inside one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Members of any of these rooms; a connection's own room has its id as name.
    pub rooms: Vec<String>,
    /// Everybody, whatever `rooms` says.
    pub all: bool,
    /// Less the members of these.
    pub except: Vec<String>,
}

impl Target {
    /// One connection.
    pub fn one(sid: &str) -> Self {
        Self { rooms: vec![sid.to_owned()], ..Self::default() }
    }

    /// A room.
    pub fn room(room: impl Into<String>) -> Self {
        Self { rooms: vec![room.into()], ..Self::default() }
    }

    /// The namespace.
    pub fn everybody() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Less these.
    #[must_use]
    pub fn except(mut self, room: impl Into<String>) -> Self {
        self.except.push(room.into());
        self
    }

    /// Whether nobody can be meant.
    pub fn is_nobody(&self) -> bool {
        !self.all && self.rooms.is_empty()
    }
}

/// A connection that asks to be let into a namespace.
#[derive(Debug)]
pub struct Handshake {
    /// Its id, which others may see.
    pub sid: String,
    /// What it gave as `auth`.
    pub auth: Option<Value>,
    /// The `Authorization` header, if there was one.
    pub authorization: Option<String>,
    /// The peer's address.
    pub ip: IpAddr,
    /// The trace that its handshake is part of, as W3C writes it.
    pub traceparent: Option<Box<str>>,
    /// For disconnecting it.
    pub peer: Peer,
}

/// An event as it came.
#[derive(Debug)]
pub struct Inbound {
    /// Its name.
    pub event: String,
    /// Its arguments; binary ones are placeholders into `binaries`.
    pub args: Vec<Value>,
    /// Binary attachments.
    pub binaries: Vec<Bytes>,
    /// How to acknowledge it, if that was asked for.
    pub ack: Option<Ack>,
}

/// What stands behind the wire.
#[async_trait]
pub trait Application: Send + Sync + 'static {
    /// Lets a connection in, or says why not in the words its `connect_error` carries.
    async fn admit(&self, namespace: &str, handshake: Handshake) -> Result<Arc<Session>, String>;

    /// The connection was told that it is in. Events are held back until its line is opened.
    fn connected(&self, session: &Arc<Session>);

    /// An event came. `None` where it could not be read.
    fn event(&self, session: &Arc<Session>, inbound: Option<Inbound>);

    /// The connection is over.
    async fn disconnected(&self, session: &Arc<Session>, reason: &'static str);
}

/// What the edge leaves on a request for the wire.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The peer's address.
    pub ip: IpAddr,
    /// The trace that the request is part of, as W3C writes it.
    pub traceparent: Option<Box<str>>,
    /// Its place in the counts.
    pub place: Arc<Place>,
}
