//! Sessions over polling.

use bytes::Bytes;
use engineioxide::{Cause, Connection, DisconnectReason, Tuning};

use crate::harness::{Server, open_polling};

#[tokio::test]
async fn what_is_sent_waits_for_a_poll() {
    let server = Server::start().await;
    let (query, socket) = open_polling(&server).await;
    socket.emit("one").expect("room");
    socket.emit("zwei é").expect("room");
    socket.emit_binary(Bytes::from_static(&[1, 2, 3, 4])).expect("room");
    let response = server.get(&query).await;
    assert_eq!(response.text(), "4one\u{1e}4zwei é\u{1e}bAQIDBA==");
    assert!(response.head.contains("content-type: text/plain; charset=utf-8"));
}

#[tokio::test]
async fn a_poll_waits_for_what_is_sent() {
    let server = Server::start().await;
    let (query, socket) = open_polling(&server).await;
    let poll = server.ask("GET", &query, "text/plain", b"").await;
    assert_eq!(server.post(&query, b"4seen").await.text(), "ok");
    assert_eq!(server.message().await, "seen");
    socket.emit("later").expect("room");
    assert_eq!(poll.answer().await.text(), "4later");
}

#[tokio::test]
async fn what_a_client_sends() {
    let server = Server::start().await;
    let (query, _) = open_polling(&server).await;
    let response = server.post(&query, "4hello\u{1e}4€\u{1e}bAQID\u{1e}6".as_bytes()).await;
    assert_eq!((response.status, response.text()), (200, "ok"));
    assert_eq!(server.message().await, "hello");
    assert_eq!(server.message().await, "€");
    assert_eq!(server.binary().await, Bytes::from_static(&[1, 2, 3]));
}

#[tokio::test]
async fn what_is_no_packet_ends_the_session() {
    let server = Server::start().await;
    let cases: [(&str, &[u8]); 6] = [
        ("no type", b"abc"),
        ("nothing", b""),
        ("no text", b"4\xff"),
        ("no base64", b"b!"),
        ("a ping, which is the server's", b"2"),
        ("a probe", b"2probe"),
    ];
    for (name, body) in cases {
        let (query, _) = open_polling(&server).await;
        assert_eq!(server.post(&query, body).await.status, 400, "{name}");
        assert_eq!(server.disconnected().await, DisconnectReason::PacketParsingError, "{name}");
        assert_eq!(server.get(&query).await.status, 400, "{name}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = Server::with(Tuning::default(), |config| config.max_payload(1000)).await;
    let (query, _) = open_polling(&server).await;
    assert_eq!(server.post(&query, &[b'4'; 1001]).await.status, 413);
    assert_eq!(server.post(&query, &[b'4'; 1000]).await.status, 200);
    assert_eq!(server.message().await.len(), 999);
}

#[tokio::test]
async fn an_answer_is_no_longer_than_the_limit_but_for_one_packet() {
    let server = Server::with(Tuning::default(), |config| config.max_payload(100)).await;
    let (query, socket) = open_polling(&server).await;
    for length in [300, 40, 40, 40] {
        socket.emit("x".repeat(length)).expect("room");
    }
    let mut packets = Vec::new();
    while packets.iter().sum::<usize>() < 4 {
        packets.push(server.get(&query).await.text().split('\u{1e}').count());
    }
    assert_eq!(packets, [1, 2, 1]);
}

#[tokio::test]
async fn two_polls_at_a_time_end_the_session() {
    let server = Server::start().await;
    let (query, socket) = open_polling(&server).await;
    let first = server.ask("GET", &query, "text/plain", b"").await;
    assert_eq!(server.post(&query, b"4the first poll is there by now").await.status, 200);
    server.message().await;
    let second = server.ask("GET", &query, "text/plain", b"").await;
    let statuses = [first.answer().await, second.answer().await];
    let mut statuses = statuses.map(|answer| (answer.status, answer.text().to_owned()));
    statuses.sort();
    assert_eq!(statuses[0], (200, "1".to_owned()));
    assert_eq!(statuses[1].0, 400);
    assert_eq!(server.disconnected().await, DisconnectReason::MultipleHttpPollingError);
    let connection = socket.req_parts.extensions.get::<Connection>().expect("a connection");
    assert_eq!(connection.ended(), Some(Cause::Overlap));
}

#[tokio::test]
async fn a_poll_that_is_taken_back_ends_the_session() {
    let server = Server::start().await;
    let (query, _) = open_polling(&server).await;
    let poll = server.ask("GET", &query, "text/plain", b"").await;
    assert_eq!(server.post(&query, b"4the poll is there by now").await.status, 200);
    server.message().await;
    drop(poll);
    assert_eq!(server.disconnected().await, DisconnectReason::TransportError);
    assert_eq!(server.get(&query).await.status, 400);
}

#[tokio::test]
async fn the_client_closes() {
    let server = Server::start().await;
    let (query, _) = open_polling(&server).await;
    let poll = server.ask("GET", &query, "text/plain", b"").await;
    assert_eq!(server.post(&query, b"4the poll is there by now\x1e1").await.text(), "ok");
    server.message().await;
    assert_eq!(server.disconnected().await, DisconnectReason::TransportClose);
    assert_eq!(poll.answer().await.text(), "6");
    assert_eq!(server.get(&query).await.text(), r#"{"code":1,"message":"Session ID unknown"}"#);
}

#[tokio::test]
async fn the_server_closes_after_what_waits() {
    let server = Server::start().await;
    let (query, socket) = open_polling(&server).await;
    socket.emit("last words").expect("room");
    socket.close(DisconnectReason::ClosingServer);
    assert!(socket.is_closed());
    assert!(socket.emit("too late").is_err());
    assert_eq!(server.disconnected().await, DisconnectReason::ClosingServer);
    assert_eq!(server.post(&query, b"4too late").await.status, 400);
    assert_eq!(server.get(&query).await.text(), "4last words\u{1e}1");
    assert_eq!(server.get(&query).await.status, 400);
}

#[tokio::test]
async fn other_methods_are_refused() {
    let server = Server::start().await;
    let (query, _) = open_polling(&server).await;
    for method in ["PUT", "DELETE", "PATCH"] {
        let response = server.ask(method, &query, "text/plain", b"").await.answer().await;
        assert_eq!(response.status, 400, "{method}");
    }
}
