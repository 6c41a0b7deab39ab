//! The composition root: builds each room in order, hands back the addresses, runs until told to
//! leave, and leaves in order.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adapter::{SharedState, memory::MemoryState};
use arc_swap::ArcSwap;
use tokio::{net::TcpListener, sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{Admission, Connection, Edge, EdgeConfig, Tcp},
    admin::Admin,
    api::Api,
    cluster::{self, Answered, Question},
    config::{Config, Limits},
    core::{Core, WAITING_FOR_TURN},
    demo::Demo,
    door::Door,
    drain::Tasks,
    fanout::Fanout,
    identity::{AuthConfig, AuthError, Secret, Verifier},
    metrics::Metrics,
    mount::{self, MountError, Mounted},
    public::Public,
    reload,
    session::{Expiries, Session},
    telemetry,
    upstream::{DemoScript, UpstreamError, Upstreams},
    watch,
    wire::{Application, Cluster, Orders, Service, Wire, WireConfig},
};

/// The secret of a trial on one's own machine, known to everybody.
const TRIAL_SECRET: &str = "a-secret-for-trials-only-which-everybody-knows";

/// Questions of `/socketio/status` to the cluster that are under way at once.
const ASKING: usize = 8;

/// How long a pod that starts waits until it hears the others. It starts all the same.
const JOINING: Duration = Duration::from_secs(2);

