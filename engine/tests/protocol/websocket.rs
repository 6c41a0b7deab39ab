//! Sessions over a WebSocket, frame by frame.

use std::collections::VecDeque;

use bytes::Bytes;
use engineioxide::{DisconnectReason, Tuning};
use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{CloseCode, Data, OpCode},
    },
};

use crate::harness::{Server, open_websocket, within};

#[tokio::test]
async fn messages_of_both_kinds_both_ways() {
    let server = Server::start().await;
    let (mut web, socket) = open_websocket(&server).await;
    web.send("4hello €").await;
    assert_eq!(server.message().await, "hello €");
    web.send_binary(&[1, 2, 3]).await;
    assert_eq!(server.binary().await, Bytes::from_static(&[1, 2, 3]));
    web.send("bAQID").await;
    assert_eq!(server.binary().await, Bytes::from_static(&[1, 2, 3]));
    socket.emit("back").expect("room");
    socket.emit_binary(Bytes::from_static(&[4, 5])).expect("room");
    assert_eq!(web.text().await, "4back");
    assert_eq!(web.next().await, Some(Message::binary(vec![4, 5])));
}

#[tokio::test]
async fn messages_of_every_length_in_order() {
    let server = Server::with(Tuning::default(), |config| config.max_buffer_size(100_000)).await;
    let (mut web, socket) = open_websocket(&server).await;
    let lengths = [0, 1, 124, 125, 126, 65_533, 65_534, 65_535, 65_536, 200_000];
    for length in lengths {
        let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
        web.send(&format!("4echo:{text}")).await;
        assert_eq!(web.text().await, format!("4{text}"), "{length}");
    }
    for number in 0..10_000 {
        socket.emit(number.to_string()).expect("room");
    }
    for number in 0..10_000 {
        assert_eq!(web.text().await, format!("4{number}"));
    }
}

#[tokio::test]
async fn attachments_follow_their_message() {
    let server = Server::start().await;
    let (mut web, socket) = open_websocket(&server).await;
    let attachments = VecDeque::from([Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
    socket.reserve().expect("room").emit_many("two".into(), attachments.clone());
    assert!(socket.emit_many_volatile("two more".into(), attachments));
    for text in ["4two", "4two more"] {
        assert_eq!(web.text().await, text);
        assert_eq!(web.next().await, Some(Message::binary(b"a".to_vec())));
        assert_eq!(web.next().await, Some(Message::binary(b"b".to_vec())));
    }
}

#[tokio::test]
async fn fragments_and_pings_between() {
    let server = Server::start().await;
    let (mut web, _) = open_websocket(&server).await;
    let fragment = |text: &'static [u8], kind, last| {
        Message::Frame(Frame::message(Bytes::from_static(text), OpCode::Data(kind), last))
    };
    for message in [
        fragment(b"4frag", Data::Text, false),
        Message::Ping(Bytes::from_static(b"there?")),
        fragment(b"ment", Data::Continue, false),
        fragment(b"ed", Data::Continue, true),
    ] {
        web.0.send(message).await.expect("it is sent");
    }
    assert_eq!(server.message().await, "fragmented");
    assert_eq!(web.next().await, Some(Message::Pong(Bytes::from_static(b"there?"))));
}

#[tokio::test]
async fn event_names_are_made_readable_and_payloads_are_not_touched() {
    let server = Server::start().await;
    let (mut web, _) = open_websocket(&server).await;
    web.send(r#"42["a\n\u0062","\n"]"#).await;
    assert_eq!(server.message().await, "2[\"a\u{240a}b\",\"\\n\"]");
}

#[tokio::test]
async fn what_breaks_a_protocol_is_closed_with_its_code() {
    let mask = [0, 0, 0, 0];
    let masked = |first: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("short");
        [&[first, 0x80 | length][..], &mask, payload].concat()
    };
    let too_big = [&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0][..], &mask].concat();
    let cases = [
        ("unmasked", vec![0x81, 1, b'4'], 1002),
        ("reserved bit", masked(0xc1, b"4"), 1002),
        ("reserved opcode", masked(0x83, b"4"), 1002),
        ("continues nothing", masked(0x80, b"4"), 1002),
        ("no text", masked(0x81, b"4\xff"), 1007),
        ("too big", too_big, 1009),
        ("no packet", masked(0x81, b"x"), 1002),
        ("no packet at all", masked(0x81, b""), 1002),
        ("a ping, which is the server's", masked(0x81, b"2"), 1002),
    ];
    let server = Server::with(Tuning::default(), |config| {
        config.ws_max_message_size(50_000).ws_max_frame_size(50_000)
    })
    .await;
    for (name, bytes, code) in cases {
        let (mut web, _) = open_websocket(&server).await;
        web.0.get_mut().write_all(&bytes).await.expect("it is sent");
        assert_eq!(web.closed().await, code, "{name}");
        assert_eq!(server.disconnected().await, DisconnectReason::PacketParsingError, "{name}");
    }
}

#[tokio::test]
async fn the_client_closes() {
    let server = Server::start().await;
    let (mut web, _) = open_websocket(&server).await;
    web.send("1").await;
    assert_eq!(web.closed().await, 1000);
    assert_eq!(server.disconnected().await, DisconnectReason::TransportClose);

    let (mut web, _) = open_websocket(&server).await;
    web.0.close(None).await.expect("it is sent");
    assert_eq!(web.closed().await, 1000);
    assert_eq!(server.disconnected().await, DisconnectReason::TransportClose);

    let (web, _) = open_websocket(&server).await;
    drop(web);
    assert_eq!(server.disconnected().await, DisconnectReason::TransportClose);
}

#[tokio::test]
async fn the_server_closes_after_what_waits() {
    let server = Server::start().await;
    let (mut web, socket) = open_websocket(&server).await;
    for number in 0..100 {
        socket.emit(number.to_string()).expect("room");
    }
    socket.close(DisconnectReason::ClosingServer);
    assert!(socket.reserve().is_err());
    assert_eq!(server.disconnected().await, DisconnectReason::ClosingServer);
    for number in 0..100 {
        assert_eq!(web.text().await, format!("4{number}"));
    }
    assert_eq!(web.text().await, "1");
    match web.next().await {
        Some(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::Normal),
        other => panic!("{other:?} instead of a close"),
    }
    within("the end of the transport", socket.closed()).await;
}

#[tokio::test]
async fn what_a_client_sends_behind_its_end_is_nobodys() {
    let server = Server::start().await;
    let (mut web, _) = open_websocket(&server).await;
    let frames = [0x81, 0x82, 0, 0, 0, 0, b'4', b'a', 0x81, 0x81, 0, 0, 0, 0, b'1'];
    let behind = [0x81, 0x82, 0, 0, 0, 0, b'4', b'b'];
    web.0.get_mut().write_all(&[&frames[..], &behind].concat()).await.expect("it is sent");
    assert_eq!(server.message().await, "a");
    assert_eq!(server.disconnected().await, DisconnectReason::TransportClose);
    let mut rest = Vec::new();
    within("the end", web.0.get_mut().read_to_end(&mut rest)).await.ok();
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_session_alone() {
    let server = Server::start().await;
    let (mut other, _) = open_websocket(&server).await;
    let (mut web, _) = open_websocket(&server).await;
    web.send("4panic").await;
    assert_eq!(server.disconnected().await, DisconnectReason::TransportError);
    assert_eq!(web.next().await, None);
    other.send("4still here").await;
    assert_eq!(server.message().await, "still here");
}
