//! Calls that only look: rooms, members, presence, connections, numbers.

use std::{collections::BTreeMap, sync::Arc};

use adapter::{Kind, Place};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Api, ApiError,
    answers::{
        Connection, Connections, Known, Member, Members, Namespace, Presence, Present, RoomCount,
        RoomList, Stats, User,
    },
    calls::distinct,
};
use crate::{clock, mount::Mounted, session::Session, wire::Target};

type Answer<T> = Result<axum::Json<T>, ApiError>;

/// Rooms of one answer, where no limit is asked for.
const ROOMS: usize = 1000;

fn root() -> String {
    "/".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InNamespace {
    #[serde(default = "root")]
    namespace: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomsQuery {
    #[serde(default = "root")]
    namespace: String,
    #[serde(default)]
    prefix: String,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A query, strictly read.
pub(super) struct Asked<T>(T);

impl<T: serde::de::DeserializeOwned, S: Sync> axum::extract::FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, ApiError> {
        Query::<T>::try_from_uri(&parts.uri)
            .map(|Query(query)| Self(query))
            .map_err(|error| ApiError::bad(error.body_text()))
    }
}

/// `GET /v1/rooms`.
pub(super) async fn rooms(
    State(api): State<Api>,
    Asked(query): Asked<RoomsQuery>,
) -> Answer<RoomList> {
    let mount = api.mount(&query.namespace)?;
    let limit = query.limit.unwrap_or(ROOMS).clamp(1, ROOMS);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for session in mount.sessions.all() {
        for room in session.rooms_starting(&query.prefix) {
            *counts.entry(room).or_default() += 1;
        }
    }
    let after = query.cursor.unwrap_or_default();
    let mut later = counts.into_iter().filter(|(room, _)| *room > after);
    let page: Vec<(String, u64)> = later.by_ref().take(limit).collect();
    let more = later.next().is_some();
    let cursor = page.last().filter(|_| more).map(|(last, _)| last.clone());
    let rooms = page.into_iter().map(|(room, connections)| RoomCount { room, connections });
    Ok(axum::Json(RoomList { rooms: rooms.collect(), cursor }))
}

/// `GET /v1/rooms/{room}/members`.
pub(super) async fn members(
    State(api): State<Api>,
    Path(room): Path<String>,
    Asked(query): Asked<InNamespace>,
) -> Answer<Members> {
    let mount = api.mount(&query.namespace)?;
    let sessions = api.sessions(mount, &Target::room(room));
    let pod = api.core.state.pod();
    let members = sessions.iter().map(|session| Member {
        sid: session.sid.to_string(),
        user: session.identity().user.as_ref().map(User::from),
        pod: pod.to_owned(),
    });
    Ok(axum::Json(Members { members: members.collect() }))
}

/// `GET /v1/presence/{room}`.
pub(super) async fn presence(
    State(api): State<Api>,
    Path(room): Path<String>,
    Asked(query): Asked<InNamespace>,
) -> Answer<Presence> {
    let mount = api.mount(&query.namespace)?;
    let place =
        |kind, key: &str| Place { namespace: mount.namespace.clone(), kind, key: key.to_owned() };
    let mut users: Vec<(String, u64)> = Vec::new();
    let mut count = |id: String| match users.iter_mut().find(|(have, _)| *have == id) {
        Some((_, connections)) => *connections += 1,
        None => users.push((id, 1)),
    };
    let holds = api.core.state.holds(&place(Kind::Roster, &room)).await?;
    if holds.is_empty() {
        // A room without a roster: who is in it by this pod's own knowledge.
        for session in api.sessions(mount, &Target::room(room)) {
            count(session.actor().id.to_string());
        }
    }
    for hold in &holds {
        let id = hold.data.pointer("/actor/id").and_then(Value::as_str).unwrap_or(&hold.sid);
        count(id.to_owned());
    }
    let mut present = Vec::with_capacity(users.len());
    for (id, connections) in users {
        let statuses = api.core.state.holds(&place(Kind::Status, &id)).await?;
        // What was said last, by whichever connection.
        let latest = statuses.iter().max_by_key(|hold| hold.data["at"].as_u64());
        let latest = latest.map(|hold| &hold.data["status"]);
        let said = |key: &str| latest.and_then(|status| status.get(key)).cloned();
        present.push(Present {
            id,
            status: said("status").unwrap_or_else(|| Value::from("online")),
            activity: said("activity"),
            connections,
        });
    }
    Ok(axum::Json(Presence { users: present }))
}

/// `GET /v1/users/{id}/connections`.
pub(super) async fn user(State(api): State<Api>, Path(id): Path<String>) -> Answer<Connections> {
    let pod = api.core.state.pod();
    let sessions = api.core.mounts.iter().flat_map(|mount| api.core.sessions_of(mount, &id));
    let connections = sessions.map(|session| Connection {
        sid: session.sid.to_string(),
        namespace: session.mount.namespace.clone(),
        pod: pod.to_owned(),
        rooms: session.rooms(),
        since: clock::rfc3339(session.since),
    });
    Ok(axum::Json(Connections { connections: connections.collect() }))
}

/// `GET /v1/connections/{sid}`.
pub(super) async fn connection(State(api): State<Api>, Path(sid): Path<String>) -> Answer<Known> {
    let session = api.core.mounts.iter().find_map(|mount| mount.sessions.find(&sid));
    let session = session.ok_or_else(|| ApiError::not_found("there is no such connection"))?;
    let identity = session.identity();
    Ok(axum::Json(Known {
        sid,
        namespace: session.mount.namespace.clone(),
        user: identity.user.as_ref().map(User::from),
        roles: identity.roles.clone(),
        rooms: session.rooms(),
        pod: api.core.state.pod().to_owned(),
        since: clock::rfc3339(session.since),
    }))
}

/// `GET /v1/stats`.
pub(super) async fn stats(State(api): State<Api>) -> Answer<Stats> {
    let mounts = &api.core.mounts;
    let sessions: Vec<Arc<Session>> =
        mounts.iter().flat_map(|mount| mount.sessions.all()).collect();
    let users = sessions
        .iter()
        .filter_map(|session| session.identity().user.as_ref().map(|user| user.id.clone()));
    let rooms = sessions.iter().flat_map(|session| {
        session.rooms().into_iter().map(|room| (session.mount.namespace.clone(), room))
    });
    let (connections, authenticated) = numbers(&sessions);
    let of = |mount: &Arc<Mounted>| {
        (mount.namespace.clone(), Namespace { connections: mount.sessions.count().0 })
    };
    Ok(axum::Json(Stats {
        pods: 1,
        connections,
        authenticated,
        users: distinct(users),
        rooms: distinct(rooms),
        namespaces: mounts.iter().map(of).collect(),
    }))
}

/// Connections, and those of them that have a user; one that is in several namespaces counts once.
pub(crate) fn numbers(sessions: &[Arc<Session>]) -> (usize, usize) {
    let all = distinct(sessions.iter().map(|session| session.sid.clone()));
    let known = sessions.iter().filter(|session| session.identity().user.is_some());
    (all, distinct(known.map(|session| session.sid.clone())))
}
