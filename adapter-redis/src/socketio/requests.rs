//! What the servers ask of one another.
//!
//! In come the application's calls for the whole cluster, and the requests and answers of other pods and
//! of emitters; out go the same to them. A call takes effect here at once and is published; nothing waits
//! for its own message to come back. A request of somebody else is carried out at once, and answered
//! exactly once where it wants an answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value as Tree, json};
use socketioxide_core::{
    Sid, Value,
    adapter::{AckStreamItem, BroadcastOptions, Room, SocketEmitter, errors::SocketError},
    packet::{Packet, PacketData},
};
use tokio::time::Instant;

use super::{
    adapter::{AckStream, Reach, RedisAdapter},
    ask::{Ask, Gathered, Said},
    bus::Shared,
    hooks::Reply,
    members::Profile,
    msgpack::{Json, Malformed},
    python::{self, Order},
    subscribe::Role,
    time,
    wire::{self, Aim, Note},
};

/// A connection somewhere in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RemoteSocket {
    /// Its id: 20 characters where it is Node's, 16 where it is ours.
    pub id: String,
    /// The rooms that it is in, its own included where it has one.
    pub rooms: Vec<Room>,
    /// Its handshake as its pod tells it.
    pub handshake: Tree,
    /// What its application wants others to know.
    pub data: Tree,
}

impl<E: SocketEmitter> RedisAdapter<E> {
    /// Puts connections, wherever they are, into rooms. Waits as [`RedisAdapter::join`] does for those here.
    pub async fn join_all(&self, options: BroadcastOptions, rooms: &[Room]) -> Reach {
        let aim = self.remote(&options);
        let mut standings = Vec::new();
        for sid in self.matching(options) {
            standings.extend(rooms.iter().map(|room| self.begin_join(sid, room)));
        }
        if let Some(aim) = aim {
            self.request(json!({ "type": 2, "opts": aim.tree(), "rooms": rooms }));
        }
        self.wait(standings).await
    }

