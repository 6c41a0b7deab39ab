//! What is counted of tokens and keys. Labels come from the two enums here and from nowhere else.

use prometheus::{IntCounter, Opts, Registry};

/// How a token was judged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Accepted,
    Invalid,
    Expired,
    NoSubject,
    KeysUnavailable,
}

impl Outcome {
    const ALL: [Self; 5] =
        [Self::Accepted, Self::Invalid, Self::Expired, Self::NoSubject, Self::KeysUnavailable];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::NoSubject => "no_subject",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }
}

/// How a fetch of published keys ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fetched {
    Ok,
    Failed,
}

impl Fetched {
    const ALL: [Self; 2] = [Self::Ok, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// Ready handles; clones count into the same series.
#[derive(Clone)]
pub(super) struct Metrics {
    tokens: [IntCounter; Outcome::ALL.len()],
    fetches: [IntCounter; Fetched::ALL.len()],
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let tokens = prometheus::IntCounterVec::new(
            Opts::new("gateway_identity_tokens_total", "Tokens judged, by outcome"),
            &["outcome"],
        )?;
        let fetches = prometheus::IntCounterVec::new(
            Opts::new(
                "gateway_identity_jwks_fetches_total",
                "Fetches of published keys, by outcome",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(tokens.clone()))?;
        registry.register(Box::new(fetches.clone()))?;
        Ok(Self {
            tokens: Outcome::ALL.map(|outcome| tokens.with_label_values(&[outcome.as_str()])),
            fetches: Fetched::ALL.map(|outcome| fetches.with_label_values(&[outcome.as_str()])),
        })
    }

    pub(super) fn judged(&self, outcome: Outcome) {
        if let Some(counter) = self.tokens.get(outcome as usize) {
            counter.inc();
        }
    }

    pub(super) fn fetched(&self, outcome: Fetched) {
        if let Some(counter) = self.fetches.get(outcome as usize) {
            counter.inc();
        }
    }
}
