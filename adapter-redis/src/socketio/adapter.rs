//! The adapter of one namespace.
//!
//! In come the calls of the Socket.IO layer, joins and leaves of the application, and the messages of
//! other pods; out go frames to local members, always first, and messages to the other pods. Local
//! delivery never waits for Redis and never fails because of it.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::FusedStream;
use parking_lot::Mutex;
use rand::distr::{Alphanumeric, SampleString};
use smallvec::SmallVec;
use socketioxide_core::{
    Sid, Value,
    adapter::{
        AckStreamItem, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter,
        RemoteSocketData, Room, RoomParam, SocketEmitter,
        errors::{AdapterError, BroadcastError, SocketError},
    },
    packet::{Packet, PacketData},
    parser::Parse,
};
use tracing::{debug, error};

use super::{
    ask::Asks,
    bus::{Bus, Shared},
    channels::{Channels, Sharded},
    members::{Members, Profile},
    msgpack::Malformed,
    table::{Inbound, Role, Standing},
    wire::{self, Aim, Form, Said},
};

/// Whether the other pods reach a room that was joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Whatever any pod sends to it from now on arrives.
    Cluster,
    /// Redis was away or slow: only this pod reaches it for now. The others will as soon as Redis is back.
    Local,
}

/// Why the cluster could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Redis is away.
    #[error("redis does not answer")]
    Unavailable(#[source] redis::RedisError),
}

impl From<AskError> for AdapterError {
    fn from(error: AskError) -> Self {
        Self(Box::new(error))
    }
}

/// Acknowledgements of connections here and elsewhere. Node does not say whose an acknowledgement is:
/// those of other pods come with [`Sid::ZERO`].
pub type AckStream<E> =
    Pin<Box<dyn FusedStream<Item = AckStreamItem<<E as SocketEmitter>::AckError>> + Send>>;

/// A namespace that is shared with the pods of the cluster, Node's and ours.
pub struct RedisAdapter<E: SocketEmitter> {
    pub(crate) local: CoreLocalAdapter<E>,
    pub(crate) shared: Arc<Shared<E>>,
    pub(crate) channels: Channels,
    /// How Node's pods tell us from others. Every namespace has another one.
    pub(crate) uid: String,
    pub(crate) form: Form,
    pub(crate) asks: Arc<Asks>,
    pub(crate) members: Mutex<Members>,
    me: OnceLock<Weak<dyn Inbound>>,
    listening: AtomicBool,
}

impl<E: SocketEmitter> RedisAdapter<E> {
    /// Sends a packet to local members and, unless the options say otherwise, to those of other pods.
    ///
    /// # Errors
    /// One for each local member that cannot take it. The others have it, and so has the cluster.
    pub fn send(&self, packet: Packet, options: BroadcastOptions) -> Result<(), Vec<SocketError>> {
        let aim = self.remote(&options);
        // A copy shares its bytes; it is written for the others only when those here have it.
        let remote = aim.and_then(|aim| Some((data(&packet)?.clone(), aim)));
        let delivered = self.local.broadcast(packet, options);
        if let Some((data, aim)) = remote {
            let message = wire::broadcast(&self.uid, self.namespace(), &data, &aim);
            self.publish_to(&aim, message);
        }
        delivered
    }

    /// Whom other pods may have, or nothing where they can have nobody.
    pub(crate) fn remote(&self, options: &BroadcastOptions) -> Option<Aim> {
        if options.is_local(self.local.server_id()) {
            return None;
        }
        let aim = Aim::of(options)?;
        let one = options.sid.filter(|_| options.rooms.is_empty() && aim.rooms.len() == 1);
        let here =
            one.is_some_and(|sid| !self.local.fetch_sockets(BroadcastOptions::new(sid)).is_empty());
        (!here).then_some(aim)
    }

    fn publish_to(&self, aim: &Aim, message: Result<Bytes, Malformed>) {
        if !self.shared.publishes_sharded() {
            return self.publish(self.channels.of(&aim.rooms), message);
        }
        let channel = self.channels.sharded_of(&aim.rooms);
        if let (Some(feed), Some(message)) = (self.shared.feed(&channel), self.written(message)) {
            feed.outbox.push(channel.name, message);
        }
    }

