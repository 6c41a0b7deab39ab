//! Calls that only look: rooms, members, presence, connections, numbers.

use std::collections::{BTreeMap, BTreeSet};

use adapter::{Kind, Place};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Api, ApiError,
    answers::{Connections, Known, Members, Presence, Present, RoomList, Stats},
};
use crate::cluster::{Answered, Connection, Member, Question, RoomCount, Weight, ask};

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
    api.mount(&query.namespace)?;
    let limit = query.limit.unwrap_or(ROOMS).clamp(1, ROOMS);
    let question = Question::Rooms {
        namespace: query.namespace,
        prefix: query.prefix,
        after: query.cursor.unwrap_or_default(),
        // One more tells whether there are more. The first of all are among the first of each pod.
        limit: limit + 1,
    };
    let Answered { all, missing } = ask::<Vec<RoomCount>>(&api.core, &question).await;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for count in all.into_iter().flatten() {
        *counts.entry(count.room).or_default() += count.connections;
    }
    let more = counts.len() > limit;
    let page = counts.into_iter().take(limit);
    let rooms: Vec<RoomCount> =
        page.map(|(room, connections)| RoomCount { room, connections }).collect();
    let cursor = rooms.last().filter(|_| more).map(|last| last.room.clone());
    Ok(axum::Json(RoomList { rooms, cursor, missing }))
}

/// `GET /v1/rooms/{room}/members`.
pub(super) async fn members(
    State(api): State<Api>,
    Path(room): Path<String>,
    Asked(query): Asked<InNamespace>,
) -> Answer<Members> {
    api.mount(&query.namespace)?;
    let question = Question::Members { namespace: query.namespace, room };
    let Answered { all, missing } = ask::<Vec<Member>>(&api.core, &question).await;
    Ok(axum::Json(Members { members: all.into_iter().flatten().collect(), missing }))
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
    let mut missing = Vec::new();
    if holds.is_empty() {
        // A room without a roster: every pod knows who is in it there.
        let question = Question::Actors { namespace: mount.namespace.clone(), room };
        let actors = ask::<Vec<String>>(&api.core, &question).await;
        missing = actors.missing;
        actors.all.into_iter().flatten().for_each(&mut count);
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
    Ok(axum::Json(Presence { users: present, missing }))
}

/// `GET /v1/users/{id}/connections`.
pub(super) async fn user(State(api): State<Api>, Path(id): Path<String>) -> Answer<Connections> {
    let Answered { all, missing } = ask(&api.core, &Question::User { id }).await;
    let all: Vec<Vec<Connection>> = all;
    Ok(axum::Json(Connections { connections: all.into_iter().flatten().collect(), missing }))
}

/// `GET /v1/connections/{sid}`.
pub(super) async fn connection(State(api): State<Api>, Path(sid): Path<String>) -> Answer<Known> {
    let Answered { all, missing } =
        ask::<Option<Known>>(&api.core, &Question::Connection { sid }).await;
    all.into_iter().flatten().next().map(axum::Json).ok_or_else(|| {
        let text = "there is no such connection";
        if missing.is_empty() {
            return ApiError::not_found(text);
        }
        ApiError::not_found(format!("{text}; not asked, since silent: {}", missing.join(", ")))
    })
}

/// `GET /v1/stats`.
pub(super) async fn stats(State(api): State<Api>) -> Answer<Stats> {
    let Answered { all, missing } = ask::<Weight>(&api.core, &Question::Weight).await;
    let mut stats = Stats {
        pods: all.len() + missing.len(),
        connections: 0,
        authenticated: 0,
        users: 0,
        rooms: 0,
        namespaces: BTreeMap::new(),
        missing,
    };
    let (mut users, mut rooms) = (BTreeSet::new(), BTreeSet::new());
    for pod in all {
        stats.connections += pod.numbers.connected;
        stats.authenticated += pod.numbers.authenticated;
        users.extend(pod.users);
        rooms.extend(pod.rooms);
        for (namespace, connections) in pod.namespaces {
            stats.namespaces.entry(namespace).or_default().connections += connections;
        }
    }
    (stats.users, stats.rooms) = (users.len(), rooms.len());
    Ok(axum::Json(stats))
}