/// Before the end of the grace, for the last answers to leave.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Tokens cannot be checked as configured.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// An address cannot be listened on.
    #[error("{key} = {addr}: {source}{}", hint(source, key))]
    Listen {
        /// The key.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A series is declared twice.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// A contract cannot be served.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Redis cannot be used as configured.
    #[error("redis.url: {0}")]
    Redis(#[from] adapter_redis::ConnectError),
    /// The log level cannot be read.
    #[error(transparent)]
    Log(#[from] telemetry::TelemetryError),
    /// An upstream cannot be used as configured.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// What to do about it, where that is plain.
fn hint(source: &std::io::Error, key: &str) -> String {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            let option = key.replace('_', "-");
            format!("; something listens there already: end it, or choose another with --{option}")
        }
        _ => String::new(),
    }
}

/// A gateway that listens.
#[derive(Debug)]
pub struct Gateway {
    public: SocketAddr,
    internal: SocketAddr,
    core: Arc<Core>,
    edge: Edge,
    running: Config,
    leaving: Arc<AtomicBool>,
    demo: bool,
    trial: bool,
}

/// The secret that stands in where none is set, on one's own machine only.
pub fn trial_auth(config: &Config) -> Option<AuthConfig> {
    let configured = config.auth.jwt_secret.is_some()
        || config.auth.jwt_secret_file.is_some()
        || !config.auth.public_keys.is_empty()
        || config.auth.jwks_url.is_some();
    if configured || config.production || !config.listen.ip().is_loopback() {
        return None;
    }
    Some(AuthConfig { jwt_secret: Some(Secret::new(TRIAL_SECRET)), ..config.auth.clone() })
}

/// Checks a configuration as starting with it would, without listening or connecting.
///
/// # Errors
/// [`StartError`], naming the key.
pub fn check(config: &Config) -> Result<(), StartError> {
    let metrics = Metrics::new()?;
    let mounts = mount::mounts(config, &metrics.events)?;
    telemetry::check_level(&config.log.level)?;
    let auth = trial_auth(config);
    let auth = auth.as_ref().unwrap_or(&config.auth);
    Verifier::new(auth, &metrics.registry, Tasks::default().tracker().clone())?;
    let state: SharedState = Arc::new(MemoryState::new("check"));
    let scripts: Arc<dyn DemoScript> = Arc::new(Demo::new(scripts(config, &mounts)?));
    Upstreams::new(&config.upstream, &config.redis.prefix, &state, &scripts, &metrics.registry)?;
    Ok(())
}

impl Gateway {
    /// Builds every room and listens.
    ///
    /// # Errors
    /// [`StartError`], naming the key.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let metrics = Metrics::new()?;
        let mounts = mount::mounts(config, &metrics.events)?;
        let tasks = Tasks::default();
        let trial = trial_auth(config);
        let auth = trial.as_ref().unwrap_or(&config.auth);
        let verifier = Verifier::new(auth, &metrics.registry, tasks.tracker().clone())?;
        let pod = pod_name();
        let state = state(config, &pod).await?;
        let scripts: Arc<dyn DemoScript> = Arc::new(Demo::new(scripts(config, &mounts)?));
        let prefix = &config.redis.prefix;
        let upstreams =
            Upstreams::new(&config.upstream, prefix, &state, &scripts, &metrics.registry)?;
        let (wire, service, orders) = wire(config, &pod, &metrics)?;
        let limits: Limits = Arc::new(ArcSwap::from_pointee(config.limits.clone()));
        let core = Arc::new(Core {
            fanout: Fanout::new(wire.clone()),
            local_pace: MemoryState::new(pod),
            state,
            upstreams,
            verifier,
            metrics: metrics.events.clone(),
            limits: limits.clone(),
            mounts,
            tasks: tasks.clone(),
            turns: Arc::new(Semaphore::new(WAITING_FOR_TURN)),
            abandon: CancellationToken::new(),
            expiries: Expiries::default(),
            expiry_warning: config.auth.expiry_warning,
            leeway: config.auth.leeway,
        });
        let door = Door(core.clone());
        let application: Arc<dyn Application> = Arc::new(door.clone());
        for mount in &core.mounts {
            wire.serve(&mount.namespace, &application);
        }
        let admission = Admission::new(&limits, metrics.edge.clone());
        let edge = Edge::new(edge_config(config), admission, service, metrics.edge.clone());
        let leaving = Arc::new(AtomicBool::new(false));

        let public = listen("listen", config.listen).await?;
        let internal = listen("internal_listen", config.internal_listen).await?;
        let addr = |listener: &TcpListener, given| listener.local_addr().unwrap_or(given);
        let (public_addr, internal_addr) =
            (addr(&public, config.listen), addr(&internal, config.internal_listen));

        let routes = Public {
            edge: edge.clone(),
            core: core.clone(),
            asking: Arc::new(Semaphore::new(ASKING)),
            path: config.http.socket_paths.first().cloned().unwrap_or_default(),
            trial: trial.clone().filter(|_| config.mount.is_empty()),
        };
        let tcp = Tcp::new(public, stall(config));
        let service = routes.router().into_make_service_with_connect_info::<Connection>();
        tasks.serve(async move {
            if let Err(error) = axum::serve(tcp, service).await {
                tracing::error!(%error, "the public listener is gone");
            }
        });
        let admin = Admin {
            redis: config.redis.url.is_set(),
            redis_required: config.health.redis_required,
            leaving: leaving.clone(),
            core: core.clone(),
            metrics: metrics.clone(),
        };
        let api = Api::new(core.clone(), config.api.key.clone());
        let routes = admin.router().merge(api.router());
        tasks.serve(async move {
            if let Err(error) = axum::serve(internal, routes).await {
                tracing::error!(%error, "the internal listener is gone");
            }
        });
        if let Some(orders) = orders {
            tasks.serve(cluster::obey(core.clone(), orders));
            if core.fanout.wire().joined(JOINING).await {
                let pods: Answered<String> = cluster::ask(&core, &Question::Pods).await;
                tracing::info!(pods = pods.all.len(), missing = ?pods.missing, "joined the cluster");
            }
        }
        tasks.serve(watch::leases(core.clone()));
        tasks.serve(watch::expiries(door));
        tasks.serve(watch::changes(core.clone()));
        Ok(Self {
            public: public_addr,
            internal: internal_addr,
            core,
            edge,
            running: config.clone(),
            leaving,
            demo: config.mount.is_empty(),
            trial: trial.is_some(),
        })
    }

    /// Takes over keys, limits, contracts and the log level of a configuration that was read anew.
    ///
    /// # Errors
    /// [`StartError`], naming the key; then everything stays as it was.
    pub fn reload(&self, wanted: &Config) -> Result<(), StartError> {
        let restart = reload::reload(&self.core, &self.running, wanted)?;
        if restart.is_empty() {
            tracing::info!("reloaded");
        } else {
            tracing::warn!(keys = %restart.join(", "), "reloaded; these keys differ and need a restart");
        }
        Ok(())
    }

    /// What the rooms share.
    pub const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Where the public listener is.
    pub const fn public(&self) -> SocketAddr {
        self.public
    }

    /// Where the internal listener is.
    pub const fn internal(&self) -> SocketAddr {
        self.internal
    }

    /// Whether the demo mounting is served.
    pub const fn is_demo(&self) -> bool {
        self.demo
    }

    /// Whether tokens are checked with a secret that everybody knows.
    pub const fn is_trial(&self) -> bool {
        self.trial
    }

    /// Leaves: not ready at once, no new handshakes, transports closed evenly, work in flight finished
    /// or answered, then everything stopped. Transports are cut and nobody is told to disconnect, so
    /// that clients come back to another pod.
    pub async fn leave(self) {
        let deadline = Instant::now() + self.running.drain.grace;
        self.leaving.store(true, Ordering::Release);
        self.edge.close();
        self.close_evenly(deadline).await;
        let answers = deadline - LAST_ANSWERS.min(self.running.drain.grace / 2);
        if tokio::time::timeout_at(answers, self.core.tasks.idle()).await.is_err() {
            tracing::warn!(in_flight = self.core.tasks.in_flight(), "giving up work in flight");
            self.core.abandon.cancel();
        }
        for session in self.sessions() {
            if !session.is_working() {
                session.peer.cut();
            }
        }
        if tokio::time::timeout_at(deadline, self.core.tasks.idle()).await.is_err() {
            tracing::warn!("some work did not end");
        }
        for session in self.sessions() {
            session.peer.cut();
        }
        let _ = tokio::time::timeout_at(deadline, self.departures()).await;
        self.core.fanout.wire().flush(LAST_ANSWERS).await;
        self.core.tasks.stop().await;
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        self.core.mounts.iter().flat_map(|mount| mount.sessions.all()).collect()
    }

    /// Cuts idle transports one after the other over the window; those that wait for an answer last.
    async fn close_evenly(&self, deadline: Instant) {
        let sessions = self.sessions();
        let count = u32::try_from(sessions.len().max(1)).unwrap_or(u32::MAX);
        let pause = match self.running.drain.connections_per_second {
            0 => self.running.drain.window / count,
            paced => Duration::from_secs(1) / paced,
        };
        let mut due = Instant::now();
        for session in sessions {
            if !session.is_working() {
                session.peer.cut();
            }
            due += pause;
            tokio::time::sleep_until(due.min(deadline)).await;
        }
        // What was at work when its turn came.
        let end = deadline - LAST_ANSWERS.min(self.running.drain.grace / 2);
        for session in self.sessions() {
            if tokio::time::timeout_at(end, session.until_idle()).await.is_err() {
                return;
            }
            session.peer.cut();
        }
    }

    /// Waits until every session's departure is registered.
    async fn departures(&self) {
        for session in self.sessions() {
            session.until_gone().await;
        }
    }
}

