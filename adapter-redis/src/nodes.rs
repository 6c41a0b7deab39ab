//! Which server is to be asked for what.
//!
//! In come the address of the configuration and the time that passes; out come servers: the one, the
//! master that the sentinels name, or the master of a slot. One task looks again and again, and at once
//! when somebody was sent away by a server. It never decides who is master: it asks those who do.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, ConnectionInfo, ProtocolVersion, RedisResult, Value,
    aio::MultiplexedConnection, from_redis_value,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tracing::{debug, info};

use crate::{
    address::{Address, elsewhere},
    chart::{self, Chart, unknown},
    config::RedisConfig,
    connection::ConnectError,
};

pub(crate) use crate::chart::{At, Node};

/// How often it is looked unasked. A pod that still talks to a master that was replaced, and does not know,
/// talks to the void for that long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The time between two looks that were asked for: however many were sent away, they ask for one.
const AT_LEAST: Duration = Duration::from_millis(20);
/// Nodes of a cluster that are asked at once.
const ASKED_AT_ONCE: usize = 4;

/// The servers of an installation. Clones look together.
#[derive(Clone)]
pub(crate) struct Nodes(Arc<Looking>);

struct Looking {
    seen: Arc<Seen>,
    /// Ends with the last who wants to know.
    task: Option<Task>,
}

struct Seen {
    address: Address,
    limit: Duration,
    chart: Mutex<Arc<Chart>>,
    /// How often the chart changed.
    changes: Mutex<u64>,
    /// How often it was looked.
    rounds: watch::Sender<u64>,
    asked: Notify,
}

/// A task that ends with its owner.
pub(crate) struct Task(pub(crate) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nodes {
    /// Reads the configuration and begins to look, if there is anything to look for.
    pub(crate) fn open(config: &RedisConfig) -> Result<Self, ConnectError> {
        let runtime = Handle::try_current().map_err(|_| ConnectError::Runtime)?;
        let address = Address::of(config)?;
        let mut chart = Chart::default();
        let moves = match &address {
            Address::Single(information) => {
                chart.masters.push(Node::new((**information).clone(), false));
                false
            }
            Address::Sentinel { .. } | Address::Cluster(_) => true,
        };
        let seen = Arc::new(Seen {
            address,
            limit: config.connect_timeout.saturating_add(config.response_timeout),
            chart: Mutex::new(Arc::new(chart)),
            changes: Mutex::new(0),
            rounds: watch::Sender::new(0),
            asked: Notify::new(),
        });
        let looking = seen.clone();
        let task = moves.then(|| Task(runtime.spawn(async move { looking.look_on().await })));
        Ok(Self(Arc::new(Looking { seen, task })))
    }

    /// Whether different keys may be on different servers.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0.seen.address, Address::Cluster(_))
    }

    /// How often servers took over from others so far.
    pub(crate) fn changes(&self) -> u64 {
        *self.0.seen.changes.lock()
    }

    /// The server for it, as far as is known. Where any will do it is another than the one to avoid.
    pub(crate) fn known(&self, at: At, avoid: Option<&Node>) -> Option<Node> {
        let chart = self.0.seen.chart.lock().clone();
        match at {
            At::Slot(slot) => chart.owner(slot).cloned(),
            At::Anywhere => {
                let others: Vec<&Node> =
                    chart.masters.iter().filter(|node| Some(*node) != avoid).collect();
                let fallback = chart.masters.first();
                let chosen = rand::random_range(0..others.len().max(1));
                others.get(chosen).copied().or(fallback).cloned()
            }
        }
    }

    /// The server for it. Where none is known it is looked for once.
    pub(crate) async fn find(&self, at: At, avoid: Option<&Node>) -> RedisResult<Node> {
        if let Some(node) = self.known(at, avoid) {
            return Ok(node);
        }
        self.look_again().await;
        self.known(at, avoid).ok_or_else(|| unknown("no server is known for it"))
    }

    /// Whether this server is one for it, as far as is known.
    pub(crate) fn is(&self, at: At, node: &Node) -> bool {
        let chart = self.0.seen.chart.lock().clone();
        match at {
            At::Anywhere => chart.masters.contains(node),
            At::Slot(slot) => chart.owner(slot) == Some(node),
        }
    }

    /// Every server, masters first.
    pub(crate) fn all(&self) -> Vec<Node> {
        let chart = self.0.seen.chart.lock().clone();
        chart.masters.iter().chain(&chart.replicas).cloned().collect()
    }

    /// The sentinels and what they call the master, where there are any.
    pub(crate) fn sentinels(&self) -> Option<(Vec<Node>, String)> {
        let Address::Sentinel { sentinels, name, .. } = &self.0.seen.address else { return None };
        let nodes = sentinels.iter().map(|sentinel| Node::new(sentinel.clone(), false));
        Some((nodes.collect(), name.clone()))
    }

    /// The masters.
    pub(crate) fn masters(&self) -> Vec<Node> {
        self.0.seen.chart.lock().masters.clone()
    }

    /// Looks now, and waits until it has.
    pub(crate) async fn look_again(&self) {
        if self.0.task.is_none() {
            return;
        }
        let mut rounds = self.rounds();
        self.0.seen.asked.notify_one();
        // Whoever looks lives as long as this does.
        let _ = rounds.changed().await;
    }

    /// Looks soon.
    pub(crate) fn look(&self) {
        self.0.seen.asked.notify_one();
    }

    /// Another server of the same installation, by its host, a colon and its port.
    pub(crate) fn node(&self, address: &str) -> Option<Node> {
        self.known(At::Anywhere, None)?.sibling(address)
    }

    /// Tells whenever it was looked.
    pub(crate) fn rounds(&self) -> watch::Receiver<u64> {
        self.0.seen.rounds.subscribe()
    }
}