    pub(crate) fn publish(&self, channel: String, message: Result<Bytes, Malformed>) {
        if let Some(message) = self.written(message) {
            self.shared.outbox.push(channel, message);
        }
    }

    fn written(&self, message: Result<Bytes, Malformed>) -> Option<Bytes> {
        match message {
            Ok(message) => Some(message),
            Err(cause) => {
                self.shared.counters.unwritable.one();
                debug!(%cause, "a packet cannot be written for other pods");
                None
            }
        }
    }

    /// Puts a connection into a room. It is in it at once; the answer comes when the other pods reach the
    /// room too, or after the configured time.
    pub fn join(&self, sid: Sid, room: &str) -> impl Future<Output = Reach> + Send + use<E> {
        let standings = self.begin_join(sid, room);
        self.wait(standings.into_iter().collect())
    }

    /// Puts a connection into the room of its own id, by which it is reached from anywhere, and tells the
    /// cluster what it may know about it. Node does this on its own.
    pub fn attach(
        &self,
        sid: Sid,
        profile: Profile,
    ) -> impl Future<Output = Reach> + Send + use<E> {
        self.members.lock().introduce(sid, profile);
        self.join(sid, sid.as_str())
    }

    /// Takes a connection out of a room.
    pub fn leave(&self, sid: Sid, room: &str) {
        let mut members = self.members.lock();
        if members.leave(sid, room) {
            self.forgo(sid, room);
        }
        self.local.del(sid, room.to_owned());
    }

    /// Takes a connection out of all rooms. To be called when it disconnects.
    pub fn leave_all(&self, sid: Sid) {
        let mut members = self.members.lock();
        for room in members.leave_all(sid) {
            self.forgo(sid, &room);
        }
        self.local.del_all(sid);
    }

    /// Takes connections out of their rooms that went while they joined.
    pub(crate) fn sweep(&self) {
        let there = self.local.sockets(Aim::default().options()).into_iter().collect();
        let orphans = self.members.lock().orphans(&there);
        self.shared.counters.orphans.many(orphans.len());
        for sid in orphans {
            self.leave_all(sid);
        }
    }

    /// Puts a connection into a room and says what there is to wait for.
    pub(crate) fn begin_join(&self, sid: Sid, room: &str) -> SmallVec<[Standing; 2]> {
        // Rooms and wishes change together, so that no leave comes between.
        let mut members = self.members.lock();
        self.local.add_all(sid, room.to_owned());
        let channel = self.channels.room(room);
        let sharded = self.channels.sharded_room(room);
        let mut standings = SmallVec::new();
        if !members.join(sid, room) {
            let feed = self.shared.feed(&sharded);
            standings.push(self.shared.table.watch(&channel));
            standings.extend(feed.map(|feed| feed.table.watch(&sharded.name)));
            return standings;
        }
        if self.has_unterminated(sid, room) {
            drop(self.wish(&self.channels.unterminated_room(room), Role::Broadcast));
        }
        standings.push(self.wish(&channel, Role::Broadcast));
        standings.extend(self.wish_sharded(&sharded));
        standings
    }

    fn forgo(&self, sid: Sid, room: &str) {
        self.shared.table.forgo(&self.channels.room(room));
        self.forgo_sharded(&self.channels.sharded_room(room));
        if self.has_unterminated(sid, room) {
            self.shared.table.forgo(&self.channels.unterminated_room(room));
        }
    }

    /// A room without a name would be the channel of everybody.
    fn has_unterminated(&self, sid: Sid, room: &str) -> bool {
        self.shared.config.unterminated_channels && !room.is_empty() && room != sid.as_str()
    }

    fn wish(&self, channel: &str, role: Role) -> Standing {
        match self.me.get() {
            Some(me) => self.shared.table.wish(channel, role, me.clone()),
            // The namespace is not there yet, so nobody can be in it.
            None => Standing::Away,
        }
    }

    fn wish_sharded(&self, channel: &Sharded) -> Option<Standing> {
        let (feed, me) = (self.shared.feed(channel)?, self.me.get()?);
        Some(feed.table.wish(&channel.name, Role::Broadcast, me.clone()))
    }

