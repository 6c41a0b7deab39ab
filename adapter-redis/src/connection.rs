//! The link to Redis.
//!
//! In come scripts and commands, each with the key that it is about; out come answers, or `Unavailable`
//! within the configured time. One multiplexed connection to each server carries everything short. It is
//! made when it is first needed and made anew after any failure. While a server is down only one call in
//! a while waits to find out whether it is back; the others are refused at once, so that a busy pod does
//! not hang on a dead store.
//!
//! A call is asked again only where a server refused to look at it, because the key is elsewhere or on its
//! way there. Else it never retries: whether a call was carried out before the connection broke is not
//! known here.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use adapter::StateError;
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, ProtocolVersion, RedisError,
    RedisFuture, RedisResult, ScriptInvocation, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{sync::OnceCell, time::Instant};
use tracing::{info, warn};

use crate::{
    config::RedisConfig,
    nodes::{At, Node, Nodes},
    slot,
};

/// While a server is down, one call in this time finds out whether it is back.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// How long a call waits whose keys are on their way to another server.
const ON_THE_WAY: Duration = Duration::from_millis(20);

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
    /// A file of certificates cannot be read.
    #[error("redis.{key} {path} cannot be read")]
    Certificates {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A certificate was given without its key, or a key without its certificate.
    #[error("redis.tls_cert and redis.tls_key belong together")]
    Pair,
    /// The prefix would break the names of keys.
    #[error("redis.prefix {0:?} must not be empty or hold braces, spaces or control characters")]
    Prefix(String),
    /// The prefix of channels would break the names of sharded ones.
    #[error("redis.channel_prefix {0:?} must not hold a brace where sharded channels are used")]
    ChannelPrefix(String),
    /// It was called outside of a tokio runtime.
    #[error("there is no tokio runtime to connect from")]
    Runtime,
    /// The times do not fit together.
    #[error("redis.{0}")]
    Times(&'static str),
}

/// Who asks a server that is thought to be down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nobody.
    Never,
    /// One call in a while.
    Probing,
    /// This call.
    Always,
}

/// What is asked.
#[derive(Clone, Copy)]
enum Call<'a> {
    Script(&'a ScriptInvocation<'a>),
    Command(&'a Cmd),
}

impl Call<'_> {
    async fn ask<T: FromRedisValue>(self, connection: &mut impl ConnectionLike) -> RedisResult<T> {
        match self {
            Self::Script(script) => script.invoke_async(connection).await,
            Self::Command(command) => command.query_async(connection).await,
        }
    }
}

/// Which connection is in use. A failure replaces it once, however many calls fail on it.
#[derive(Default)]
struct Current {
    generation: u64,
    connection: Arc<OnceCell<MultiplexedConnection>>,
}

/// One server, and how it is.
struct Lane {
    node: Node,
    current: Mutex<Current>,
    up: AtomicBool,
    /// Milliseconds after `epoch` from which the next call may try, while it is down.
    probe_at: AtomicU64,
}

/// The connections to all servers.
pub(crate) struct Link {
    nodes: Nodes,
    dial: AsyncConnectionConfig,
    /// Bounds every call, the making of the connection included.
    limit: Duration,
    lanes: Mutex<HashMap<Box<str>, Arc<Lane>>>,
    /// Whether any server is known at all.
    found: AtomicBool,
    outages: AtomicU64,
    epoch: Instant,
}

/// How one attempt ended without an answer.
enum Failed {
    /// The key is elsewhere.
    Moved,
    /// This once, the key is there.
    Ask(Node),
    /// Some of the keys are there already.
    OnTheWay,
    /// For good.
    Finally(StateError),
}

impl Link {
    pub(crate) fn open(config: &RedisConfig) -> Result<Self, ConnectError> {
        let dial = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(None);
        Ok(Self {
            nodes: Nodes::open(config)?,
            dial,
            limit: config.connect_timeout.saturating_add(config.response_timeout),
            lanes: Mutex::default(),
            found: AtomicBool::new(true),
            outages: AtomicU64::new(0),
            epoch: Instant::now(),
        })
    }

