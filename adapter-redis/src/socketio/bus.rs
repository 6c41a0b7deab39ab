//! What the adapters of all namespaces share.
//!
//! In come a configuration and hooks, out comes the state that `SocketIo::builder().with_adapter` takes.
//! It starts three tasks, one that publishes, one that subscribes and one that sweeps, and ends them when
//! the last of its users is gone. It never fails because Redis is away.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::RwLock;
use socketioxide_core::adapter::SocketEmitter;
use tokio::{runtime::Handle, sync::Semaphore, time::Instant};

use super::{
    adapter::RedisAdapter,
    census::Census,
    channels::Sharded,
    config::{AdapterConfig, PubSub},
    counters::Counters,
    feed::{Feed, Feeding},
    hooks::Hooks,
    publish::{Budget, Outbox},
    python,
    table::{Inbound, Role, Table},
};
use crate::{
    config::RedisConfig,
    connection::ConnectError,
    nodes::{Nodes, Task},
};

/// The state of [`RedisAdapter`]: one for an application. Clones are the same bus.
pub struct Bus<E: SocketEmitter>(pub(crate) Arc<Shared<E>>);

impl<E: SocketEmitter> Clone for Bus<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(crate) struct Shared<E: SocketEmitter> {
    pub(crate) pod: String,
    pub(crate) prefix: String,
    pub(crate) config: AdapterConfig,
    pub(crate) hooks: Arc<dyn Hooks>,
    /// Of the channels of Node.
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) table: Arc<Table>,
    classic: Feed,
    /// Of the sharded channels, by lane, where they are used.
    sharded: Vec<Feed>,
    census: Census,
    pub(crate) counters: Arc<Counters>,
    pub(crate) runtime: Handle,
    /// How many requests of others may have acknowledgements under way.
    pub(crate) acknowledging: Arc<Semaphore>,
    adapters: RwLock<HashMap<String, Weak<RedisAdapter<E>>>>,
    sweeping: OnceLock<Task>,
}

impl<E: SocketEmitter> Bus<E> {
    /// Makes the bus of the pod of this name and begins to connect.
    ///
    /// # Errors
    /// Where the configuration cannot work, or there is no tokio runtime. A Redis that is away is none.
    pub fn connect(
        redis: &RedisConfig,
        config: AdapterConfig,
        pod: impl Into<String>,
        hooks: impl Hooks,
    ) -> Result<Self, ConnectError> {
        let runtime = Handle::try_current().map_err(|_| ConnectError::Runtime)?;
        if config.pubsub != PubSub::Classic && redis.channel_prefix.contains('{') {
            // It would be the hash tag of every sharded channel.
            return Err(ConnectError::ChannelPrefix(redis.channel_prefix.clone()));
        }
        let nodes = Nodes::open(redis)?;
        let counters = Arc::new(Counters::default());
        let hooks: Arc<dyn Hooks> = Arc::new(hooks);
        let feeding = Feeding {
            redis,
            config: &config,
            nodes: &nodes,
            hooks: &hooks,
            counters: &counters,
            budget: &Arc::new(Budget::new(&config)),
            runtime: &runtime,
        };
        let (classic, sharded) = (Feed::classic(&feeding), Feed::sharded(&feeding));
        let bus = Self(Arc::new(Shared {
            pod: pod.into(),
            prefix: redis.channel_prefix.clone(),
            acknowledging: Arc::new(Semaphore::new(config.requests.get())),
            outbox: classic.outbox.clone(),
            table: classic.table.clone(),
            census: Census::new(nodes, redis.response_timeout),
            classic,
            sharded,
            config,
            hooks,
            counters,
            runtime: runtime.clone(),
            adapters: RwLock::default(),
            sweeping: OnceLock::new(),
        }));
        bus.listen_to_python();
        let sweeping = sweep(Arc::downgrade(&bus.0), bus.0.config.sweep_interval);
        // The bus was made above: nobody else can have set it.
        let _ = bus.0.sweeping.set(Task(runtime.spawn(sweeping)));
        Ok(bus)
    }

