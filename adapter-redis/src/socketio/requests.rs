//! What this pod asks of the others.
//!
//! In come the application's calls for the whole cluster; out go requests to the other pods, and what they
//! answer in time. A call takes effect here at once and is published; nothing waits for its own message to
//! come back, and nothing fails because Redis is away: what is missing is said.

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use serde_json::{Value as Tree, json};
use socketioxide_core::{
    Sid, Value,
    adapter::{AckStreamItem, BroadcastOptions, Room, SocketEmitter, errors::SocketError},
    packet::Packet,
};
use tokio::time::Instant;

use super::{
    adapter::{AckStream, Reach, RedisAdapter, data},
    ask::{Ask, Gathered, Said},
    bus::Shared,
    members::Profile,
    time, wire,
};

/// A connection somewhere in the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemoteSocket {
    /// Its id: 20 characters where it is Node's, 16 where it is ours.
    pub id: String,
    /// The rooms that it is in, its own included where it has one.
    pub rooms: Vec<Room>,
    /// Its handshake as its pod tells it, without the headers and the authentication that Node tells too.
    pub handshake: Tree,
    /// What its application wants others to know.
    pub data: Tree,
}

impl RemoteSocket {
    /// As a pod describes it. Node's rooms may be numbers.
    fn of_tree(tree: Tree) -> Option<Self> {
        let Tree::Object(mut fields) = tree else { return None };
        let mut field = |name| fields.remove(name).unwrap_or_default();
        let (id, rooms, mut handshake) = (field("id"), field("rooms"), field("handshake"));
        if let Tree::Object(handshake) = &mut handshake {
            // Credentials of clients: nobody here has use for them.
            handshake.retain(|name, _| name != "headers" && name != "auth");
        }
        let rooms = rooms.as_array().map(Vec::as_slice).unwrap_or_default();
        Some(Self {
            id: id.as_str()?.to_owned(),
            rooms: rooms.iter().filter_map(wire::room_of_tree).collect(),
            handshake,
            data: field("data"),
        })
    }
}

impl<E: SocketEmitter> RedisAdapter<E> {
    /// Puts connections, wherever they are, into rooms. Waits as [`RedisAdapter::join`] does for those here.
    pub async fn join_all(&self, options: BroadcastOptions, rooms: &[Room]) -> Reach {
        // The others are asked first: who is meant may change here with the very rooms.
        self.join_elsewhere(&options, rooms);
        let mut standings = Vec::new();
        for sid in self.matching(options) {
            standings.extend(rooms.iter().flat_map(|room| self.begin_join(sid, room)));
        }
        self.wait(standings).await
    }

    /// Takes connections, wherever they are, out of rooms.
    pub fn leave_many(&self, options: BroadcastOptions, rooms: &[Room]) {
        self.leave_elsewhere(&options, rooms);
        for sid in self.matching(options) {
            for room in rooms {
                self.leave(sid, room);
            }
        }
    }

    /// Disconnects connections, wherever they are, from the namespace. With `close`, other pods close
    /// their transports too; those here are the application's to close.
    ///
    /// # Errors
    /// One for each local connection that is gone already.
    pub fn disconnect(
        &self,
        options: BroadcastOptions,
        close: bool,
    ) -> Result<(), Vec<SocketError>> {
        self.disconnect_elsewhere(&options, close);
        self.local.disconnect_socket(options)
    }

    /// Puts connections of other pods into rooms. Those here are left to the caller.
    pub fn join_elsewhere(&self, options: &BroadcastOptions, rooms: &[Room]) {
        if let Some(aim) = self.remote(options) {
            self.request(json!({ "type": 2, "opts": aim.tree(), "rooms": rooms }));
        }
    }

    /// Takes connections of other pods out of rooms. Those here are left to the caller.
    pub fn leave_elsewhere(&self, options: &BroadcastOptions, rooms: &[Room]) {
        if let Some(aim) = self.remote(options) {
            self.request(json!({ "type": 3, "opts": aim.tree(), "rooms": rooms }));
        }
    }

