//! Events between Node's pods and ours.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use adapter_redis::socketio::Reach;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::RngExt;
use serde_json::{Value, json};

use crate::{
    harness::{Node, Pod},
    redis_server::{PATIENCE, Server, until},
};

/// The two clients of Redis that Node's pods use.
pub(crate) const LIBRARIES: [&str; 2] = ["ioredis", "redis"];

/// Two servers, one of each kind, with two clients each: `n1`, `n2` and `o1`, `o2`.
pub(crate) struct Mixed {
    pub(crate) node: Node,
    pub(crate) pod: Pod,
    pub(crate) ids: [String; 4],
    pub(crate) server: Server,
}

impl Mixed {
    pub(crate) async fn start(library: &str) -> Self {
        let server = Server::start().await;
        let pod = Pod::ready(&server, "ours").await;
        let node = Node::start(&server);
        let port = node.serve("stock", &format!("{{ library: '{library}' }}")).await;
        let ids = [
            node.join("n1", &port).await,
            node.join("n2", &port).await,
            node.join("o1", &pod.port).await,
            node.join("o2", &pod.port).await,
        ];
        for ours in ["o1", "o2"] {
            assert!(node.until(ours, "attached").await.is_empty());
        }
        Self { node, pod, ids, server }
    }

    /// What every client has heard up to `end`, which this code sends to everybody.
    pub(crate) async fn heard(&self, code: &str) -> [Vec<Value>; 4] {
        self.node.run(code).await;
        self.heard_to_the_end().await
    }

    /// The same, where our pod sends it.
    pub(crate) async fn heard_of_ours(&self) -> [Vec<Value>; 4] {
        self.pod.io.emit("end", &()).await.unwrap();
        self.heard_to_the_end().await
    }

    async fn heard_to_the_end(&self) -> [Vec<Value>; 4] {
        let mut heard = [const { Vec::new() }; 4];
        for (client, heard) in ["n1", "n2", "o1", "o2"].into_iter().zip(&mut heard) {
            *heard = self.node.until(client, "end").await;
        }
        heard
    }
}

/// Sent by the stock server, behind whatever it has sent before.
pub(crate) const END: &str = "servers.stock.emit('end')";

fn event(name: &str) -> Vec<Value> {
    vec![json!([name, 1])]
}

#[tokio::test(flavor = "multi_thread")]
async fn node_reaches_ours() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let Mixed { node, pod, ids: [_, n2, o1, o2], .. } = &mixed;
        node.run("await clients.n1.socket.emitWithAck('join', 'r1')").await;
        let reach = node.run("return clients.o1.socket.emitWithAck('join', 'r1')").await;
        assert_eq!(reach, "Cluster");
        pod.put(o2, "r2").await;

        let cases = [
            ("all", "io.emit('e', 1)".to_owned(), [true, true, true, true]),
            ("a room", "io.to('r1').emit('e', 1)".to_owned(), [true, false, true, false]),
            ("rooms", "io.to(['r1','r2']).emit('e', 1)".to_owned(), [true, false, true, true]),
            ("another room", "io.to('r3').emit('e', 1)".to_owned(), [false; 4]),
            ("except", "io.except('r1').emit('e', 1)".to_owned(), [false, true, false, true]),
            ("one of ours", format!("io.to('{o1}').emit('e', 1)"), [false, false, true, false]),
            ("but ours", format!("io.except('{o1}').emit('e', 1)"), [true, true, false, true]),
            (
                "others",
                format!("io.sockets.sockets.get('{n2}').broadcast.emit('e', 1)"),
                [true, false, true, true],
            ),
            ("local", "io.local.emit('e', 1)".to_owned(), [true, true, false, false]),
        ];
        for (name, code, want) in cases {
            node.run(&format!("const io = servers.stock; {code}")).await;
            let heard = mixed.heard(END).await;
            let want = want.map(|heard| if heard { event("e") } else { Vec::new() });
            assert_eq!(heard, want, "{name} with {library}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_reach_node() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let Mixed { node, pod, ids: [n1, n2, o1, o2], .. } = &mixed;
        node.run("await clients.n1.socket.emitWithAck('join', 'r1')").await;
        pod.put(o1, "r1").await;
        pod.put(o2, "r2").await;

        let io = &pod.io;
        let first = io.get_socket(o1.parse().unwrap()).unwrap();
        io.emit("e", &1).await.unwrap();
        assert_eq!(mixed.heard_of_ours().await, [(); 4].map(|()| event("e")), "all");
        let cases = [
            ("a room", io.to("r1"), [true, false, true, false]),
            ("rooms", io.to(["r1", "r2"]), [true, false, true, true]),
            ("but a room", io.except("r1"), [false, true, false, true]),
            ("one of Node's", io.to(n2.clone()), [false, true, false, false]),
            ("one of ours", io.to(o2.clone()), [false, false, false, true]),
            ("all but one of Node's", io.except(n1.clone()), [false, true, true, true]),
            ("others", first.broadcast(), [true, true, false, true]),
            ("others in a room", first.to("r1"), [true, false, false, false]),
            ("a room, all of it", first.within("r1"), [true, false, true, false]),
            ("here", io.local(), [false, false, true, true]),
        ];
        for (name, operators, want) in cases {
            operators.emit("e", &1).await.unwrap();
            let heard = mixed.heard_of_ours().await;
            let want = want.map(|heard| if heard { event("e") } else { Vec::new() });
            assert_eq!(heard, want, "{name}");
        }
        let counters = pod.bus.counters().snapshot();
        assert_eq!((counters.malformed, counters.unwritable, counters.refused), (0, 0, 0));
    }
}

