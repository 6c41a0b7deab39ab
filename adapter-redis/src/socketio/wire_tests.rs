//! Messages as the stock packages were seen to publish them, and variations that others publish.

use std::collections::VecDeque;

use proptest::prelude::*;
use socketioxide_core::Sid;

use super::*;

const UID: &str = "2px9-z";

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn text(data: &str) -> Value {
    Value::Str(data.to_owned().into(), None)
}

fn read(message: &Bytes) -> Result<Said, Malformed> {
    read_broadcast(message, "own", "/", Form::Text)
}

/// The data and the rooms of an event.
fn heard(message: &Bytes) -> Result<(String, Vec<String>, Vec<String>, bool), Malformed> {
    match read(message)? {
        Said::Event(Value::Str(data, _), aim) => {
            let list = |rooms: &[Room]| rooms.iter().map(ToString::to_string).collect();
            let (rooms, except) = (list(&aim.rooms), list(&aim.except));
            Ok((data.as_str().to_owned(), rooms, except, aim.volatile))
        }
        other => panic!("{other:?}"),
    }
}

/// A message made of JSON, as msgpack.
fn message(json: &str) -> Bytes {
    let mut writer = Writer::default();
    writer.json(json, &VecDeque::new()).unwrap();
    writer.into_bytes()
}

#[test]
fn broadcasts_are_written_as_node_writes_them() {
    let captured = unhex(
        "93a6327078392d7a83a47479706502a46461746194a2686901a16181a162c3a36e7370a12f83a5726f6f6d7390\
         a665786365707490a5666c61677380",
    );
    let data = text("[\"hi\",1,\"a\",{\"b\":true}]");
    let everybody = Aim::default();
    assert_eq!(broadcast(UID, "/", &data, &everybody), Ok(captured.clone()));
    let (data, rooms, except, volatile) = heard(&captured).unwrap();
    assert_eq!(data, "[\"hi\",1,\"a\",{\"b\":true}]");
    assert!(rooms.is_empty() && except.is_empty() && !volatile);

    let mut aim = Aim { volatile: true, ..Aim::default() };
    aim.rooms.extend(["r1".into(), "r2".into()]);
    aim.except.push("x".into());
    let bytes = broadcast(UID, "/", &text("[\"e\"]"), &aim).unwrap();
    let (_, rooms, except, volatile) = heard(&bytes).unwrap();
    assert_eq!((rooms, except, volatile), (vec!["r1".into(), "r2".into()], vec!["x".into()], true));
}

#[test]
fn acknowledged_broadcasts_are_written_as_node_writes_them() {
    let captured = unhex(
        "85a3756964a6327078392d7aa9726571756573744964a669694b586b4fa47479706507a67061636b657483a474\
         79706502a46461746191a171a36e7370a12fa46f70747383a5726f6f6d7390a665786365707490a5666c616773\
         81a774696d656f7574cd03e8",
    );
    let aim = Aim { timeout: Some(1000), ..Aim::default() };
    let written = broadcast_with_ack(UID, "iiKXkO", "/", &text("[\"q\"]"), &aim);
    assert_eq!(written, Ok(captured.clone()));
    let note = Note::read(&captured).unwrap();
    assert_eq!(note.number("type"), Some(7));
    assert_eq!(Aim::of_tree(note.tree.get("opts")), Ok(aim));

    let answer = unhex("83a47479706509a9726571756573744964a669694b586b4fa67061636b6574a24131");
    assert_eq!(ack("iiKXkO", &text("[\"A1\",2]")), Ok(answer.clone()));
    let none = ack("i", &text("[]")).unwrap();
    assert_eq!(Note::read(&none).unwrap().tree["packet"], Tree::Null);
    let note = Note::read(&answer).unwrap();
    assert_eq!((note.text("requestId"), note.text("packet")), (Some("iiKXkO"), Some("A1")));
}

#[test]
fn the_emitters_message_is_read() {
    let captured = unhex(
        "93a7656d697474657283a47479706502a46461746192a2686901a36e7370a12f83a5726f6f6d7390a5666c6167\
         7380a665786365707490",
    );
    assert_eq!(heard(&captured).unwrap().0, "[\"hi\",1]");
}

