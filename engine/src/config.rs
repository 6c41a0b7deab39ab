//! What can be set: what the Socket.IO layer passes on, and a [`Tuning`] of what it does not know.
//!
//! The layer builds the engine's configuration itself and has no place for more. So a tuning is put
//! in force around the building: `tuning.apply(|| SocketIo::builder()…)`.

use std::{borrow::Cow, cell::RefCell, sync::Arc, time::Duration};

use engineioxide_core::TransportType;
use http::{Extensions, HeaderName};

use crate::{pace::Pace, queue::Room, sessions::Sessions, stats::Stats};

/// Characters of a pod's name that an id carries at most.
const POD_CHARACTERS: usize = 64;

/// What the Socket.IO layer does not know of.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The pod's name, in front of every session id, so that a proxy can tell whose a session is.
    /// Characters other than letters, digits, `-` and `_` become `-`.
    pub pod: Cow<'static, str>,
    /// Bytes that may wait for one client. A packet is taken while fewer wait.
    pub queue_bytes: usize,
    /// Bytes that may wait before volatile packets are dropped.
    pub volatile_bytes: usize,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// How long a packet may wait for a client.
    pub queue_timeout: Duration,
    /// How long a polling client may be without a poll.
    pub poll_timeout: Duration,
    /// How long a closed session may take to say its last.
    pub close_timeout: Duration,
    /// Frames and packets that a client may send.
    pub packets: Option<Pace>,
    /// Bytes that a client may send.
    pub bytes: Option<Pace>,
    /// How often within ten seconds a client may exceed a pace before its session is closed.
    pub excesses: u32,
    /// The request headers that a session keeps; all of them where there is no list.
    pub kept_headers: Option<Arc<[HeaderName]>>,
    /// Takes out of a request's extensions what its session need not keep; nothing by default. What
    /// holds a part of the request's head, such as axum's `OriginalUri`, keeps all of hyper's buffer in
    /// memory for as long as the session lives.
    pub trim: fn(&mut Extensions),
    /// Where the engine counts.
    pub stats: Arc<Stats>,
    /// Where the engine's sessions can be counted and closed.
    pub sessions: Sessions,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            pod: Cow::Borrowed(""),
            queue_bytes: 1 << 20,
            volatile_bytes: 64 << 10,
            write_timeout: Duration::from_secs(20),
            queue_timeout: Duration::from_secs(30),
            poll_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            packets: None,
            bytes: None,
            excesses: 200,
            kept_headers: None,
            trim: |_| {},
            stats: Arc::default(),
            sessions: Sessions::default(),
        }
    }
}

thread_local! {
    static IN_FORCE: RefCell<Option<Tuning>> = const { RefCell::new(None) };
}

/// Ends what [`Tuning::apply`] put in force, also where the building unwinds.
struct Before(Option<Tuning>);

impl Drop for Before {
    fn drop(&mut self) {
        IN_FORCE.with(|tuning| *tuning.borrow_mut() = self.0.take());
    }
}

impl Tuning {
    /// Runs `build` with this tuning in force on this thread: configurations that are made meanwhile
    /// have it.
    pub fn apply<T>(self, build: impl FnOnce() -> T) -> T {
        let _before = Before(IN_FORCE.with(|tuning| tuning.replace(Some(self))));
        build()
    }

    fn in_force() -> Self {
        IN_FORCE.with(|tuning| tuning.borrow().clone()).unwrap_or_default()
    }

    /// The pod's name as an id may carry it.
    pub(crate) fn pod_name(&self) -> String {
        let safe = |character: char| {
            let good = character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
            if good { character } else { '-' }
        };
        self.pod.chars().take(POD_CHARACTERS).map(safe).collect()
    }
}

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct EngineIoConfig {
    /// The path of its requests.
    pub req_path: Cow<'static, str>,
    /// How often a client is asked for a sign of life.
    pub ping_interval: Duration,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
    /// How long an upgrade may take.
    pub upgrade_timeout: Duration,
    /// Packets that may wait for one client.
    pub max_buffer_size: usize,
    /// Bytes of one HTTP request or answer.
    pub max_payload: u64,
    /// Has no effect: a connection holds no buffer while nothing is read.
    pub ws_read_buffer_size: usize,
    /// Bytes of one WebSocket message.
    pub ws_max_message_size: usize,
    /// Bytes of one WebSocket frame.
    pub ws_max_frame_size: usize,
    /// The transports that are served, as a bit field.
    pub transports: u8,
    /// What the Socket.IO layer does not know of.
    pub tuning: Tuning,
}

