//! Users who may not do everything, and databases beside the first.

use adapter::{Charge, Kind, State};
use adapter_redis::{RedisConfig, connect, socketio::PubSub};

use crate::{
    harness::{Pod, patient},
    installation::{Instance, Sentinels, Shards},
    redis_server::{PATIENCE, until},
    two::{Two, hold},
};

const RULES: &str =
    "ACL SETUSER gw on >s3cret ~gateway:* resetchannels &socket.io* &socketio +@all -@dangerous";

fn login(config: &RedisConfig) -> RedisConfig {
    let url = config.url.reveal().replace("://:one@", "://");
    RedisConfig { url: url.replace("://", "://gw:s3cret@").into(), ..config.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn sharded_channels_need_no_dangerous_commands() {
    let shards = Shards::start(0).await;
    for master in &shards.masters {
        master.ask(RULES).await;
    }
    let two = Two::with(&login(&shards.config), PubSub::Sharded).await;
    two.messages_flow("as a user").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_dangerous_commands_is_served_in_every_shape() {
    let sentinels = Sentinels::start().await;
    for server in &sentinels.servers {
        server.ask(RULES).await;
    }
    let shards = Shards::start(0).await;
    for master in &shards.masters {
        master.ask(RULES).await;
    }
    for config in [&sentinels.config, &shards.config] {
        let two = Two::start(&login(config)).await;
        hold(&two.states[0], Kind::Roster, "room", "s1").await;
        two.members("room", &["s1"]).await;
        two.messages_flow("as a user").await;
        two.states[0].depart("/codx", "s1").await.unwrap();
    }
}

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
