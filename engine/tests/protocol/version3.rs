//! Engine.IO 3, as clients of Socket.IO 2 speak it.
#![cfg(feature = "v3")]

use std::time::Duration;

use bytes::Bytes;
use engineioxide::{DisconnectReason, ProtocolVersion, Tuning};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Server, session_id};

#[tokio::test]
async fn over_polling() {
    let server = Server::start().await;
    let open = server.get("EIO=3&transport=polling&b64=1").await;
    let (length, packet) = open.text().split_once(':').expect("a length");
    assert_eq!(length.parse(), Ok(packet.len()));
    let query = format!("EIO=3&transport=polling&sid={}", session_id(packet));
    let socket = server.connected().await;
    assert_eq!(socket.protocol, ProtocolVersion::V3);
    socket.emit("€").expect("room");
    socket.emit_binary(Bytes::from_static(&[1, 2, 3, 4])).expect("room");
    assert_eq!(server.get(&query).await.text(), "2:4€10:b4AQIDBA==");
    assert_eq!(server.post(&query, "3:4€é10:b4AQIDBA==1:2".as_bytes()).await.text(), "ok");
    assert_eq!(server.message().await, "€é");
    assert_eq!(server.binary().await, Bytes::from_static(&[1, 2, 3, 4]));
    assert_eq!(server.get(&query).await.text(), "1:3", "a ping is answered");
}

#[tokio::test]
async fn over_polling_with_bytes() {
    let server = Server::start().await;
    let open = server.get("EIO=3&transport=polling").await;
    let (_, packet) = open.text().split_once(':').expect("a length");
    let query = format!("EIO=3&transport=polling&sid={}", session_id(packet));
    let socket = server.connected().await;
    socket.emit("a").expect("room");
    socket.emit_binary(Bytes::from_static(&[1, 2])).expect("room");
    let response = server.get(&query).await;
    assert!(response.head.contains("content-type: application/octet-stream"));
    assert_eq!(response.body, [0, 2, 0xff, b'4', b'a', 1, 3, 0xff, 4, 1, 2]);
    let body = [1, 3, 0xff, 4, 8, 9];
    let posted = server.ask("POST", &query, "application/octet-stream", &body).await;
    assert_eq!(posted.answer().await.status, 200);
    assert_eq!(server.binary().await, Bytes::from_static(&[8, 9]));
}

#[tokio::test]
async fn over_a_websocket() {
    let server = Server::start().await;
    let mut web = server.websocket("EIO=3&transport=websocket").await;
    assert!(web.text().await.starts_with("0{"));
    let socket = server.connected().await;
    web.send("2").await;
    assert_eq!(web.text().await, "3");
    web.send_binary(&[4, 1, 2]).await;
    assert_eq!(server.binary().await, Bytes::from_static(&[1, 2]));
    socket.emit_binary(Bytes::from_static(&[3])).expect("room");
    assert_eq!(web.next().await, Some(Message::binary(vec![4, 3])));
}

#[tokio::test]
async fn a_client_that_does_not_ping_is_given_up() {
    let server = Server::with(Tuning::default(), |config| {
        config.ping_interval(Duration::from_millis(100)).ping_timeout(Duration::from_millis(100))
    })
    .await;
    let mut web = server.websocket("EIO=3&transport=websocket").await;
    assert!(web.text().await.starts_with("0{"));
    server.connected().await;
    assert_eq!(server.disconnected().await, DisconnectReason::HeartbeatTimeout);
}