impl Default for EngineIoConfig {
    fn default() -> Self {
        Self {
            req_path: "/engine.io".into(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            max_buffer_size: 4096,
            max_payload: 100_000,
            ws_read_buffer_size: 0,
            ws_max_message_size: 1_000_000,
            ws_max_frame_size: 1_000_000,
            transports: TransportType::Polling as u8 | TransportType::Websocket as u8,
            tuning: Tuning::in_force(),
        }
    }
}

impl EngineIoConfig {
    /// To be built setting by setting.
    pub fn builder() -> EngineIoConfigBuilder {
        EngineIoConfigBuilder::new()
    }

    /// Whether a transport is served.
    pub const fn allowed_transport(&self, transport: TransportType) -> bool {
        self.transports & transport as u8 != 0
    }

    pub(crate) const fn room(&self) -> Room {
        Room {
            bytes: self.tuning.queue_bytes,
            packets: self.max_buffer_size,
            volatile_bytes: self.tuning.volatile_bytes,
        }
    }
}

/// Builds an [`EngineIoConfig`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct EngineIoConfigBuilder {
    config: EngineIoConfig,
}

impl EngineIoConfigBuilder {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The path of the engine's requests; `/engine.io` by default.
    pub fn req_path(mut self, path: impl Into<Cow<'static, str>>) -> Self {
        self.config.req_path = path.into();
        self
    }

    /// How often a client is asked for a sign of life; 25 seconds by default.
    pub const fn ping_interval(mut self, interval: Duration) -> Self {
        self.config.ping_interval = interval;
        self
    }

    /// How long it may take to answer; 20 seconds by default.
    pub const fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.config.ping_timeout = timeout;
        self
    }

    /// How long an upgrade may take; 10 seconds by default.
    pub const fn upgrade_timeout(mut self, timeout: Duration) -> Self {
        self.config.upgrade_timeout = timeout;
        self
    }

    /// Packets that may wait for one client; 4096 by default.
    pub const fn max_buffer_size(mut self, packets: usize) -> Self {
        self.config.max_buffer_size = packets;
        self
    }

    /// Bytes of one HTTP request or answer; 100 kB by default.
    pub const fn max_payload(mut self, bytes: u64) -> Self {
        self.config.max_payload = bytes;
        self
    }

    /// Has no effect: a connection holds no buffer while nothing is read.
    pub const fn ws_read_buffer_size(mut self, bytes: usize) -> Self {
        self.config.ws_read_buffer_size = bytes;
        self
    }

    /// Bytes of one WebSocket message; 1 MB by default.
    pub const fn ws_max_message_size(mut self, bytes: usize) -> Self {
        self.config.ws_max_message_size = bytes;
        self
    }

    /// Bytes of one WebSocket frame; 1 MB by default.
    pub const fn ws_max_frame_size(mut self, bytes: usize) -> Self {
        self.config.ws_max_frame_size = bytes;
        self
    }

    /// The transports that are served; both by default.
    pub fn transports<const N: usize>(mut self, transports: [TransportType; N]) -> Self {
        self.config.transports =
            transports.into_iter().fold(0, |all, transport| all | transport as u8);
        self
    }

    /// The configuration.
    pub fn build(self) -> EngineIoConfig {
        self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuning_is_in_force_while_it_is_built_with() {
        let tuning = Tuning { queue_bytes: 7, ..Tuning::default() };
        let built = tuning.apply(|| {
            let inner = Tuning { queue_bytes: 8, ..Tuning::default() };
            let inner = inner.apply(EngineIoConfig::default);
            (inner.tuning.queue_bytes, EngineIoConfig::default().tuning.queue_bytes)
        });
        assert_eq!(built, (8, 7));
        assert_ne!(EngineIoConfig::default().tuning.queue_bytes, 7);
    }

    #[test]
    fn transports() {
        let config = EngineIoConfig::builder().transports([TransportType::Websocket]).build();
        assert!(config.allowed_transport(TransportType::Websocket));
        assert!(!config.allowed_transport(TransportType::Polling));
    }

    #[test]
    fn pods_are_named_safely() {
        let named = |pod: &'static str| Tuning { pod: pod.into(), ..Tuning::default() }.pod_name();
        let cases = [("", ""), ("a-b_1", "a-b_1"), ("a.b/ü c", "a-b---c")];
        for (pod, want) in cases {
            assert_eq!(named(pod), want, "{pod}");
        }
        assert_eq!(named(&*Box::leak("x".repeat(100).into_boxed_str())).len(), POD_CHARACTERS);
    }
}