    fn forgo_sharded(&self, channel: &Sharded) {
        if let Some(feed) = self.shared.feed(channel) {
            feed.table.forgo(&channel.name);
        }
    }

    /// Waits until all of it stands, within the configured time.
    pub(crate) fn wait(
        &self,
        standings: Vec<Standing>,
    ) -> impl Future<Output = Reach> + Send + use<E> {
        let shared = self.shared.clone();
        async move {
            let deadline = tokio::time::Instant::now() + shared.config.join_timeout;
            for standing in standings {
                let stands = match standing {
                    Standing::Stands => true,
                    Standing::Soon(soon) => tokio::time::timeout_at(deadline, soon).await.is_ok(),
                    Standing::Away => false,
                };
                if !stands {
                    shared.counters.unconfirmed_joins.one();
                    return Reach::Local;
                }
            }
            Reach::Cluster
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        self.local.path().as_str()
    }

    /// The connections here that match.
    pub(crate) fn matching(&self, options: BroadcastOptions) -> Vec<Sid> {
        self.local.fetch_sockets(options).into_iter().map(|socket| socket.id).collect()
    }

    /// Delivers what somebody else sent.
    pub(crate) fn deliver(&self, data: Value, options: BroadcastOptions) {
        let packet = Packet::event(self.local.path().clone(), data);
        if let Err(missed) = self.local.broadcast(packet, options) {
            self.shared.counters.missed.many(missed.len());
        }
    }

    pub(crate) fn refuse(&self, role: Role, cause: Malformed) {
        self.shared.counters.malformed.one();
        debug!(?role, %cause, "a message is ignored");
    }

    fn on_broadcast(&self, payload: &Bytes) {
        match wire::read_broadcast(payload, &self.uid, self.namespace(), self.form) {
            Ok(Said::Event(data, aim)) => self.deliver(data, aim.options()),
            Ok(Said::Echo) => self.shared.counters.echoes.one(),
            Ok(Said::Foreign) => self.shared.counters.foreign.one(),
            Err(cause) => self.refuse(Role::Broadcast, cause),
        }
    }

    /// Takes back every wish, that for requests first: who listens to them is counted upon.
    fn stop_listening(&self) {
        if !self.listening.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut channels = self.channels_of_all();
        channels.reverse();
        for (channel, _) in channels {
            self.shared.table.forgo(&channel);
        }
        self.forgo_sharded(&self.channels.sharded_broadcast());
        for (sid, rooms) in self.members.lock().clear() {
            for room in rooms {
                self.forgo(sid, &room);
            }
        }
    }

    fn channels_of_all(&self) -> [(String, Role); 4] {
        let channels = &self.channels;
        [
            (channels.broadcast.clone(), Role::Broadcast),
            (channels.response.clone(), Role::Response),
            (channels.answer(Some(&self.uid)), Role::Response),
            // Last: who is subscribed to it is asked, and must hear.
            (channels.request.clone(), Role::Request),
        ]
    }
}

/// What a packet says, if it is an event: nothing else is for others.
pub(crate) fn data(packet: &Packet) -> Option<&Value> {
    match &packet.inner {
        PacketData::Event(data, _) | PacketData::BinaryEvent(data, _) => Some(data),
        PacketData::Connect(_)
        | PacketData::Disconnect
        | PacketData::EventAck(..)
        | PacketData::ConnectError(_)
        | PacketData::BinaryAck(..) => None,
    }
}

impl<E: SocketEmitter> Inbound for RedisAdapter<E> {
    fn receive(&self, role: Role, payload: Bytes) {
        match role {
            Role::Broadcast => self.on_broadcast(&payload),
            Role::Request => self.on_request(&payload),
            Role::Response => self.on_response(&payload),
            Role::Python => {}
        }
    }
}

impl<E: SocketEmitter> CoreAdapter<E> for RedisAdapter<E> {
    type Error = AskError;
    type State = Bus<E>;
    type AckStream = AckStream<E>;
    type InitRes = ();