    /// Takes connections, wherever they are, out of rooms.
    pub fn leave_many(&self, options: BroadcastOptions, rooms: &[Room]) {
        let aim = self.remote(&options);
        for sid in self.matching(options) {
            for room in rooms {
                self.leave(sid, room);
            }
        }
        if let Some(aim) = aim {
            self.request(json!({ "type": 3, "opts": aim.tree(), "rooms": rooms }));
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
        let aim = self.remote(&options);
        let disconnected = self.local.disconnect_socket(options);
        if let Some(aim) = aim {
            self.request(json!({ "type": 4, "opts": aim.tree(), "close": close }));
        }
        disconnected
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
        answers.flatten()
    }

    /// The rooms of the whole cluster that have a matching connection in them.
    pub async fn cluster_rooms(&self, options: BroadcastOptions) -> Gathered<String> {
        let aim = self.remote(&options);
        let here = self.local.rooms(options.clone()).into_iter().map(Room::into_owned);
        let mut gathered: Gathered<String> = match aim {
            None => nobody(),
            Some(aim) if aim.rooms.is_empty() && aim.except.is_empty() => {
                let timeout = self.shared.config.request_timeout;
                self.ask(json!({ "type": 1 }), timeout).await.flatten()
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
        let message = self.message_with_ack(&packet, &options, timeout);
        let (local, _) = self.local.broadcast_with_ack(packet, options, Some(timeout));
        let Some((ask, message)) = message else { return Box::pin(local) };
        match message {
            Ok(message) => {
                self.shared.outbox.push(self.channels.request.clone(), message);
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
            Err(_) => {
                self.shared.counters.unwritable.one();
                Box::pin(local)
            }
        }
    }

    fn message_with_ack(
        &self,
        packet: &Packet,
        options: &BroadcastOptions,
        timeout: Duration,
    ) -> Option<(Ask, Result<Bytes, Malformed>)> {
        let (PacketData::Event(data, _) | PacketData::BinaryEvent(data, _)) = &packet.inner else {
            return None;
        };
        let mut aim = self.remote(options)?;
        aim.timeout = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let ask = self.asks.open()?;
        let message =
            wire::broadcast_with_ack(&self.uid, &ask.id, self.namespace(), data, &aim);
        Some((ask, message))
    }

    /// A connection of this pod, as others are told.
    fn describe(&self, sid: Sid) -> RemoteSocket {
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

    pub(crate) fn on_request(&self, payload: &Bytes) {
        let carried_out = Note::read(payload).and_then(|note| {
            if note.text("uid") == Some(&self.uid) {
                self.shared.counters.echoes.one();
                return Ok(());
            }
            self.carry_out(note)?;
            self.shared.counters.requests.one();
            Ok(())
        });
        if let Err(cause) = carried_out {
            self.refuse(Role::Request, cause);
        }
    }

    fn carry_out(&self, note: Note) -> Result<(), Malformed> {
        match note.number("type").ok_or(Malformed::Shape("type"))? {
            0 => {
                let rooms = wire::rooms_of_tree(note.tree.get("rooms"))?;
                let options = Aim { rooms, ..Aim::default() }.options();
                self.answer(&note, json!({ "sockets": self.matching(options) }))
            }
            1 => {
                let rooms = self.local.rooms(Aim::default().options());
                self.answer(&note, json!({ "rooms": rooms }))
            }
            2 => self.each_room(&note, |sid, room| self.admit(sid, room)),
            3 => self.each_room(&note, |sid, room| self.expel(sid, room)),
            4 => self.disconnect_for(&note),
            5 => {
                let options = Aim::of_tree(note.tree.get("opts"))?.options();
                let sockets = self.matching(options).into_iter().map(|sid| {
                    let RemoteSocket { id, rooms, handshake, data } = self.describe(sid);
                    json!({ "id": id, "handshake": handshake, "rooms": rooms, "data": data })
                });
                self.answer(&note, json!({ "sockets": sockets.collect::<Vec<_>>() }))
            }
            6 => self.emitted(&note),
            7 => self.broadcast_for(note),
            _ => Err(Malformed::Shape("type")),
        }
    }

    /// Does something to all connections and rooms that a request names, in its old form or its new one.
    fn each_room(&self, note: &Note, act: impl Fn(Sid, &str)) -> Result<(), Malformed> {
        if let Some(sid) = note.text("sid") {
            let room = note.tree.get("room").and_then(wire::room_of_tree);
            let room = room.ok_or(Malformed::Shape("room"))?;
            let Some(sid) = self.here(sid) else { return Ok(()) };
            act(sid, &room);
            return self.answer_if_asked(note);
        }
        let options = Aim::of_tree(note.tree.get("opts"))?.options();
        let rooms = wire::rooms_of_tree(note.tree.get("rooms"))?;
        for sid in self.matching(options) {
            for room in &rooms {
                act(sid, room);
            }
        }
        Ok(())
    }

    /// The connection of this id, if it is one of this pod and this namespace.
    fn here(&self, sid: &str) -> Option<Sid> {
        let sid = sid.parse().ok()?;
        self.matching(BroadcastOptions::new(sid)).first().copied()
    }

    fn admit(&self, sid: Sid, room: &str) {
        // Nobody waits for it: the subscription comes soon.
        drop(self.begin_join(sid, room));
        self.shared.hooks.on_join(self.namespace(), sid, room);
    }

    fn expel(&self, sid: Sid, room: &str) {
        self.leave(sid, room);
        self.shared.hooks.on_leave(self.namespace(), sid, room);
    }

    fn send_away(&self, sid: Sid, close: bool) {
        self.shared.hooks.on_disconnect(self.namespace(), sid, close);
        if let Err(gone) = self.local.disconnect_socket(BroadcastOptions::new(sid)) {
            self.shared.counters.missed.many(gone.len());
        }
    }

    fn disconnect_for(&self, note: &Note) -> Result<(), Malformed> {
        let close = note.tree.get("close").and_then(Tree::as_bool).unwrap_or(false);
        if let Some(sid) = note.text("sid") {
            let Some(sid) = self.here(sid) else { return Ok(()) };
            self.send_away(sid, close);
            return self.answer_if_asked(note);
        }
        for sid in self.matching(Aim::of_tree(note.tree.get("opts"))?.options()) {
            self.send_away(sid, close);
        }
        Ok(())
    }

    fn emitted(&self, note: &Note) -> Result<(), Malformed> {
        let Some(Tree::Array(arguments)) = note.tree.get("data") else {
            return Err(Malformed::Shape("list of data"));
        };
        if arguments.is_empty() {
            return Err(Malformed::Shape("event name"));
        }
        let reply = note.text("requestId").map(|id| {
            let (outbox, pod) = (self.shared.outbox.clone(), self.shared.pod.clone());
            let channel = self.channels.answer(note.text("uid"));
            let id = id.to_owned();
            Reply(Box::new(move |data| {
                let answer = json!({ "type": 6, "requestId": id, "data": data, "pod": pod });
                outbox.push(channel, answer.to_string().into());
            }))
        });
        self.shared.hooks.on_server_side_emit(self.namespace(), arguments.clone(), reply);
        Ok(())
    }

    /// Delivers a broadcast of somebody else and sends him the acknowledgements.
    fn broadcast_for(&self, mut note: Note) -> Result<(), Malformed> {
        let id = note.text("requestId").ok_or(Malformed::Shape("id"))?.to_owned();
        let aim = Aim::of_tree(note.tree.get("opts"))?;
        let packet = note.tree.get("packet").ok_or(Malformed::Shape("packet"))?;
        let namespace = packet.get("nsp").and_then(Tree::as_str).unwrap_or("/");
        if namespace != self.namespace() {
            self.shared.counters.foreign.one();
            return Ok(());
        }
        if !matches!(packet.get("type").and_then(Tree::as_u64), Some(2 | 5)) {
            return Err(Malformed::Shape("type of an event"));
        }
        let data = packet.get("data").ok_or(Malformed::Shape("data"))?;
        let name = data.get(0).ok_or(Malformed::Shape("event name"))?;
        let attachments = std::mem::take(&mut note.attachments);
        let value = wire::event(Json { text: data.to_string(), attachments }, name, self.form)?;
        let timeout = aim.timeout.map_or(self.local.ack_timeout(), Duration::from_millis);
        let channel = self.channels.answer(note.text("uid"));
        let count = |clients: u32| json!({ "type": 8, "requestId": id, "clientCount": clients });
        let Ok(permit) = self.shared.acknowledging.clone().try_acquire_owned() else {
            // The event arrives all the same; nobody is promised to acknowledge it.
            self.deliver(value, aim.options());
            self.shared.outbox.push(channel, count(0).to_string().into());
            return Ok(());
        };
        let packet = Packet::event(self.local.path().clone(), value);
        let (acks, clients) =
            self.local.broadcast_with_ack(packet, aim.options(), Some(timeout));
        self.shared.outbox.push(channel.clone(), count(clients).to_string().into());
        let shared = self.shared.clone();
        self.shared.runtime.spawn(async move {
            forward(&shared, acks, &id, &channel).await;
            drop(permit);
        });
        Ok(())
    }

    fn answer_if_asked(&self, note: &Note) -> Result<(), Malformed> {
        match note.text("requestId") {
            Some(_) => self.answer(note, json!({})),
            None => Ok(()),
        }
    }

    fn answer(&self, note: &Note, answer: Tree) -> Result<(), Malformed> {
        let id = note.text("requestId").ok_or(Malformed::Shape("id"))?;
        let mut fields = serde_json::Map::new();
        fields.insert("requestId".to_owned(), id.into());
        if let Tree::Object(answer) = answer {
            fields.extend(answer);
        }
        fields.insert("pod".to_owned(), self.shared.pod.as_str().into());
        let channel = self.channels.answer(note.text("uid"));
        self.shared.outbox.push(channel, Tree::Object(fields).to_string().into());
        Ok(())
    }

    pub(crate) fn on_response(&self, payload: &Bytes) {
        if self.is_for_others(payload) {
            return self.shared.counters.foreign.one();
        }
        let answered = Note::read(payload).and_then(|note| {
            let said = self.said(&note)?;
            self.asks.answer(note, said);
            Ok(())
        });
        if let Err(cause) = answered {
            self.refuse(Role::Response, cause);
        }
    }

    /// Every pod gets the answers that Node sends to the common channel, long ones among them: those to
    /// others are not read any further than this.
    fn is_for_others(&self, payload: &Bytes) -> bool {
        #[derive(Deserialize)]
        struct Id<'a> {
            #[serde(rename = "requestId", borrow)]
            request: std::borrow::Cow<'a, str>,
        }
        let id = serde_json::from_slice::<Id<'_>>(payload);
        id.is_ok_and(|id| !self.asks.awaits(&id.request))
    }

    fn said(&self, note: &Note) -> Result<Said, Malformed> {
        match note.number("type") {
            Some(8) => {
                let clients = note.number("clientCount");
                Ok(Said::Clients(clients.ok_or(Malformed::Shape("count"))?))
            }
            Some(9) => {
                let packet = note.tree.get("packet").unwrap_or(&Tree::Null);
                let text = format!("[{packet}]");
                let ack = Json { text, attachments: note.attachments.clone() };
                Ok(Said::Ack(wire::in_form(ack, self.form)?))
            }
            Some(6) => Ok(Said::Tree(note.tree.get("data").cloned().unwrap_or_default())),
            _ => {
                let list = note.tree.get("sockets").or_else(|| note.tree.get("rooms"));
                Ok(Said::Tree(list.cloned().ok_or(Malformed::Shape("answer"))?))
            }
        }
    }

    /// Does what a manager of python-socketio orders.
    pub(crate) fn obey(&self, order: Order) {
        match order {
            Order::Emit { name, data, aim } => {
                match wire::event(data, &Tree::String(name), self.form) {
                    Ok(value) => self.deliver(value, aim.options()),
                    Err(cause) => return self.refuse(Role::Python, cause),
                }
            }
            Order::EnterRoom { sid, room } => {
                if let Some(sid) = self.here(&sid) {
                    self.admit(sid, &room);
                }
            }
            Order::LeaveRoom { sid, room } => {
                if let Some(sid) = self.here(&sid) {
                    self.expel(sid, &room);
                }
            }
            Order::CloseRoom { room } => {
                for sid in self.matching(python::to(room.clone()).options()) {
                    self.expel(sid, &room);
                }
            }
            Order::Disconnect { sid } => {
                if let Some(sid) = self.here(&sid) {
                    self.send_away(sid, false);
                }
            }
        }
        self.shared.counters.requests.one();
    }
}

/// Sends on what the connections here acknowledge, until the last has or their time is over.
async fn forward<E: SocketEmitter>(
    shared: &Shared<E>,
    acks: E::AckStream,
    id: &str,
    channel: &str,
) {
    let mut acks = std::pin::pin!(acks);
    while let Some((_, ack)) = acks.next().await {
        let Ok(ack) = ack else { continue };
        match wire::ack(id, &ack) {
            Ok(message) => shared.outbox.push(channel.to_owned(), message),
            Err(_) => shared.counters.unwritable.one(),
        }
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
    fn flatten<T: serde::de::DeserializeOwned>(self) -> Gathered<T> {
        let lists = self.items.into_iter().filter_map(|list| match list {
            Tree::Array(items) => Some(items),
            _ => None,
        });
        let items = lists.flatten().filter_map(|item| serde_json::from_value(item).ok()).collect();
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
