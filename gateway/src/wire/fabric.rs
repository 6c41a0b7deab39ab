//! The adapter under the library: local rooms, reachable by namespace.
//!
//! The library keeps its adapter to itself; this one tells the wire where it is, so that a frame can
//! be sent as it is encoded, to any set of rooms.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use parking_lot::RwLock;
use socketioxide::adapter::Emitter;
use socketioxide_core::{
    adapter::{
        BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter,
        SocketEmitter, errors::SocketError,
    },
    packet::Packet,
};

use super::{Frame, Target};

/// The adapters of all namespaces, by path.
pub(super) type Fabrics = Arc<RwLock<HashMap<String, Arc<Fabric>>>>;

/// The rooms of one namespace on this pod.
pub(super) struct Fabric {
    local: CoreLocalAdapter<Emitter>,
    all: Fabrics,
}

impl CoreAdapter<Emitter> for Fabric {
    type Error = Infallible;
    type State = Fabrics;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(state: &Fabrics, local: CoreLocalAdapter<Emitter>) -> Self {
        Self { local, all: state.clone() }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        let path = self.local.path().to_string();
        self.all.write().insert(path, self.clone());
        on_success();
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream, Infallible> {
        Ok(self.local.broadcast_with_ack(packet, options, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        &self.local
    }
}

impl DefinedAdapter for Fabric {}

/// How many receivers did not get a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missed {
    /// Their queue was full.
    pub full: u64,
}

impl Fabric {
    /// Sends a frame to local members.
    pub(super) fn send(&self, target: &Target, frame: Frame, volatile: bool) -> Missed {
        let mut options = BroadcastOptions::default();
        if target.all {
            options.add_flag(BroadcastFlags::Broadcast);
        } else {
            options.rooms.extend(target.rooms.iter().map(|room| room.clone().into()));
        }
        options.except.extend(target.except.iter().map(|room| room.clone().into()));
        if volatile {
            options.add_flag(BroadcastFlags::Volatile);
        }
        self.deliver(frame, options)
    }

    /// Sends a frame to one connection.
    pub(super) fn send_one(&self, sid: socketioxide::socket::Sid, frame: Frame) -> Missed {
        self.deliver(frame, BroadcastOptions::new(sid))
    }

    /// Acknowledges an event of one connection.
    pub(super) fn acknowledge(
        &self,
        sid: socketioxide::socket::Sid,
        id: i64,
        frame: Frame,
    ) -> Missed {
        let packet = Packet::ack(self.local.path().clone(), value(frame), id);
        self.count(packet, BroadcastOptions::new(sid))
    }

    fn deliver(&self, frame: Frame, options: BroadcastOptions) -> Missed {
        self.count(Packet::event(self.local.path().clone(), value(frame)), options)
    }

    fn count(&self, packet: Packet, options: BroadcastOptions) -> Missed {
        let Err(errors) = self.local.broadcast(packet, options) else { return Missed::default() };
        let full = errors.iter().filter(|error| matches!(error, SocketError::InternalChannelFull));
        Missed { full: u64::try_from(full.count()).unwrap_or(u64::MAX) }
    }

    /// The rooms of this pod, the gateway's own and those of single connections included.
    pub(super) fn members(&self, target: &Target) -> Vec<String> {
        let mut options = BroadcastOptions::default();
        if target.all {
            options.add_flag(BroadcastFlags::Broadcast);
        } else {
            options.rooms.extend(target.rooms.iter().map(|room| room.clone().into()));
        }
        options.except.extend(target.except.iter().map(|room| room.clone().into()));
        self.local.sockets(options).into_iter().map(|sid| sid.to_string()).collect()
    }

    pub(super) fn join(&self, sid: socketioxide::socket::Sid, room: &str) {
        self.local.add_all(sid, room.to_owned());
    }

    pub(super) fn leave(&self, sid: socketioxide::socket::Sid, room: &str) {
        self.local.del(sid, room.to_owned());
    }
}

fn value(frame: Frame) -> socketioxide_core::Value {
    let attachments = (!frame.binaries.is_empty()).then(|| frame.binaries.into());
    socketioxide_core::Value::Str(frame.text.into(), attachments)
}
