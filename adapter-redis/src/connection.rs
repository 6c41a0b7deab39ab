//! The link to Redis.
//!
//! In come scripts and commands; out come answers, or `Unavailable` within the configured time. One
//! multiplexed connection carries everything short. It is made when it is first needed and made anew
//! after any failure. While Redis is down only one call in a while waits to find out whether it is back;
//! the others are refused at once, so that a busy pod does not hang on a dead store.
//!
//! It never retries a call: whether it was carried out before the connection broke is not known here.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use adapter::StateError;
use parking_lot::Mutex;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation,
    ServerErrorKind, TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tracing::{info, warn};

use crate::config::RedisConfig;

/// While Redis is down, one call in this time finds out whether it is back.
const PROBE_EVERY: Duration = Duration::from_millis(250);

/// Why there can be no link at all: the configuration is wrong. A Redis that is merely away is no
/// reason, since it may come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is none of Redis.
    #[error("redis.url {url} cannot be used: {cause}")]
    Url {
        /// The URL, without its password.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The file of certificates cannot be read.
    #[error("redis.tls_ca {path} cannot be read")]
    TlsCa {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The prefix would break the names of keys.
    #[error("redis.prefix {0:?} must not be empty or hold braces, spaces or control characters")]
    Prefix(String),
    /// It was called outside of a tokio runtime.
    #[error("there is no tokio runtime to connect from")]
    Runtime,
    /// The times do not fit together.
    #[error("redis.{0}")]
    Times(&'static str),
}

/// Which connection is in use. A failure replaces it once, however many calls fail on it.
struct Current {
    generation: u64,
    manager: ConnectionManager,
}

/// One multiplexed connection, made anew whenever it fails.
pub(crate) struct Link {
    client: Client,
    settings: ConnectionManagerConfig,
    /// Bounds every call, the making of the connection included.
    limit: Duration,
    current: Mutex<Current>,
    up: AtomicBool,
    outages: AtomicU64,
    /// Milliseconds after `epoch` from which the next call may try, while Redis is down.
    probe_at: AtomicU64,
    epoch: Instant,
}

impl Link {
    pub(crate) fn open(config: &RedisConfig) -> Result<Self, ConnectError> {
        let client = client(config)?;
        let settings = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(None);
        let manager = client
            .get_connection_manager_lazy(settings.clone())
            .map_err(|error| unusable(config, &error))?;
        Ok(Self {
            client,
            settings,
            limit: config.connect_timeout.saturating_add(config.response_timeout),
            current: Mutex::new(Current { generation: 0, manager }),
            up: AtomicBool::new(true),
            outages: AtomicU64::new(0),
            probe_at: AtomicU64::new(0),
            epoch: Instant::now(),
        })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// How often Redis was lost so far.
    pub(crate) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Acquire)
    }

    /// Runs a script.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StateError> {
        self.admit()?;
        self.probe(call).await
    }

    /// Runs a script even while Redis is thought to be down.
    pub(crate) async fn probe<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StateError> {
        let (generation, mut manager) = self.take();
        let answer = tokio::time::timeout(self.limit, call.invoke_async(&mut manager)).await;
        self.judge(generation, answer.ok())
    }

    /// Runs one command.
    pub(crate) async fn command<T: FromRedisValue>(&self, call: &Cmd) -> Result<T, StateError> {
        self.admit()?;
        let (generation, mut manager) = self.take();
        let answer = tokio::time::timeout(self.limit, call.query_async(&mut manager)).await;
        self.judge(generation, answer.ok())
    }

    fn take(&self) -> (u64, ConnectionManager) {
        let current = self.current.lock();
        (current.generation, current.manager.clone())
    }

    /// Refuses at once while Redis is down, but for one call in a while.
    fn admit(&self) -> Result<(), StateError> {
        if self.is_up() {
            return Ok(());
        }
        let now = self.millis();
        let at = self.probe_at.load(Ordering::Acquire);
        // Whoever probes keeps the others out until his call must have ended.
        let next = now.saturating_add(as_millis(self.limit));
        let mine = now >= at
            && self
                .probe_at
                .compare_exchange(at, next, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if mine { Ok(()) } else { Err(StateError::Unavailable("redis is down".to_owned())) }
    }

    /// Turns an answer, or its absence, into the contract's terms, and remembers how Redis is.
    fn judge<T>(&self, generation: u64, answer: Option<RedisResult<T>>) -> Result<T, StateError> {
        let failure = match answer {
            Some(Ok(answer)) => {
                self.found_up();
                return Ok(answer);
            }
            Some(Err(error)) if is_answer(&error) => {
                self.found_up();
                return Err(StateError::Corrupt(error.to_string()));
            }
            Some(Err(error)) => error.to_string(),
            None => format!("no answer within {:?}", self.limit),
        };
        self.found_down(generation, &failure);
        Err(StateError::Unavailable(failure))
    }

    fn found_up(&self) {
        // Asked before it is written: this is on the way of every call.
        if !self.is_up() && !self.up.swap(true, Ordering::AcqRel) {
            info!("redis is back");
        }
    }

    /// Replaces the connection that failed. A call that fails late, on one that was replaced already,
    /// says nothing about Redis as it is now.
    fn found_down(&self, generation: u64, failure: &str) {
        let mut current = self.current.lock();
        if current.generation != generation {
            return;
        }
        let next = self.millis().saturating_add(as_millis(PROBE_EVERY));
        self.probe_at.store(next, Ordering::Release);
        if self.up.swap(false, Ordering::AcqRel) {
            self.outages.fetch_add(1, Ordering::AcqRel);
            warn!(failure, "redis is down");
        }
        current.generation = generation.wrapping_add(1);
        match self.client.get_connection_manager_lazy(self.settings.clone()) {
            Ok(manager) => current.manager = manager,
            // The settings were accepted when the link was opened; the old one connects again too.
            Err(error) => warn!(%error, "no new connection to redis could be prepared"),
        }
    }

    fn millis(&self) -> u64 {
        as_millis(self.epoch.elapsed())
    }
}

/// `rediss://` needs a provider of cryptography for the process. Another part of it may have installed
/// one already, which then stands.
fn install_crypto(config: &RedisConfig) {
    let encrypted = config.url.reveal().starts_with("rediss:");
    if encrypted && rustls::crypto::CryptoProvider::get_default().is_none() {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    }
}

/// A client as configured, with the process ready for its encryption.
pub(crate) fn client(config: &RedisConfig) -> Result<Client, ConnectError> {
    install_crypto(config);
    let url = config.url.reveal();
    let Some(path) = &config.tls_ca else {
        return Client::open(url).map_err(|error| unusable(config, &error));
    };
    let root_cert = std::fs::read(path)
        .map_err(|source| ConnectError::TlsCa { path: path.display().to_string(), source })?;
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
    Client::build_with_tls(url, certificates).map_err(|error| unusable(config, &error))
}

/// The URL is at fault. The detail of the error may repeat it; its category does not.
pub(crate) fn unusable(config: &RedisConfig, error: &RedisError) -> ConnectError {
    ConnectError::Url { url: config.url.to_string(), cause: error.category().to_owned() }
}

/// Whether Redis is well, and it is the question or its answer that is wrong.
fn is_answer(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::UnexpectedReturnType => true,
        // A server that is out of memory or is being configured says so with an error of its own.
        ErrorKind::Server(kind) => {
            matches!(kind, ServerErrorKind::ResponseError | ServerErrorKind::CrossSlot)
        }
        _ => false,
    }
}

/// A duration in whole milliseconds.
fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