    fn listen_to_python(&self) {
        let channel = &self.0.config.python_channel;
        if !channel.is_empty() {
            let shared: Weak<Shared<E>> = Arc::downgrade(&self.0);
            drop(self.0.table.wish(channel, Role::Python, shared));
        }
    }

    /// Whether messages of other pods arrive and ours can be published.
    pub fn is_up(&self) -> bool {
        self.0.feeds().all(Feed::is_up)
    }

    /// Waits until everything wished for is subscribed to, but no longer than this. Says whether it is.
    pub async fn ready(&self, patience: Duration) -> bool {
        let up = async {
            for feed in self.0.feeds() {
                feed.table.up().await;
            }
        };
        tokio::time::timeout(patience, up).await.is_ok()
    }

    /// Waits until what waits to be published is gone, but no longer than this. Says whether it is.
    pub async fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        for feed in self.0.feeds() {
            if !feed.outbox.flush(deadline).await {
                return false;
            }
        }
        true
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The adapter of a namespace, once the namespace was made.
    pub fn adapter(&self, namespace: &str) -> Option<Arc<RedisAdapter<E>>> {
        self.0.adapter(namespace)
    }
}

/// Rids rooms of connections that are gone, for as long as anybody uses the bus.
async fn sweep<E: SocketEmitter>(shared: Weak<Shared<E>>, every: Duration) {
    let mut rounds = tokio::time::interval(every.max(Duration::from_millis(10)));
    loop {
        rounds.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let adapters: Vec<_> = shared.adapters.read().values().filter_map(Weak::upgrade).collect();
        for adapter in adapters {
            adapter.sweep();
        }
    }
}

impl<E: SocketEmitter> fmt::Debug for Bus<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Bus");
        shown.field("pod", &self.0.pod).field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl<E: SocketEmitter> Shared<E> {
    pub(crate) fn adapter(&self, namespace: &str) -> Option<Arc<RedisAdapter<E>>> {
        self.adapters.read().get(namespace).and_then(Weak::upgrade)
    }

    pub(crate) fn register(&self, namespace: &str, adapter: &Arc<RedisAdapter<E>>) {
        let mut adapters = self.adapters.write();
        adapters.retain(|_, adapter| adapter.strong_count() > 0);
        adapters.insert(namespace.to_owned(), Arc::downgrade(adapter));
    }

    pub(crate) fn unregister(&self, namespace: &str) {
        self.adapters.write().remove(namespace);
    }

    /// How many servers listen to the requests of a namespace, if Redis says so in time.
    pub(crate) async fn servers(&self, channel: &str) -> redis::RedisResult<usize> {
        self.census.count(channel, &self.outbox).await
    }

    fn feeds(&self) -> impl Iterator<Item = &Feed> {
        std::iter::once(&self.classic).chain(&self.sharded)
    }

    /// The feed of a sharded channel, where they are listened to.
    pub(crate) fn feed(&self, channel: &Sharded) -> Option<&Feed> {
        self.sharded.get(usize::from(channel.lane))
    }

    /// Whether what this pod sends goes to sharded channels.
    pub(crate) fn publishes_sharded(&self) -> bool {
        self.config.pubsub == PubSub::Sharded
    }
}

impl<E: SocketEmitter> Inbound for Shared<E> {
    fn receive(&self, role: Role, payload: Bytes) {
        if role != Role::Python {
            return;
        }
        match python::read(&payload) {
            Ok(Some(command)) => match self.adapter(&command.namespace) {
                Some(adapter) => adapter.obey(command.order),
                None => self.counters.foreign.one(),
            },
            Ok(None) => self.counters.foreign.one(),
            Err(cause) => {
                self.counters.malformed.one();
                tracing::debug!(%cause, "a message of python-socketio is ignored");
            }
        }
    }
}
