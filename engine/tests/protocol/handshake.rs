//! How a session begins, and what is refused.

use engineioxide::{Cause, TransportType, Tuning};

use crate::harness::{Server, open_polling, open_websocket, session_id};

#[tokio::test]
async fn over_polling() {
    let server = Server::start().await;
    let response = server.get("EIO=4&transport=polling").await;
    assert_eq!(response.status, 200);
    assert!(response.head.contains("content-type: text/plain; charset=utf-8"), "{}", response.head);
    let json = response.text().strip_prefix('0').expect("an open packet");
    let open: serde_json::Value = serde_json::from_str(json).expect("JSON");
    assert!(open["sid"].is_string());
    assert_eq!(open["upgrades"], serde_json::json!(["websocket"]));
    assert_eq!(open["pingInterval"], 25_000);
    assert_eq!(open["pingTimeout"], 20_000);
    assert_eq!(open["maxPayload"], 100_000);
}

#[tokio::test]
async fn over_a_websocket() {
    let server = Server::start().await;
    let mut web = server.websocket("EIO=4&transport=websocket").await;
    let open = web.text().await;
    let open: serde_json::Value = serde_json::from_str(&open[1..]).expect("JSON");
    assert!(open["sid"].is_string());
    assert_eq!(open["upgrades"], serde_json::json!([]));
    assert_eq!(open["pingInterval"], 25_000);
}

#[tokio::test]
async fn what_is_refused_is_told_as_node_does() {
    let server = Server::start().await;
    let unknown = (400, r#"{"code":1,"message":"Session ID unknown"}"#);
    let transport = (400, r#"{"code":0,"message":"Transport unknown"}"#);
    let cases = [
        ("no transport", "EIO=4", transport),
        ("no such transport", "EIO=4&transport=abc", transport),
        ("unknown session", "EIO=4&transport=polling&sid=abc", unknown),
        (
            "a WebSocket that is none",
            "EIO=4&transport=websocket",
            (400, r#"{"code":3,"message":"Bad request"}"#),
        ),
        (
            "version",
            "EIO=2&transport=polling",
            (400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
        ),
    ];
    for (name, query, (status, body)) in cases {
        let response = server.get(query).await;
        assert_eq!((response.status, response.text()), (status, body), "{name}");
        assert!(response.head.contains("content-type: application/json"), "{name}");
    }
    let response = server.post("EIO=4&transport=polling", b"").await;
    assert_eq!(response.text(), r#"{"code":2,"message":"Bad handshake method"}"#);
    let response = server.refused_websocket("EIO=4&transport=websocket&sid=abc").await;
    assert_eq!((response.status, response.text()), unknown, "before the protocol is switched");
}

#[tokio::test]
async fn the_id_of_a_session_is_its_clients_alone() {
    let tuning = Tuning { pod: "pod-1".into(), ..Tuning::default() };
    let (stats, sessions) = (tuning.stats.clone(), tuning.sessions.clone());
    let server = Server::with(tuning, |config| config).await;
    let response = server.get("EIO=4&transport=polling").await;
    let id = session_id(response.text());
    let socket = server.connected().await;
    let secret = id.strip_prefix("pod-1.").expect("it names its pod");
    assert_eq!((secret.len(), socket.id.as_str().len()), (22, 20));
    assert!(!id.contains(socket.id.as_str()));
    for other in [socket.id.to_string(), format!("pod-1.{}", socket.id), secret.to_owned()] {
        let response = server.get(&format!("EIO=4&transport=polling&sid={other}")).await;
        assert_eq!(response.status, 400, "{other}");
    }
    assert_eq!(stats.open(TransportType::Polling), 1);
    assert_eq!(stats.handshakes_refused(1), 3);
    assert_eq!(sessions.count(), 1);
}

#[tokio::test]
async fn closing_all_tells_every_handler() {
    let tuning = Tuning::default();
    let (stats, sessions) = (tuning.stats.clone(), tuning.sessions.clone());
    let server = Server::with(tuning, |config| config).await;
    let (mut web, _) = open_websocket(&server).await;
    let (query, _) = open_polling(&server).await;
    sessions.close_all();
    for _ in 0..2 {
        assert_eq!(server.disconnected().await, engineioxide::DisconnectReason::ClosingServer);
    }
    assert_eq!(web.closed().await, 1000);
    assert_eq!(server.get(&query).await.text(), "1");
    assert_eq!(server.get(&query).await.status, 400);
    assert_eq!(stats.ended(Cause::Server), 2);
}
