//! Redis that dies, comes back empty, or hangs, under traffic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use adapter_redis::socketio::{AdapterConfig, Reach};
use serde_json::{Value, json};
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions, CoreAdapter};

use crate::{
    harness::{Node, Pod, soon},
    redis_server::{PATIENCE, Server, until},
};

/// Two pods of ours with one client each, both in `room`.
async fn two(server: &Server, hang_timeout: Duration) -> (Pod, Pod, Node, [String; 2]) {
    let config = AdapterConfig {
        join_timeout: Duration::from_millis(300),
        ping_interval: Duration::from_millis(100),
        hang_timeout,
        ..AdapterConfig::default()
    };
    let a = Pod::configured(server, "a", config.clone()).await;
    let b = Pod::configured(server, "b", config).await;
    assert!(a.bus.ready(PATIENCE).await && b.bus.ready(PATIENCE).await);
    let node = Node::start(server);
    let ids = [node.join("a", &a.port).await, node.join("b", &b.port).await];
    for client in ["a", "b"] {
        node.until(client, "attached").await;
    }
    for (pod, id) in [(&a, &ids[0]), (&b, &ids[1])] {
        let joined = || async {
            let reach = pod.adapter.join(id.parse().unwrap(), "room").await;
            (reach == Reach::Cluster).then_some(())
        };
        until("everybody is in the room", joined).await;
    }
    (a, b, node, ids)
}

async fn back(a: &Pod, b: &Pod) {
    for pod in [a, b] {
        until("the pod is up", || async { pod.bus.is_up().then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_delivery_goes_on_and_everything_returns() {
    for hang in [false, true] {
        let mut server = Server::start().await;
        let (a, b, node, [first, second]) = two(&server, Duration::from_millis(500)).await;
        if hang {
            server.freeze();
        } else {
            server.kill();
        }
        until("it is noticed", || async { (!a.bus.is_up() && !b.bus.is_up()).then_some(()) }).await;

        let begun = Instant::now();
        for n in 0..50 {
            a.io.to("room").emit("local", &n).await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        a.io.to(first.clone()).emit("mark", &()).await.unwrap();
        let heard = node.until("a", "mark").await;
        assert_eq!(heard, (0..50).map(|n| json!(["local", n])).collect::<Vec<_>>(), "hang: {hang}");

        // A join holds here at once, and is told within its time.
        let begun = Instant::now();
        let reach = b.adapter.join(second.parse().unwrap(), "late").await;
        assert_eq!(reach, Reach::Local);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        b.io.to("late").emit("here", &()).await.unwrap();
        assert!(node.until("b", "here").await.iter().all(|event| event[0] == "local"));
        let gathered = soon("fetching", a.adapter.fetch(everybody())).await;
        assert_eq!((gathered.items.len(), gathered.missing), (1, 1), "hang: {hang}");

        if hang {
            server.thaw();
        } else {
            server.start_again().await;
        }
        back(&a, &b).await;
        assert!(a.bus.flush(PATIENCE).await && b.bus.flush(PATIENCE).await);
        a.io.to("late").emit("joined meanwhile", &()).await.unwrap();
        node.until("b", "joined meanwhile").await;
        b.io.to("room").emit("again", &()).await.unwrap();
        node.until("a", "again").await;
        for pod in [&a, &b] {
            until("the gap is told", || async {
                pod.told.take(1).await.contains(&json!(["gap"])).then_some(())
            })
            .await;
            assert!(pod.bus.counters().snapshot().gaps >= 1);
        }
    }
}

fn everybody() -> BroadcastOptions {
    let mut options = BroadcastOptions::default();
    options.add_flag(BroadcastFlags::Broadcast);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_goes_on_over_a_restart() {
    let mut server = Server::start().await;
    let (a, b, node, _) = two(&server, PATIENCE).await;
    let (io, over) = (a.io.clone(), Arc::new(AtomicBool::new(false)));
    let ends = over.clone();
    let traffic = tokio::spawn(async move {
        let mut sent = 0_u64;
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        while !ends.load(Ordering::Relaxed) {
            pace.tick().await;
            io.to("room").emit("n", &sent).await.unwrap();
            sent += 1;
        }
        sent
    });
    let received = || b.bus.counters().snapshot().received;
    until("traffic flows", || async { (received() > 100).then_some(()) }).await;
    for _ in 0..2 {
        server.kill();
        until("it is noticed", || async { (!b.bus.is_up()).then_some(()) }).await;
        server.start_again().await;
        back(&a, &b).await;
        let before = received();
        until("traffic flows again", || async { (received() > before + 100).then_some(()) }).await;
    }
    over.store(true, Ordering::Relaxed);
    let sent = traffic.await.unwrap();
    assert!(a.bus.flush(PATIENCE).await);
    a.io.to("room").emit("end", &()).await.unwrap();
    let numbers = |heard: Vec<Value>| -> Vec<u64> {
        heard.iter().map(|event| event[1].as_u64().unwrap()).collect()
    };
    let here = numbers(node.until("a", "end").await);
    assert_eq!(here, (0..sent).collect::<Vec<_>>(), "those here miss nothing");
    let there = numbers(node.until("b", "end").await);
    assert!(there.is_sorted_by(|one, next| one < next), "in order, and none twice");
    assert!(there.contains(&(sent - 1)), "the last of it arrives");
    let counters = a.bus.counters().snapshot();
    assert_eq!(
        counters.published + counters.unconfirmed + counters.stale,
        sent + 1,
        "{counters:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded() {
    let mut server = Server::start().await;
    server.kill();
    let config = AdapterConfig {
        outgoing_messages: 10.try_into().unwrap(),
        outgoing_age: Duration::from_secs(2),
        ..AdapterConfig::default()
    };
    let pod = Pod::configured(&server, "a", config).await;
    assert!(!pod.bus.is_up());
    for n in 0..25 {
        pod.io.emit("e", &n).await.unwrap();
    }
    assert_eq!(pod.bus.counters().snapshot().refused, 15);
    until("what is old is dropped", || async {
        (pod.bus.counters().snapshot().stale == 10).then_some(())
    })
    .await;
    server.start_again().await;
    assert!(pod.bus.ready(PATIENCE).await, "it begins without redis");
    pod.io.emit("e", &()).await.unwrap();
    until("it is published", || async {
        (pod.bus.counters().snapshot().published == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_pod_notices_that_redis_is_back() {
    let mut server = Server::start().await;
    let pod = Pod::ready(&server, "a").await;
    assert_eq!(pod.adapter.server_count().await.unwrap(), 1);
    server.kill();
    assert!(pod.adapter.server_count().await.is_err());
    assert!(!pod.bus.is_up());
    server.start_again().await;
    until("the pod is up", || async { pod.bus.is_up().then_some(()) }).await;
}
