//! One struct for each table of the configuration file, beside its defaults.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use adapter_redis::{RedisConfig, socketio::AdapterConfig};
use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    contract::AuthMode,
    identity::{AuthConfig, Secret},
    upstream::UpstreamConfig,
};

/// Limits that a reload replaces.
pub type Limits = Arc<ArcSwap<LimitsConfig>>;

/// The whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Refuses to start with settings that are for trying things out: any origin, a missing or short JWT secret, the debug namespace.
    pub production: bool,
    /// Address of the public listener. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address of the internal listener: metrics, health, server API. Never expose it.
    pub internal_listen: SocketAddr,
    /// The public listener's HTTP side.
    pub http: HttpConfig,
    /// Engine.IO: heartbeat and upgrade.
    pub engine: EngineConfig,
    /// Tokens.
    pub auth: AuthConfig,
    /// The server API.
    pub api: ApiConfig,
    /// What one connection, user, address and pod may use.
    pub limits: LimitsConfig,
    /// Redis. Without `redis.url` everything is kept in memory, for one pod.
    pub redis: RedisConfig,
    /// What may wait between this pod and the others.
    pub adapter: AdapterConfig,
    /// Contracts beside the built-in ones.
    pub contracts: ContractsConfig,
    /// Which contract is served in which namespace. None: the demo mounting.
    pub mount: Vec<Mount>,
    /// Values of a contract's own options, by contract and option.
    pub contract: BTreeMap<String, Map<String, Value>>,
    /// The applications behind, by name. Events go to `app` unless their contract says otherwise.
    pub upstream: BTreeMap<String, UpstreamConfig>,
    /// Namespaces for trying things out.
    pub debug: DebugConfig,
    /// Health answers.
    pub health: HealthConfig,
    /// Leaving without losing anybody.
    pub drain: DrainConfig,
    /// Logs.
    pub log: LogConfig,
    /// Traces.
    pub trace: TraceConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            production: false,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 3001)),
            internal_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 3002)),
            http: HttpConfig::default(),
            engine: EngineConfig::default(),
            auth: AuthConfig::default(),
            api: ApiConfig::default(),
            limits: LimitsConfig::default(),
            redis: RedisConfig::default(),
            adapter: AdapterConfig::default(),
            contracts: ContractsConfig::default(),
            mount: Vec::new(),
            contract: BTreeMap::new(),
            upstream: BTreeMap::new(),
            debug: DebugConfig::default(),
            health: HealthConfig::default(),
            drain: DrainConfig::default(),
            log: LogConfig::default(),
            trace: TraceConfig::default(),
        }
    }
}

/// The public listener's HTTP side.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Paths that Socket.IO is served at, each with and without a trailing slash.
    pub socket_paths: Vec<String>,
    /// Origins that browsers may connect from; `*` is any.
    pub origins: Vec<String>,
    /// `Host` names that are served, compared without the port; none: any.
    pub trusted_hosts: Vec<String>,
    /// Addresses of proxies whose `X-Forwarded-For` is believed: the client's address is then the last one in it that is not such a proxy.
    pub trusted_proxies: Vec<std::net::IpAddr>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            socket_paths: vec!["/socket.io".to_owned(), "/ws/socket.io".to_owned()],
            origins: vec!["*".to_owned()],
            trusted_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

/// Engine.IO: heartbeat and upgrade.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// How often a connection is asked for a sign of life. `SOCKET_PING_INTERVAL`, in milliseconds, wins.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ping_interval: Duration,
    /// How long it may take to answer. `SOCKET_PING_TIMEOUT`, in milliseconds, wins.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ping_timeout: Duration,
    /// How long a connection may take nothing of what is written to it before it is cut off.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub write_timeout: Duration,
    /// How long a packet may wait for a connection that reads too slowly, before that is cut off.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub queue_timeout: Duration,
    /// How long an upgrade from polling to WebSocket may take. `SOCKET_UPGRADE_TIMEOUT`, in milliseconds, wins.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub upgrade_timeout: Duration,
    /// How long a connection may stay without joining a namespace.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// Packets that may wait for one connection.
    pub outbox_packets: usize,
    /// Bytes that may wait for a connection that does not read. One that is behind by more is cut off.
    pub outbox_bytes: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_mins(1),
            write_timeout: Duration::from_secs(20),
            queue_timeout: Duration::from_secs(30),
            upgrade_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(45),
            outbox_packets: 4096,
            outbox_bytes: 8_000_000,
        }
    }
}

