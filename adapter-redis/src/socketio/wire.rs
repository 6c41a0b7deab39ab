//! Messages of the classic adapter.
//!
//! In come packets and options, and the bytes of channels; out come the bytes that
//! `@socket.io/redis-adapter` 8 writes, and what such bytes say. Writing is strict: three fields in the
//! options, type 2, whole numbers as such. Reading is lenient where emitters of other languages are
//! known to differ, and refuses whatever would break a client: acknowledgements, reserved names, no name.

use bytes::Bytes;
use serde_json::{Value as Tree, json};
use smallvec::SmallVec;
use socketioxide_core::{
    Value,
    adapter::{BroadcastFlags, BroadcastOptions, Room},
};

use super::msgpack::{Json, Malformed, Reader, Token, Writer};

/// Names that Socket.IO keeps for itself: a client closes the connection on which it gets one.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Type of an event. Node's emitters write it even where there is binary data.
const EVENT: u64 = 2;
/// Type of an event with binary data, written by some.
const BINARY_EVENT: u64 = 5;

/// Whom a message is for, as the wire says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aim {
    /// Empty: everybody.
    pub(crate) rooms: SmallVec<[Room; 4]>,
    pub(crate) except: SmallVec<[Room; 4]>,
    pub(crate) volatile: bool,
    /// Milliseconds that an acknowledgement may take.
    pub(crate) timeout: Option<u64>,
}

impl Aim {
    /// What other pods are told, or nothing where the options choose nobody.
    pub(crate) fn of(options: &BroadcastOptions) -> Option<Self> {
        let mut aim = Self {
            rooms: options.rooms.clone(),
            except: options.except.clone(),
            volatile: options.has_flag(BroadcastFlags::Volatile),
            timeout: None,
        };
        let own = options.sid.map(|sid| Room::Owned(sid.to_string()));
        match own {
            Some(own) if options.has_flag(BroadcastFlags::Broadcast) => aim.except.push(own),
            Some(own) if aim.rooms.is_empty() => aim.rooms.push(own),
            None if aim.rooms.is_empty() && !options.has_flag(BroadcastFlags::Broadcast) => {
                return None;
            }
            _ => {}
        }
        Some(aim)
    }

    /// Whom that is among local members.
    pub(crate) fn options(self) -> BroadcastOptions {
        let mut options = BroadcastOptions::default();
        if self.rooms.is_empty() {
            options.add_flag(BroadcastFlags::Broadcast);
        }
        if self.volatile {
            options.add_flag(BroadcastFlags::Volatile);
        }
        options.rooms = self.rooms;
        options.except = self.except;
        options
    }

    /// As a request holds it.
    pub(crate) fn tree(&self) -> Tree {
        json!({ "rooms": self.rooms, "except": self.except })
    }

    /// Of a request, whose options are a map, or an empty list where PHP wrote it.
    pub(crate) fn of_tree(options: Option<&Tree>) -> Result<Self, Malformed> {
        let aim = match options {
            Some(Tree::Array(items)) if items.is_empty() => Self::default(),
            Some(Tree::Object(options)) => {
                let flags = options.get("flags");
                let flag = |name| flags.and_then(|flags| flags.get(name));
                Self {
                    rooms: rooms_of_tree(options.get("rooms"))?,
                    except: rooms_of_tree(options.get("except"))?,
                    volatile: flag("volatile").and_then(Tree::as_bool).unwrap_or(false),
                    timeout: flag("timeout").and_then(Tree::as_u64),
                }
            }
            _ => return Err(Malformed::Shape("options")),
        };
        Ok(aim)
    }

    fn write(&self, writer: &mut Writer) {
        writer.map(3);
        for (name, rooms) in [("rooms", &self.rooms), ("except", &self.except)] {
            writer.text(name);
            writer.array(rooms.len());
            for room in rooms {
                writer.text(room);
            }
        }
        writer.text("flags");
        writer.map(usize::from(self.volatile) + usize::from(self.timeout.is_some()));
        if self.volatile {
            writer.text("volatile");
            writer.bool(true);
        }
        if let Some(timeout) = self.timeout {
            writer.text("timeout");
            writer.uint(timeout);
        }
    }
}