impl Seen {
    async fn look_on(&self) {
        let mut dials = Dials::default();
        loop {
            let looked = match &self.address {
                Address::Single(_) => return,
                Address::Sentinel { sentinels, name, master } => {
                    self.master(&mut dials, sentinels, name, master).await
                }
                Address::Cluster(seeds) => self.cluster(&mut dials, seeds).await,
            };
            match looked {
                Ok(chart) => self.learn(chart),
                Err(error) => debug!(%error, "nobody says where redis is"),
            }
            self.rounds.send_modify(|rounds| *rounds = rounds.wrapping_add(1));
            tokio::time::sleep(AT_LEAST).await;
            // Either is a reason to look.
            let _ = tokio::time::timeout(LOOK_EVERY, self.asked.notified()).await;
        }
    }

    fn learn(&self, chart: Chart) {
        let mut known = self.chart.lock();
        if **known == chart {
            return;
        }
        info!(masters = ?chart.masters, "redis is somewhere else");
        *known = Arc::new(chart);
        *self.changes.lock() += 1;
    }

    /// Asks all sentinels, and believes the most.
    async fn master(
        &self,
        dials: &mut Dials,
        sentinels: &[ConnectionInfo],
        name: &str,
        master: &ConnectionInfo,
    ) -> RedisResult<Chart> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let mut pipeline = redis::pipe();
        pipeline.add_command(question);
        let nodes = sentinels.iter().map(|sentinel| Node::new(sentinel.clone(), false));
        let mut votes: HashMap<(String, u16), usize> = HashMap::new();
        for (_, answer) in self.ask(dials, nodes.collect(), &pipeline).await {
            if let Ok((address,)) = from_redis_value::<((String, u16),)>(answer) {
                *votes.entry(address).or_default() += 1;
            }
        }
        let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
        let ((host, port), _) = most.ok_or_else(|| unknown("no sentinel knows the master"))?;
        let node = Node::new(elsewhere(master, &host, port), true);
        Ok(Chart { masters: vec![node], ..Chart::default() })
    }

    /// Asks a few nodes of the cluster, and believes one that thinks the cluster well.
    async fn cluster(&self, dials: &mut Dials, seeds: &[ConnectionInfo]) -> RedisResult<Chart> {
        let mut question = redis::pipe();
        question.cmd("CLUSTER").arg("SLOTS").cmd("CLUSTER").arg("INFO");
        let seed = seeds.first().ok_or_else(|| unknown("there are no seeds"))?;
        let known = self.chart.lock().clone();
        let mut nodes: Vec<Node> = known.masters.iter().chain(&known.replicas).cloned().collect();
        for seed in seeds {
            let node = Node::new(seed.clone(), false);
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let mut doubtful = None;
        // One will do as long as it is well; it is the same every time.
        let (one, others) = nodes.split_at(1.min(nodes.len()));
        for few in std::iter::once(one).chain(others.chunks(ASKED_AT_ONCE)) {
            for (node, answer) in self.ask(dials, few.to_vec(), &question).await {
                let Ok((slots, info)) = from_redis_value::<(Value, String)>(answer) else {
                    continue;
                };
                let Some(chart) = chart::read(&slots, &node, seed) else { continue };
                if info.contains("cluster_state:ok") {
                    return Ok(chart);
                }
                doubtful = Some(chart);
            }
        }
        doubtful.ok_or_else(|| unknown("no node knows the cluster"))
    }

    /// Asks several servers the same; gives the answers of those that answer in time.
    async fn ask(
        &self,
        dials: &mut Dials,
        nodes: Vec<Node>,
        question: &redis::Pipeline,
    ) -> Vec<(Node, Value)> {
        let mut before = std::mem::take(&mut dials.open);
        let asked = nodes.into_iter().map(|node| {
            let open = before.remove(node.name());
            async move {
                let asking = ask_one(&node, open, question);
                let answer = tokio::time::timeout(self.limit, asking).await;
                answer.ok()?.ok().map(|(connection, answer)| (node, connection, answer))
            }
        });
        let mut answers = stream::iter(asked).buffered(ASKED_AT_ONCE);
        let mut told = Vec::new();
        while let Some(answer) = answers.next().await {
            if let Some((node, connection, answer)) = answer {
                dials.open.insert(node.name().to_owned(), connection);
                told.push((node, answer));
            }
        }
        told
    }
}

/// Connections to those who are asked again and again.
#[derive(Default)]
struct Dials {
    open: HashMap<String, MultiplexedConnection>,
}

async fn ask_one(
    node: &Node,
    open: Option<MultiplexedConnection>,
    question: &redis::Pipeline,
) -> RedisResult<(MultiplexedConnection, Value)> {
    let mut connection = if let Some(connection) = open {
        connection
    } else {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        node.dial(ProtocolVersion::RESP2, &config).await?
    };
    let answer = question.query_async(&mut connection).await?;
    Ok((connection, answer))
}
