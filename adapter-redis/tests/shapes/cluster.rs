//! The state and the channels of Node in a Redis Cluster.

use std::{sync::Arc, time::Duration};

use adapter::{
    Kind, Place, SharedState, State, StateError,
    conformance::{Cluster, Failure, ONE_POD, TWO_PODS},
};
use adapter_redis::{RedisConfig, connect};
use async_trait::async_trait;
use serde_json::json;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions, CoreAdapter};

use crate::{
    harness::Node,
    installation::Shards,
    redis_server::{PATIENCE, until},
    two::{Two, hold, place, wish},
};

struct Suite(RedisConfig);

#[async_trait]
impl Cluster for Suite {
    async fn pod(&self, name: &str) -> Result<SharedState, Failure> {
        let state = connect(self.0.clone(), name).await;
        Ok(Arc::new(state.map_err(|error| Failure::new(error.to_string()))?))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    let shards = Shards::start(0).await;
    let mut failures = Vec::new();
    for case in ONE_POD.iter().chain(TWO_PODS) {
        for master in &shards.masters {
            master.ask("FLUSHALL").await;
        }
        if let Err(failure) = case.run(&Suite(shards.config.clone())).await {
            failures.push(format!("{}: {failure:?}", case.name));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The slot of what is held in the namespace of these tests.
async fn slot(shards: &Shards) -> u16 {
    let slot = shards.masters[0].ask("CLUSTER KEYSLOT gateway:{/codx}").await;
    redis::from_redis_value(slot).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_stay_whole_while_their_slot_moves() {
    let shards = Shards::start(0).await;
    let two = Two::start(&shards.config).await;
    for n in 0..20 {
        hold(&two.states[n % 2], Kind::Roster, "room", &format!("s{n:02}")).await;
    }
    hold(&two.states[0], Kind::Lock, "file", "s00").await;
    let slot = slot(&shards).await;
    let (from, to) = (Shards::home(slot), (Shards::home(slot) + 1) % 3);

    shards.begin_move(slot, from, to).await;
    assert!(shards.move_keys(slot, from, to, 3).await > 0);
    // With half of its keys gone nobody is told half of the truth, and nothing is written.
    let denied = two.states[1].hold(wish(Kind::Lock, "file", "s01")).await;
    assert!(matches!(denied, Err(StateError::Unavailable(_))), "{denied:?}");
    let holds = two.states[1].holds(&place(Kind::Roster, "room")).await;
    assert!(matches!(holds, Err(StateError::Unavailable(_))), "{holds:?}");
    assert!(two.states[1].available(), "the servers are well");
    two.states[1].write("c", "1", json!(1), PATIENCE).await.unwrap();
    while shards.move_keys(slot, from, to, 100).await > 0 {}
    shards.end_move(slot, to).await;

    let all: Vec<String> = (0..20).map(|n| format!("s{n:02}")).collect();
    let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
    all.sort_unstable();
    two.members("room", &all).await;
    let denied = two.states[1].hold(wish(Kind::Lock, "file", "s01")).await.unwrap();
    assert!(denied.is_err(), "the lock is held: {denied:?}");
    let departed = two.states[0].depart("/codx", "s00").await.unwrap();
    assert_eq!(departed.released.len(), 2, "{departed:?}");
    let left = shards.masters[from].ask(&format!("CLUSTER COUNTKEYSINSLOT {slot}")).await;
    assert_eq!(left, redis::Value::Int(0), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_on_their_way_are_found() {
    let shards = Shards::start(0).await;
    let state = connect(shards.config.clone(), "a").await.unwrap();
    let slot = shards.masters[0].ask("CLUSTER KEYSLOT gateway:doc:{c}:1").await;
    let slot: u16 = redis::from_redis_value(slot).unwrap();
    let (from, to) = (Shards::home(slot), (Shards::home(slot) + 1) % 3);
    state.write("c", "1", json!({"n": 1}), PATIENCE).await.unwrap();
    shards.begin_move(slot, from, to).await;
    assert_eq!(state.read("c", "1").await.unwrap(), Some(json!({"n": 1})));
    while shards.move_keys(slot, from, to, 100).await > 0 {}
    assert_eq!(state.read("c", "1").await.unwrap(), Some(json!({"n": 1})), "it is asked for there");
    assert_eq!(state.count("c").await.unwrap(), 1, "a script is, too");
    state.patch("c", "1", json!({"m": 2}), PATIENCE).await.unwrap();
    shards.end_move(slot, to).await;
    assert_eq!(state.read("c", "1").await.unwrap(), Some(json!({"n": 1, "m": 2})));
}

fn everybody() -> BroadcastOptions {
    let mut options = BroadcastOptions::default();
    options.add_flag(BroadcastFlags::Broadcast);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_on_different_nodes_are_one_cluster() {
    let shards = Shards::start(0).await;
    let two = Two::start(&shards.config).await;
    let [a, b] = &two.pods;
    // Where a pod listens is chosen at random: pods are added until two nodes have some.
    let mut more = Vec::new();
    loop {
        let mut listened = 0;
        for master in &shards.masters {
            let heard = master.ask("PUBSUB NUMSUB socket.io-request#/#").await;
            let (_, count): (String, u32) = redis::from_redis_value(heard).unwrap();
            listened += usize::from(count > 0);
        }
        if listened > 1 {
            break;
        }
        let pod = crate::harness::Pod::of(&shards.config, "more", crate::harness::patient()).await;
        assert!(pod.bus.ready(PATIENCE).await);
        more.push(pod);
    }
    assert_eq!(usize::from(a.adapter.server_count().await.unwrap()), 2 + more.len());
    let gathered = b.adapter.fetch(everybody()).await;
    assert_eq!((gathered.items.len(), gathered.missing), (2, 0));
    two.messages_flow("across nodes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_node_are_in_the_same_cluster() {
    let shards = Shards::start(0).await;
    let two = Two::start(&shards.config).await;
    let node = Node::with(format!("redis://{}", shards.masters[2].address()));
    let port = node.serve("stock", "{ library: 'cluster' }").await;
    node.join("n", &port).await;
    node.run("await clients.n.socket.emitWithAck('join', 'room')").await;
    until("everybody is counted", || async {
        (two.pods[0].adapter.server_count().await.ok()? == 3).then_some(())
    })
    .await;
    let sockets = node.run("return (await servers.stock.fetchSockets()).length").await;
    assert_eq!(sockets, 3);
    let gathered = two.pods[1].adapter.fetch(everybody()).await;
    assert_eq!((gathered.items.len(), gathered.missing), (3, 0));
    two.pods[0].io.to("room").emit("ours", &1).await.unwrap();
    assert!(node.until("n", "ours").await.is_empty());
    node.run("servers.stock.to('room').emit('nodes', 1)").await;
    for client in ["a", "b"] {
        until("node's event arrives", || async {
            (two.heard(client, "nodes").await == [1]).then_some(())
        })
        .await;
    }
    let acks = node.run("return servers.stock.timeout(10000).emitWithAck('q', 5)").await;
    assert_eq!(acks.as_array().unwrap().len(), 3, "{acks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_of_a_shard_is_replaced() {
    let mut shards = Shards::start(1).await;
    let two = Two::start(&shards.config).await;
    hold(&two.states[0], Kind::Roster, "room", "s1").await;
    hold(&two.states[1], Kind::Roster, "room", "s2").await;
    two.members("room", &["s1", "s2"]).await;
    let slot = slot(&shards).await;
    let victim = Shards::home(slot);
    shards.masters[victim].kill();
    two.members("room", &["s1", "s2"]).await;
    two.messages_flow("after").await;
    two.is_well().await;
    hold(&two.states[0], Kind::Roster, "later", "s3").await;
    two.members("later", &["s3"]).await;
}

/// A namespace whose holds are on this master.
async fn namespace_on(shards: &Shards, master: usize) -> String {
    for n in 0.. {
        let namespace = format!("/n{n}");
        let slot = shards.masters[0].ask(&format!("CLUSTER KEYSLOT gateway:{{{namespace}}}")).await;
        if Shards::home(redis::from_redis_value(slot).unwrap()) == master {
            return namespace;
        }
    }
    unreachable!("every master has slots")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_are_buried_while_another_shard_is_away() {
    let mut shards = Shards::start(0).await;
    for master in &shards.masters {
        master.ask("CONFIG SET cluster-require-full-coverage no").await;
    }
    let config = RedisConfig { lease: Duration::from_secs(2), ..shards.config.clone() };
    let pods = [
        connect(config.clone(), "a").await.unwrap(),
        connect(config.clone(), "b").await.unwrap(),
        connect(config, "c").await.unwrap(),
    ];
    let mut namespaces = Vec::new();
    for master in 0..3 {
        namespaces.push(namespace_on(&shards, master).await);
    }
    for (pod, sid) in pods.iter().zip(["a1", "b1", "c1"]) {
        for namespace in &namespaces {
            let mut wish = wish(Kind::Roster, "room", sid);
            wish.place.namespace.clone_from(namespace);
            pod.hold(wish).await.unwrap().unwrap();
        }
        pod.tick().await.unwrap();
    }
    // The master that goes is the one that knows all namespaces.
    let slot = shards.masters[0].ask("CLUSTER KEYSLOT gateway:namespaces").await;
    let away = Shards::home(redis::from_redis_value(slot).unwrap());
    shards.masters[away].kill();
    let [a, b, dead] = pods;
    drop(dead);
    let found = parking_lot::Mutex::new(Vec::new());
    until("what the dead pod held elsewhere ends", || async {
        for pod in [&a, &b] {
            if let Ok(lapsed) = pod.tick().await {
                found.lock().extend(lapsed.departed);
            }
        }
        (found.lock().len() >= 2).then_some(())
    })
    .await;
    let found = found.into_inner();
    assert!(found.iter().all(|departed| departed.sid == "c1"), "nobody else: {found:?}");
    assert_eq!(found.len(), 2, "each once: {found:?}");
    for (master, namespace) in namespaces.iter().enumerate().filter(|(master, _)| *master != away) {
        let place = Place { namespace: namespace.clone(), ..place(Kind::Roster, "room") };
        let holds = a.holds(&place).await.unwrap();
        assert_eq!(holds.len(), 2, "on master {master}: {holds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_away_keeps_nobody_from_the_others() {
    let mut shards = Shards::start(0).await;
    for master in &shards.masters {
        master.ask("CONFIG SET cluster-require-full-coverage no").await;
    }
    let state = connect(shards.config.clone(), "a").await.unwrap();
    let slot = slot(&shards).await;
    hold(&state, Kind::Roster, "room", "s1").await;
    let collections: Vec<String> = (0..30).map(|n| format!("c{n}")).collect();
    for collection in &collections {
        state.write(collection, "1", json!(1), Duration::from_mins(10)).await.unwrap();
    }
    shards.masters[Shards::home(slot)].kill();
    until("it is noticed", || async {
        let _ = state.held_by("/codx", "s1").await;
        (!state.available()).then_some(())
    })
    .await;
    let mut answered = 0;
    for collection in &collections {
        answered += usize::from(state.read(collection, "1").await.is_ok());
    }
    assert!((10..30).contains(&answered), "{answered} of 30 collections are on the others");
    shards.masters[Shards::home(slot)].start_again().await;
    until("it is back", || async {
        let _ = state.tick().await;
        state.available().then_some(())
    })
    .await;
    until("what was held is registered again", || async {
        let _ = state.tick().await;
        let holds = state.holds(&place(Kind::Roster, "room")).await.ok()?;
        (holds.len() == 1).then_some(())
    })
    .await;
}
