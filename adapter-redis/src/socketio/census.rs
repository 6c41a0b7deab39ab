//! How many servers listen to a channel.
//!
//! In comes a channel, out comes the number of its subscribers in the whole installation: in a Redis
//! Cluster each node knows its own only, so all are asked and those that answer in time are counted. What a
//! dead node had is gone with it.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, ProtocolVersion, RedisError, RedisResult, aio::MultiplexedConnection,
};

use super::{dialer::too_late, publish::Outbox};
use crate::nodes::{Node, Nodes};

/// Counts subscribers.
pub(crate) struct Census {
    nodes: Nodes,
    /// How long one node may take.
    limit: Duration,
    open: Mutex<HashMap<Box<str>, MultiplexedConnection>>,
}

impl Census {
    pub(crate) fn new(nodes: Nodes, limit: Duration) -> Self {
        Self { nodes, limit, open: Mutex::default() }
    }

    pub(crate) async fn count(&self, channel: &str, outbox: &Outbox) -> RedisResult<usize> {
        let mut question = redis::cmd("PUBSUB");
        question.arg("NUMSUB").arg(channel);
        if !self.nodes.is_cluster() {
            let (_, servers): (String, usize) = outbox.ask(&question).await?;
            return Ok(servers);
        }
        let nodes = self.nodes.all();
        self.open.lock().retain(|name, _| nodes.iter().any(|node| node.name() == &**name));
        let counts = join_all(nodes.iter().map(|node| self.ask(node, &question))).await;
        let answered: Vec<usize> = counts.into_iter().flatten().collect();
        if answered.is_empty() { Err(nobody()) } else { Ok(answered.iter().sum()) }
    }

    async fn ask(&self, node: &Node, question: &redis::Cmd) -> RedisResult<usize> {
        let asking = async {
            let open = self.open.lock().get(node.name()).cloned();
            let mut connection = match open {
                Some(connection) => connection,
                None => self.dial(node).await?,
            };
            let (_, subscribers): (String, usize) = question.query_async(&mut connection).await?;
            Ok(subscribers)
        };
        let answer = tokio::time::timeout(self.limit, asking).await;
        let answer = answer.unwrap_or_else(|_| Err(too_late()));
        if answer.is_err() {
            self.open.lock().remove(node.name());
        }
        answer
    }

    async fn dial(&self, node: &Node) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.limit))
            .set_response_timeout(None);
        let connection = node.dial(ProtocolVersion::RESP2, &config).await?;
        self.open.lock().insert(node.name().into(), connection.clone());
        Ok(connection)
    }
}

fn nobody() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::NotConnected))
}
