//! Refusals: the closed list of reasons for which an event is not done.
//!
//! A code is the same word in acks, error events, API answers and metric labels.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Why an event was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The payload is not of the declared shape.
    BadPayload,
    /// Somebody else holds what was asked for.
    Conflict,
    /// The sender may not.
    Forbidden,
    /// A mistake of the gateway's own.
    Internal,
    /// A count is full.
    LimitExceeded,
    /// What was named does not exist.
    NotFound,
    /// Too many in too short a time.
    RateLimited,
    /// An upstream did not answer in time.
    Timeout,
    /// More than is taken at once.
    TooLarge,
    /// A login is needed.
    Unauthorized,
    /// A part behind the gateway is down.
    Unavailable,
    /// The contract has no such event.
    UnknownEvent,
}

impl Code {
    /// Every code, for metrics and documentation.
    pub const ALL: [Self; 12] = [
        Self::BadPayload,
        Self::Conflict,
        Self::Forbidden,
        Self::Internal,
        Self::LimitExceeded,
        Self::NotFound,
        Self::RateLimited,
        Self::Timeout,
        Self::TooLarge,
        Self::Unauthorized,
        Self::Unavailable,
        Self::UnknownEvent,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadPayload => "BAD_PAYLOAD",
            Self::Conflict => "CONFLICT",
            Self::Forbidden => "FORBIDDEN",
            Self::Internal => "INTERNAL",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::RateLimited => "RATE_LIMITED",
            Self::Timeout => "TIMEOUT",
            Self::TooLarge => "TOO_LARGE",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unavailable => "UNAVAILABLE",
            Self::UnknownEvent => "UNKNOWN_EVENT",
        }
    }
}

/// A refused event: the code, and what its sender is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Which of the list; `INTERNAL` in metrics where `word` is an application's own.
    pub code: Code,
    /// The word on the wire, where an application gave one that is not of the list.
    word: Option<String>,
    /// In words.
    pub message: String,
    /// What the error carries besides: `retry_after_ms`, `holder`.
    extra: Map<String, Value>,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, word: None, message: message.into(), extra: Map::new() }
    }

    /// Too many; try again after this long.
    pub fn rate_limited(retry_after: Duration) -> Self {
        let mut refusal = Self::new(Code::RateLimited, "too many events");
        let ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1);
        refusal.extra.insert("retry_after_ms".to_owned(), json!(ms));
        refusal
    }

    /// Somebody has it: `holder` is `{userId, lockType, since}`.
    pub fn conflict(message: impl Into<String>, holder: Value) -> Self {
        let mut refusal = Self::new(Code::Conflict, message);
        refusal.extra.insert("holder".to_owned(), holder);
        refusal
    }

    /// The application's own refusal, with its own code.
    pub fn by_application(word: &str, message: impl Into<String>) -> Self {
        let known = Code::ALL.into_iter().find(|code| code.as_str() == word);
        let mut refusal = Self::new(known.unwrap_or(Code::Internal), message);
        refusal.word = known.is_none().then(|| word.to_owned());
        refusal
    }

    /// The `error` object of an ack.
    pub fn to_value(&self) -> Value {
        let word = self.word.as_deref().unwrap_or(self.code.as_str());
        let mut error = json!({"code": word, "message": self.message});
        if let Value::Object(map) = &mut error {
            map.extend(self.extra.clone());
        }
        error
    }
}

impl From<adapter::StateError> for Refusal {
    fn from(error: adapter::StateError) -> Self {
        tracing::debug!(%error, "state not available");
        Self::new(Code::Unavailable, "the state store is not available")
    }
}
