//! Signs of life.

use std::time::{Duration, Instant};

use engineioxide::{DisconnectReason, Tuning, config::EngineIoConfigBuilder};

use crate::harness::{Server, open_polling, open_websocket};

fn quick(config: EngineIoConfigBuilder) -> EngineIoConfigBuilder {
    config.ping_interval(Duration::from_millis(100)).ping_timeout(Duration::from_millis(300))
}

#[tokio::test]
async fn a_client_that_answers_stays() {
    let server = Server::with(Tuning::default(), quick).await;
    let (mut web, _) = open_websocket(&server).await;
    let begun = Instant::now();
    for beat in 1..=5 {
        assert_eq!(web.text().await, "2");
        assert!(begun.elapsed() >= Duration::from_millis(100) * beat, "beat {beat} is too early");
        web.send("3").await;
    }
    web.send("4here").await;
    assert_eq!(server.message().await, "here");
}

#[tokio::test]
async fn a_client_that_does_not_is_given_up() {
    let server = Server::with(Tuning::default(), quick).await;
    let begun = Instant::now();
    let (mut web, _) = open_websocket(&server).await;
    assert_eq!(web.text().await, "2");
    assert_eq!(server.disconnected().await, DisconnectReason::HeartbeatTimeout);
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(web.closed().await, 1011);
}

#[tokio::test]
async fn over_polling_too() {
    let server = Server::with(Tuning::default(), quick).await;
    let (query, _) = open_polling(&server).await;
    for _ in 0..3 {
        assert_eq!(server.get(&query).await.text(), "2");
        assert_eq!(server.post(&query, b"3").await.text(), "ok");
    }
    assert_eq!(server.get(&query).await.text(), "2");
    assert_eq!(server.get(&query).await.text(), "1");
    assert_eq!(server.disconnected().await, DisconnectReason::HeartbeatTimeout);
}