    /// Whether all servers that are in use answer.
    pub(crate) fn is_up(&self) -> bool {
        // Servers that others stand in for by now do not matter.
        let matters = |lane: &Lane| self.nodes.masters().contains(&lane.node);
        let found = self.found.load(Ordering::Acquire);
        found && self.lanes.lock().values().all(|lane| lane.is_up() || !matters(lane))
    }

    /// How often a server was lost or replaced so far.
    pub(crate) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Acquire).wrapping_add(self.nodes.changes())
    }

    /// Runs a script, all of whose keys are where this one is.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        key: &str,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StateError> {
        self.call(key, Call::Script(call), Wait::Probing).await
    }

    /// Runs a script that can be done without: while the server is down it is refused at once, and nobody
    /// waits to find out whether it still is.
    pub(crate) async fn dispensable<T: FromRedisValue>(
        &self,
        key: &str,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StateError> {
        self.call(key, Call::Script(call), Wait::Never).await
    }

    /// Finds out whether the server of a key is back.
    pub(crate) async fn look(&self, key: &str) -> Result<(), StateError> {
        let mut call = redis::cmd("EXISTS");
        call.arg(key);
        self.call(key, Call::Command(&call), Wait::Always).await
    }

    /// Runs a script even while Redis is thought to be down.
    pub(crate) async fn probe<T: FromRedisValue>(
        &self,
        key: &str,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StateError> {
        self.call(key, Call::Script(call), Wait::Always).await
    }

    /// Runs one command.
    pub(crate) async fn command<T: FromRedisValue>(
        &self,
        key: &str,
        call: &Cmd,
    ) -> Result<T, StateError> {
        self.call(key, Call::Command(call), Wait::Probing).await
    }

    async fn call<T: FromRedisValue>(
        &self,
        key: &str,
        call: Call<'_>,
        wait: Wait,
    ) -> Result<T, StateError> {
        let at = At::Slot(slot::of(key.as_bytes()));
        let deadline = Instant::now() + self.limit;
        let mut node = self.find(at, deadline).await?;
        let mut asking = false;
        loop {
            if Instant::now() >= deadline {
                return Err(StateError::Unavailable("its key is on its way elsewhere".to_owned()));
            }
            let lane = self.lane(&node);
            self.admit(&lane, wait)?;
            match self.attempt(&lane, call, asking, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Finally(error)) => return Err(error),
                Err(Failed::Ask(other)) => (node, asking) = (other, true),
                Err(Failed::OnTheWay) => {
                    tokio::time::sleep_until(deadline.min(Instant::now() + ON_THE_WAY)).await;
                    (node, asking) = (self.find(at, deadline).await?, false);
                }
                Err(Failed::Moved) => {
                    let looked = tokio::time::timeout_at(deadline, self.nodes.look_again()).await;
                    if looked.is_err() {
                        continue;
                    }
                    (node, asking) = (self.find(at, deadline).await?, false);
                }
            }
        }
    }

    async fn find(&self, at: At, deadline: Instant) -> Result<Node, StateError> {
        let found = tokio::time::timeout_at(deadline, self.nodes.find(at, None)).await;
        let failure = match found {
            Ok(Ok(node)) => {
                self.found.store(true, Ordering::Release);
                return Ok(node);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "nobody says where redis is".to_owned(),
        };
        if self.nodes.masters().is_empty() && self.found.swap(false, Ordering::AcqRel) {
            warn!(failure, "redis is nowhere");
        }
        Err(StateError::Unavailable(failure))
    }

    fn lane(&self, node: &Node) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(node.name()) {
            return lane.clone();
        }
        // What was replaced is not waited for any more.
        let all = self.nodes.all();
        lanes.retain(|_, lane| all.contains(&lane.node));
        let lane = Arc::new(Lane {
            node: node.clone(),
            current: Mutex::default(),
            up: AtomicBool::new(true),
            probe_at: AtomicU64::new(0),
        });
        lanes.insert(node.name().into(), lane.clone());
        lane
    }

    /// Asks one server once.
    async fn attempt<T: FromRedisValue>(
        &self,
        lane: &Lane,
        call: Call<'_>,
        asking: bool,
        deadline: Instant,
    ) -> Result<T, Failed> {
        let (generation, cell) = lane.take();
        let answer = tokio::time::timeout_at(deadline, async {
            let dial = || lane.node.dial(ProtocolVersion::RESP2, &self.dial);
            let mut connection = cell.get_or_try_init(dial).await?.clone();
            if asking {
                call.ask(&mut Asking(connection)).await
            } else {
                call.ask(&mut connection).await
            }
        });
        self.judge(lane, generation, answer.await.ok())
    }

    /// Refuses at once while the server is down, but for one call in a while.
    fn admit(&self, lane: &Lane, wait: Wait) -> Result<(), StateError> {
        if lane.is_up() || wait == Wait::Always {
            return Ok(());
        }
        let down = || StateError::Unavailable("redis is down".to_owned());
        if wait == Wait::Never {
            return Err(down());
        }
        let now = self.millis();
        let at = lane.probe_at.load(Ordering::Acquire);
        // Whoever probes keeps the others out until his call must have ended.
        let next = now.saturating_add(as_millis(self.limit));
        let mine = now >= at
            && lane
                .probe_at
                .compare_exchange(at, next, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if mine { Ok(()) } else { Err(down()) }
    }

    /// Turns an answer, or its absence, into the contract's terms, and remembers how the server is.
    fn judge<T>(
        &self,
        lane: &Lane,
        generation: u64,
        answer: Option<RedisResult<T>>,
    ) -> Result<T, Failed> {
        let failure = match answer {
            Some(Ok(answer)) => {
                lane.found_up();
                return Ok(answer);
            }
            Some(Err(error)) => match self.redirected(&error) {
                Some(failed) => {
                    lane.found_up();
                    return Err(failed);
                }
                None => error.to_string(),
            },
            None => format!("no answer within {:?}", self.limit),
        };
        self.found_down(lane, generation, &failure);
        Err(Failed::Finally(StateError::Unavailable(failure)))
    }

    /// What an error means that says nothing against the server.
    fn redirected(&self, error: &RedisError) -> Option<Failed> {
        match error.kind() {
            _ if is_answer(error) => Some(Failed::Finally(StateError::Corrupt(error.to_string()))),
            ErrorKind::Server(ServerErrorKind::Moved) => Some(Failed::Moved),
            ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Failed::OnTheWay),
            ErrorKind::Server(ServerErrorKind::Ask) => {
                let (address, _) = error.redirect_node()?;
                self.nodes.node(address).map(Failed::Ask)
            }
            _ => None,
        }
    }

    /// Replaces the connection that failed. A call that fails late, on one that was replaced already,
    /// says nothing about the server as it is now.
    fn found_down(&self, lane: &Lane, generation: u64, failure: &str) {
        let mut current = lane.current.lock();
        if current.generation != generation {
            return;
        }
        let next = self.millis().saturating_add(as_millis(PROBE_EVERY));
        lane.probe_at.store(next, Ordering::Release);
        if lane.up.swap(false, Ordering::AcqRel) {
            self.outages.fetch_add(1, Ordering::AcqRel);
            warn!(server = lane.node.name(), failure, "redis is down");
        }
        *current = Current { generation: generation.wrapping_add(1), ..Current::default() };
        drop(current);
        // Another may have taken over.
        self.nodes.look();
    }

    fn millis(&self) -> u64 {
        as_millis(self.epoch.elapsed())
    }
}

impl Lane {
    fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    fn take(&self) -> (u64, Arc<OnceCell<MultiplexedConnection>>) {
        let current = self.current.lock();
        (current.generation, current.connection.clone())
    }

    fn found_up(&self) {
        // Asked before it is written: this is on the way of every call.
        if !self.is_up() && !self.up.swap(true, Ordering::AcqRel) {
            info!(server = self.node.name(), "redis is back");
        }
    }
}

/// A connection whose calls are about keys that are only just arriving.
struct Asking(MultiplexedConnection);

impl ConnectionLike for Asking {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ASKING").add_command(command.clone());
            let answers = self.0.send_packed_commands(&pipeline, 0, 2).await?;
            answers.into_iter().nth(1).unwrap_or(Value::Nil).extract_error()
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.0.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
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
