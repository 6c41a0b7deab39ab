//! The adapter under the library: the rooms of one namespace, on this pod alone or over the cluster.
//!
//! The library keeps its adapter to itself; this one tells the wire where it is, so that a frame can
//! be sent as it is encoded, to any set of rooms. Local members come first and never wait for Redis.

use std::{collections::HashMap, convert::Infallible, future::Future, sync::Arc, time::Duration};

use adapter_redis::socketio::{Bus, Profile, RedisAdapter};
use parking_lot::RwLock;
use socketioxide::{adapter::Emitter, socket::Sid};
use socketioxide_core::{
    adapter::{
        BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, Room,
        SocketEmitter, errors::SocketError,
    },
    packet::Packet,
};

use super::{Frame, Target};

/// The adapters of all namespaces, by path, and the bus between the pods where there are several.
#[derive(Clone, Default)]
pub(super) struct Fabrics {
    all: Arc<RwLock<HashMap<String, Arc<Fabric>>>>,
    pub(super) bus: Option<Bus<Emitter>>,
}

impl Fabrics {
    pub(super) fn new(bus: Option<Bus<Emitter>>) -> Self {
        Self { all: Arc::default(), bus }
    }

    pub(super) fn get(&self, namespace: &str) -> Option<Arc<Fabric>> {
        self.all.read().get(namespace).cloned()
    }
}

/// The rooms of one namespace.
pub(super) struct Fabric {
    rooms: Rooms,
    all: Fabrics,
}

enum Rooms {
    /// There is one pod.
    Pod(Box<CoreLocalAdapter<Emitter>>),
    /// There may be others.
    Cluster(Arc<RedisAdapter<Emitter>>),
}

impl CoreAdapter<Emitter> for Fabric {
    type Error = Infallible;
    type State = Fabrics;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(state: &Fabrics, local: CoreLocalAdapter<Emitter>) -> Self {
        let rooms = match &state.bus {
            Some(bus) => Rooms::Cluster(Arc::new(RedisAdapter::new(bus, local))),
            None => Rooms::Pod(Box::new(local)),
        };
        Self { rooms, all: state.clone() }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        let path = self.local().path().to_string();
        self.all.all.write().insert(path, self.clone());
        match &self.rooms {
            Rooms::Pod(_) => on_success(),
            Rooms::Cluster(adapter) => adapter.clone().init(on_success),
        }
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream, Infallible> {
        Ok(self.local().broadcast_with_ack(packet, options, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        self.local()
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
    fn local(&self) -> &CoreLocalAdapter<Emitter> {
        match &self.rooms {
            Rooms::Pod(local) => local,
            Rooms::Cluster(adapter) => adapter.get_local(),
        }
    }

    /// The adapter that reaches the other pods, where there are any.
    pub(super) fn cluster(&self) -> Option<&Arc<RedisAdapter<Emitter>>> {
        match &self.rooms {
            Rooms::Pod(_) => None,
            Rooms::Cluster(adapter) => Some(adapter),
        }
    }

    /// Sends a frame to members here, then to those of the other pods.
    pub(super) fn send(&self, target: &Target, frame: Frame, volatile: bool) -> Missed {
        let packet = Packet::event(self.local().path().clone(), value(frame));
        let options = options(target, volatile);
        match &self.rooms {
            Rooms::Pod(local) => missed(local.broadcast(packet, options)),
            Rooms::Cluster(adapter) => missed(adapter.send(packet, options)),
        }
    }

    /// Sends a frame to members here only.
    pub(super) fn send_here(&self, target: &Target, frame: Frame, volatile: bool) -> Missed {
        let packet = Packet::event(self.local().path().clone(), value(frame));
        missed(self.local().broadcast(packet, options(target, volatile)))
    }

    /// Sends a frame to one connection of this pod.
    pub(super) fn send_one(&self, sid: Sid, frame: Frame) -> Missed {
        let packet = Packet::event(self.local().path().clone(), value(frame));
        missed(self.local().broadcast(packet, BroadcastOptions::new(sid)))
    }

    /// Acknowledges an event of one connection of this pod.
    pub(super) fn acknowledge(&self, sid: Sid, id: i64, frame: Frame) -> Missed {
        let packet = Packet::ack(self.local().path().clone(), value(frame), id);
        missed(self.local().broadcast(packet, BroadcastOptions::new(sid)))
    }

    /// The members of this pod, whatever the room.
    pub(super) fn members(&self, target: &Target) -> Vec<String> {
        self.local().sockets(options(target, false)).iter().map(ToString::to_string).collect()
    }

    /// Introduces a connection to the cluster, and puts it into the room of its own id.
    pub(super) fn attach(
        &self,
        sid: Sid,
        profile: Profile,
    ) -> impl Future<Output = ()> + Send + use<> {
        let joining = match &self.rooms {
            Rooms::Pod(local) => {
                local.add_all(sid, sid.to_string());
                None
            }
            Rooms::Cluster(adapter) => Some(adapter.attach(sid, profile)),
        };
        settled(joining)
    }

    /// Puts a connection into a room, at once; what is given is over when the other pods reach it there.
    pub(super) fn join(&self, sid: Sid, room: &str) -> impl Future<Output = ()> + Send + use<> {
        let joining = match &self.rooms {
            Rooms::Pod(local) => {
                local.add_all(sid, room.to_owned());
                None
            }
            Rooms::Cluster(adapter) => Some(adapter.join(sid, room)),
        };
        settled(joining)
    }

    pub(super) fn leave(&self, sid: Sid, room: &str) {
        match &self.rooms {
            Rooms::Pod(local) => local.del(sid, room.to_owned()),
            Rooms::Cluster(adapter) => adapter.leave(sid, room),
        }
    }

    pub(super) fn leave_all(&self, sid: Sid) {
        match &self.rooms {
            Rooms::Pod(local) => local.del_all(sid),
            Rooms::Cluster(adapter) => adapter.leave_all(sid),
        }
    }
}

/// Whether the others reach it or Redis is away, the join holds here.
async fn settled<R>(joining: Option<impl Future<Output = R> + Send>) {
    if let Some(joining) = joining {
        joining.await;
    }
}

fn missed(sent: Result<(), Vec<SocketError>>) -> Missed {
    let Err(errors) = sent else { return Missed::default() };
    let full = errors.iter().filter(|error| matches!(error, SocketError::InternalChannelFull));
    Missed { full: u64::try_from(full.count()).unwrap_or(u64::MAX) }
}

/// A target as the library says it.
pub(super) fn options(target: &Target, volatile: bool) -> BroadcastOptions {
    let room = |room: &String| -> Room { room.clone().into() };
    let mut options = BroadcastOptions::default();
    if target.all {
        options.add_flag(BroadcastFlags::Broadcast);
    } else {
        options.rooms.extend(target.rooms.iter().map(room));
    }
    options.except.extend(target.except.iter().map(room));
    if volatile {
        options.add_flag(BroadcastFlags::Volatile);
    }
    options
}

fn value(frame: Frame) -> socketioxide_core::Value {
    let attachments = (!frame.binaries.is_empty()).then(|| frame.binaries.into());
    socketioxide_core::Value::Str(frame.text.into(), attachments)
}
