//! Clients that do not read, do not come back, or send too much.

use std::{num::NonZeroU32, time::Duration};

use engineioxide::{Cause, Connection, DisconnectReason, Pace, TransportType, Tuning};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Server, open_polling, open_websocket, within};

/// More than the buffers of the two kernels' ends take.
const MUCH: usize = 20 << 20;

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_when_too_much_waits() {
    let tuning = Tuning { queue_bytes: 1 << 20, ..Tuning::default() };
    let stats = tuning.stats.clone();
    let server = Server::with(tuning, |config| config).await;
    let (web, socket) = open_websocket(&server).await;
    let mut sent = 0;
    let text = "x".repeat(64 << 10);
    while socket.emit(text.clone()).is_ok() {
        sent += text.len();
        assert!(sent < MUCH, "what waits is bounded");
        tokio::task::yield_now().await;
    }
    assert_eq!(server.disconnected().await, DisconnectReason::TransportError);
    within("the end of the transport", socket.closed()).await;
    let connection = socket.req_parts.extensions.get::<Connection>().expect("a connection");
    assert_eq!((connection.ended(), connection.queued()), (Some(Cause::SlowConsumer), 0));
    assert_eq!(stats.ended(Cause::SlowConsumer), 1);
    assert!(stats.dropped() > 0 && stats.high_water() > 0);
    assert_eq!(stats.open(TransportType::Websocket), 0);
    drop(web);
}

