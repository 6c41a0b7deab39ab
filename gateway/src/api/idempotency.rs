//! `Idempotency-Key`: a repeated call has no second effect, and the first one's answer.

use std::time::Duration;

use adapter::Reply;
use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Api, ApiError};

/// How long a key is remembered.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Longest key, in bytes.
const KEY: usize = 255;

/// An answer with more is not remembered.
const ANSWER: usize = 1024 * 1024;

/// Runs a call once for each key.
pub(super) async fn once(State(api): State<Api>, request: Request, next: Next) -> Response {
    let changes = matches!(*request.method(), Method::POST | Method::PUT | Method::DELETE);
    let key = request.headers().get("idempotency-key").cloned();
    let Some(key) = key.filter(|_| changes) else { return next.run(request).await };
    let Some(key) = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY) else {
        return ApiError::bad(format!("Idempotency-Key: 1 to {KEY} printable characters"))
            .into_response();
    };
    let key = format!("api:{} {}:{key}", request.method(), request.uri().path());
    let state = api.core.state.clone();
    match state.begin(&key, REMEMBERED).await {
        Ok(Reply::New) => {}
        Ok(Reply::Done(answer)) => return repeat(&answer),
        Ok(Reply::InProgress) => {
            let text = "a call with this Idempotency-Key is at work";
            return ApiError::new(StatusCode::CONFLICT, "CONFLICT", text).into_response();
        }
        Err(error) => return ApiError::from(error).into_response(),
    }
    let response = next.run(request).await;
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, ANSWER).await.unwrap_or_default();
    let answer = serde_json::from_slice::<Value>(&bytes).ok();
    // What failed for want of a part behind may be tried again.
    let keep = !parts.status.is_server_error();
    let remembered =
        answer.filter(|_| keep).map(|body| json!({"status": parts.status.as_u16(), "body": body}));
    if let Err(error) = state.answered(&key, remembered, REMEMBERED).await {
        tracing::warn!(%error, "an answer is not remembered");
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn repeat(answer: &Value) -> Response {
    let status = answer["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    let status =
        status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    (status, axum::Json(answer["body"].clone())).into_response()
}
