//! The server API: what an application may ask of the cluster, on the internal listener.
//!
//! In come JSON requests with the operator's key; out go events, memberships and answers. Every body is
//! read strictly: an unknown key is named. It never serves anything without the key, and nothing of it
//! is on the public listener.

mod answers;
mod bodies;
mod calls;
mod document;
mod error;
mod idempotency;
mod lookups;
mod sessions;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use http::{StatusCode, header};
use serde::de::DeserializeOwned;

pub use document::openapi;
pub use error::ApiError;

use crate::{core::Core, identity::Secret};

/// A body with more than this is refused with 413.
const BODY_BYTES: usize = 32 * 1024 * 1024;

/// What the API needs.
#[derive(Clone, Debug)]
pub struct Api {
    core: Arc<Core>,
    key: Option<Secret>,
}

impl Api {
    /// The API over these handles, for who has this key.
    pub const fn new(core: Arc<Core>, key: Option<Secret>) -> Self {
        Self { core, key }
    }

    /// Its routes, `/v1/…`.
    pub fn router(self) -> Router {
        let guarded = Router::new()
            .route("/v1/emit", post(calls::emit))
            .route("/v1/batch", post(calls::batch))
            .route("/v1/rooms/join", post(calls::join))
            .route("/v1/rooms/leave", post(calls::leave))
            .route("/v1/disconnect", post(calls::disconnect))
            .route("/v1/locks/release", post(calls::release))
            .route("/v1/rooms", get(lookups::rooms))
            .route("/v1/rooms/{room}/members", get(lookups::members))
            .route("/v1/presence/{room}", get(lookups::presence))
            .route("/v1/users/{id}/connections", get(lookups::user))
            .route("/v1/connections/{sid}", get(lookups::connection))
            .route("/v1/stats", get(lookups::stats))
            .route(
                "/v1/sessions/{id}",
                put(sessions::write).get(sessions::read).delete(sessions::remove),
            )
            .route("/v1/openapi.json", get(async || axum::Json(openapi())))
            .method_not_allowed_fallback(async || {
                ApiError::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "BAD_PAYLOAD",
                    "this path does not know this method",
                )
            })
            .layer(middleware::from_fn_with_state(self.clone(), idempotency::once))
            .layer(middleware::from_fn_with_state(self.clone(), guard))
            .with_state(self);
        guarded.fallback(async || ApiError::not_found("no such path"))
    }
}

/// Lets only who has the key through.
async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(key) = &api.key else {
        let text =
            "the server API needs a key: set api.key, GATEWAY_API_KEY or GATEWAY_API_KEY_FILE";
        return ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", text).into_response();
    };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim());
    let good = given.is_some_and(|given| {
        let (given, key) = (given.as_bytes(), key.expose().as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(given, key).is_ok()
    });
    if !good {
        let text = match given {
            Some(_) => "this is not the key that is configured",
            None => "a key is needed: Authorization: Bearer <api key>",
        };
        return ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", text).into_response();
    }
    next.run(request).await
}

/// A JSON body, strictly read.
struct Json<T>(T);

impl<T: DeserializeOwned, S: Sync> axum::extract::FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = body(request.into_body()).await?;
        read(&bytes).map(Self)
    }
}

/// The whole body.
async fn body(body: Body) -> Result<Bytes, ApiError> {
    to_bytes(body, BODY_BYTES).await.map_err(|_| {
        let text = format!("a body has {BODY_BYTES} bytes at most");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", text)
    })
}

/// Reads a body; what is wrong is named by its path.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // A struct would be filled from a list as well, in the order of its fields.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::bad("the body must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        ApiError::bad(if path == "." { inner.to_string() } else { format!("{path}: {inner}") })
    })?;
    deserializer.end().map_err(|error| ApiError::bad(error.to_string()))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_body_is_read_or_refused(bytes: Vec<u8>) {
            let _ = read::<bodies::Emit>(&bytes);
            let _ = read::<bodies::Batch>(&bytes);
        }

        #[test]
        fn any_json_is_read_or_refused(event in "\\PC{0,20}", key in "[a-z]{1,9}", number: i64) {
            let text = serde_json::json!({"event": event, key: number}).to_string();
            let _ = read::<bodies::Emit>(text.as_bytes());
        }
    }
}
