//! Connections for messages.
//!
//! In comes what a connection is for, out comes one to a server that is right for it now, which speaks
//! RESP3, whose subscribers may also ask. It does not keep connections; it remembers which server failed
//! last, so that another is tried next where another will do.

use std::{convert::Infallible, sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, ProtocolVersion, RedisError, RedisResult, aio::MultiplexedConnection,
};

use super::subscribe::Heard;
use crate::{
    config::RedisConfig,
    nodes::{At, Node, Nodes},
};

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) nodes: Nodes,
    at: At,
    /// Whom not to try next.
    avoid: Arc<Mutex<Option<Node>>>,
    limit: Duration,
    pub(crate) response_timeout: Duration,
}

/// A connection, and to whom.
#[derive(Clone)]
pub(crate) struct Dialed {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) node: Node,
}

impl Dialer {
    pub(crate) fn new(nodes: Nodes, at: At, config: &RedisConfig) -> Self {
        Self {
            nodes,
            at,
            avoid: Arc::default(),
            limit: config.connect_timeout,
            response_timeout: config.response_timeout,
        }
    }

    /// Whether its channels are sharded.
    pub(crate) fn is_sharded(&self) -> bool {
        matches!(self.at, At::Slot(_))
    }

    /// Whether this server is still one to be connected to.
    pub(crate) fn is_right(&self, node: &Node) -> bool {
        self.nodes.is(self.at, node)
    }

    /// Says that a connection to this server failed.
    pub(crate) fn failed(&self, node: &Node) {
        *self.avoid.lock() = Some(node.clone());
        self.nodes.look();
    }

    pub(crate) async fn dial(&self, table: Option<&Heard>) -> RedisResult<Dialed> {
        let avoid = self.avoid.lock().clone();
        let found = self.within(self.nodes.find(self.at, avoid.as_ref())).await;
        let node = found?;
        let dialed = self.within(self.dial_one(&node, table)).await;
        match dialed {
            Ok(connection) => Ok(Dialed { connection, node }),
            Err(error) => {
                self.failed(&node);
                Err(error)
            }
        }
    }

    async fn dial_one(
        &self,
        node: &Node,
        table: Option<&Heard>,
    ) -> RedisResult<MultiplexedConnection> {
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.limit))
            .set_response_timeout(None);
        if let Some(heard) = table.cloned() {
            config = config.set_push_sender(move |push| {
                heard.push(push);
                Ok::<(), Infallible>(())
            });
        }
        node.dial(ProtocolVersion::RESP3, &config).await
    }

    async fn within<T>(&self, call: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        tokio::time::timeout(self.limit, call).await.unwrap_or_else(|_| Err(too_late()))
    }
}

pub(crate) fn too_late() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}
