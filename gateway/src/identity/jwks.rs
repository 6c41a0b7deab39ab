//! The identity provider's published keys: an address comes in, the keys last fetched from it go out.
//!
//! One fetch runs at a time, however many ask; it is a task of its own, so that a client that leaves does not
//! stop it for the others. It never starts a fetch within ten seconds of the last one, and never drops keys
//! because a fetch failed. Keys that are merely old are used while they are fetched anew.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{
    AuthError,
    keys::{self, Key},
    metrics::{Fetched, Metrics},
};
use crate::upstream::client;

/// No peer can make us ask more often than this, however many unknown key ids it invents.
const PAUSE: Duration = Duration::from_secs(10);

/// A handshake may wait for this, and clients give up after twenty.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A set of a few keys has some kilobytes.
const SET_BYTES: usize = 1024 * 1024;

/// Keys of one address. Clones share them.
#[derive(Clone)]
pub(super) struct Jwks {
    shared: Arc<Shared>,
    refresh: Duration,
    pause: Duration,
}

struct Shared {
    url: reqwest::Url,
    http: reqwest::Client,
    fetched: ArcSwapOption<Set>,
    flight: Mutex<Flight>,
    /// Changes when a fetch ends, well or not.
    landed: watch::Sender<()>,
}

struct Set {
    keys: Arc<[Key]>,
    at: Instant,
}

#[derive(Default)]
struct Flight {
    running: bool,
    started: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no answer: {0}")]
    Http(#[from] client::ReadError),
    #[error("status {0}")]
    Status(u16),
    #[error("not a JWK set")]
    NotASet,
    #[error("no usable key in the set")]
    NoKeys,
}

impl Jwks {
    /// Keys of this address, taken over from `before` where that is of the same address.
    pub(super) fn new(
        url: &str,
        refresh: Duration,
        before: Option<&Self>,
    ) -> Result<Self, AuthError> {
        let parsed = client::parse_url(url).map_err(|reason| AuthError::JwksUrl(reason.into()))?;
        if refresh.is_zero() {
            let reason = "it is how long fetched keys are used, and more than 0s";
            return Err(AuthError::BadValue { key: "jwks_refresh", reason });
        }
        let pause = before.map_or(PAUSE, |before| before.pause);
        if let Some(before) = before.filter(|before| before.shared.url == parsed) {
            return Ok(Self { shared: Arc::clone(&before.shared), refresh, pause });
        }
        let http = client::build(1, FETCH_TIMEOUT).map_err(AuthError::Client)?;
        let shared = Shared {
            url: parsed,
            http,
            fetched: ArcSwapOption::empty(),
            flight: Mutex::default(),
            landed: watch::Sender::new(()),
        };
        Ok(Self { shared: Arc::new(shared), refresh, pause })
    }

    /// The same with another pause between fetches, for tests that would wait for ten seconds.
    #[cfg(test)]
    pub(super) fn with_pause(&self, pause: Duration) -> Self {
        Self { pause, ..self.clone() }
    }

    /// The keys last fetched, if ever.
    pub(super) fn keys(&self) -> Option<Arc<[Key]>> {
        self.shared.fetched.load().as_ref().map(|set| Arc::clone(&set.keys))
    }

    /// Whether nothing was fetched yet, or not the key of this id.
    pub(super) fn lacks(&self, kid: Option<&str>) -> bool {
        let fetched = self.shared.fetched.load();
        match (fetched.as_ref(), kid) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(set), Some(kid)) => !set.keys.iter().any(|key| key.is(kid)),
        }
    }

    /// Whether it is time to fetch the keys again.
    pub(super) fn is_old(&self) -> bool {
        self.shared.fetched.load().as_ref().is_none_or(|set| set.at.elapsed() >= self.refresh)
    }

    /// Fetches, or waits for the fetch under way. Returns at once where the last one is too recent.
    pub(super) async fn refresh(&self, tracker: &TaskTracker, metrics: &Metrics) {
        if let Some(mut landed) = self.start(tracker, metrics) {
            // An error would mean that the sender is gone, which `self` holds.
            let _ = landed.changed().await;
        }
    }

    /// Fetches, without waiting for it.
    pub(super) fn refresh_behind(&self, tracker: &TaskTracker, metrics: &Metrics) {
        drop(self.start(tracker, metrics));
    }

    /// What changes when the fetch under way ends; starts one if it may.
    fn start(&self, tracker: &TaskTracker, metrics: &Metrics) -> Option<watch::Receiver<()>> {
        let mut flight = self.shared.flight.lock();
        // Subscribed under the lock: a fetch that ends takes it first, so its end cannot be missed.
        let landed = self.shared.landed.subscribe();
        if flight.running {
            return Some(landed);
        }
        if flight.started.is_some_and(|started| started.elapsed() < self.pause) {
            return None;
        }
        *flight = Flight { running: true, started: Some(Instant::now()) };
        drop(flight);
        let landing = Landing(Arc::clone(&self.shared));
        let metrics = metrics.clone();
        tracker.spawn(async move { landing.0.fetch_and_keep(&metrics).await });
        Some(landed)
    }
}

impl Shared {
    async fn fetch_and_keep(&self, metrics: &Metrics) {
        match self.fetch().await {
            Ok(keys) => {
                debug!(keys = keys.len(), "signing keys fetched");
                metrics.fetched(Fetched::Ok);
                self.fetched.store(Some(Arc::new(Set { keys: keys.into(), at: Instant::now() })));
            }
            Err(error) => {
                warn!(%error, "signing keys not fetched, those at hand stay in use");
                metrics.fetched(Fetched::Failed);
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, FetchError> {
        let deadline = Instant::now() + FETCH_TIMEOUT;
        let mut response = client::by(deadline, self.http.get(self.url.clone()).send()).await?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = client::read_whole(&mut response, SET_BYTES, deadline).await?;
        let document: Value = serde_json::from_slice(&body).map_err(|_| FetchError::NotASet)?;
        let keys = keys::from_set(&document).ok_or(FetchError::NotASet)?;
        if keys.is_empty() { Err(FetchError::NoKeys) } else { Ok(keys) }
    }
}

/// Says that a fetch has ended, however it did: a task that is dropped half-way would else block all others.
struct Landing(Arc<Shared>);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.flight.lock().running = false;
        self.0.landed.send_replace(());
    }
}
