//! Messages of python-socketio's managers.
//!
//! In come the bytes of their one channel, out comes what they order. They are JSON since version 5.14;
//! the pickles of before are refused, since whoever reads those runs their code.

use base64::Engine;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value as Tree, value::RawValue};
use smallvec::SmallVec;
use socketioxide_core::adapter::Room;

use super::{
    msgpack::{Json, Malformed, escape},
    wire::{Aim, room_of_tree, rooms_of_tree},
};

/// What a manager orders, and where.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) namespace: String,
    pub(crate) order: Order,
}

#[expect(clippy::large_enum_variant, reason = "it is obeyed where it is made")]
#[derive(Debug, PartialEq)]
pub(crate) enum Order {
    /// To send an event. Its name stands in the data too; it is here to be judged.
    Emit {
        name: String,
        data: Json,
        aim: Aim,
    },
    EnterRoom {
        sid: String,
        room: Room,
    },
    LeaveRoom {
        sid: String,
        room: Room,
    },
    CloseRoom {
        room: Room,
    },
    Disconnect {
        sid: String,
    },
}

#[derive(Deserialize)]
struct Message<'a> {
    method: String,
    namespace: Option<String>,
    event: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    binary: bool,
    room: Option<Tree>,
    skip_sid: Option<Tree>,
    sid: Option<String>,
}

/// Reads a message. Nothing comes out of those that are only for servers of their own kind.
pub(crate) fn read(message: &Bytes) -> Result<Option<Command>, Malformed> {
    let message: Message<'_> =
        serde_json::from_slice(message).map_err(|_| Malformed::Unreadable)?;
    let room = || message.room.as_ref().and_then(room_of_tree).ok_or(Malformed::Shape("room"));
    let sid = || message.sid.clone().ok_or(Malformed::Shape("sid"));
    let order = match message.method.as_str() {
        "emit" => emit(&message)?,
        "enter_room" => Order::EnterRoom { sid: sid()?, room: room()? },
        "leave_room" => Order::LeaveRoom { sid: sid()?, room: room()? },
        "close_room" => Order::CloseRoom { room: room()? },
        "disconnect" => Order::Disconnect { sid: sid()? },
        "callback" => return Ok(None),
        _ => return Err(Malformed::Shape("method")),
    };
    let namespace = message.namespace.unwrap_or_else(|| "/".to_owned());
    Ok(Some(Command { namespace, order }))
}

fn emit(message: &Message<'_>) -> Result<Order, Malformed> {
    let name = message.event.clone().ok_or(Malformed::Shape("event name"))?;
    let mut data = Json::default();
    let mut arguments = message.data;
    let parts: Vec<&RawValue>;
    if message.binary {
        parts = arguments.map_or(Ok(Vec::new()), list)?;
        arguments = parts.first().copied();
        for part in parts.iter().skip(1) {
            let text: String =
                serde_json::from_str(part.get()).map_err(|_| Malformed::Shape("attachment"))?;
            let bytes = base64::prelude::BASE64_STANDARD.decode(text);
            data.attachments.push_back(bytes.map_err(|_| Malformed::Shape("attachment"))?.into());
        }
    }
    data.text.push('[');
    escape(&name, &mut data.text);
    for argument in arguments.map_or(Ok(Vec::new()), list)? {
        data.text.push(',');
        data.text.push_str(argument.get());
    }
    data.text.push(']');
    let aim = Aim {
        rooms: rooms_of_tree(message.room.as_ref())?,
        except: rooms_of_tree(message.skip_sid.as_ref())?,
        ..Aim::default()
    };
    Ok(Order::Emit { name, data, aim })
}

/// The items of a list; anything else is one item.
fn list(data: &RawValue) -> Result<Vec<&RawValue>, Malformed> {
    if !data.get().starts_with('[') {
        return Ok(vec![data]);
    }
    serde_json::from_str(data.get()).map_err(|_| Malformed::Unreadable)
}