/// A room as text: numbers are matched by what they look like.
pub(crate) fn room_of_tree(room: &Tree) -> Option<Room> {
    match room {
        Tree::String(room) => Some(Room::Owned(room.clone())),
        Tree::Number(room) => Some(Room::Owned(room.to_string())),
        _ => None,
    }
}

/// Rooms as a list, as one, or as nothing in one of several ways.
pub(crate) fn rooms_of_tree(rooms: Option<&Tree>) -> Result<SmallVec<[Room; 4]>, Malformed> {
    let wrong = Malformed::Shape("rooms");
    match rooms {
        None | Some(Tree::Null) => Ok(SmallVec::new()),
        Some(Tree::String(room)) if room.is_empty() => Ok(SmallVec::new()),
        Some(Tree::Object(rooms)) if rooms.is_empty() => Ok(SmallVec::new()),
        Some(Tree::Array(rooms)) => {
            rooms.iter().map(|room| room_of_tree(room).ok_or(wrong)).collect()
        }
        Some(room) => Ok(SmallVec::from_iter([room_of_tree(room).ok_or(wrong)?])),
    }
}

/// Writes a broadcast.
pub(crate) fn broadcast(
    uid: &str,
    namespace: &str,
    data: &Value,
    aim: &Aim,
) -> Result<Bytes, Malformed> {
    let mut writer = Writer::with_capacity(size_of_data(data) + 128);
    writer.array(3);
    writer.text(uid);
    packet(&mut writer, namespace, data)?;
    aim.write(&mut writer);
    Ok(writer.into_bytes())
}

/// Writes the request for a broadcast that is to be acknowledged.
pub(crate) fn broadcast_with_ack(
    uid: &str,
    request: &str,
    namespace: &str,
    data: &Value,
    aim: &Aim,
) -> Result<Bytes, Malformed> {
    let mut writer = Writer::with_capacity(size_of_data(data) + 192);
    writer.map(5);
    writer.text("uid");
    writer.text(uid);
    writer.text("requestId");
    writer.text(request);
    writer.text("type");
    writer.uint(7);
    writer.text("packet");
    packet(&mut writer, namespace, data)?;
    writer.text("opts");
    aim.write(&mut writer);
    Ok(writer.into_bytes())
}

/// Writes what a client acknowledged: the first of its arguments.
pub(crate) fn ack(request: &str, data: &Value) -> Result<Bytes, Malformed> {
    let mut writer = Writer::with_capacity(size_of_data(data) + 64);
    writer.map(3);
    writer.text("type");
    writer.uint(9);
    writer.text("requestId");
    writer.text(request);
    writer.text("packet");
    match data {
        Value::Str(text, attachments) => {
            let arguments: Vec<&serde_json::value::RawValue> =
                serde_json::from_str(text.as_str()).map_err(|_| Malformed::Unreadable)?;
            let nothing = std::collections::VecDeque::new();
            let attachments = attachments.as_ref().unwrap_or(&nothing);
            match arguments.first() {
                Some(first) => writer.json(first.get(), attachments)?,
                None => writer.nil(),
            }
        }
        Value::Bytes(bytes) => {
            let mut reader = Reader::new(bytes);
            match reader.token()? {
                Token::Array(1..) => {
                    let begin = reader.position();
                    reader.skip()?;
                    writer.raw(bytes.get(begin..reader.position()).unwrap_or_default());
                }
                _ => writer.nil(),
            }
        }
    }
    Ok(writer.into_bytes())
}

fn size_of_data(data: &Value) -> usize {
    let Value::Str(text, Some(attachments)) = data else { return data.len() };
    attachments.iter().map(|bytes| bytes.len() + 5).sum::<usize>() + text.len()
}