    /// Disconnects connections of other pods. Those here are left to the caller.
    pub fn disconnect_elsewhere(&self, options: &BroadcastOptions, close: bool) {
        if let Some(aim) = self.remote(options) {
            self.request(json!({ "type": 4, "opts": aim.tree(), "close": close }));
        }
    }

    /// Emits to the other servers of the namespace; the first argument is the name of the event.
    pub fn server_side_emit(&self, arguments: &[Tree]) {
        self.request(json!({ "type": 6, "data": arguments }));
    }

    /// Emits to the other servers of the namespace and gathers an answer of each. A Node server that does
    /// not know the event never answers.
    pub async fn server_side_emit_with_ack(
        &self,
        arguments: &[Tree],
        timeout: Duration,
    ) -> Gathered<Tree> {
        self.ask(json!({ "type": 6, "data": arguments }), timeout).await
    }

    /// The connections of the whole cluster that match.
    pub async fn fetch(&self, options: BroadcastOptions) -> Gathered<RemoteSocket> {
        let mut gathered = self.fetch_remote(&options).await;
        gathered.items.extend(self.matching(options).into_iter().map(|sid| self.describe(sid)));
        gathered
    }

    pub(crate) async fn fetch_remote(&self, options: &BroadcastOptions) -> Gathered<RemoteSocket> {
        let Some(aim) = self.remote(options) else { return nobody() };
        let request = json!({ "type": 5, "opts": aim.tree() });
        let answers = self.ask(request, self.shared.config.request_timeout).await;
        answers.flatten(RemoteSocket::of_tree)
    }

    /// The rooms of the whole cluster that have a matching connection in them.
    pub async fn cluster_rooms(&self, options: BroadcastOptions) -> Gathered<String> {
        let aim = self.remote(&options);
        let here = self.local.rooms(options.clone()).into_iter().map(Room::into_owned);
        let mut gathered: Gathered<String> = match aim {
            None => nobody(),
            Some(aim) if aim.rooms.is_empty() && aim.except.is_empty() => {
                let timeout = self.shared.config.request_timeout;
                let rooms = self.ask(json!({ "type": 1 }), timeout).await;
                rooms.flatten(|room| wire::room_of_tree(&room).map(Room::into_owned))
            }
            Some(_) => {
                let Gathered { items, missing, silent } = self.fetch_remote(&options).await;
                let rooms = items.into_iter().flat_map(|socket| socket.rooms);
                Gathered { items: rooms.map(Room::into_owned).collect(), missing, silent }
            }
        };
        gathered.items.extend(here);
        gathered.items.sort();
        gathered.items.dedup();
        gathered
    }

    /// Publishes a request that wants no answer.
    fn request(&self, request: Tree) {
        self.publish_request(None, request);
    }

    fn publish_request(&self, id: Option<&str>, request: Tree) {
        let mut fields = serde_json::Map::new();
        fields.insert("uid".to_owned(), self.uid.as_str().into());
        if let Some(id) = id {
            fields.insert("requestId".to_owned(), id.into());
        }
        if let Tree::Object(request) = request {
            fields.extend(request);
        }
        let payload = Tree::Object(fields).to_string();
        self.shared.outbox.push(self.channels.request.clone(), payload.into());
    }

    /// Publishes a request and gathers an answer of each other server.
    async fn ask(&self, request: Tree, timeout: Duration) -> Gathered<Tree> {
        let Some(ask) = self.asks.open() else { return unknown() };
        let others = others(&self.shared, &self.channels.request).await;
        self.publish_request(Some(&ask.id), request);
        ask.gather(others, timeout).await
    }

    /// Sends a packet to everybody who matches and gives their acknowledgements as they come.
    pub fn send_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> AckStream<E> {
        let timeout = timeout.unwrap_or(self.local.ack_timeout());
        let remote = self.remote(&options).and_then(|aim| Some((data(&packet)?.clone(), aim)));
        let (local, _) = self.local.broadcast_with_ack(packet, options, Some(timeout));
        let ask = remote.and_then(|remote| Some((self.asks.open()?, remote)));
        let Some((ask, (data, mut aim))) = ask else { return Box::pin(local) };
        aim.timeout = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let message = wire::broadcast_with_ack(&self.uid, &ask.id, self.namespace(), &data, &aim);
        self.publish(self.channels.request.clone(), message);
        let remote = Acknowledgements {
            ask,
            deadline: Instant::now() + timeout,
            others: None,
            counted: 0,
            expected: 0,
            came: 0,
        };
        let (shared, channel) = (self.shared.clone(), self.channels.request.clone());
        Box::pin(stream::select(local, remote.stream::<E>(shared, channel)))
    }