/// One room as an aim.
pub(crate) fn to(room: Room) -> Aim {
    Aim { rooms: SmallVec::from_iter([room]), ..Aim::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Result<Option<Order>, Malformed> {
        read(&Bytes::copy_from_slice(text.as_bytes())).map(|read| read.map(|read| read.order))
    }

    fn event(text: &str, attachments: &[&'static [u8]], rooms: &[&'static str]) -> Order {
        let name = text.split('"').nth(1).unwrap().to_owned();
        let attachments = attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect();
        let mut aim = Aim::default();
        aim.rooms.extend(rooms.iter().map(|room| Room::Borrowed(room)));
        Order::Emit { name, data: Json { text: text.to_owned(), attachments }, aim }
    }

    /// As python-socketio 5.18.1 writes them.
    #[test]
    fn messages_of_a_manager_are_understood() {
        let tail = r#""namespace":"/","room":null,"skip_sid":null,"callback":null,"host_id":"4"}"#;
        let emit = |data: &str| format!(r#"{{"method":"emit","event":"hi",{data},{tail}"#);
        let to = |room: &str| emit(r#""data":["x"],"binary":false"#).replace("\"room\":null", room);
        let placeholder = |n| format!(r#"{{"_placeholder":true,"num":{n}}}"#);
        let (zero, one) = (placeholder(0), placeholder(1));
        let cases = [
            (emit(r#""data":["x"],"binary":false"#), event(r#"["hi","x"]"#, &[], &[])),
            (emit(r#""data":[[1,2]],"binary":false"#), event(r#"["hi",[1,2]]"#, &[], &[])),
            (
                emit(r#""data":[1,"b",null],"binary":false"#),
                event(r#"["hi",1,"b",null]"#, &[], &[]),
            ),
            (emit(r#""data":[],"binary":false"#), event(r#"["hi"]"#, &[], &[])),
            (to(r#""room":"r1""#), event(r#"["hi","x"]"#, &[], &["r1"])),
            (to(r#""room":["r1","r2"]"#), event(r#"["hi","x"]"#, &[], &["r1", "r2"])),
            (to(r#""room":5"#), event(r#"["hi","x"]"#, &[], &["5"])),
            (
                emit(&format!(r#""data":[[{zero}],"AQI="],"binary":true"#)),
                event(&format!(r#"["hi",{zero}]"#), &[&[1, 2]], &[]),
            ),
            (
                emit(&format!(
                    r#""data":[[{{"f":{zero},"g":[{one}]}},"t"],"Aw==","BA=="],"binary":true"#
                )),
                event(&format!(r#"["hi",{{"f":{zero},"g":[{one}]}},"t"]"#), &[&[3], &[4]], &[]),
            ),
            (
                r#"{"method":"enter_room","sid":"S","room":"r1","namespace":"/","host_id":"4"}"#
                    .to_owned(),
                Order::EnterRoom { sid: "S".to_owned(), room: "r1".into() },
            ),
            (
                r#"{"method":"close_room","room":"r1","namespace":"/","host_id":"4"}"#.to_owned(),
                Order::CloseRoom { room: "r1".into() },
            ),
            (
                r#"{"method":"disconnect","sid":"S","namespace":"/","host_id":"4"}"#.to_owned(),
                Order::Disconnect { sid: "S".to_owned() },
            ),
        ];
        for (text, want) in cases {
            assert_eq!(order(&text), Ok(Some(want)), "{text}");
        }
        assert_eq!(order(r#"{"method":"callback","host_id":"4","id":4}"#), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = read(&bytes.into());
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let cases = [
            "",
            "[]",
            "\u{80}\u{4}pickle",
            r#"{"method":"emit"}"#,
            r#"{"method":"enter_room","sid":"S"}"#,
            r#"{"method":"unknown"}"#,
            r#"{"method":"emit","event":"e","data":[[],5],"binary":true}"#,
            r#"{"method":"emit","event":"e","data":[[],"*"],"binary":true}"#,
            r#"{"method":"emit","event":"e","data":[],"room":{"a":1}}"#,
        ];
        for text in cases {
            assert!(order(text).is_err(), "{text}");
        }
    }
}