fn packet(writer: &mut Writer, namespace: &str, data: &Value) -> Result<(), Malformed> {
    writer.map(3);
    writer.text("type");
    writer.uint(EVENT);
    writer.text("data");
    match data {
        Value::Str(text, Some(attachments)) => writer.json(text.as_str(), attachments)?,
        Value::Str(text, None) => writer.json(text.as_str(), &std::collections::VecDeque::new())?,
        // The application speaks msgpack with its clients: it is passed as it is.
        Value::Bytes(bytes) => {
            let mut reader = Reader::new(bytes);
            reader.skip()?;
            reader.finish()?;
            writer.raw(bytes);
        }
    }
    writer.text("nsp");
    writer.text(namespace);
    Ok(())
}

/// What the application's clients are sent: text with attachments, or msgpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Binary,
}

/// What a message of a broadcast channel says.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made")]
#[derive(Debug)]
pub(crate) enum Said {
    /// It is our own.
    Echo,
    /// It is for another namespace.
    Foreign,
    /// An event.
    Event(Value, Aim),
}

/// Reads a message of a broadcast channel.
pub(crate) fn read_broadcast(
    message: &Bytes,
    own: &str,
    namespace: &str,
    form: Form,
) -> Result<Said, Malformed> {
    let mut reader = Reader::new(message);
    let Token::Array(length @ 3..) = reader.token()? else {
        return Err(Malformed::Shape("list of sender, packet and options"));
    };
    let sender = reader.token()?;
    if sender == Token::Text(own.as_bytes()) {
        return Ok(Said::Echo);
    }
    reader.skip_rest(&sender)?;
    let packet = read_packet(&mut reader)?;
    let aim = read_options(&mut reader)?;
    for _ in 3..length {
        reader.skip()?;
    }
    reader.finish()?;
    if packet.namespace.unwrap_or(b"/") != namespace.as_bytes() {
        return Ok(Said::Foreign);
    }
    if !matches!(packet.kind, Some(EVENT | BINARY_EVENT)) {
        return Err(Malformed::Shape("type of an event"));
    }
    let data = packet.data.ok_or(Malformed::Shape("data"))?;
    Ok(Said::Event(read_data(message, data, form)?, aim))
}

#[derive(Default)]
struct PacketRead<'a> {
    kind: Option<u64>,
    /// Where the data begins.
    data: Option<usize>,
    namespace: Option<&'a [u8]>,
}

fn read_packet<'a>(reader: &mut Reader<'a>) -> Result<PacketRead<'a>, Malformed> {
    let Token::Map(length) = reader.token()? else { return Err(Malformed::Shape("packet")) };
    let mut packet = PacketRead::default();
    for _ in 0..length {
        let key = reader.token()?;
        reader.skip_rest(&key)?;
        if key == Token::Text(b"data") {
            packet.data = Some(reader.position());
            reader.skip()?;
            continue;
        }
        let value = reader.token()?;
        match (&key, &value) {
            (Token::Text(b"type"), Token::Uint(kind)) => packet.kind = Some(*kind),
            (Token::Text(b"nsp"), Token::Text(namespace)) => packet.namespace = Some(namespace),
            _ => {}
        }
        reader.skip_rest(&value)?;
    }
    Ok(packet)
}

fn read_options(reader: &mut Reader<'_>) -> Result<Aim, Malformed> {
    let length = match reader.token()? {
        Token::Map(length) => length,
        // PHP writes an empty map as an empty list.
        Token::Array(0) => 0,
        _ => return Err(Malformed::Shape("options")),
    };
    let mut aim = Aim::default();
    for _ in 0..length {
        let key = reader.token()?;
        reader.skip_rest(&key)?;
        match key {
            Token::Text(b"rooms") => aim.rooms = read_rooms(reader)?,
            Token::Text(b"except") => aim.except = read_rooms(reader)?,
            Token::Text(b"flags") => read_flags(reader, &mut aim)?,
            _ => reader.skip()?,
        }
    }
    Ok(aim)
}

fn read_rooms(reader: &mut Reader<'_>) -> Result<SmallVec<[Room; 4]>, Malformed> {
    match reader.token()? {
        Token::Nil | Token::Text(b"") | Token::Map(0) => Ok(SmallVec::new()),
        Token::Array(length) => (0..length).map(|_| room(&reader.token()?)).collect(),
        one => Ok(SmallVec::from_iter([room(&one)?])),
    }
}

