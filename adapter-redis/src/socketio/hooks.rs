//! What the application is told about what other pods do to its connections.
//!
//! In come calls of the adapter, on the task that reads from Redis: they must return soon and must not
//! block. Out goes whatever the application does then. Every call has a default that does nothing.

use std::{fmt, time::Duration};

use serde_json::Value;
use socketioxide_core::Sid;

/// How another pod, an emitter or Redis itself changes what the application may have written down.
pub trait Hooks: Send + Sync + 'static {
    /// A connection was put into a room by somebody else in the cluster. It is in it already.
    fn on_join(&self, namespace: &str, sid: Sid, room: &str) {
        let _ = (namespace, sid, room);
    }

    /// A connection was taken out of a room by somebody else in the cluster. It is out already.
    fn on_leave(&self, namespace: &str, sid: Sid, room: &str) {
        let _ = (namespace, sid, room);
    }

    /// A connection is about to leave the namespace because somebody else in the cluster wants it.
    /// With `close`, its transport is to be closed too, which the adapter cannot do.
    fn on_disconnect(&self, namespace: &str, sid: Sid, close: bool) {
        let _ = (namespace, sid, close);
    }

    /// Another server emitted to the servers. Where there is a reply, it waits for one.
    fn on_server_side_emit(&self, namespace: &str, arguments: Vec<Value>, reply: Option<Reply>) {
        let _ = (namespace, arguments, reply);
    }

    /// Everything is subscribed to again after a time in which messages were lost. With sharded channels
    /// it is told for each of their sixteen parts.
    fn on_gap(&self, lost: Duration) {
        let _ = lost;
    }
}

/// No hooks.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}

/// Answers a server that emitted to the servers, once.
pub struct Reply(pub(crate) Box<dyn FnOnce(Value) + Send + Sync>);

impl Reply {
    /// Sends the answer. Where Redis is away it is dropped and counted.
    pub fn send(self, answer: Value) {
        (self.0)(answer);
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
