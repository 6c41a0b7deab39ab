//! `[upstream.NAME]`: where events go and how much of them at once.
//!
//! In comes the section as written; out go its defaults, and a clear error for what does not fit together.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::{Secret, SecretError};

/// An application behind the gateway.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// How it is reached: `http` (one POST per event), `redis-stream` (a queue that workers read) or `demo`
    /// (built in, deterministic text).
    pub kind: UpstreamKind,
    /// For `http`: where events are posted to.
    pub url: Option<String>,
    /// How long it may take for the whole answer; of a streamed answer, for its first line and then from line
    /// to line. Time in line is not counted.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Calls at once.
    pub max_in_flight: NonZeroU32,
    /// Calls that may wait for their turn; what comes on top is refused with `UNAVAILABLE`.
    pub queue: u32,
    /// Failures in a row after which it is left alone and calls are refused at once with `UNAVAILABLE`.
    pub breaker_failures: NonZeroU32,
    /// How long it is left alone until one call may try again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub breaker_reset: Duration,
    /// For `http`: the Standard Webhooks secret that requests are signed with, `whsec_` and base64.
    pub secret: Option<Secret>,
    /// For `http`: a file that holds the secret, instead of `secret`.
    pub secret_file: Option<PathBuf>,
    /// For `http`: bytes of an answer that is not streamed. A line of a streamed one has at most 1 MiB, or
    /// this if it is less.
    pub max_answer: NonZeroUsize,
    /// For `redis-stream`: the stream's name. By default `redis.prefix`, a colon and the upstream's name.
    pub stream: Option<String>,
    /// For `redis-stream`: messages that may wait in the stream; what comes on top is refused with
    /// `UNAVAILABLE`. By default 10000.
    pub cap: Option<NonZeroUsize>,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            kind: UpstreamKind::Http,
            url: None,
            timeout: Duration::from_secs(10),
            max_in_flight: NonZeroU32::MIN.saturating_add(9),
            queue: 100,
            breaker_failures: NonZeroU32::MIN.saturating_add(4),
            breaker_reset: Duration::from_secs(5),
            secret: None,
            secret_file: None,
            max_answer: NonZeroUsize::MIN.saturating_add(8 * 1024 * 1024 - 1),
            stream: None,
            cap: None,
        }
    }
}

/// How an upstream is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamKind {
    /// One POST per event.
    #[default]
    Http,
    /// A queue that workers read.
    RedisStream,
    /// Built in, deterministic text.
    Demo,
}

impl fmt::Display for UpstreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::RedisStream => "redis-stream",
            Self::Demo => "demo",
        })
    }
}

/// Why an upstream cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// A key is missing, or its value makes no sense.
    #[error("upstream.{name}.{key}: {reason}")]
    BadValue {
        /// The upstream.
        name: String,
        /// The key inside its section.
        key: &'static str,
        /// What would be right.
        reason: &'static str,
    },
    /// A key belongs to another kind of upstream.
    #[error("upstream.{name}.{key}: not for kind = \"{kind}\", only for kind = \"{only}\"")]
    Foreign {
        /// The upstream.
        name: String,
        /// The key inside its section.
        key: &'static str,
        /// The kind that the upstream is of.
        kind: UpstreamKind,
        /// The kind that the key is for.
        only: UpstreamKind,
    },
    /// The secret is given twice, is empty, or its file cannot be read.
    #[error("upstream.{name}.{key}: {source}")]
    Secret {
        /// The upstream.
        name: String,
        /// The key inside its section.
        key: &'static str,
        /// What is wrong with it.
        source: SecretError,
    },
    /// The HTTP client cannot be made.
    #[error("upstream.{name}: no HTTP client: {source}")]
    Client {
        /// The upstream.
        name: String,
        /// What the client says.
        source: reqwest::Error,
    },
    /// The metrics have been registered already.
    #[error("upstream metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl UpstreamConfig {
    /// The defaults of a kind.
    pub fn of(kind: UpstreamKind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Refuses what does not fit together. Addresses, secrets and files are checked where they are used.
    pub(super) fn check(&self, name: &str) -> Result<(), UpstreamError> {
        use UpstreamKind::{Http, RedisStream};
        let owners = [
            ("url", self.url.is_some(), Http),
            ("secret", self.secret.is_some(), Http),
            ("secret_file", self.secret_file.is_some(), Http),
            ("stream", self.stream.is_some(), RedisStream),
            ("cap", self.cap.is_some(), RedisStream),
        ];
        for (key, set, only) in owners {
            if set && only != self.kind {
                let name = name.to_owned();
                return Err(UpstreamError::Foreign { name, key, kind: self.kind, only });
            }
        }
        let bad = |key, reason| Err(UpstreamError::BadValue { name: name.to_owned(), key, reason });
        if self.timeout.is_zero() {
            return bad("timeout", "it is more than 0s");
        }
        if self.breaker_reset.is_zero() {
            return bad("breaker_reset", "it is more than 0s");
        }
        if self.stream.as_deref().is_some_and(str::is_empty) {
            return bad("stream", "it is a stream's name and not empty");
        }
        Ok(())
    }
}
