//! What others ask of this pod.
//!
//! In come the requests of other pods, of emitters and of python-socketio's managers, and the answers to
//! our own requests; out go their effects on connections here, told to the application's hooks, and
//! answers. A request is carried out at once, and answered exactly once where it wants an answer.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value as Tree, json};
use socketioxide_core::{
    Sid,
    adapter::{BroadcastOptions, SocketEmitter},
    packet::Packet,
};

use super::{
    adapter::RedisAdapter,
    ask::Said,
    bus::Shared,
    hooks::Reply,
    msgpack::{Json, Malformed},
    python::{self, Order},
    requests::RemoteSocket,
    table::Role,
    wire::{self, Aim, Note},
};

impl<E: SocketEmitter> RedisAdapter<E> {
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
        let (acks, clients) = self.local.broadcast_with_ack(packet, aim.options(), Some(timeout));
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
            self.asks.answer(&note, said);
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
