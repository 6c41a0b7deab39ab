//! How the API refuses: `{"ok": false, "error": {"code", "message"}}` with a status that fits.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::answers::{Refused, Why};
use crate::refusal::{Code, Refusal};

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    /// A refusal.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BadPayload.as_str(), message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound.as_str(), message)
    }

    /// As its body, or one of a batch's results.
    pub(super) fn to_answer(&self) -> Refused {
        let error = Why { code: self.code.to_owned(), message: self.message.clone() };
        Refused { ok: false, error }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            Code::BadPayload | Code::UnknownEvent => StatusCode::BAD_REQUEST,
            Code::Forbidden | Code::Unauthorized => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Conflict => StatusCode::CONFLICT,
            Code::LimitExceeded | Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Internal | Code::Timeout | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.code.as_str(), refusal.message)
    }
}

impl From<adapter::StateError> for ApiError {
    fn from(error: adapter::StateError) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.to_answer())).into_response()
    }
}