#[tokio::test]
async fn volatile_packets_give_way_and_the_rest_arrives() {
    let tuning = Tuning { queue_bytes: 1000, volatile_bytes: 500, ..Tuning::default() };
    let stats = tuning.stats.clone();
    let server = Server::with(tuning, |config| config).await;
    let (query, socket) = open_polling(&server).await;
    assert!(socket.emit_volatile("v".repeat(400)));
    assert!(socket.emit_volatile("w".repeat(400)));
    assert!(!socket.emit_volatile("too much waits"), "beyond its share");
    socket.emit("r".repeat(400)).expect("room");
    socket.emit("s".repeat(100)).expect("volatile ones give way");
    let text = server.get(&query).await.text().to_owned();
    assert_eq!(text, format!("4{}\u{1e}4{}", "r".repeat(400), "s".repeat(100)));
    assert_eq!(stats.volatile_dropped(), 3);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_after_a_while() {
    for (name, tuning) in [
        (
            "a write that stalls",
            Tuning { write_timeout: Duration::from_millis(200), ..Tuning::default() },
        ),
        (
            "a packet that waits",
            Tuning { queue_timeout: Duration::from_millis(200), ..Tuning::default() },
        ),
    ] {
        let tuning =
            Tuning { queue_bytes: MUCH, close_timeout: Duration::from_millis(100), ..tuning };
        let stats = tuning.stats.clone();
        let server = Server::with(tuning, |config| config).await;
        let (web, socket) = open_websocket(&server).await;
        for _ in 0..MUCH >> 20 {
            socket.emit("x".repeat(1 << 20)).expect("room");
        }
        assert_eq!(server.disconnected().await, DisconnectReason::TransportError, "{name}");
        within("the end of the transport", socket.closed()).await;
        assert_eq!(stats.ended(Cause::WriteTimeout), 1, "{name}");
        drop(web);
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_reads_stays() {
    let tuning = Tuning {
        queue_bytes: 2 * MUCH,
        write_timeout: Duration::from_secs(5),
        ..Tuning::default()
    };
    let server = Server::with(tuning, |config| config).await;
    let (mut web, socket) = open_websocket(&server).await;
    for number in 0..MUCH >> 16 {
        let number = number.to_string();
        socket.emit(number.clone() + &"x".repeat((64 << 10) - number.len())).expect("room");
    }
    for number in 0..MUCH >> 16 {
        let text = web.text().await;
        assert_eq!(text.len(), 1 + (64 << 10));
        assert!(text[1..].starts_with(&number.to_string()), "in order");
    }
    assert!(!socket.is_closed());
}

#[tokio::test]
async fn a_client_that_sends_without_reading_is_not_read_from() {
    let tuning = Tuning { queue_bytes: 1 << 20, ..Tuning::default() };
    let server = Server::with(tuning, |config| config).await;
    let (web, socket) = open_websocket(&server).await;
    let (mut sink, mut stream) = web.0.split();
    let text = "x".repeat(60 << 10);
    let asked = text.clone();
    let sent = tokio::spawn(async move {
        for number in 0..MUCH >> 16 {
            sink.send(Message::text(format!("4echo:{number} {asked}"))).await.expect("it is sent");
        }
        sink
    });
    // It is held up as soon as as much waits for it as may before it is read from again.
    while socket.req_parts.extensions.get::<Connection>().map(Connection::queued) < Some(1 << 19) {
        tokio::task::yield_now().await;
    }
    for number in 0..MUCH >> 16 {
        let message = within("an answer", stream.next()).await.expect("a frame").expect("a frame");
        assert_eq!(message.into_text().expect("text").as_str(), format!("4{number} {text}"));
    }
    drop(within("the sender", sent).await.expect("it sent all"));
    assert!(!socket.is_closed());
}

#[tokio::test]
async fn a_polling_client_that_does_not_come_back_is_closed() {
    let tuning = Tuning { poll_timeout: Duration::from_millis(200), ..Tuning::default() };
    let stats = tuning.stats.clone();
    let server = Server::with(tuning, |config| config).await;
    let (query, socket) = open_polling(&server).await;
    socket.emit("fetched").expect("room");
    assert_eq!(server.get(&query).await.text(), "4fetched");
    assert_eq!(server.disconnected().await, DisconnectReason::TransportError);
    assert_eq!(stats.ended(Cause::PollTimeout), 1);
    assert_eq!(server.get(&query).await.status, 400);
}

fn three_a_second() -> Option<Pace> {
    NonZeroU32::new(3).map(|per_second| Pace { per_second, burst: 5 })
}

#[tokio::test]
async fn a_flood_of_frames_is_closed() {
    let tuning = Tuning { packets: three_a_second(), excesses: 10, ..Tuning::default() };
    let stats = tuning.stats.clone();
    let server = Server::with(tuning, |config| config).await;
    let (mut web, socket) = open_websocket(&server).await;
    for _ in 0..3 {
        web.send("4in its pace").await;
        server.message().await;
    }
    assert!(!socket.is_closed());
    // Frames that nobody is told of are counted too.
    while web.0.send(Message::Pong(bytes::Bytes::new())).await.is_ok() {}
    assert_eq!(server.disconnected().await, DisconnectReason::TransportError);
    assert_eq!(stats.ended(Cause::Flood), 1);
}

#[tokio::test]
async fn a_flood_of_bytes_is_closed_with_its_code() {
    let pace = NonZeroU32::new(1000).map(|per_second| Pace { per_second, burst: 10_000 });
    let tuning = Tuning { bytes: pace, excesses: 0, ..Tuning::default() };
    let server = Server::with(tuning, |config| config).await;
    let (mut web, _) = open_websocket(&server).await;
    web.send(&format!("4echo:{}", "x".repeat(20_000))).await;
    loop {
        match web.next().await {
            Some(Message::Close(frame)) => {
                assert_eq!(frame.map(|frame| frame.code.into()), Some(1008));
                break;
            }
            Some(_) => {}
            None => panic!("no close frame"),
        }
    }
    assert_eq!(server.disconnected().await, DisconnectReason::TransportError);
}

#[tokio::test]
async fn a_flood_over_polling_is_closed() {
    let tuning = Tuning { packets: three_a_second(), excesses: 0, ..Tuning::default() };
    let server = Server::with(tuning, |config| config).await;
    let (query, _) = open_polling(&server).await;
    assert_eq!(server.post(&query, b"6\x1e6\x1e6").await.status, 200);
    assert_eq!(server.post(&query, b"6\x1e6\x1e6").await.status, 400);
    assert_eq!(server.disconnected().await, DisconnectReason::TransportError);
}

#[tokio::test]
async fn a_session_is_closed_from_outside_for_a_cause() {
    let tuning = Tuning::default();
    let stats = tuning.stats.clone();
    let server = Server::with(tuning, |config| config).await;
    let (mut web, socket) = open_websocket(&server).await;
    let connection = socket.req_parts.extensions.get::<Connection>().expect("a connection").clone();
    assert_eq!(connection.transport(), Some(TransportType::Websocket));
    assert_eq!(connection.ended(), None);
    connection.end(Cause::Flood);
    connection.end(Cause::Server);
    assert_eq!(connection.ended(), Some(Cause::Flood));
    assert_eq!(web.closed().await, 1008);
    assert_eq!(server.disconnected().await, DisconnectReason::TransportError);
    assert_eq!((stats.ended(Cause::Flood), stats.ended(Cause::Server)), (1, 0));
}