/// A volatile event may be dropped wherever a connection is not ready, and goes by a way of its own, so that
/// others overtake it: only that some arrive is certain, and that none arrives twice.
#[tokio::test(flavor = "multi_thread")]
async fn volatile_events_cross_both_ways() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let (count, seen) = (AtomicU64::new(0), Mutex::new(HashSet::new()));
        let arrived = |client: usize, heard: &[Value]| {
            for event in heard {
                let number = event[1].as_u64().filter(|n| *n < count.load(Ordering::Relaxed));
                assert_eq!((&event[0], number.is_some()), (&json!("v"), true), "{event}");
                assert!(seen.lock().insert((client, number)), "{event} came twice");
            }
            (!heard.is_empty()).then_some(())
        };
        until("Node's arrives", || async {
            let number = count.fetch_add(1, Ordering::Relaxed);
            mixed.node.run(&format!("servers.stock.volatile.emit('v', {number})")).await;
            let [.., o1, o2] = mixed.heard(END).await;
            let (first, second) = (arrived(2, &o1), arrived(3, &o2));
            first.and(second)
        })
        .await;
        until("ours arrives", || async {
            let number = count.fetch_add(1, Ordering::Relaxed);
            mixed.pod.io.volatile().emit("v", &number).await.unwrap();
            let [n1, n2, ..] = mixed.heard_of_ours().await;
            let first = arrived(0, &n1.into_iter().filter(|v| v[1] == number).collect::<Vec<_>>());
            let second = arrived(1, &n2.into_iter().filter(|v| v[1] == number).collect::<Vec<_>>());
            first.and(second)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_crosses_both_ways() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let value = json!({
            "text": "quote \" and \u{1F980}", "whole": 5, "negative": -70000, "big": 9_007_199_254_740_991_i64,
            "real": 1.25, "list": [[], {}, null, true], "deep": {"a": {"b": [1, 2]}}
        });
        let code = format!(
            "servers.stock.emit('e', {value}, Buffer.from([1, 2, 3]), {{ x: new Uint8Array([9]), at: new Date(0) }})"
        );
        mixed.node.run(&code).await;
        let at = json!("1970-01-01T00:00:00.000Z");
        let want = json!([["e", value, {"hex": "010203"}, {"x": {"hex": "09"}, "at": at}]]);
        for heard in mixed.heard(END).await {
            assert_eq!(Value::Array(heard), want, "from Node");
        }

        let binary = Bytes::from_static(&[1, 2, 3]);
        let nested = serde_json::Map::from_iter([("n".to_owned(), json!(2))]);
        mixed
            .pod
            .io
            .emit("e", &(&value, &binary, (&Bytes::from_static(&[9]), nested)))
            .await
            .unwrap();
        let want = json!([["e", value, {"hex": "010203"}, [{"hex": "09"}, {"n": 2}]]]);
        for heard in mixed.heard_of_ours().await {
            assert_eq!(Value::Array(heard), want, "from ours");
        }
    }
}

