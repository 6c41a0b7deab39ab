//! One connection from inside: to be disconnected, cut off, and its events acknowledged.
//!
//! In come what the other rooms want of it; out go packets and endings, through the library or the engine
//! under it. What is meant for a connection that is gone is nothing.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use engineioxide::{Cause, Connection};
use serde_json::Value;
use socketioxide::{extract::AckSender, handler::FromMessageParts, socket::Socket};

use super::{Frame, Wire, fabric::Fabric};

/// One connection, to be disconnected.
#[derive(Clone)]
pub struct Peer {
    pub(super) socket: Weak<Socket<Fabric>>,
    /// The Engine.IO session below, shared by the namespaces of a connection.
    pub(super) below: Option<Connection>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peer")
    }
}

impl Peer {
    /// The peer of a session that has no connection, for tests of what needs none.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        Self { socket: Weak::new(), below: None }
    }

    /// Ends the connection in its namespace: the client does not come back by itself.
    pub fn leave(&self) {
        if let Some(socket) = self.socket.upgrade() {
            tokio::spawn(async move {
                // A client whose queue is full is disconnected for that.
                if socket.disconnect().is_err() {
                    tracing::debug!("no room for a disconnect packet");
                }
            });
        }
    }

    /// Cuts the transport, after what waits for the client: it reconnects, perhaps to another pod.
    pub fn cut(&self) {
        self.end(Cause::Server);
    }

    /// Cuts the transport of a client that floods.
    pub fn cut_flood(&self) {
        self.end(Cause::Flood);
    }

    fn end(&self, cause: Cause) {
        if let Some(below) = &self.below {
            below.end(cause);
        }
    }

    /// The means to acknowledge the event of this number; `None` where the connection is over.
    pub fn ack(&self, id: i64) -> Option<Ack> {
        self.socket.upgrade().map(|socket| Ack { socket, id })
    }
}

/// Acknowledges one event, once.
pub struct Ack {
    pub(super) socket: Arc<Socket<Fabric>>,
    pub(super) id: i64,
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Ack {
    /// Sends an acknowledgement of one argument, written as it is.
    pub fn send(self, wire: &Wire, argument: &impl serde::Serialize) {
        let mut nothing = socketioxide_core::Value::Bytes(Bytes::new());
        let sender =
            AckSender::<Fabric>::from_message_parts(&self.socket, &mut nothing, &Some(self.id));
        let sent = match sender {
            Ok(sender) => sender.send(argument).is_ok(),
            Err(never) => match never {},
        };
        wire.metrics.sent(1);
        if !sent {
            wire.metrics.dropped(1);
        }
    }

    /// Sends an acknowledgement of any number of arguments, with the attachments that they refer to.
    pub fn send_all(self, wire: &Wire, args: &[Value], binaries: &[Bytes]) {
        if let Some(fabric) = wire.fabric(self.socket.ns()) {
            let missed = fabric.acknowledge(self.socket.id, self.id, Frame::ack(args, binaries));
            wire.count(missed);
        }
    }
}
