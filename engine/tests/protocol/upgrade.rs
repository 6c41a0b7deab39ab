//! From polling to a WebSocket.

use std::time::Duration;

use engineioxide::{DisconnectReason, TransportType, Tuning};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Server, open_polling};

fn websocket(query: &str) -> String {
    query.replace("polling", "websocket")
}

#[tokio::test]
async fn a_session_goes_over() {
    let tuning = Tuning::default();
    let stats = tuning.stats.clone();
    let server = Server::with(tuning, |config| config).await;
    let (query, socket) = open_polling(&server).await;
    let poll = server.ask("GET", &query, "text/plain", b"").await;
    let mut web = server.websocket(&websocket(&query)).await;
    web.send("2probe").await;
    assert_eq!(web.text().await, "3probe");
    assert_eq!(poll.answer().await.text(), "6", "the poll in flight ends");
    assert_eq!(server.get(&query).await.text(), "6", "and so does each one that follows");
    assert_eq!(server.post(&query, b"4on the way").await.text(), "ok");
    assert_eq!(server.message().await, "on the way");
    assert_eq!(socket.transport_type(), TransportType::Polling);
    web.send("5").await;
    web.send("4over").await;
    assert_eq!(server.message().await, "over");
    assert_eq!(socket.transport_type(), TransportType::Websocket);
    socket.emit("back").expect("room");
    assert_eq!(web.text().await, "4back");
    for response in [server.get(&query).await, server.post(&query, b"4x").await] {
        assert_eq!(
            (response.status, response.text()),
            (400, r#"{"code":3,"message":"Bad request"}"#)
        );
    }
    let response = server.refused_websocket(&websocket(&query)).await;
    assert_eq!(response.status, 400, "a second WebSocket");
    assert_eq!((stats.upgrades(), stats.open(TransportType::Websocket)), (1, 1));
    web.send("4still here").await;
    assert_eq!(server.message().await, "still here");
}

#[tokio::test]
async fn what_waits_goes_over_in_order() {
    let server = Server::start().await;
    let (query, socket) = open_polling(&server).await;
    let mut web = server.websocket(&websocket(&query)).await;
    web.send("2probe").await;
    assert_eq!(web.text().await, "3probe");
    for number in 0..50 {
        socket.emit(number.to_string()).expect("room");
    }
    web.send("5").await;
    for number in 0..50 {
        assert_eq!(web.text().await, format!("4{number}"));
    }
}

#[tokio::test]
async fn one_that_fails_leaves_the_session_polling() {
    let tuning = Tuning::default();
    let stats = tuning.stats.clone();
    let late = |config: engineioxide::config::EngineIoConfigBuilder| {
        config.upgrade_timeout(Duration::from_millis(200))
    };
    let server = Server::with(tuning, late).await;
    let (query, socket) = open_polling(&server).await;
    let attempts: [(&str, &[&str]); 5] = [
        ("another packet than the probe", &["4x"]),
        ("a pong", &["3probe"]),
        ("another packet than the upgrade", &["2probe", "4x"]),
        ("too late", &["2probe"]),
        ("nothing", &[]),
    ];
    for (number, (name, packets)) in attempts.into_iter().enumerate() {
        let mut web = server.websocket(&websocket(&query)).await;
        for packet in packets {
            web.send(packet).await;
        }
        while let Some(Message::Text(_)) = web.next().await {}
        drop(web);
        while stats.upgrades_failed() <= number as u64 {
            tokio::task::yield_now().await;
        }
        socket.emit(name).expect("room");
        assert_eq!(server.get(&query).await.text(), format!("4{name}"));
    }
    let mut web = server.websocket(&websocket(&query)).await;
    web.send("2probe").await;
    assert_eq!(web.text().await, "3probe");
    web.send("5").await;
    web.send("4at last").await;
    assert_eq!(server.message().await, "at last");
}

#[tokio::test]
async fn only_one_at_a_time() {
    let server = Server::start().await;
    let (query, _) = open_polling(&server).await;
    let mut first = server.websocket(&websocket(&query)).await;
    let second = server.refused_websocket(&websocket(&query)).await;
    assert_eq!(second.status, 400);
    first.send("2probe").await;
    assert_eq!(first.text().await, "3probe");
}

#[tokio::test]
async fn a_session_that_ends_meanwhile_does_not_go_over() {
    let server = Server::start().await;
    let (query, socket) = open_polling(&server).await;
    let mut web = server.websocket(&websocket(&query)).await;
    web.send("2probe").await;
    assert_eq!(web.text().await, "3probe");
    socket.close(DisconnectReason::ClosingServer);
    assert_eq!(server.disconnected().await, DisconnectReason::ClosingServer);
    web.send("5").await;
    assert_eq!(web.closed().await, 1000);
}
