//! Backends without a server of their own: the stock emitter, python-socketio's manager, and others that
//! write the format in their own way.

use rand::RngExt;
use serde_json::{Value, json};

use crate::{
    broadcasts::Mixed,
    harness::{Node, Pod, python},
    redis_server::{Server, until},
};

/// Two clients of a pod of ours.
struct Alone {
    node: Node,
    pod: Pod,
    ids: [String; 2],
    server: Server,
}

impl Alone {
    async fn start() -> Self {
        let server = Server::start().await;
        let pod = Pod::ready(&server, "ours").await;
        let node = Node::start(&server);
        let ids = [node.join("a", &pod.port).await, node.join("b", &pod.port).await];
        for client in ["a", "b"] {
            node.until(client, "attached").await;
        }
        pod.put(&ids[0], "r1").await;
        Self { node, pod, ids, server }
    }

    /// What both heard. Redis keeps the order of what was published before, on whatever channel.
    async fn heard(&self) -> [Vec<Value>; 2] {
        let end = b"\x93\xa1x\x82\xa4type\x02\xa4data\x91\xa3end\x80";
        self.publish("socket.io#/#", end).await;
        [self.node.until("a", "end").await, self.node.until("b", "end").await]
    }

    async fn publish(&self, channel: &str, message: &[u8]) {
        let client = redis::Client::open(self.server.config.url.reveal()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(message).exec_async(&mut connection).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_emitter_reaches_everybody() {
    let mixed = Mixed::start("ioredis").await;
    let Mixed { node, pod, ids: [_, n2, o1, o2], .. } = &mixed;
    node.run("globalThis.emitter = new Emitter(await connect('ioredis', PATH))").await;
    node.run("await clients.n1.socket.emitWithAck('join', 'r1')").await;
    pod.put(o1, "r1").await;
    pod.put(o2, "5").await;
    let e = vec![json!(["e", 1])];
    let none = Vec::new;
    let cases = [
        ("all", "emitter.emit('e', 1)".to_owned(), [true; 4]),
        ("a room", "emitter.to('r1').emit('e', 1)".to_owned(), [true, false, true, false]),
        ("except", "emitter.except('r1').emit('e', 1)".to_owned(), [false, true, false, true]),
        ("two", format!("emitter.to(['{n2}', '{o1}']).emit('e', 1)"), [false, true, true, false]),
        ("uncompressed", "emitter.compress(false).emit('e', 1)".to_owned(), [true; 4]),
        ("elsewhere", "emitter.of('/other').emit('e', 1)".to_owned(), [false; 4]),
        (
            "of without its slash",
            "emitter.of('other').to('r1').emit('e', 1)".to_owned(),
            [false; 4],
        ),
        (
            "rooms but rooms",
            format!("emitter.to('r1').to('{n2}').except(['{o1}', 'r9']).emit('e', 1)"),
            [true, true, false, false],
        ),
        ("a number", "emitter.to(5).emit('e', 1)".to_owned(), [false, false, false, true]),
        ("none of a number", "emitter.in(6).emit('e', 1)".to_owned(), [false; 4]),
    ];
    for (name, code, want) in cases {
        node.run(&code).await;
        let heard = mixed.heard("emitter.emit('end')").await;
        assert_eq!(heard, want.map(|heard| if heard { e.clone() } else { none() }), "{name}");
    }
    node.run("emitter.emit('e', Buffer.from([5]))").await;
    assert_eq!(mixed.heard("emitter.emit('end')").await[3], [json!(["e", { "hex": "05" }])]);

    node.run("emitter.in('r1').socketsJoin(['x'])").await;
    assert_eq!(json!(pod.told.take(1).await), json!([["join", "/", o1, "x"]]));
    node.run("emitter.in('x').socketsLeave(['r1'])").await;
    assert_eq!(json!(pod.told.take(1).await), json!([["leave", "/", o1, "r1"]]));
    node.run("emitter.serverSideEmit('ev', 1, 'a')").await;
    assert_eq!(json!(pod.told.take(1).await), json!([["emit", "/", ["ev", 1, "a"]]]));
    node.run("emitter.socketsJoin('everybody')").await;
    let mut told = pod.told.take(2).await;
    told.sort_by_key(Value::to_string);
    let mut want =
        vec![json!(["join", "/", o1, "everybody"]), json!(["join", "/", o2, "everybody"])];
    want.sort_by_key(Value::to_string);
    assert_eq!(told, want);
    until("a volatile event arrives", || async {
        // It may be dropped wherever a connection is not ready.
        node.run(&format!("emitter.volatile.to('{o2}').emit('v', 1)")).await;
        let heard = mixed.heard("emitter.emit('end')").await;
        (!heard[3].is_empty()).then_some(())
    })
    .await;
    node.run(&format!("emitter.in('{o2}').disconnectSockets(true)")).await;
    assert_eq!(json!(pod.told.take(1).await), json!([["disconnect", "/", o2, true]]));
    node.run("emitter.in('x').disconnectSockets()").await;
    assert_eq!(json!(pod.told.take(1).await), json!([["disconnect", "/", o1, false]]));
    assert!(node.until("o1", "disconnect").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_of_python_socketio_reaches_our_clients() {
    let alone = Alone::start().await;
    let [a, b] = &alone.ids;
    let code = format!(
        "manager.emit('all', 'x')\n\
         manager.emit('tuple', (1, 'b', None))\n\
         manager.emit('list', [1, 2], room='r1')\n\
         manager.emit('skip', {{'k': 1}}, skip_sid='{a}')\n\
         manager.emit('bin', ({{'f': b'\\x03', 'g': [b'\\x04']}}, 't'))\n\
         manager.emit('one', None, room='{b}')\n\
         manager.emit('other', 'x', namespace='/other')\n\
         manager.enter_room('{b}', '/', 'r2')\n\
         manager.emit('entered', 1, room='r2')\n\
         manager.leave_room('{b}', '/', 'r2')\n\
         manager.emit('left', 1, room='r2')\n\
         manager.emit('end', ())"
    );
    python(&alone.server, &code).await;
    let bin = json!(["bin", { "f": { "hex": "03" }, "g": [{ "hex": "04" }] }, "t"]);
    let first = json!([["all", "x"], ["tuple", 1, "b", null], ["list", [1, 2]], bin]);
    let second = json!([
        ["all", "x"], ["tuple", 1, "b", null], ["skip", { "k": 1 }], bin, ["one", null],
        ["entered", 1]
    ]);
    assert_eq!(Value::Array(alone.node.until("a", "end").await), first);
    assert_eq!(Value::Array(alone.node.until("b", "end").await), second);
    let told = alone.pod.told.take(2).await;
    assert_eq!(json!(told), json!([["join", "/", b, "r2"], ["leave", "/", b, "r2"]]));

    let code = format!(
        "\
         manager.close_room('r1', '/')\n\
         socketio.Server(client_manager=manager)  # Without one it cannot disconnect.\n\
         manager.can_disconnect('{b}', '/')"
    );
    python(&alone.server, &code).await;
    let told = alone.pod.told.take(2).await;
    assert_eq!(json!(told), json!([["leave", "/", a, "r1"], ["disconnect", "/", b, false]]));
    assert!(alone.node.until("b", "disconnect").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_manager_of_python_socketio_reaches_our_clients() {
    let alone = Alone::start().await;
    let code = "\
        async def main():\n    \
            manager = socketio.AsyncRedisManager(address, write_only=True)\n    \
            await manager.emit('one', {'a': [1, 2.5, None]}, room='r1')\n    \
            await manager.emit('bin', b'\\x01\\x02')\n    \
            await manager.emit('end', ())\n\
        asyncio.run(main())";
    python(&alone.server, code).await;
    let bin = json!(["bin", { "hex": "0102" }]);
    assert_eq!(
        alone.node.until("a", "end").await,
        [json!(["one", {"a": [1, 2.5, null]}]), bin.clone()]
    );
    assert_eq!(alone.node.until("b", "end").await, [bin]);
    assert_eq!(alone.pod.bus.counters().snapshot().malformed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_emitters_are_understood() {
    let alone = Alone::start().await;
    let event = |rooms: &[u8], flags: &[u8]| {
        let mut message =
            b"\x93\xa1x\x83\xa4type\x05\xa4data\x92\xa1e\x01\xa3nsp\xa1/\x82".to_vec();
        message.extend([b"\xa5rooms", rooms, b"\xa5flags", flags].concat());
        message
    };
    let e = json!(["e", 1]);
    let cases = [
        ("no end of the channel", "socket.io#/#r1", event(b"\x91\xa2r1", b"\x80"), [1, 0]),
        ("empty texts", "socket.io#/#", event(b"\xa0", b"\xa0"), [1, 1]),
        ("lists for maps", "socket.io#/#", event(b"\x90", b"\x90"), [1, 1]),
        ("nothing", "socket.io#/#", event(b"\xc0", b"\xc0"), [1, 1]),
        ("the channel says nothing", "socket.io#/#r1#", event(b"\x90", b"\x80"), [1, 1]),
        ("nobody here", "socket.io#/#r1#", event(b"\x91\xa2r9", b"\x80"), [0, 0]),
    ];
    for (name, channel, message, want) in cases {
        alone.publish(channel, &message).await;
        let want = want.map(|times| vec![e.clone(); times]);
        assert_eq!(alone.heard().await, want, "{name}");
    }
    alone.pod.put(&alone.ids[1], "5").await;
    alone.publish("socket.io#/#5#", &event(b"\x91\x05", b"\x80")).await;
    assert_eq!(alone.heard().await, [vec![], vec![e]], "a number is a room");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_ignored_and_counted() {
    let alone = Alone::start().await;
    let uid_channel = {
        let channels = alone.server.redis("PUBSUB", &["CHANNELS", "socket.io-response#/#*#"]).await;
        let channels: Vec<String> = redis::from_redis_value(channels).unwrap();
        channels.into_iter().find(|name| name != "socket.io-response#/#").unwrap()
    };
    let messages: [&[u8]; 12] = [
        b"",
        b"hello",
        b"\xc0",
        b"\xc1",
        b"{",
        b"{}",
        b"[]",
        b"{\"type\":5}",
        b"{\"type\":99}",
        b"\x83\xa4type\x03\xa4data\x80\xa3nsp\xa1/",
        &[0x91; 5000],
        &[0xff; 100],
    ];
    let channels = [
        "socket.io#/#",
        "socket.io#/#r1#",
        "socket.io#/#r1",
        "socket.io-request#/#",
        "socket.io-response#/#",
        &uid_channel,
        "socketio",
    ];
    for channel in channels {
        for message in messages {
            alone.publish(channel, message).await;
        }
    }
    assert_eq!(alone.heard().await, [Vec::<Value>::new(), Vec::new()]);
    let sent = u64::try_from(channels.len() * messages.len()).unwrap();
    let counters = alone.pod.bus.counters().snapshot();
    assert_eq!((counters.received, counters.malformed), (sent + 1, sent), "{counters:?}");
    until("the pod is well", || async { alone.pod.bus.is_up().then_some(()) }).await;
}

/// Messages that are almost right go furthest.
#[tokio::test(flavor = "multi_thread")]
async fn no_message_on_any_channel_ends_a_pod() {
    let alone = Alone::start().await;
    let sid = &alone.ids[0];
    let seeds: Vec<Vec<u8>> = vec![
        b"\x93\xa1x\x83\xa4type\x02\xa4data\x92\xa1e\x01\xa3nsp\xa1/\x82\xa5rooms\x91\xa2r1\xa5flags\x80".to_vec(),
        b"\x85\xa3uid\xa1u\xa9requestId\xa1i\xa4type\x07\xa6packet\x83\xa4type\x02\xa4data\x92\xa1q\xc4\x01\x07\xa3nsp\xa1/\xa4opts\x83\xa5rooms\x90\xa6except\x90\xa5flags\x81\xa7timeout\x64".to_vec(),
        br#"{"uid":"u","requestId":"i","type":5,"opts":{"rooms":["r1"],"except":[]}}"#.to_vec(),
        br#"{"uid":"u","requestId":"i","type":1}"#.to_vec(),
        format!(r#"{{"type":2,"requestId":"i","sid":"{sid}","room":"x"}}"#).into_bytes(),
        br#"{"type":3,"opts":{"rooms":["r1"],"except":[]},"rooms":["r9"]}"#.to_vec(),
        br#"{"uid":"u","requestId":"i","type":6,"data":["hello",1]}"#.to_vec(),
        br#"{"requestId":"i","type":8,"clientCount":1}"#.to_vec(),
        br#"{"requestId":"i","sockets":[{"id":"a","rooms":[1]}]}"#.to_vec(),
        br#"{"method":"emit","event":"hi","data":[[{"_placeholder":true,"num":0}],"AQI="],"binary":true,"namespace":"/"}"#.to_vec(),
    ];
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(7);
    let client = redis::Client::open(alone.server.config.url.reveal()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let channels = [
        "socket.io#/#",
        "socket.io#/#r1#",
        "socket.io-request#/#",
        "socket.io-response#/#",
        "socketio",
    ];
    let mut sent = 0;
    for _ in 0..100 {
        let mut batch = redis::pipe();
        for seed in &seeds {
            let mut message = seed.clone();
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..message.len());
                message[at] = random.random();
            }
            if random.random_range(0..4) == 0 {
                message.truncate(random.random_range(0..message.len()));
            }
            for channel in channels {
                batch.cmd("PUBLISH").arg(channel).arg(&message).ignore();
                sent += 1;
            }
        }
        batch.exec_async(&mut connection).await.unwrap();
    }
    until("all is read", || async {
        (alone.pod.bus.counters().snapshot().received >= sent).then_some(())
    })
    .await;
    let counters = alone.pod.bus.counters().snapshot();
    // Answers of the pod to nobody in particular come back to it too.
    assert_eq!(counters.gaps, 0, "no connection was lost: {counters:?}");
    assert!(counters.malformed > 0 && counters.requests > 0, "{counters:?}");
    assert!(alone.pod.bus.is_up());
    let [a, b] = alone.heard().await;
    assert!(!a.is_empty() && !b.is_empty(), "what was still right was heard");
}
