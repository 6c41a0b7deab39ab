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
use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};

use super::{
    adapter::RedisAdapter,
    config::AdapterConfig,
    counters::Counters,
    hooks::Hooks,
    publish::Outbox,
    python,
    subscribe::{Dialer, Inbound, Role, Subscriber, Table},
};
use crate::{
    config::RedisConfig,
    connection::{self, ConnectError},
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
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) table: Arc<Table>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) runtime: Handle,
    /// How many requests of others may have acknowledgements under way.
    pub(crate) acknowledging: Arc<Semaphore>,
    adapters: RwLock<HashMap<String, Weak<RedisAdapter<E>>>>,
    tasks: OnceLock<[Task; 3]>,
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
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
        let client = connection::client(redis)?;
        let dialer = Dialer::new(&client, redis.connect_timeout, redis.response_timeout)
            .map_err(|error| connection::unusable(redis, &error))?;
        let counters = Arc::new(Counters::default());
        let longest = config.incoming_bytes.get();
        let table = Arc::new(Table::new(counters.clone(), config.join_timeout, longest));
        let hooks: Arc<dyn Hooks> = Arc::new(hooks);
        let subscriber = Subscriber {
            table: table.clone(),
            dialer: dialer.clone(),
            hooks: hooks.clone(),
            ping_interval: config.ping_interval.max(Duration::from_millis(10)),
            hang_timeout: config.hang_timeout,
        };
        let outbox = Arc::new(Outbox::new(&config, dialer, counters.clone()));
        let bus = Self(Arc::new(Shared {
            pod: pod.into(),
            prefix: redis.channel_prefix.clone(),
            acknowledging: Arc::new(Semaphore::new(config.requests.get())),
            config,
            hooks,
            outbox: outbox.clone(),
            table,
            counters,
            runtime: runtime.clone(),
            adapters: RwLock::default(),
            tasks: OnceLock::new(),
        }));
        bus.listen_to_python();
        let tasks = [
            Task(runtime.spawn(outbox.run())),
            Task(runtime.spawn(subscriber.run())),
            Task(runtime.spawn(sweep(Arc::downgrade(&bus.0), bus.0.config.sweep_interval))),
        ];
        // The bus was made above: nobody else can have set them.
        let _ = bus.0.tasks.set(tasks);
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
        self.0.table.is_up() && self.0.outbox.is_up()
    }

    /// Waits until everything wished for is subscribed to, but no longer than this. Says whether it is.
    pub async fn ready(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.0.table.up()).await.is_ok()
    }

    /// Waits until what waits to be published is gone, but no longer than this. Says whether it is.
    pub async fn flush(&self, patience: Duration) -> bool {
        self.0.outbox.flush(patience).await
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
        let mut question = redis::cmd("PUBSUB");
        question.arg("NUMSUB").arg(channel);
        let (_, servers): (String, usize) = self.outbox.ask(&question).await?;
        Ok(servers)
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
