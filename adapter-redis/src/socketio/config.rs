//! What an operator can set about the adapter.
//!
//! In comes a section of the configuration, out come its values with a default for each. Where Redis is
//! and how long it may take is said by [`RedisConfig`](crate::RedisConfig).

use std::{
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How messages to rooms go from pod to pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PubSub {
    /// On the channels of Node's classic adapter. In a Redis Cluster every node gets every message.
    #[default]
    Classic,
    /// As `classic`, but messages on the sharded channels are heard too: the step between the two, so that
    /// pods can be changed one by one.
    Both,
    /// On sharded channels, which one node of a Redis Cluster serves each. Node's pods do not hear them;
    /// emitters and Node's pods are heard as before. Needs Redis 7.
    Sharded,
}

/// Bounds of the adapter, and the channels beside those of Node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterConfig {
    /// The channel of python-socketio's managers; empty: none.
    pub python_channel: String,
    /// Listen also to channels of rooms that lack their final `#`, as one emitter writes them. Costs a
    /// second subscription a room; those of single connections are left out.
    pub unterminated_channels: bool,
    /// How messages to rooms go from pod to pod.
    pub pubsub: PubSub,
    /// Messages that may wait to be published. When it is full the newest is refused.
    pub outgoing_messages: NonZeroUsize,
    /// Bytes that may wait to be published. When it is full the newest is refused.
    pub outgoing_bytes: NonZeroUsize,
    /// How long a message is worth publishing while Redis is away.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub outgoing_age: Duration,
    /// The longest message that is read, in bytes.
    pub incoming_bytes: NonZeroU64,
    /// How long a join waits until the other pods reach the room. After that it holds locally.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub join_timeout: Duration,
    /// How long the other pods may take to answer.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub request_timeout: Duration,
    /// Requests of our own that may wait for answers, and requests of others whose acknowledgements may
    /// be awaited.
    pub requests: NonZeroUsize,
    /// Answers to one request that may wait to be taken. Further ones are dropped.
    pub answers: NonZeroUsize,
    /// How often rooms are rid of connections that are gone. Such are left where a connection goes while
    /// it joins; it has two rounds' time to appear.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub sweep_interval: Duration,
    /// How long Redis may be silent before a connection to it is given up. Giving up a connection that is
    /// only slow loses messages, so this is longer than an answer may take.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub hang_timeout: Duration,
    /// How often the connections are asked whether they are alive.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ping_interval: Duration,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        let some = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            python_channel: "socketio".to_owned(),
            unterminated_channels: true,
            pubsub: PubSub::Classic,
            outgoing_messages: some(65_536),
            outgoing_bytes: some(64 << 20),
            outgoing_age: Duration::from_secs(10),
            incoming_bytes: NonZeroU64::new(16 << 20).unwrap_or(NonZeroU64::MIN),
            join_timeout: Duration::from_secs(1),
            // As in Node.
            request_timeout: Duration::from_secs(5),
            requests: some(1024),
            answers: some(4096),
            // Middlewares that take longer than the library lets a connection wait have none.
            sweep_interval: Duration::from_mins(1),
            hang_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(1),
        }
    }
}