    fn new(state: &Bus<E>, local: CoreLocalAdapter<E>) -> Self {
        let shared = state.0.clone();
        let probe = local.parser().encode_value(&(), Some("probe"));
        let form = if matches!(probe, Ok(Value::Bytes(_))) { Form::Binary } else { Form::Text };
        let (requests, answers) = (shared.config.requests.get(), shared.config.answers.get());
        Self {
            channels: Channels::new(&shared.prefix, local.path().as_str()),
            uid: Alphanumeric.sample_string(&mut rand::rng(), 12),
            asks: Asks::new(requests, answers, shared.counters.clone()),
            form,
            local,
            shared,
            members: Mutex::default(),
            me: OnceLock::new(),
            listening: AtomicBool::new(false),
        }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        if self.namespace().contains('#') {
            // Its channels could be those of a room of another namespace.
            error!(namespace = self.namespace(), "a namespace with a # cannot be shared");
            return;
        }
        let me: Arc<dyn Inbound> = self.clone();
        // An adapter is initialised once.
        let _ = self.me.set(Arc::downgrade(&me));
        self.listening.store(true, Ordering::Release);
        self.shared.register(self.namespace(), &self);
        for (channel, role) in self.channels_of_all() {
            drop(self.wish(&channel, role));
        }
        drop(self.wish_sharded(&self.channels.sharded_broadcast()));
        on_success();
    }

    async fn close(&self) -> Result<(), AskError> {
        self.stop_listening();
        self.shared.unregister(self.namespace());
        self.local.close();
        Ok(())
    }

    async fn server_count(&self) -> Result<u16, AskError> {
        let servers = self.shared.servers(&self.channels.request).await;
        let servers = servers.map_err(AskError::Unavailable)?;
        Ok(u16::try_from(servers).unwrap_or(u16::MAX))
    }

    async fn broadcast(
        &self,
        packet: Packet,
        options: BroadcastOptions,
    ) -> Result<(), BroadcastError> {
        self.send(packet, options).map_err(BroadcastError::from)
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<AckStream<E>, AskError> {
        Ok(self.send_with_ack(packet, options, timeout))
    }

    async fn add_sockets(
        &self,
        options: BroadcastOptions,
        rooms: impl RoomParam,
    ) -> Result<(), AskError> {
        let rooms: Vec<Room> = rooms.into_room_iter().collect();
        self.join_all(options, &rooms).await;
        Ok(())
    }

    async fn del_sockets(
        &self,
        options: BroadcastOptions,
        rooms: impl RoomParam,
    ) -> Result<(), AskError> {
        let rooms: Vec<Room> = rooms.into_room_iter().collect();
        self.leave_many(options, &rooms);
        Ok(())
    }

    async fn disconnect_socket(&self, options: BroadcastOptions) -> Result<(), BroadcastError> {
        self.disconnect(options, false).map_err(BroadcastError::from)
    }

    async fn rooms(&self, options: BroadcastOptions) -> Result<Vec<Room>, AskError> {
        let rooms = self.cluster_rooms(options).await.items;
        Ok(rooms.into_iter().collect::<HashSet<_>>().into_iter().map(Room::Owned).collect())
    }

    /// Connections of Node's pods, whose ids are longer than the type can hold, are left out here:
    /// [`RedisAdapter::fetch`] has them.
    async fn fetch_sockets(
        &self,
        options: BroadcastOptions,
    ) -> Result<Vec<RemoteSocketData>, AskError> {
        let here = self.local.fetch_sockets(options.clone());
        let mut sockets = here;
        for remote in self.fetch_remote(&options).await.items {
            let Ok(id) = remote.id.parse() else { continue };
            let ns = self.local.path().clone();
            sockets.push(RemoteSocketData { id, server_id: socketioxide_core::Uid::ZERO, ns });
        }
        Ok(sockets)
    }

    fn get_local(&self) -> &CoreLocalAdapter<E> {
        &self.local
    }
}

impl<E: SocketEmitter> Drop for RedisAdapter<E> {
    /// A namespace that is dropped without being closed must not be waited for by others.
    fn drop(&mut self) {
        self.stop_listening();
    }
}

impl<E: SocketEmitter> DefinedAdapter for RedisAdapter<E> {}
