//! Sharded channels between our own pods.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adapter_redis::socketio::{PubSub, Reach};
use serde_json::{Value, json};

use crate::{
    harness::{Node, Pod, patient},
    installation::{Instance, Shards},
    redis_server::{PATIENCE, until},
    two::{Two, join},
};

async fn sharded_channels(instance: &Instance) -> Vec<String> {
    redis::from_redis_value(instance.ask("PUBSUB SHARDCHANNELS *").await).unwrap()
}

/// The one sharded channel of a room that there is, and its slot.
async fn channel(shards: &Shards, room: &str) -> (String, u16) {
    let mut found = Vec::new();
    for master in &shards.masters {
        let channels = sharded_channels(master).await;
        found.extend(channels.into_iter().filter(|name| name.ends_with(&format!("#/#{room}#"))));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    let name = found.remove(0);
    let slot = shards.masters[0].ask(&format!("CLUSTER KEYSLOT {name}")).await;
    (name, redis::from_redis_value(slot).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn sharded_messages_pass_one_node_and_reach_members_only() {
    let shards = Shards::start(0).await;
    let two = Two::with(&shards.config, PubSub::Sharded).await;
    let bystander = Pod::of(
        &shards.config,
        "c",
        adapter_redis::socketio::AdapterConfig { pubsub: PubSub::Sharded, ..patient() },
    )
    .await;
    assert!(bystander.bus.ready(PATIENCE).await);
    two.messages_flow("sharded").await;
    assert_eq!(bystander.bus.counters().snapshot().received, 0, "the busy room is not its");
    let mut links = 0;
    for master in &shards.masters {
        let info = master.text("CLUSTER INFO").await;
        let sent = info.lines().find(|line| line.contains("messages_publish_sent")).unwrap_or("");
        links += sent.trim().rsplit(':').next().unwrap_or("").parse().unwrap_or(0);
    }
    assert_eq!(links, 0, "no message went from node to node");

    two.pods[0].io.emit("everybody", &1).await.unwrap();
    until("everybody has it", || async {
        let there = bystander.bus.counters().snapshot().received == 1;
        (there && !two.heard("b", "everybody").await.is_empty()).then_some(())
    })
    .await;
    // Backends that know nothing of it are heard all the same.
    for (master, name) in shards.masters.iter().zip(["socket.io#/#", "socket.io#/#room#"]) {
        let client = redis::Client::open(format!("redis://{}", master.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let body = b"\x93\xa1x\x82\xa4type\x02\xa4data\x91\xa7emitter\x80";
        redis::cmd("PUBLISH").arg(name).arg(&body[..]).exec_async(&mut connection).await.unwrap();
    }
    until("the emitter is heard", || async {
        (two.heard("b", "emitter").await.len() == 2).then_some(())
    })
    .await;
}

/// Numbers from one pod to a client of the other until it is told to end; gives how many.
fn traffic(two: &Two, over: &Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let (io, over) = (two.pods[0].io.clone(), over.clone());
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sent = 0;
        while !over.load(Ordering::Relaxed) {
            pace.tick().await;
            io.to("room").emit("n", &sent).await.unwrap();
            sent += 1;
        }
        sent
    })
}

async fn flows(two: &Two) {
    let received = || two.pods[1].bus.counters().snapshot().received;
    let before = received();
    until("traffic flows", || async { (received() > before + 100).then_some(()) }).await;
}

/// In order, none twice, and the last of it.
async fn is_sound(two: &Two, sent: u64) -> usize {
    let last = json!(sent - 1);
    until("the last arrives", || async { two.heard("b", "n").await.contains(&last).then_some(()) })
        .await;
    let heard: Vec<Value> = two.heard("b", "n").await;
    let heard: Vec<u64> = heard.iter().map(|n| n.as_u64().unwrap()).collect();
    assert!(heard.is_sorted_by(|one, next| one < next), "in order, and none twice");
    let here = two.heard("a", "n").await;
    assert_eq!(here.len() as u64, sent, "those here miss nothing");
    heard.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn sharded_channels_move_with_their_slot_under_traffic() {
    let shards = Shards::start(0).await;
    let two = Two::with(&shards.config, PubSub::Sharded).await;
    let over = Arc::new(AtomicBool::new(false));
    let sending = traffic(&two, &over);
    flows(&two).await;
    let (name, slot) = channel(&shards, "room").await;
    let home = Shards::home(slot);
    for step in 0..3 {
        let (from, to) = ((home + step) % 3, (home + step + 1) % 3);
        shards.begin_move(slot, from, to).await;
        flows(&two).await;
        shards.end_move(slot, to).await;
        let target = &shards.masters[to];
        until("the channel is heard where it is now", || async {
            sharded_channels(target).await.contains(&name).then_some(())
        })
        .await;
        flows(&two).await;
    }
    over.store(true, Ordering::Relaxed);
    let sent = sending.await.unwrap();
    let heard = is_sound(&two, sent).await;
    println!("{heard} of {sent} arrived while the slot moved three times");
    assert!(heard as u64 > sent / 2, "what waited arrives: {heard} of {sent}");
    let [a, b] = [&two.pods[0], &two.pods[1]].map(|pod| pod.bus.counters().snapshot());
    assert!(b.gaps >= 3, "each move is told: {b:?}");
    assert_eq!((a.refused, a.stale, b.malformed), (0, 0, 0));
    // A join that is acknowledged reaches whatever is sent after it.
    join(&two.pods[1], &two.ids[1], "other").await;
    two.pods[0].io.to("other").emit("joined", &1).await.unwrap();
    until("it arrives", || async { (!two.heard("b", "joined").await.is_empty()).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sharded_channels_survive_the_failover_of_their_shard() {
    let mut shards = Shards::start(1).await;
    let two = Two::with(&shards.config, PubSub::Sharded).await;
    let (_, slot) = channel(&shards, "room").await;
    let over = Arc::new(AtomicBool::new(false));
    let sending = traffic(&two, &over);
    flows(&two).await;
    shards.masters[Shards::home(slot)].kill();
    until("it is noticed", || async { (!two.pods[1].bus.is_up()).then_some(()) }).await;
    two.is_well().await;
    flows(&two).await;
    over.store(true, Ordering::Relaxed);
    let sent = sending.await.unwrap();
    let heard = is_sound(&two, sent).await;
    println!("{heard} of {sent} arrived over a failover");
    assert!(heard as u64 > sent / 2, "what waited arrives: {heard} of {sent}");
    let a = two.pods[0].bus.counters().snapshot();
    let out = a.published + a.unconfirmed + a.stale + a.refused;
    assert!(out >= sent, "whatever did not arrive was counted: {a:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_change_to_sharded_channels_one_by_one() {
    let shards = Shards::start(0).await;
    let pod = async |name: &str, pubsub| {
        let settings = adapter_redis::socketio::AdapterConfig { pubsub, ..patient() };
        let pod = Pod::of(&shards.config, name, settings).await;
        assert!(pod.bus.ready(PATIENCE).await);
        pod
    };
    // Each step has pods of two kinds, and both hear each other.
    for (one, other) in [(PubSub::Classic, PubSub::Both), (PubSub::Both, PubSub::Sharded)] {
        let (a, b) = (pod("a", one).await, pod("b", other).await);
        for (from, to) in [(&a, &b), (&b, &a)] {
            let before = to.bus.counters().snapshot();
            until("what one sends the other hears", || async {
                // Nodes that only just met may not pass on the first.
                from.io.emit("e", &1).await.unwrap();
                let now = to.bus.counters().snapshot();
                // Its own come back too, and are counted before they are known for that.
                let heard = now.received - now.echoes;
                (heard > before.received - before.echoes + 1).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sharded_channels_bear_junk() {
    let server = Instance::start(&["--save", ""]).await;
    let config = adapter_redis::RedisConfig {
        url: format!("redis://{}", server.address()).into(),
        ..adapter_redis::RedisConfig::default()
    };
    let two = Two::with(&config, PubSub::Sharded).await;
    let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let junk: [&[u8]; 6] = [b"", b"{}", b"\xc1", b"\x93\xa1x\xc0\xc0", &[0x91; 5000], b"hello"];
    let channels = sharded_channels(&server).await;
    let before = two.pods[1].bus.counters().snapshot();
    for channel in &channels {
        for message in junk {
            let mut publish = redis::cmd("SPUBLISH");
            publish.arg(channel).arg(message).exec_async(&mut connection).await.unwrap();
        }
    }
    two.messages_flow("after junk").await;
    let after = two.pods[1].bus.counters().snapshot();
    // Everybody's channel, the room's and the client's own.
    assert_eq!(after.malformed - before.malformed, 3 * 6, "{after:?}");
    assert_eq!(after.gaps, 0);
}

/// As an old Redis does, and some that are for hire.
#[tokio::test(flavor = "multi_thread")]
async fn sharded_channels_that_are_not_there_keep_nobody_from_his_own_clients() {
    let server = Instance::start(&["--save", "", "--rename-command", "SSUBSCRIBE", ""]).await;
    let config = adapter_redis::RedisConfig {
        url: format!("redis://{}", server.address()).into(),
        ..adapter_redis::RedisConfig::default()
    };
    let settings = adapter_redis::socketio::AdapterConfig {
        pubsub: PubSub::Sharded,
        ..adapter_redis::socketio::AdapterConfig::default()
    };
    let pod = Pod::of(&config, "a", settings).await;
    let node = Node::with(String::new());
    let id = node.join("a", &pod.port).await;
    node.until("a", "attached").await;
    let reach = pod.adapter.join(id.parse().unwrap(), "room").await;
    assert_eq!(reach, Reach::Local);
    pod.io.to("room").emit("here", &1).await.unwrap();
    assert!(node.until("a", "here").await.is_empty());
    assert!(!pod.bus.is_up(), "it is told to whoever asks");
    // The others have the requests and the channels of emitters, which are not sharded.
    let listeners = server.ask("PUBSUB NUMSUB socket.io#/#room#").await;
    let (_, count): (String, u32) = redis::from_redis_value(listeners).unwrap();
    assert_eq!(count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sharded_channels_work_without_a_cluster_too() {
    let server = Instance::start(&["--save", ""]).await;
    let config = adapter_redis::RedisConfig {
        url: format!("redis://{}", server.address()).into(),
        ..adapter_redis::RedisConfig::default()
    };
    let two = Two::with(&config, PubSub::Sharded).await;
    two.messages_flow("on one server").await;
    assert!(sharded_channels(&server).await.len() >= 3);
}