#[test]
fn what_node_accepts_is_accepted() {
    let cases = [
        ("no namespace", r#"["e",{"type":2,"data":["a"]},{"rooms":[]}]"#, &[][..]),
        (
            "flags of PHP",
            r#"["e",{"type":2,"data":["a"],"nsp":"/"},{"rooms":["r"],"flags":[]}]"#,
            &["r"],
        ),
        ("options of PHP", r#"["e",{"type":2,"data":["a"],"nsp":"/"},[]]"#, &[]),
        ("no fields", r#"["e",{"type":2,"data":["a"],"nsp":"/"},{}]"#, &[]),
        (
            "no rooms",
            r#"["e",{"type":2,"data":["a"],"nsp":"/"},{"rooms":null,"except":null}]"#,
            &[],
        ),
        (
            "a fourth item",
            r#"["e",{"type":2,"data":["a"],"nsp":"/"},{"rooms":["r"]},[1,{"a":2}]]"#,
            &["r"],
        ),
        (
            "options of a packet",
            r#"["e",{"type":2,"data":["a"],"nsp":"/","options":{"a":[1]}},{}]"#,
            &[],
        ),
        ("numbers", r#"["e",{"type":2,"data":["a"],"nsp":"/"},{"rooms":[5,-1]}]"#, &["5", "-1"]),
        ("type 5", r#"["e",{"type":5,"data":["a"],"nsp":"/"},{}]"#, &[]),
        (
            "empty texts",
            r#"["e",{"type":2,"data":["a"],"nsp":"/"},{"rooms":"","flags":"","except":""}]"#,
            &[],
        ),
        ("one room as text", r#"["e",{"type":2,"data":["a"],"nsp":"/"},{"rooms":"r"}]"#, &["r"]),
        ("a sender of another kind", r#"[[1,{"a":2}],{"type":2,"data":["a"],"nsp":"/"},{}]"#, &[]),
        ("an id", r#"["e",{"type":2,"id":7,"data":["a"],"nsp":"/"},{}]"#, &[]),
    ];
    for (name, json, want) in cases {
        let heard = heard(&message(json));
        let (data, rooms, ..) = heard.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (data.as_str(), rooms),
            ("[\"a\"]", want.iter().map(ToString::to_string).collect()),
            "{name}"
        );
    }
    let numeric = message(r#"["e",{"type":2,"data":[5,"a"],"nsp":"/"},{}]"#);
    assert_eq!(heard(&numeric).unwrap().0, "[5,\"a\"]");
}

#[test]
fn what_would_break_a_client_is_refused() {
    let cases = [
        ("no options", r#"["e",{"type":2,"data":["a"],"nsp":"/"}]"#),
        ("a map", r#"{"type":3,"data":{}}"#),
        ("text", r#""hello""#),
        ("an acknowledgement", r#"["e",{"type":3,"data":["a"],"nsp":"/"},{}]"#),
        ("a disconnection", r#"["e",{"type":1,"nsp":"/"},{}]"#),
        ("no type", r#"["e",{"data":["a"],"nsp":"/"},{}]"#),
        ("no data", r#"["e",{"type":2,"nsp":"/"},{}]"#),
        ("no name", r#"["e",{"type":2,"data":[],"nsp":"/"},{}]"#),
        ("a name of another kind", r#"["e",{"type":2,"data":[{}],"nsp":"/"},{}]"#),
        ("a reserved name", r#"["e",{"type":2,"data":["disconnect"],"nsp":"/"},{}]"#),
        ("data as a map", r#"["e",{"type":2,"data":{"a":1},"nsp":"/"},{}]"#),
        ("rooms as a map", r#"["e",{"type":2,"data":["a"],"nsp":"/"},{"rooms":{"a":1}}]"#),
        ("options as text", r#"["e",{"type":2,"data":["a"],"nsp":"/"},"x"]"#),
        ("a packet as text", r#"["e","x",{}]"#),
    ];
    for (name, json) in cases {
        assert!(read(&message(json)).is_err(), "{name}");
    }
    let good = message(r#"["e",{"type":2,"data":["a"],"nsp":"/"},{}]"#);
    let trailing: Bytes = [&good[..], &[0]].concat().into();
    assert_eq!(read(&trailing).unwrap_err(), Malformed::Trailing);
    for end in 0..good.len() {
        assert!(read(&good.slice(..end)).is_err(), "the first {end} bytes");
    }
}

#[test]
fn others_messages_are_told_from_ours() {
    let ours = broadcast("own", "/", &text("[\"a\"]"), &Aim::default()).unwrap();
    assert!(matches!(read(&ours), Ok(Said::Echo)));
    let foreign = broadcast(UID, "/admin", &text("[\"a\"]"), &Aim::default()).unwrap();
    assert!(matches!(read(&foreign), Ok(Said::Foreign)));
}

#[test]
fn messagepack_is_passed_as_it_is() {
    let data = message(r#"["e",{"a":1.5}]"#);
    let written = broadcast(UID, "/", &Value::Bytes(data.clone()), &Aim::default()).unwrap();
    match read_broadcast(&written, "own", "/", Form::Binary) {
        Ok(Said::Event(Value::Bytes(read), _)) => assert_eq!(read, data),
        other => panic!("{other:?}"),
    }
    let broken = Value::Bytes(Bytes::from_static(&[0x92, 0x01]));
    assert!(broadcast(UID, "/", &broken, &Aim::default()).is_err());
}

#[test]
fn options_choose_the_same_there_as_here() {
    let sid = Sid::new();
    let of = |change: &dyn Fn(&mut BroadcastOptions)| {
        let mut options = BroadcastOptions::default();
        change(&mut options);
        Aim::of(&options)
    };
    assert_eq!(of(&|_| {}), None, "nobody");
    let all = of(&|options| options.add_flag(BroadcastFlags::Broadcast));
    assert_eq!(all, Some(Aim::default()));
    let others = of(&|options| {
        options.sid = Some(sid);
        options.add_flag(BroadcastFlags::Broadcast);
    });
    assert_eq!(others.unwrap().except[..], [sid.to_string()]);
    let one = of(&|options| options.sid = Some(sid));
    assert_eq!(one.unwrap().rooms[..], [sid.to_string()]);
    let room = of(&|options| {
        options.sid = Some(sid);
        options.rooms.push("r".into());
    });
    let room = room.unwrap();
    assert_eq!((&room.rooms[..], room.except.len()), (&["r".into()][..], 0), "the sender too");
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = read(&bytes);
        let _ = read_broadcast(&bytes, "own", "/", Form::Binary);
        let _ = Note::read(&bytes);
    }

    /// Bytes that begin like a message go further.
    #[test]
    fn no_changed_message_panics_the_reader(
        at in 0usize..66, byte in any::<u8>(), cut in 0usize..67
    ) {
        let data = text("[\"hi\",1,\"a\",{\"b\":true}]");
        let mut bytes = broadcast(UID, "/", &data, &Aim::default()).unwrap().to_vec();
        if let Some(changed) = bytes.get_mut(at) {
            *changed = byte;
        }
        bytes.truncate(cut);
        if let Ok(Said::Event(Value::Str(data, _), _)) = read(&bytes.into()) {
            prop_assert!(serde_json::from_str::<Vec<Tree>>(data.as_str()).is_ok());
        }
    }
}
