//! Questions to servers.
//!
//! In come commands and where to ask them, out come answers within the configured time. Connections are
//! kept for the next question; one that fails is not.

use std::{collections::HashMap, time::Duration};

use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, ProtocolVersion, RedisError, RedisResult,
    aio::MultiplexedConnection, from_redis_value,
};

use crate::{
    config::RedisConfig,
    nodes::{At, Node, Nodes},
    slot,
};

/// Asks servers.
pub(super) struct Asker {
    pub(super) nodes: Nodes,
    limit: Duration,
    open: HashMap<String, MultiplexedConnection>,
}

impl Asker {
    pub(super) fn new(nodes: Nodes, config: &RedisConfig) -> Self {
        let limit = config.connect_timeout.saturating_add(config.response_timeout);
        Self { nodes, limit, open: HashMap::new() }
    }

    /// The server for it.
    pub(super) async fn node(&self, at: At) -> RedisResult<Node> {
        let found = tokio::time::timeout(self.limit, self.nodes.find(at, None)).await;
        found.unwrap_or_else(|_| Err(too_late()))
    }

    /// Asks one server.
    pub(super) async fn ask<T: FromRedisValue>(
        &mut self,
        node: &Node,
        words: &[&str],
    ) -> RedisResult<T> {
        let asked = tokio::time::timeout(self.limit, self.ask_now(node, &command(words))).await;
        let answer = asked.unwrap_or_else(|_| Err(too_late()));
        if answer.as_ref().is_err_and(|error| error.is_io_error() || error.is_timeout()) {
            self.open.remove(node.name());
        }
        answer
    }

    async fn ask_now<T: FromRedisValue>(&mut self, node: &Node, command: &Cmd) -> RedisResult<T> {
        let mut connection = if let Some(connection) = self.open.get(node.name()) {
            connection.clone()
        } else {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(self.limit))
                .set_response_timeout(None);
            let connection = node.dial(ProtocolVersion::RESP2, &config).await?;
            self.open.insert(node.name().to_owned(), connection.clone());
            connection
        };
        command.query_async(&mut connection).await
    }

    /// Asks the server that has a key, which is the first word after the command.
    pub(super) async fn ask_of<T: FromRedisValue>(&mut self, words: &[&str]) -> RedisResult<T> {
        let key = words.get(1).copied().unwrap_or("");
        let node = self.node(At::Slot(slot::of(key.as_bytes()))).await?;
        self.ask(&node, words).await
    }

    /// Asks every server and gives the answers of those that answer.
    pub(super) async fn ask_all<T: FromRedisValue>(&mut self, words: &[&str]) -> Vec<T> {
        let mut answers = Vec::new();
        for node in self.nodes.all() {
            answers.extend(self.ask(&node, words).await);
        }
        answers
    }

    /// How many listen to a channel in the whole installation.
    pub(super) async fn listeners(&mut self, channel: &str) -> usize {
        let counts = self.ask_all::<redis::Value>(&["PUBSUB", "NUMSUB", channel]).await;
        let count =
            |answer| from_redis_value::<(String, usize)>(answer).map_or(0, |(_, count)| count);
        counts.into_iter().map(count).sum()
    }
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}

fn too_late() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}
