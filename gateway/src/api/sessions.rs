//! Stored login sessions: what `auth:session` looks up.

use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::{Api, ApiError, Json, bodies, ok};
use crate::{action::SESSIONS, clock};

type Answer = Result<axum::Json<Value>, ApiError>;

/// A login session lasts a year at most.
const LONGEST: u64 = 366 * 24 * 3600;

fn answer(id: &str, document: Value) -> axum::Json<Value> {
    let mut session = json!({"id": id});
    if let (Value::Object(session), Value::Object(document)) = (&mut session, document) {
        session.extend(document);
    }
    axum::Json(session)
}

/// `PUT /v1/sessions/{id}`.
pub(super) async fn write(
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(body): Json<bodies::Session>,
) -> Answer {
    if body.user.id.is_empty() {
        return Err(ApiError::bad("user.id: at least one character"));
    }
    if !(1..=LONGEST).contains(&body.ttl_s) {
        return Err(ApiError::bad(format!("ttl_s: between 1 and {LONGEST}")));
    }
    let ttl = Duration::from_secs(body.ttl_s);
    let document = json!({
        "user": body.user,
        "ttl_s": body.ttl_s,
        "expires_at": clock::rfc3339(SystemTime::now() + ttl),
    });
    api.core.state.write(SESSIONS, &id, document.clone(), ttl).await?;
    Ok(answer(&id, document))
}

/// `GET /v1/sessions/{id}`.
pub(super) async fn read(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let document = api.core.state.read(SESSIONS, &id).await?;
    document
        .map(|document| answer(&id, document))
        .ok_or_else(|| ApiError::not_found("there is no such session"))
}

/// `DELETE /v1/sessions/{id}`.
pub(super) async fn remove(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    if api.core.state.remove(SESSIONS, &id).await? {
        return Ok(axum::Json(ok()));
    }
    Err(ApiError::not_found("there is no such session"))
}
