//! Calls that only look: rooms, members, presence, connections, numbers.

use std::{collections::BTreeMap, sync::Arc};

use adapter::{Kind, Place};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Api, ApiError, calls::distinct};
use crate::{clock, session::Session, wire::Target};

type Answer = Result<axum::Json<Value>, ApiError>;

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
pub(super) async fn rooms(State(api): State<Api>, Asked(query): Asked<RoomsQuery>) -> Answer {
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
    let mut answer = Map::new();
    if more && let Some((last, _)) = page.last() {
        answer.insert("cursor".to_owned(), Value::from(last.as_str()));
    }
    let list: Vec<Value> =
        page.iter().map(|(room, count)| json!({"room": room, "connections": count})).collect();
    answer.insert("rooms".to_owned(), Value::from(list));
    Ok(axum::Json(Value::Object(answer)))
}

/// `GET /v1/rooms/{room}/members`.
pub(super) async fn members(
    State(api): State<Api>,
    Path(room): Path<String>,
    Asked(query): Asked<InNamespace>,
) -> Answer {
    let mount = api.mount(&query.namespace)?;
    let sessions = api.sessions(mount, &Target::room(room));
    let pod = api.core.state.pod();
    let members: Vec<Value> = sessions
        .iter()
        .map(|session| json!({"sid": session.sid, "user": session.user_value(), "pod": pod}))
        .collect();
    Ok(axum::Json(json!({"members": members})))
}

/// `GET /v1/presence/{room}`.
pub(super) async fn presence(
    State(api): State<Api>,
    Path(room): Path<String>,
    Asked(query): Asked<InNamespace>,
) -> Answer {
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
    let mut answer = Vec::with_capacity(users.len());
    for (id, connections) in users {
        let statuses = api.core.state.holds(&place(Kind::Status, &id)).await?;
        // What was said last, by whichever connection.
        let latest = statuses.iter().max_by_key(|hold| hold.data["at"].as_u64());
        let latest = latest.map(|hold| &hold.data["status"]);
        let mut user = json!({"id": id, "status": "online", "connections": connections});
        if let (Value::Object(user), Some(Value::Object(latest))) = (&mut user, latest) {
            for key in ["status", "activity"] {
                if let Some(value) = latest.get(key) {
                    user.insert(key.to_owned(), value.clone());
                }
            }
        }
        answer.push(user);
    }
    Ok(axum::Json(json!({"users": answer})))
}

fn connection_value(session: &Session, pod: &str) -> Value {
    json!({
        "sid": session.sid,
        "namespace": session.mount.namespace,
        "pod": pod,
        "rooms": session.rooms(),
        "since": clock::rfc3339(session.since),
    })
}

/// `GET /v1/users/{id}/connections`.
pub(super) async fn user(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let pod = api.core.state.pod();
    let connections: Vec<Value> = api
        .core
        .mounts
        .iter()
        .flat_map(|mount| api.core.sessions_of(mount, &id))
        .map(|session| connection_value(&session, pod))
        .collect();
    Ok(axum::Json(json!({"connections": connections})))
}

/// `GET /v1/connections/{sid}`.
pub(super) async fn connection(State(api): State<Api>, Path(sid): Path<String>) -> Answer {
    let session = api.core.mounts.iter().find_map(|mount| mount.sessions.find(&sid));
    let session = session.ok_or_else(|| ApiError::not_found("there is no such connection"))?;
    let mut value = connection_value(&session, api.core.state.pod());
    if let Value::Object(map) = &mut value {
        map.insert("user".to_owned(), session.user_value());
        map.insert("roles".to_owned(), json!(session.identity().roles));
    }
    Ok(axum::Json(value))
}

/// `GET /v1/stats`.
pub(super) async fn stats(State(api): State<Api>) -> Answer {
    let sessions: Vec<Arc<Session>> =
        api.core.mounts.iter().flat_map(|mount| mount.sessions.all()).collect();
    let users =
        sessions.iter().filter_map(|s| s.identity().user.as_ref().map(|user| user.id.clone()));
    let rooms = sessions
        .iter()
        .flat_map(|s| s.rooms().into_iter().map(|room| (s.mount.namespace.clone(), room)));
    let numbers = numbers(&sessions);
    let namespaces: Map<String, Value> = api
        .core
        .mounts
        .iter()
        .map(|mount| (mount.namespace.clone(), json!({"connections": mount.sessions.count().0})))
        .collect();
    Ok(axum::Json(json!({
        "pods": 1,
        "connections": numbers.0,
        "authenticated": numbers.1,
        "users": distinct(users),
        "rooms": distinct(rooms),
        "namespaces": namespaces,
    })))
}

/// Connections, and those of them that have a user; one that is in several namespaces counts once.
pub(crate) fn numbers(sessions: &[Arc<Session>]) -> (usize, usize) {
    let all = distinct(sessions.iter().map(|session| session.sid.clone()));
    let known = sessions.iter().filter(|session| session.identity().user.is_some());
    (all, distinct(known.map(|session| session.sid.clone())))
}
