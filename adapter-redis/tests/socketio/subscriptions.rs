//! What a pod listens to, and what joining costs.

use std::time::{Duration, Instant};

use adapter_redis::socketio::{AdapterConfig, Profile, Reach};
use socketioxide::{extract::SocketRef, socket::Sid};

use crate::{
    harness::{Adapter, Node, Pod, patient},
    redis_server::{Server, until},
};

async fn channels(server: &Server) -> Vec<String> {
    let channels = server.redis("PUBSUB", &["CHANNELS", "*"]).await;
    let mut channels: Vec<String> = redis::from_redis_value(channels).unwrap();
    channels.sort();
    channels
}

/// Channels beside those that every pod of a namespace has.
async fn rooms(server: &Server) -> Vec<String> {
    let mut channels = channels(server).await;
    channels.retain(|name| name.starts_with("socket.io#/#") && name != "socket.io#/#");
    channels
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_listens_to_the_rooms_that_it_hosts_and_no_other() {
    let server = Server::start().await;
    let pod = Pod::ready(&server, "ours").await;
    let patterns = server.redis("PUBSUB", &["NUMPAT"]).await;
    assert_eq!(patterns, redis::Value::Int(0));
    let [a, b] = [Sid::new(), Sid::new()];
    let adapter = &pod.adapter;
    for sid in [a, b] {
        assert_eq!(adapter.join(sid, "r1").await, Reach::Cluster);
    }
    assert_eq!(adapter.join(a, "r1").await, Reach::Cluster, "twice is once");
    assert_eq!(adapter.attach(a, Profile::default()).await, Reach::Cluster);
    let own = format!("socket.io#/#{a}#");
    let mut want = vec!["socket.io#/#r1".to_owned(), "socket.io#/#r1#".to_owned(), own];
    want.sort();
    assert_eq!(rooms(&server).await, want);

    let before = pod.bus.counters().snapshot().received;
    for channel in ["socket.io#/#r2#", "socket.io#/#r1x#", "socket.io#/other#"] {
        let listeners = server.redis("PUBLISH", &[channel, "x"]).await;
        assert_eq!(listeners, redis::Value::Int(0), "{channel}");
    }
    assert_eq!(pod.bus.counters().snapshot().received, before);

    adapter.leave(a, "r1");
    assert_eq!(adapter.join(a, "r2").await, Reach::Cluster);
    assert!(rooms(&server).await.contains(&"socket.io#/#r1#".to_owned()), "b is in it");
    adapter.leave_all(b);
    adapter.leave_all(a);
    adapter.leave(a, "r2");
    until("nobody is in any room", || async { rooms(&server).await.is_empty().then_some(()) })
        .await;
    assert_eq!(pod.bus.counters().snapshot().subscriptions, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_namespace_and_a_dropped_pod_listen_no_more() {
    let server = Server::start().await;
    let pod = Pod::ready(&server, "ours").await;
    let before = channels(&server).await;
    pod.io.ns("/chat", async |_: SocketRef<Adapter>| {});
    let chat = pod.bus.adapter("/chat").unwrap();
    assert_eq!(chat.join(Sid::new(), "r1").await, Reach::Cluster);
    assert_eq!(channels(&server).await.len(), before.len() + 6);
    pod.io.delete_ns("/chat");
    until("the namespace is left", || async { (channels(&server).await == before).then_some(()) })
        .await;
    drop(chat);
    assert!(pod.bus.adapter("/chat").is_none());
    let bus = pod.bus.clone();
    drop(pod);
    until("only python is listened to", || async {
        (channels(&server).await == ["socketio"]).then_some(())
    })
    .await;
    drop(bus);
    until("nothing is listened to", || async { channels(&server).await.is_empty().then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_that_come_and_go_end_as_they_should() {
    let server = Server::start().await;
    let pod = Pod::ready(&server, "ours").await;
    let mut tasks = Vec::new();
    for n in 0..8 {
        let adapter = pod.adapter.clone();
        tasks.push(tokio::spawn(async move {
            let sid = Sid::new();
            for round in 0..200 {
                let room = format!("r{}", (n + round) % 5);
                let joining = adapter.join(sid, &room);
                // Some leave before the join is through, some after.
                if round % 3 == 0 {
                    adapter.leave(sid, &room);
                    drop(joining);
                } else {
                    assert_eq!(joining.await, Reach::Cluster, "{room}");
                    adapter.leave(sid, &room);
                }
            }
            assert_eq!(adapter.join(sid, "last").await, Reach::Cluster);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    until("only the last room is left", || async {
        (rooms(&server).await == ["socket.io#/#last", "socket.io#/#last#"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_while_it_joins_leaves_nothing() {
    let server = Server::start().await;
    let config = AdapterConfig { sweep_interval: Duration::from_millis(100), ..patient() };
    let pod = Pod::configured(&server, "ours", config).await;
    let node = Node::start(&server);
    let id = node.join("stays", &pod.port).await;
    node.until("stays", "attached").await;
    // As a handler does whose connection went before it.
    assert_eq!(pod.adapter.join(Sid::new(), "r1").await, Reach::Cluster);
    let own = format!("socket.io#/#{id}#");
    until("only who is there is left", || async {
        (rooms(&server).await == [&*own]).then_some(())
    })
    .await;
    assert_eq!(pod.bus.counters().snapshot().orphans, 1);
}

/// Twenty thousand connections, each with its own room, which Node publishes to.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_connections_are_reachable_soon() {
    let server = Server::start().await;
    let pod = Pod::ready(&server, "ours").await;
    let sids: Vec<Sid> = std::iter::repeat_with(Sid::new).take(20_000).collect();
    let begun = Instant::now();
    let joins = sids.iter().map(|sid| pod.adapter.attach(*sid, Profile::default()));
    let reaches = futures_util::future::join_all(joins).await;
    let took = begun.elapsed();
    assert!(reaches.iter().all(|reach| *reach == Reach::Cluster));
    let memory = server.redis("INFO", &["memory"]).await;
    let memory: String = redis::from_redis_value(memory).unwrap();
    let used = memory.lines().find(|line| line.starts_with("used_memory_human")).unwrap();
    println!("20000 subscriptions in {took:?}; redis: {used}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(rooms(&server).await.len(), 20_000);

    let begun = Instant::now();
    for sid in &sids {
        pod.adapter.leave_all(*sid);
    }
    until("nobody is left", || async { rooms(&server).await.is_empty().then_some(()) }).await;
    println!("left after {:?}", begun.elapsed());
}
