//! One way from pod to pod.
//!
//! In come wishes to hear channels and messages to publish, out come the two connections that do it: one
//! that subscribes and one that publishes, each kept by a task of its own. There is one feed for the
//! channels of Node, and, where sharded channels are used, one for each of their slots. It knows nothing
//! of what the messages say.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{
    channels::{LANES, tag},
    config::{AdapterConfig, PubSub},
    counters::Counters,
    dialer::Dialer,
    hooks::Hooks,
    publish::{Budget, Outbox},
    subscribe::Subscriber,
    table::Table,
};
use crate::{
    config::RedisConfig,
    nodes::{At, Nodes, Task},
    slot,
};

/// A pair of connections, and what goes over them.
pub(crate) struct Feed {
    pub(crate) table: Arc<Table>,
    pub(crate) outbox: Arc<Outbox>,
    _tasks: [Task; 2],
}

/// What all feeds share.
pub(crate) struct Feeding<'a> {
    pub(crate) redis: &'a RedisConfig,
    pub(crate) config: &'a AdapterConfig,
    pub(crate) nodes: &'a Nodes,
    pub(crate) hooks: &'a Arc<dyn Hooks>,
    pub(crate) counters: &'a Arc<Counters>,
    pub(crate) budget: &'a Arc<Budget>,
    pub(crate) runtime: &'a Handle,
}

impl Feed {
    /// Of the channels that Node has too.
    pub(crate) fn classic(feeding: &Feeding<'_>) -> Self {
        Self::start(feeding, At::Anywhere)
    }

    /// Of the sharded channels, by lane; none where they are not used.
    pub(crate) fn sharded(feeding: &Feeding<'_>) -> Vec<Self> {
        if feeding.config.pubsub == PubSub::Classic {
            return Vec::new();
        }
        let slot = |lane| slot::of(tag(lane).as_bytes());
        (0..LANES).map(|lane| Self::start(feeding, At::Slot(slot(lane)))).collect()
    }

    fn start(feeding: &Feeding<'_>, at: At) -> Self {
        let Feeding { redis, config, nodes, hooks, counters, budget, runtime } = *feeding;
        let dialer = || Dialer::new(nodes.clone(), at, redis);
        let longest = config.incoming_bytes.get();
        let sharded = matches!(at, At::Slot(_));
        let table = Table::new(counters.clone(), config.join_timeout, longest, sharded);
        let table = Arc::new(table);
        let subscriber = Subscriber {
            table: table.clone(),
            dialer: dialer(),
            hooks: hooks.clone(),
            ping_interval: config.ping_interval.max(Duration::from_millis(10)),
            hang_timeout: config.hang_timeout,
        };
        let outbox = Outbox::new(config, budget.clone(), dialer(), counters.clone());
        let outbox = Arc::new(outbox);
        let tasks =
            [Task(runtime.spawn(outbox.clone().run())), Task(runtime.spawn(subscriber.run()))];
        Self { table, outbox, _tasks: tasks }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.table.is_up() && self.outbox.is_up()
    }
}
