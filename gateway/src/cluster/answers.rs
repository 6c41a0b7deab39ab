//! What one pod answers, for its own connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Question;
use crate::{clock, core::Core, session::Session, wire::Target};

/// Connections of a pod, and those of them that have a user; one that is in several namespaces counts
/// once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// All of them.
    pub connected: u64,
    /// Those that have a user.
    pub authenticated: u64,
}

/// A pod in numbers. Users and rooms may be on other pods as well: they come as digests of their names,
/// so that they can be counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Connections.
    pub numbers: Numbers,
    /// Users.
    pub users: BTreeSet<u64>,
    /// Rooms, but for those of single connections.
    pub rooms: BTreeSet<u64>,
    /// Connections of each namespace.
    pub namespaces: BTreeMap<String, u64>,
}

/// A room and how many are in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomCount {
    /// Its name.
    pub room: String,
    /// Connections in it.
    pub connections: u64,
}

/// A connection in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Its public id.
    pub sid: String,
    /// `{id, name?}`, or null.
    pub user: Option<User>,
    /// The pod that serves it.
    pub pod: String,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// Its id.
    pub id: String,
    /// Its name, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl User {
    fn of(session: &Session) -> Option<Self> {
        let identity = session.identity();
        identity.user.as_ref().map(|user| Self { id: user.id.clone(), name: user.name.clone() })
    }
}

/// A user's connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Known {
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

/// Answers a question for this pod.
pub(super) fn answer(core: &Core, question: &Question) -> Value {
    match question {
        Question::Pods => Value::from(core.state.pod()),
        Question::Numbers => json!(numbers(core)),
        Question::Weight => json!(weight(core)),
        Question::Rooms { namespace, prefix, after, limit } => {
            json!(rooms(core, namespace, prefix, after, *limit))
        }
        Question::Members { namespace, room } => json!(members(core, namespace, room)),
        Question::Actors { namespace, room } => {
            json!(
                sessions(core, namespace, room)
                    .map(|session| session.actor().id.to_string())
                    .collect::<Vec<_>>()
            )
        }
        Question::User { id } => json!(connections(core, id)),
        Question::Connection { sid } => json!(known(core, sid)),
        Question::LoggedOut { .. } => Value::Null,
    }
}

fn numbers(core: &Core) -> Numbers {
    let (mut connected, mut authenticated) = (BTreeSet::new(), BTreeSet::new());
    for session in core.mounts.iter().flat_map(|mount| mount.sessions.all()) {
        if session.identity().user.is_some() {
            authenticated.insert(session.sid.clone());
        }
        connected.insert(session.sid.clone());
    }
    let count = |set: BTreeSet<_>| u64::try_from(set.len()).unwrap_or(u64::MAX);
    Numbers { connected: count(connected), authenticated: count(authenticated) }
}

/// A digest that every pod of the cluster makes alike.
fn digest(parts: [&str; 2]) -> u64 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    digest.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn weight(core: &Core) -> Weight {
    let mut weight = Weight { numbers: numbers(core), ..Weight::default() };
    for mount in &core.mounts {
        let sessions = mount.sessions.all();
        let count = u64::try_from(sessions.len()).unwrap_or(u64::MAX);
        weight.namespaces.insert(mount.namespace.clone(), count);
        let (mut users, mut rooms) = (BTreeSet::new(), BTreeSet::new());
        for session in sessions {
            users.extend(session.identity().user.as_ref().map(|user| user.id.clone()));
            rooms.extend(session.rooms());
        }
        weight.users.extend(users.iter().map(|user| digest(["", user])));
        weight.rooms.extend(rooms.iter().map(|room| digest([&mount.namespace, room])));
    }
    weight
}

fn rooms(core: &Core, namespace: &str, prefix: &str, after: &str, limit: usize) -> Vec<RoomCount> {
    let Some(mount) = core.mount(namespace) else { return Vec::new() };
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for session in mount.sessions.all() {
        for room in session.rooms_starting(prefix) {
            if *room > *after {
                *counts.entry(room).or_default() += 1;
            }
        }
    }
    let first = counts.into_iter().take(limit);
    first.map(|(room, connections)| RoomCount { room, connections }).collect()
}

fn sessions<'c>(
    core: &'c Core,
    namespace: &str,
    room: &str,
) -> impl Iterator<Item = Arc<Session>> + use<'c> {
    let mount = core.mount(namespace);
    let sids = core.fanout.members(namespace, &Target::room(room));
    sids.into_iter().filter_map(move |sid| mount?.sessions.find(&sid))
}

fn members(core: &Core, namespace: &str, room: &str) -> Vec<Member> {
    let member = |session: Arc<Session>| Member {
        sid: session.sid.to_string(),
        user: User::of(&session),
        pod: core.state.pod().to_owned(),
    };
    sessions(core, namespace, room).map(member).collect()
}

fn connections(core: &Core, user: &str) -> Vec<Connection> {
    let sessions = core.mounts.iter().flat_map(|mount| core.sessions_of(mount, user));
    let connection = |session: Arc<Session>| Connection {
        sid: session.sid.to_string(),
        namespace: session.mount.namespace.clone(),
        pod: core.state.pod().to_owned(),
        rooms: session.rooms(),
        since: clock::rfc3339(session.since),
    };
    sessions.map(connection).collect()
}

fn known(core: &Core, sid: &str) -> Option<Known> {
    let session = core.mounts.iter().find_map(|mount| mount.sessions.find(sid))?;
    Some(Known {
        sid: sid.to_owned(),
        namespace: session.mount.namespace.clone(),
        user: User::of(&session),
        roles: session.identity().roles.clone(),
        rooms: session.rooms(),
        pod: core.state.pod().to_owned(),
        since: clock::rfc3339(session.since),
    })
}