/// The server API.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// The bearer key of `/v1`; without one, every call is answered 401. `GATEWAY_API_KEY` wins.
    pub key: Option<Secret>,
    /// A file that holds the key.
    pub key_file: Option<PathBuf>,
}

/// What one connection, user, address and pod may use. 0 switches a limit off.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// One connection.
    pub connection: ConnectionLimits,
    /// One user over all pods.
    pub user: UserLimits,
    /// One address.
    pub ip: IpLimits,
    /// Open connections of a pod. `SOCKET_MAX_CONNECTIONS` wins.
    pub connections_per_pod: u32,
    /// Open connections of a user, over all pods.
    pub connections_per_user: u32,
    /// Open connections of an address.
    pub connections_per_ip: u32,
    /// Rooms of a connection.
    pub rooms_per_connection: u32,
    /// Bytes of one packet, polling and WebSocket alike.
    pub payload_bytes: u32,
    /// A connection is closed after this many refusals for its pace within 10 seconds.
    pub disconnect_after: u32,
    /// Events of one connection that may wait for their turn; more are refused.
    pub waiting_events: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connection: ConnectionLimits::default(),
            user: UserLimits::default(),
            ip: IpLimits::default(),
            connections_per_pod: 100_000,
            connections_per_user: 100,
            connections_per_ip: 0,
            rooms_per_connection: 1000,
            payload_bytes: 1_000_000,
            disconnect_after: 200,
            waiting_events: 1000,
        }
    }
}

/// How fast one connection may send.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionLimits {
    /// Events per second in the long run.
    pub events_per_second: u32,
    /// Events at once.
    pub burst: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { events_per_second: 100, burst: 200 }
    }
}

/// How fast one user may send, over all pods and connections.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserLimits {
    /// Events per second in the long run.
    pub events_per_second: u32,
    /// Events at once.
    pub burst: u32,
}

impl Default for UserLimits {
    fn default() -> Self {
        Self { events_per_second: 200, burst: 400 }
    }
}

/// How fast one address may connect.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IpLimits {
    /// Handshakes per second in the long run.
    pub connects_per_second: u32,
    /// Handshakes at once.
    pub burst: u32,
}

impl Default for IpLimits {
    fn default() -> Self {
        Self { connects_per_second: 100, burst: 1000 }
    }
}

/// Contracts beside the built-in ones.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContractsConfig {
    /// A folder of `*.toml` contracts; one with the name of a built-in one replaces it.
    pub dir: Option<PathBuf>,
}

/// A contract in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The contract's name.
    pub contract: String,
    /// The Socket.IO namespace.
    #[serde(default = "root")]
    pub namespace: String,
    /// Whether a token is needed, where that is not as the contract says.
    #[serde(default)]
    pub auth: Option<AuthMode>,
    /// The upstream of its events, in place of `app`.
    #[serde(default)]
    pub upstream: Option<String>,
}

fn root() -> String {
    "/".to_owned()
}

/// Namespaces for trying things out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DebugConfig {
    /// Serves the debug namespace of contracts that have one. Not set: yes, except in production.
    pub enabled: Option<bool>,
}

/// Health answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// `/health/ready` answers 503 while Redis is away. By default it stays 200 and says `degraded`, since local work goes on.
    pub redis_required: bool,
}

/// Leaving without losing anybody.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    /// Open connections are closed evenly over this time.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub window: Duration,
    /// So many connections are closed a second, instead of all within the window; 0: by the window.
    pub connections_per_second: u32,
    /// The process is gone after this long; what was unfinished is answered `UNAVAILABLE`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub grace: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            connections_per_second: 0,
            grace: Duration::from_secs(30),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Logs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged, such as `info` or `info,gateway::upstream=debug`.
    pub level: String,
    /// How lines look: `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Traces.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; absent: no traces.
    pub endpoint: Option<String>,
    /// The share of traces that are kept, 0 to 1.
    pub sample: f64,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { endpoint: None, sample: 0.1 }
    }
}
