//! What the doctor finds, on servers that have it.

use std::{collections::BTreeSet, io::Write, time::Duration};

use adapter::{Kind, State};
use adapter_redis::{
    RedisConfig, connect,
    doctor::{Report, Severity, doctor},
};

use crate::{
    harness::{Node, Pod, patient},
    installation::{Instance, Sentinels, Shards},
    redis_server::{PATIENCE, until},
    two::{Two, hold},
};

fn config(server: &Instance) -> RedisConfig {
    let url = format!("redis://{}", server.address()).into();
    RedisConfig { url, ..RedisConfig::default() }
}

/// What was found that is worse than a note.
fn bad(report: &Report) -> BTreeSet<&'static str> {
    let worse = report.findings.iter().filter(|finding| finding.severity > Severity::Note);
    worse.map(|finding| finding.about).collect()
}

fn all(report: &Report) -> BTreeSet<&'static str> {
    report.findings.iter().map(|finding| finding.about).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_well_is_listed_and_nothing_is_complained_of() {
    let server = Instance::start(&["--tcp-keepalive", "60"]).await;
    let config = config(&server);
    let two = Two::start(&config).await;
    hold(&two.states[0], Kind::Roster, "room", "s1").await;
    two.members("room", &["s1"]).await;
    let report = doctor(&config).await.unwrap();
    assert_eq!(bad(&report), BTreeSet::new(), "{report}");
    let pods: Vec<_> =
        report.pods.iter().map(|pod| (&*pod.pod, pod.connections, pod.answers)).collect();
    assert_eq!(pods, [("a", 1, Some(true)), ("b", 0, Some(true))], "{report}");
    let [namespace] = &report.namespaces[..] else { panic!("{report}") };
    assert_eq!((&*namespace.namespace, namespace.servers, namespace.silent), ("/", 2, 0));
    assert_eq!((&namespace.ours[..], namespace.others), (&["a".to_owned(), "b".to_owned()][..], 0));
    assert_eq!(report.servers.len(), 1);
    assert!(report.to_string().contains("pods whose connections hold anything: 2"), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["pods"][0]["pod"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_bite_are_named() {
    let arguments = [
        ["--maxclients", "40"],
        ["--timeout", "30"],
        ["--maxmemory", "100mb"],
        ["--maxmemory-policy", "allkeys-lru"],
        ["--tcp-keepalive", "0"],
        ["--notify-keyspace-events", "KEA"],
    ];
    let server = Instance::start(&arguments.concat()).await;
    let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let set = ["SET", "client-output-buffer-limit", "pubsub 1mb 512kb 10"];
    redis::cmd("CONFIG").arg(&set).exec_async(&mut connection).await.unwrap();
    let report = doctor(&config(&server)).await.unwrap();
    let want = BTreeSet::from(["eviction", "keepalive", "maxclients", "output-buffer", "timeout"]);
    assert_eq!(bad(&report), want, "{report}");
    assert!(all(&report).contains("notifications"), "{report}");
    assert_eq!(report.worst(), Some(Severity::Error), "{report}");
    assert_eq!(report.findings[0].about, "eviction", "the worst comes first");

    let set = ["SET", "client-output-buffer-limit", "pubsub 0 0 0"];
    redis::cmd("CONFIG").arg(&set).exec_async(&mut connection).await.unwrap();
    let set = ["SET", "maxmemory", "500000"];
    redis::cmd("CONFIG").arg(&set).exec_async(&mut connection).await.unwrap();
    let report = doctor(&config(&server)).await.unwrap();
    assert!(bad(&report).contains("memory"), "{report}");
    let buffer = report.findings.iter().find(|finding| finding.about == "output-buffer").unwrap();
    assert!(buffer.text.contains("no limit"), "{buffer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_counted_and_does_not_answer_is_found() {
    let server = Instance::start(&["--tcp-keepalive", "60"]).await;
    let config = config(&server);
    let pod = Pod::of(&config, "a", patient()).await;
    assert!(pod.bus.ready(PATIENCE).await);
    // As another adapter does that listens to the same channel, or a pod that hangs.
    let url = format!("redis://{}?protocol=resp3", server.address());
    let client = redis::Client::open(url).unwrap();
    let mut stranger = client.get_multiplexed_async_connection().await.unwrap();
    stranger.subscribe("socket.io-request#/#").await.unwrap();
    // It keeps its lease, but nobody's messages reach it.
    let deaf = connect(config.clone(), "b").await.unwrap();
    hold(&deaf, Kind::Roster, "room", "s1").await;
    deaf.tick().await.unwrap();
    let report = doctor(&config).await.unwrap();
    assert_eq!(bad(&report), BTreeSet::from(["deaf", "silent"]), "{report}");
    assert_eq!(report.namespaces[0].silent, 1, "{report}");
    let deaf = report.findings.iter().find(|finding| finding.about == "deaf").unwrap();
    assert!(deaf.text.starts_with("b renews"), "{deaf:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_node_answer_too() {
    let server = Instance::start(&["--tcp-keepalive", "60"]).await;
    let config = config(&server);
    let ours = Pod::of(&config, "a", patient()).await;
    assert!(ours.bus.ready(PATIENCE).await);
    let node = Node::with(format!("redis://{}", server.address()));
    node.serve("one", "{ library: 'ioredis' }").await;
    until("node's pod listens", || async {
        let listeners = server.ask("PUBSUB NUMSUB socket.io-request#/#").await;
        let (_, count): (String, u32) = redis::from_redis_value(listeners).unwrap();
        (count == 2).then_some(())
    })
    .await;
    let report = doctor(&config).await.unwrap();
    assert_eq!(bad(&report), BTreeSet::new(), "{report}");
    let [namespace] = &report.namespaces[..] else { panic!("{report}") };
    assert_eq!((namespace.servers, namespace.others, namespace.silent), (2, 1, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_not_renewed_is_noticed() {
    let server = Instance::start(&["--tcp-keepalive", "60"]).await;
    let config = RedisConfig { lease: Duration::from_secs(4), ..config(&server) };
    let pod = connect(config.clone(), "a").await.unwrap();
    hold(&pod, Kind::Roster, "room", "s1").await;
    pod.tick().await.unwrap();
    until("it is late", || async {
        let report = doctor(&config).await.unwrap();
        bad(&report).contains("lease").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_does_not_read_is_named() {
    let server = Instance::start(&["--tcp-keepalive", "60"]).await;
    let mut listener = std::net::TcpStream::connect(server.address()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    listener.write_all(b"SUBSCRIBE socket.io#/#\r\n").unwrap();
    until("it listens", || async {
        let listeners = server.ask("PUBSUB NUMSUB socket.io#/#").await;
        let (_, count): (String, u32) = redis::from_redis_value(listeners).unwrap();
        (count == 1).then_some(())
    })
    .await;
    let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for _ in 0..24 {
        let mut publish = redis::cmd("PUBLISH");
        let message = vec![b'x'; 1 << 20];
        publish.arg("socket.io#/#").arg(message).exec_async(&mut connection).await.unwrap();
    }
    let report = doctor(&config(&server)).await.unwrap();
    let slow = report.findings.iter().find(|finding| finding.about == "slow-listener");
    assert!(slow.is_some_and(|finding| finding.text.contains(&address)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_formats_under_the_prefix_are_named() {
    let server = Instance::start(&["--tcp-keepalive", "60"]).await;
    let config = config(&server);
    server.ask("XADD socket.io * uid a nsp / type 3 data {}").await;
    let node = Node::with(format!("redis://{}", server.address()));
    node.run("globalThis.emitter = new Emitter(await connect('ioredis', PATH))").await;
    let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    let publisher = client.get_multiplexed_async_connection().await.unwrap();
    let publish = async |channel: &str, message: &[u8]| {
        let mut connection = publisher.clone();
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(message).exec_async(&mut connection).await.unwrap();
    };
    let messages = async {
        // While the doctor listens, whenever that is.
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            node.run("emitter.to('r1').emit('e', 1)").await;
            publish("socket.io#/#", br#"{"uid":"a","nsp":"/","type":9,"data":{}}"#).await;
            publish("socket.io-request#/#", b"hello").await;
            publish("socketio", b"\x80\x04\x95 pickle").await;
            publish("socketio", br#"{"method":"emit","event":"e","data":[]}"#).await;
        }
    };
    let report = tokio::select! {
        report = doctor(&config) => report.unwrap(),
        () = messages => unreachable!("it publishes on and on"),
    };
    let want = BTreeSet::from(["malformed", "python", "streams-adapter"]);
    assert_eq!(bad(&report), want, "{report}");
    let writers: Vec<&str> = report.writers.iter().map(|writer| &*writer.writer).collect();
    assert!(writers.contains(&"an emitter"), "{writers:?}");
    assert!(writers.contains(&"a manager of python-socketio"), "{writers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sharded_adapter_of_node_is_named() {
    let server = Instance::start(&["--tcp-keepalive", "60"]).await;
    let url = format!("redis://{}?protocol=resp3", server.address());
    let client = redis::Client::open(url).unwrap();
    let mut node = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SSUBSCRIBE").arg("socket.io#/#").exec_async(&mut node).await.unwrap();
    let report = doctor(&config(&server)).await.unwrap();
    assert_eq!(bad(&report), BTreeSet::from(["sharded-adapter"]), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_do_little_is_told_what_was_not_looked_at() {
    let server = Instance::start(&[]).await;
    server
        .ask("ACL SETUSER gw on >pw ~gateway:* resetchannels &socket.io* &socketio +@all -@dangerous -psubscribe")
        .await;
    let url = format!("redis://gw:pw@{}", server.address()).into();
    let config = RedisConfig { url, ..RedisConfig::default() };
    let report = doctor(&config).await.unwrap();
    assert_eq!(all(&report), BTreeSet::from(["cluster", "info", "traffic"]), "{report}");
    assert_eq!(report.worst(), Some(Severity::Note));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_is_a_finding() {
    let mut server = Instance::start(&[]).await;
    let config = config(&server);
    server.kill();
    let report = doctor(&config).await.unwrap();
    assert_eq!(bad(&report), BTreeSet::from(["unreachable"]), "{report}");
    assert_eq!(report.worst(), Some(Severity::Error));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_is_examined() {
    let mut sentinels = Sentinels::start().await;
    let report = doctor(&sentinels.config).await.unwrap();
    let about = bad(&report);
    assert!(!about.contains("unreachable") && !about.contains("sentinels"), "{report}");
    assert_eq!(report.servers[0].role, "master", "{report}");
    sentinels.sentinels[0].kill();
    sentinels.sentinels[1].kill();
    until("the last sentinel gives up", || async {
        let report = doctor(&sentinels.config).await.unwrap();
        let mut found = report.findings.iter().filter(|finding| finding.about == "sentinels");
        found.any(|finding| finding.severity == Severity::Error).then_some(())
    })
    .await;

    let mut shards = Shards::start(0).await;
    let two = Two::start(&shards.config).await;
    for state in &two.states {
        hold(state, Kind::Roster, "room", "s1").await;
    }
    let report = doctor(&shards.config).await.unwrap();
    assert_eq!((report.servers.len(), report.namespaces[0].servers), (3, 2), "{report}");
    assert!(!bad(&report).contains("cluster"), "{report}");
    assert!(all(&report).contains("replicas"), "{report}");
    shards.masters[1].kill();
    until("the cluster is down", || async {
        let report = doctor(&shards.config).await.unwrap();
        bad(&report).is_superset(&BTreeSet::from(["cluster", "unreachable"])).then_some(())
    })
    .await;
}