    /// A connection of this pod, as others are told.
    pub(super) fn describe(&self, sid: Sid) -> RemoteSocket {
        let profile = self.members.lock().get(sid).and_then(|member| member.profile.clone());
        let Profile { address, secure, issued, data } = profile.unwrap_or_default();
        let handshake = json!({
            "headers": {}, "time": time::of_milliseconds(issued), "address": address,
            "xdomain": false, "secure": secure, "issued": issued, "url": "/socket.io/",
            "query": {}, "auth": {},
        });
        let rooms = self.local.socket_rooms(sid).into_iter().collect();
        RemoteSocket { id: sid.to_string(), rooms, handshake, data }
    }
}

/// How many other servers there are, if it can be known.
async fn others<E: SocketEmitter>(shared: &Shared<E>, channel: &str) -> Option<usize> {
    if !shared.table.is_up() {
        // Their answers would not arrive.
        return None;
    }
    shared.servers(channel).await.ok().map(|servers| servers.saturating_sub(1))
}

/// Nobody else was asked.
fn nobody<T>() -> Gathered<T> {
    Gathered { items: Vec::new(), missing: 0, silent: Vec::new() }
}

/// Nobody could be asked.
fn unknown<T>() -> Gathered<T> {
    Gathered { items: Vec::new(), missing: 1, silent: Vec::new() }
}

impl Gathered<Tree> {
    /// Lists of each pod as one list. What is no such item is left out.
    fn flatten<T>(self, read: impl Fn(Tree) -> Option<T>) -> Gathered<T> {
        let lists = self.items.into_iter().filter_map(|list| match list {
            Tree::Array(items) => Some(items),
            _ => None,
        });
        let items = lists.flatten().filter_map(read).collect();
        Gathered { items, missing: self.missing, silent: self.silent }
    }
}

/// Acknowledgements of other pods on their way.
struct Acknowledgements {
    ask: Ask,
    deadline: Instant,
    /// How many pods will say how many clients they have.
    others: Option<usize>,
    counted: usize,
    expected: u64,
    came: u64,
}

impl Acknowledgements {
    fn stream<E: SocketEmitter>(
        self,
        shared: Arc<Shared<E>>,
        channel: String,
    ) -> impl stream::FusedStream<Item = AckStreamItem<E::AckError>> + Send {
        stream::unfold(Some(self), move |state| {
            let (shared, channel) = (shared.clone(), channel.clone());
            async move {
                let (value, state) = state?.next(&shared, &channel).await?;
                Some(((Sid::ZERO, Ok(value)), Some(state)))
            }
        })
    }

    async fn next<E: SocketEmitter>(
        mut self,
        shared: &Shared<E>,
        channel: &str,
    ) -> Option<(Value, Self)> {
        if self.others.is_none() {
            // Where it cannot be known, whatever comes in time is taken.
            self.others = Some(others(shared, channel).await.unwrap_or(usize::MAX));
        }
        loop {
            let others = self.others.unwrap_or(usize::MAX);
            if self.counted >= others && self.came >= self.expected {
                self.ask.close(0);
                return None;
            }
            match self.ask.next(self.deadline).await {
                Some(Said::Clients(clients)) => {
                    self.counted += 1;
                    self.expected = self.expected.saturating_add(clients);
                }
                Some(Said::Ack(value)) => {
                    self.came += 1;
                    return Some((value, self));
                }
                Some(Said::Tree(_)) => {}
                None => {
                    // Clients that do not acknowledge are no fault of their pod's.
                    if self.counted < others {
                        self.ask.close(others - self.counted);
                    }
                    return None;
                }
            }
        }
    }
}
