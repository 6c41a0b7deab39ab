//! What the other pods want of this one.
//!
//! In come the hooks of the adapter, on the task that reads from Redis; out go orders, in their order,
//! through a bounded line to whoever carries them out. It never blocks: what does not fit is counted and
//! dropped, since rooms and transports have changed already and only what is written of them lags.

use std::time::Duration;

use adapter_redis::socketio::{Hooks, Reply};
use prometheus::IntCounter;
use serde_json::Value;
use socketioxide::socket::Sid;
use tokio::sync::mpsc;

use super::CLUSTER;

/// Orders that may wait to be carried out.
const WAITING: usize = 65_536;

/// What another pod, an emitter or a Node server did to a connection of this pod, or asks of this pod.
#[derive(Debug)]
pub enum Order {
    /// It was put into a room.
    Join {
        /// The namespace.
        namespace: String,
        /// The connection.
        sid: String,
        /// The room.
        room: String,
    },
    /// It was taken out of a room.
    Leave {
        /// The namespace.
        namespace: String,
        /// The connection.
        sid: String,
        /// The room.
        room: String,
    },
    /// It was disconnected, and its transport is to be closed.
    Close {
        /// The namespace.
        namespace: String,
        /// The connection.
        sid: String,
    },
    /// One of our own pods asks something, or tells it where there is no reply.
    Asked {
        /// What.
        question: Value,
        /// Where the answer goes.
        reply: Option<Reply>,
    },
}

/// Orders as they come.
pub type Orders = mpsc::Receiver<Order>;

/// Puts orders into line.
#[derive(Clone, Debug)]
pub(super) struct Elsewhere {
    line: mpsc::Sender<Order>,
    dropped: IntCounter,
}

impl Elsewhere {
    pub(super) fn new(dropped: IntCounter) -> (Self, Orders) {
        let (line, orders) = mpsc::channel(WAITING);
        (Self { line, dropped }, orders)
    }

    fn add(&self, order: Order) {
        if self.line.try_send(order).is_err() {
            self.dropped.inc();
        }
    }
}

impl Hooks for Elsewhere {
    fn on_join(&self, namespace: &str, sid: Sid, room: &str) {
        let (namespace, room) = (namespace.to_owned(), room.to_owned());
        self.add(Order::Join { namespace, sid: sid.to_string(), room });
    }

    fn on_leave(&self, namespace: &str, sid: Sid, room: &str) {
        let (namespace, room) = (namespace.to_owned(), room.to_owned());
        self.add(Order::Leave { namespace, sid: sid.to_string(), room });
    }

    fn on_disconnect(&self, namespace: &str, sid: Sid, close: bool) {
        if close {
            self.add(Order::Close { namespace: namespace.to_owned(), sid: sid.to_string() });
        }
    }

    fn on_server_side_emit(
        &self,
        namespace: &str,
        mut arguments: Vec<Value>,
        reply: Option<Reply>,
    ) {
        if namespace == CLUSTER && arguments.len() == 2 {
            self.add(Order::Asked { question: arguments.remove(1), reply });
        } else if let Some(reply) = reply {
            // What servers of Node tell each other in a shared namespace is not for us, but whoever asks
            // waits for every server.
            reply.send(Value::Null);
        }
    }

    fn on_gap(&self, lost: Duration) {
        let lost = humantime::format_duration(Duration::from_millis(
            u64::try_from(lost.as_millis()).unwrap_or(u64::MAX),
        ));
        tracing::warn!(%lost, "redis is back; what other pods sent meanwhile did not arrive");
    }
}
