//! What servers ask of one another, between Node's and ours.

use std::time::{Duration, Instant};

use adapter_redis::socketio::AdapterConfig;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions, CoreAdapter};

use crate::{
    broadcasts::{END, LIBRARIES, Mixed},
    harness::{Node, Pod, patient},
    redis_server::{Server, until},
};

/// Everybody.
fn all() -> BroadcastOptions {
    let mut options = BroadcastOptions::default();
    options.add_flag(BroadcastFlags::Broadcast);
    options
}

fn within(room: &str) -> BroadcastOptions {
    let mut options = BroadcastOptions::default();
    options.rooms.push(room.to_owned().into());
    options
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_rooms_of_the_cluster_are_known_to_all() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let Mixed { node, pod, ids, .. } = &mixed;
        let [n1, _, o1, _] = ids;
        node.run("await clients.n1.socket.emitWithAck('join', 'r1')").await;
        pod.put(o1, "r1").await;
        assert_eq!(pod.adapter.server_count().await.unwrap(), 2);

        // Node asks. Whatever takes longer than a second waits for somebody who does not answer.
        let begun = Instant::now();
        let seen = node
        .run(
            "const sockets = await servers.stock.fetchSockets();
             return sockets.map((s) => ({ id: s.id, rooms: s.rooms, data: s.data, auth: s.handshake.auth,
                                          headers: s.handshake.headers, time: typeof s.handshake.time }))",
        )
        .await;
        let seen = seen.as_array().unwrap();
        let of = |id: &str| seen.iter().find(|socket| socket["id"] == id).unwrap();
        assert_eq!(seen.len(), 4);
        let rooms: Vec<String> = serde_json::from_value(of(o1)["rooms"].clone()).unwrap();
        assert_eq!(sorted(rooms), sorted(vec!["r1".to_owned(), o1.clone()]));
        assert_eq!(of(o1)["data"], json!({ "server": "ours" }));
        assert_eq!(
            (&of(o1)["auth"], &of(o1)["headers"]),
            (&json!({}), &json!({})),
            "no credentials"
        );
        let in_room = "return (await servers.stock.in('r1').fetchSockets()).map((s) => s.id)";
        let in_room: Vec<String> = serde_json::from_value(node.run(in_room).await).unwrap();
        assert_eq!(sorted(in_room), sorted(vec![n1.clone(), o1.clone()]));
        let rooms = "return [...(await servers.stock.of('/').adapter.allRooms())]";
        let rooms: Vec<String> = serde_json::from_value(node.run(rooms).await).unwrap();
        let mut every = ids.to_vec();
        every.push("r1".to_owned());
        assert_eq!(sorted(rooms), sorted(every.clone()));

        assert!(begun.elapsed() < Duration::from_secs(1), "{library}: {:?}", begun.elapsed());

        // We ask.
        let begun = Instant::now();
        let fetched = pod.adapter.fetch(all()).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{library}: {:?}", begun.elapsed());
        assert_eq!((fetched.missing, fetched.silent.len()), (0, 0));
        let of = |id: &str| fetched.items.iter().find(|socket| socket.id == id).unwrap();
        assert_eq!(fetched.items.len(), 4);
        assert_eq!(of(n1).data, json!({ "server": "stock" }));
        assert_eq!(of(n1).handshake["secure"], false);
        assert!(of(n1).handshake.get("headers").is_none(), "credentials are left where they are");
        assert!(of(n1).rooms.contains(&"r1".into()), "{:?}", of(n1));
        node.run("[...servers.stock.sockets.sockets.values()][0].join(5)").await;
        let numbered = pod.adapter.fetch(all()).await.items;
        assert!(numbered.iter().any(|socket| socket.rooms.contains(&"5".into())), "{numbered:?}");
        node.run("[...servers.stock.sockets.sockets.values()][0].leave(5)").await;
        let in_room = pod.adapter.fetch(within("r1")).await;
        let in_room = in_room.items.into_iter().map(|socket| socket.id).collect();
        assert_eq!(sorted(in_room), sorted(vec![n1.clone(), o1.clone()]));
        assert_eq!(pod.adapter.cluster_rooms(all()).await.items, sorted(every));
        let rooms = pod.adapter.cluster_rooms(within("r1")).await.items;
        assert_eq!(rooms, sorted(vec!["r1".to_owned(), n1.clone(), o1.clone()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_moves_and_disconnects_our_clients() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let Mixed { node, pod, ids: [_, _, o1, o2], .. } = &mixed;
        node.run(&format!("servers.stock.in('{o1}').socketsJoin(['a', 'b'])")).await;
        let told = pod.told.take(2).await;
        assert_eq!(json!(told), json!([["join", "/", o1, "a"], ["join", "/", o1, "b"]]));
        pod.put(o1, "a").await;
        node.run("servers.stock.to('a').emit('e', 1)").await;
        assert_eq!(mixed.heard(END).await[2], [json!(["e", 1])]);

        node.run("servers.stock.in('b').socketsLeave('a')").await;
        assert_eq!(json!(pod.told.take(1).await), json!([["leave", "/", o1, "a"]]));
        node.run("servers.stock.to('a').emit('e', 1)").await;
        assert!(mixed.heard(END).await[2].is_empty());

        node.run("servers.stock.in('b').disconnectSockets(true)").await;
        assert_eq!(json!(pod.told.take(1).await), json!([["disconnect", "/", o1, true]]));
        assert!(node.until("o1", "disconnect").await.is_empty());
        // The old form of the request, which names one connection; its owner answers.
        let request = json!({ "type": 2, "requestId": "old", "sid": o2, "room": "old" });
        mixed.server.redis("PUBLISH", &["socket.io-request#/#", &request.to_string()]).await;
        assert_eq!(json!(pod.told.take(1).await), json!([["join", "/", o2, "old"]]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_move_and_disconnect_nodes_clients() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let Mixed { node, pod, ids: [n1, n2, o1, _], .. } = &mixed;
        pod.io.to(vec![n1.clone(), o1.clone()]).join(["a", "b"]).await.unwrap();
        let joined = format!("return servers.stock.sockets.sockets.get('{n1}').rooms.has('b')");
        until("the client is in the room", || async {
            (node.run(&joined).await == true).then_some(())
        })
        .await;
        pod.io.to("a").emit("e", &1).await.unwrap();
        let heard = mixed.heard_of_ours().await;
        let one = vec![json!(["e", 1])];
        assert_eq!(heard, [one.clone(), vec![], one, vec![]]);

        pod.io.to("a").leave("b").await.unwrap();
        until("the client is out of it", || async {
            (node.run(&joined).await == false).then_some(())
        })
        .await;
        let mut options = BroadcastOptions::default();
        options.rooms.push(n2.clone().into());
        pod.adapter.disconnect(options, true).unwrap();
        assert!(node.until("n2", "disconnect").await.is_empty());
        assert!(pod.told.take(0).await.is_empty(), "hooks tell of others only");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_emit_to_servers() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let Mixed { node, pod, .. } = &mixed;
        node.run("servers.stock.serverSideEmit('hello', 'world', 1)").await;
        assert_eq!(json!(pod.told.take(1).await), json!([["emit", "/", ["hello", "world", 1]]]));
        let answers = node.run("return servers.stock.serverSideEmitWithAck('ping', 2)").await;
        assert_eq!(answers, json!([{ "pong": ["ping", 2] }]));

        node.run(
            "globalThis.got = [];
         servers.stock.on('hello', (...args) => got.push(args));
         servers.stock.on('ask', (value, answer) => answer([value, 'node']))",
        )
        .await;
        pod.adapter.server_side_emit(&[json!("hello"), json!({ "a": 1 })]);
        until("node is told", || async {
            (node.run("return got").await == json!([[{ "a": 1 }]])).then_some(())
        })
        .await;
        let question = [json!("ask"), json!(5)];
        let gathered =
            pod.adapter.server_side_emit_with_ack(&question, Duration::from_secs(10)).await;
        assert_eq!((gathered.items, gathered.missing), (vec![json!([5, "node"])], 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_come_from_everywhere() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let Mixed { node, pod, ids: [n1, _, o1, _], .. } = &mixed;
        let acks = node.run("return servers.stock.timeout(10000).emitWithAck('q', 5)").await;
        let names: Vec<String> = serde_json::from_value(acks).unwrap();
        assert_eq!(sorted(names), ["n1", "n2", "o1", "o2"]);
        let ask = format!("return servers.stock.to('{o1}').timeout(10000).emitWithAck('only', 5)");
        assert_eq!(node.run(&ask).await, json!(["o1"]));

        let echo = format!(
            "return servers.stock.to('{o1}').timeout(10000).emitWithAck('echo', {{ a: Buffer.from([7]) }})"
        );
        assert_eq!(node.run(&echo).await, json!([{ "a": { "hex": "07" } }]));
        let binary = Bytes::from_static(&[7, 8]);
        let operators = pod.io.to(n1.clone()).timeout(Duration::from_secs(30));
        let acks = operators.emit_with_ack::<_, Bytes>("echo", &binary).await.unwrap();
        let acks: Vec<_> = acks.map(|(_, ack)| ack.unwrap()).collect().await;
        assert_eq!(acks, [binary]);

        let begun = Instant::now();
        let acks =
            pod.io.timeout(Duration::from_secs(30)).emit_with_ack::<_, (String, Value)>("q", &5);
        let acks: Vec<_> = acks.await.unwrap().collect().await;
        assert!(begun.elapsed() < Duration::from_secs(10), "it ends when all have answered");
        // Node sends on the first argument of an acknowledgement only; ours are whole.
        assert_eq!(acks.len(), 4, "{acks:?}");
        let here: Vec<_> = acks.iter().filter_map(|(_, ack)| ack.as_ref().ok()).collect();
        assert_eq!(here.len(), 2, "{acks:?}");
        let acks = pod.io.timeout(Duration::from_secs(30)).emit_with_ack::<_, String>("q", &5);
        let acks: Vec<_> = acks.await.unwrap().map(|(_, ack)| ack.unwrap()).collect().await;
        assert_eq!(sorted(acks), ["n1", "n2", "o1", "o2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_ours_answer_one_another_and_silent_ones_are_named() {
    let server = Server::start().await;
    let config = AdapterConfig { request_timeout: Duration::from_secs(2), ..patient() };
    let a = Pod::configured(&server, "a", config).await;
    let b = Pod::ready(&server, "b").await;
    let c = Pod::ready(&server, "c").await;
    assert!(a.bus.ready(crate::redis_server::PATIENCE).await);
    let node = Node::start(&server);
    node.join("at b", &b.port).await;
    let gathered = a.adapter.fetch(all()).await;
    assert_eq!((gathered.items.len(), gathered.missing), (1, 0));

    // Somebody who listens and never answers, as a frozen pod would.
    let client = redis::Client::open(server.config.url.reveal()).unwrap();
    let mut deaf = client.get_async_pubsub().await.unwrap();
    deaf.subscribe("socket.io-request#/#").await.unwrap();
    let begun = Instant::now();
    let gathered = a.adapter.fetch(all()).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((gathered.items.len(), gathered.missing), (1, 1), "what was answered is kept");
    assert!(gathered.silent.is_empty(), "it has no name: {:?}", gathered.silent);

    // One of ours that answers no more though it is still counted.
    let mut stuck = client.get_async_pubsub().await.unwrap();
    stuck.subscribe("socket.io-request#/#").await.unwrap();
    drop(deaf);
    drop(c);
    until("only two listen beside the stuck one", || async {
        let count = server.redis("PUBSUB", &["NUMSUB", "socket.io-request#/#"]).await;
        let (_, count): (String, usize) = redis::from_redis_value(count).unwrap();
        (count == 3).then_some(())
    })
    .await;
    let gathered = a.adapter.fetch(all()).await;
    assert_eq!((gathered.missing, gathered.silent), (1, vec!["c".to_owned()]));
    assert_eq!(a.bus.counters().snapshot().partial, 2);
}
