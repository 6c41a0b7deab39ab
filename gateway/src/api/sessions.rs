//! Stored login sessions: what `auth:session` looks up.

use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::{
    Api, ApiError, Json,
    answers::{Done, LoginSession},
    bodies,
};
use crate::{action::SESSIONS, clock};

type Answer = Result<axum::Json<LoginSession>, ApiError>;

/// A login session lasts a year at most.
const LONGEST: u64 = 366 * 24 * 3600;

fn answer(id: String, document: &Value) -> axum::Json<LoginSession> {
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    axum::Json(LoginSession {
        id,
        user: document["user"].clone(),
        ttl_s: document["ttl_s"].as_u64().unwrap_or_default(),
        expires_at: text("expires_at"),
    })
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
    Ok(answer(id, &document))
}

/// `GET /v1/sessions/{id}`.
pub(super) async fn read(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let document = api.core.state.read(SESSIONS, &id).await?;
    document
        .map(|document| answer(id, &document))
        .ok_or_else(|| ApiError::not_found("there is no such session"))
}

/// `DELETE /v1/sessions/{id}`.
pub(super) async fn remove(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<axum::Json<Done>, ApiError> {
    if api.core.state.remove(SESSIONS, &id).await? {
        return Ok(axum::Json(Done::OK));
    }
    Err(ApiError::not_found("there is no such session"))
}