fn scripts(
    config: &Config,
    mounts: &[Arc<Mounted>],
) -> Result<BTreeMap<String, Arc<crate::contract::Contract>>, MountError> {
    let all = mount::contracts(config)?;
    let served = |name: &String| mounts.iter().any(|mount| mount.contract().name == *name);
    Ok(all.into_iter().filter(|(name, _)| served(name)).collect())
}

/// The wire, and the orders of other pods where there may be any.
fn wire(
    config: &Config,
    pod: &str,
    metrics: &Metrics,
) -> Result<(Wire, Service, Option<Orders>), StartError> {
    let (count, wire) = (metrics.wire.clone(), wire_config(config, pod));
    if !config.redis.url.is_set() {
        let (wire, service) = Wire::new(&wire, count);
        return Ok((wire, service, None));
    }
    let cluster = Cluster {
        redis: config.redis.clone(),
        adapter: config.adapter.clone(),
        pod: pod.to_owned(),
    };
    let (wire, service, orders) = Wire::clustered(&wire, cluster, count)?;
    Ok((wire, service, Some(orders)))
}

async fn state(config: &Config, pod: &str) -> Result<SharedState, StartError> {
    if config.redis.url.is_set() {
        return Ok(Arc::new(adapter_redis::connect(config.redis.clone(), pod).await?));
    }
    Ok(Arc::new(MemoryState::new(pod)))
}

/// The pod's name: what Kubernetes calls it, and something that no other process is called.
fn pod_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "pod" } else { host };
    format!("{host}-{:08x}", rand::random::<u32>())
}

/// Packets for each event that a connection may send: an event may have attachments, and is acked.
const PACKETS: u32 = 4;

/// How long a write may make no progress.
fn stall(config: &Config) -> Duration {
    config.engine.write_timeout.min(config.engine.ping_timeout)
}

fn wire_config(config: &Config, pod: &str) -> WireConfig {
    let limit = &config.limits.connection;
    WireConfig {
        ping_interval: config.engine.ping_interval,
        ping_timeout: config.engine.ping_timeout,
        upgrade_timeout: config.engine.upgrade_timeout,
        connect_timeout: config.engine.connect_timeout,
        payload_bytes: usize::try_from(config.limits.payload_bytes).unwrap_or(usize::MAX),
        outbox_packets: config.engine.outbox_packets,
        outbox_bytes: config.engine.outbox_bytes,
        write_timeout: stall(config),
        queue_timeout: config.engine.queue_timeout,
        packets_per_second: limit.events_per_second.saturating_mul(PACKETS),
        packets_burst: limit.burst.saturating_mul(PACKETS),
        excesses: config.limits.disconnect_after,
        pod: pod.to_owned(),
    }
}

fn edge_config(config: &Config) -> EdgeConfig {
    EdgeConfig {
        socket_paths: config.http.socket_paths.clone(),
        origins: config.http.origins.clone(),
        trusted_hosts: config.http.trusted_hosts.clone(),
        trusted_proxies: config.http.trusted_proxies.clone(),
        retry_after: config.drain.window.max(Duration::from_secs(1)),
    }
}

async fn listen(key: &'static str, addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Listen { key, addr, source })
}