/// A value that a client may send, with whatever is odd about it.
fn odd(random: &mut impl RngExt, depth: u32) -> Value {
    let texts =
        ["", "__proto__", "constructor", "\u{0}", "\u{1F980}", "a\"b\\c", "_placeholder", "num"];
    let text = |random: &mut _| texts[RngExt::random_range(random, 0..texts.len())].to_owned();
    match random.random_range(0..if depth == 0 { 8 } else { 10 }) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random_range(-9_007_199_254_740_991_i64..=9_007_199_254_740_991)),
        3 => json!(random.random_range(-200_i64..300)),
        4 => json!(random.random_range(-1e9..1e9)),
        5 => json!(f64::MIN_POSITIVE * random.random_range(1.0..9.0)),
        6 => json!("x".repeat(random.random_range(0..70_000) >> random.random_range(0..16))),
        7 => json!(text(random)),
        8 => (0..random.random_range(0..20)).map(|_| odd(random, depth - 1)).collect(),
        _ => {
            let fields = (0..random.random_range(0..20)).map(|_| {
                // This name is no field in JavaScript, on whichever way it comes.
                let name = text(random).replace("__proto__", "proto");
                (name, odd(random, depth - 1))
            });
            Value::Object(fields.collect())
        }
    }
}

/// What is odd but right reaches Node's clients as it reaches ours, and ends no pod of Node's.
#[tokio::test(flavor = "multi_thread")]
async fn odd_values_cross_as_they_are() {
    for library in LIBRARIES {
        let mixed = Mixed::start(library).await;
        let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(11);
        for round in 0..30 {
            let values: Vec<Value> = (0..10).map(|_| odd(&mut random, 3)).collect();
            for value in &values {
                mixed.pod.io.emit("e", value).await.unwrap();
            }
            let [n1, n2, o1, o2] = mixed.heard_of_ours().await;
            assert_eq!(n1.len(), values.len(), "round {round} with {library}");
            assert_eq!(n1, o1, "round {round} with {library}");
            assert_eq!((&n2, &o2), (&n1, &o1), "round {round} with {library}");
        }
        let counters = mixed.pod.bus.counters().snapshot();
        assert_eq!((counters.unwritable, counters.malformed), (0, 0), "{counters:?}");
        // Node's pod is well, and answers.
        let sockets = mixed.node.run("return (await servers.stock.fetchSockets()).length").await;
        assert_eq!(sockets, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_and_nothing_is_doubled() {
    let mixed = Mixed::start("ioredis").await;
    let Mixed { node, pod, ids: [_, _, o1, o2], .. } = &mixed;
    pod.put(o1, "r1").await;
    pod.put(o2, "r1").await;
    node.run("await clients.n1.socket.emitWithAck('join', 'r1')").await;
    // Within what the library queues for a connection, so that nothing is refused.
    for n in 0..100 {
        pod.io.to("r1").emit("e", &n).await.unwrap();
    }
    let want: Vec<Value> = (0..100).map(|n| json!(["e", n])).collect();
    let [n1, n2, o1, o2] = mixed.heard_of_ours().await;
    assert_eq!(n1, want);
    assert!(n2.is_empty());
    assert_eq!((o1, o2), (want.clone(), want));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_arrives_whole() {
    let server = Server::start().await;
    let (a, b) = (Pod::ready(&server, "a").await, Pod::ready(&server, "b").await);
    let reach = b.adapter.join(socketioxide::socket::Sid::new(), "room").await;
    assert_eq!(reach, Reach::Cluster);
    let (count, begun) = (20_000, Instant::now());
    let text = "x".repeat(200);
    for n in 0..count {
        a.io.to("room").emit("e", &(n, &text)).await.unwrap();
    }
    let written = begun.elapsed();
    assert!(a.bus.flush(PATIENCE).await);
    let received = || b.bus.counters().snapshot().received;
    until("all is received", || async { (received() >= count).then_some(()) }).await;
    println!("{count} messages: written in {written:?}, received after {:?}", begun.elapsed());
    let sent = a.bus.counters().snapshot();
    assert_eq!((sent.published, sent.refused, sent.unconfirmed), (count, 0, 0));
    assert_eq!((received(), b.bus.counters().snapshot().malformed), (count, 0));
}