fn room(token: &Token<'_>) -> Result<Room, Malformed> {
    match token {
        Token::Text(room) => Ok(Room::Owned(String::from_utf8_lossy(room).into_owned())),
        Token::Uint(room) => Ok(Room::Owned(room.to_string())),
        Token::Int(room) => Ok(Room::Owned(room.to_string())),
        Token::Float(room) => Ok(Room::Owned(room.to_string())),
        _ => Err(Malformed::Shape("rooms")),
    }
}

/// Flags are a map; where there are none, some write a list, a text or nothing.
fn read_flags(reader: &mut Reader<'_>, aim: &mut Aim) -> Result<(), Malformed> {
    let flags = reader.token()?;
    let Token::Map(length) = flags else { return reader.skip_rest(&flags) };
    for _ in 0..length {
        let key = reader.token()?;
        reader.skip_rest(&key)?;
        let value = reader.token()?;
        reader.skip_rest(&value)?;
        match (key, value) {
            (Token::Text(b"volatile"), Token::Bool(volatile)) => aim.volatile = volatile,
            (Token::Text(b"timeout"), Token::Uint(timeout)) => aim.timeout = Some(timeout),
            _ => {}
        }
    }
    Ok(())
}

/// The data of an event: a list that begins with a name which a client accepts.
fn read_data(message: &Bytes, at: usize, form: Form) -> Result<Value, Malformed> {
    let mut reader = Reader::from(message, at);
    let Token::Array(1..) = reader.token()? else { return Err(Malformed::Shape("list of data")) };
    let may_be_sent = match reader.token()? {
        Token::Text(name) => !RESERVED.iter().any(|reserved| reserved.as_bytes() == name),
        Token::Uint(_) | Token::Int(_) => true,
        _ => false,
    };
    if !may_be_sent {
        return Err(Malformed::Shape("event name"));
    }
    let mut reader = Reader::from(message, at);
    match form {
        Form::Text => Ok(reader.json()?.into()),
        Form::Binary => {
            reader.skip()?;
            Ok(Value::Bytes(message.slice(at..reader.position())))
        }
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        let attachments = (!json.attachments.is_empty()).then_some(json.attachments);
        Self::Str(json.text.into(), attachments)
    }
}

/// The value of an event given as JSON, if a client accepts its name.
pub(crate) fn event(data: Json, name: &Tree, form: Form) -> Result<Value, Malformed> {
    let may_be_sent = match name {
        Tree::String(name) => !RESERVED.contains(&name.as_str()),
        Tree::Number(_) => true,
        _ => false,
    };
    if !may_be_sent {
        return Err(Malformed::Shape("event name"));
    }
    in_form(data, form)
}

/// JSON in the form that clients are sent.
pub(crate) fn in_form(data: Json, form: Form) -> Result<Value, Malformed> {
    match form {
        Form::Text => Ok(data.into()),
        Form::Binary => {
            let mut writer = Writer::with_capacity(data.text.len());
            writer.json(&data.text, &data.attachments)?;
            Ok(Value::Bytes(writer.into_bytes()))
        }
    }
}

/// A request or an answer, with what was binary in it.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) tree: Tree,
    pub(crate) attachments: std::collections::VecDeque<Bytes>,
}

impl Note {
    /// Reads JSON where it begins like that, else msgpack.
    pub(crate) fn read(message: &Bytes) -> Result<Self, Malformed> {
        let note = if message.first() == Some(&b'{') {
            let tree = serde_json::from_slice(message).map_err(|_| Malformed::Unreadable)?;
            Self { tree, attachments: std::collections::VecDeque::new() }
        } else {
            let mut reader = Reader::new(message);
            let json = reader.json()?;
            reader.finish()?;
            let tree = serde_json::from_str(&json.text).map_err(|_| Malformed::Unreadable)?;
            Self { tree, attachments: json.attachments }
        };
        if note.tree.is_object() { Ok(note) } else { Err(Malformed::Shape("fields")) }
    }

    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.tree.get(field).and_then(Tree::as_str)
    }

    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.tree.get(field).and_then(Tree::as_u64)
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
