//! Users who may not do everything, and databases beside the first.

use adapter::{Charge, Kind, State};
use adapter_redis::{RedisConfig, connect};

use crate::{
    harness::{Pod, patient},
    installation::Instance,
    redis_server::{PATIENCE, until},
    two::hold,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_no_more_than_its_prefixes_and_stays_in_its_database() {
    let server = Instance::start(&[]).await;
    let rules =
        "ACL SETUSER gw on >s3cret resetkeys ~mine:* resetchannels &ours* +@all -@dangerous";
    server.ask(rules).await;
    let config = RedisConfig {
        url: format!("redis://gw:s3cret@{}/3", server.address()).into(),
        prefix: "mine".to_owned(),
        channel_prefix: "ours".to_owned(),
        ..RedisConfig::default()
    };
    let settings = adapter_redis::socketio::AdapterConfig {
        python_channel: "ours-python".to_owned(),
        ..patient()
    };
    let state = connect(config.clone(), "a").await.unwrap();
    hold(&state, Kind::Lock, "file", "s1").await;
    let charge = Charge { bucket: "b".to_owned(), per_second: 0.01, burst: 1, cost: 1 };
    state.charge(&[charge]).await.unwrap();
    state.tick().await.unwrap();
    let (a, b) =
        (Pod::of(&config, "a", settings.clone()).await, Pod::of(&config, "b", settings).await);
    assert!(a.bus.ready(PATIENCE).await && b.bus.ready(PATIENCE).await);
    a.io.emit("e", &1).await.unwrap();
    until("it arrives", || async { (b.bus.counters().snapshot().received >= 1).then_some(()) })
        .await;
    assert_eq!(b.bus.counters().snapshot().malformed, 0);

    let keyspace = server.text("INFO keyspace").await;
    let databases: Vec<&str> = keyspace.lines().filter(|line| line.starts_with("db")).collect();
    assert!(matches!(databases[..], [one] if one.starts_with("db3:")), "{databases:?}");
    let channels: Vec<String> =
        redis::from_redis_value(server.ask("PUBSUB CHANNELS *").await).unwrap();
    assert!(channels.iter().all(|name| name.starts_with("ours")), "{channels:?}");
    assert!(channels.len() >= 5, "{channels:?}");
}
