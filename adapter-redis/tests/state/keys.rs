//! What is written to Redis, who may write it, and how Redis is reached.

use std::{process::Command, time::Duration};

use adapter::{Charge, Kind, Queued, Reply, State};
use adapter_redis::{ConnectError, RedisConfig, connect};
use serde_json::json;

use crate::{LONG, harness::Server, hold, sids};

#[tokio::test]
async fn every_key_begins_with_the_prefix_and_an_acl_user_may_use_it() {
    let mut server = Server::start().await;
    let rules = ["SETUSER", "gw", "on", ">s3cret", "~mine:*", "&*", "+@all", "-@dangerous"];
    server.redis("ACL", &rules).await;
    let open = server.config.clone();
    server.config = RedisConfig {
        url: format!("{}?user=gw&pass=s3cret", open.url.reveal()).into(),
        prefix: "mine".to_owned(),
        ..open.clone()
    };
    let pod = server.pod("a").await;
    hold(&pod, Kind::Roster, "room", "s1", "ann").await;
    hold(&pod, Kind::Typing, "room", "s1", "ann").await;
    pod.write("c", "1", json!({}), LONG).await.unwrap();
    pod.patch("c", "1", json!({"a": 1}), LONG).await.unwrap();
    let charge = Charge { bucket: "b".to_owned(), per_second: 0.01, burst: 1, cost: 1 };
    pod.charge(&[charge]).await.unwrap();
    assert!(matches!(pod.enqueue("mine:images", &json!(1), 1).await.unwrap(), Queued::Stored(_)));
    assert_eq!(pod.begin("k", LONG).await.unwrap(), Reply::New);
    pod.answered("k", Some(json!(1)), LONG).await.unwrap();
    let turn = pod.line_up("k").turn().await.unwrap();
    pod.tick().await.unwrap();
    server.config = open;
    let keys = server.keys().await;
    assert!(keys.len() > 12, "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("mine:")), "{keys:?}");
    let message = server.redis("XRANGE", &["mine:images", "-", "+"]).await;
    let message: Vec<(String, Vec<String>)> = redis::from_redis_value(message).unwrap();
    assert_eq!(message[0].1, ["event", "1"], "one field holds the body");
    pod.depart("/codx", "s1").await.unwrap();
    drop(turn);
}

#[tokio::test]
async fn nothing_is_left_of_connections_that_departed() {
    let server = Server::start().await;
    let pod = server.pod("a").await;
    pod.tick().await.unwrap();
    hold(&pod, Kind::Roster, "room", "s0", "eve").await;
    pod.depart("/codx", "s0").await.unwrap();
    pod.tick().await.unwrap();
    let before = server.keys().await;
    for n in 0..20 {
        let (sid, key) = (format!("s{n}"), format!("room{n}"));
        for kind in [Kind::User, Kind::Roster, Kind::Lock, Kind::Typing, Kind::Status] {
            hold(&pod, kind, &key, &sid, "ann").await;
            hold(&pod, kind, &key, &sid, "ann").await;
        }
        hold(&pod, Kind::Roster, "room", &sid, "ann").await;
    }
    for n in 0..20 {
        pod.depart("/codx", &format!("s{n}")).await.unwrap();
    }
    assert_eq!(server.keys().await, before);
}

/// A certificate authority and a server certificate for 127.0.0.1, in the server's directory.
fn certificates(dir: &std::path::Path) {
    let key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"];
    let authority = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority"];
    let leaf = ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=redis"];
    let signed = ["-CA", "ca.pem", "-CAkey", "ca.key"];
    let names = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext"];
    let openssl = |arguments: &[&[&str]]| {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509"]).args(arguments.concat()).current_dir(dir);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    openssl(&[&key, &authority]);
    openssl(&[&key, &leaf, &signed, &names, &["subjectAltName=IP:127.0.0.1"]]);
}

#[tokio::test]
async fn tls_is_spoken_and_its_certificates_are_checked() {
    let mut server = Server::start().await;
    server.kill();
    certificates(&server.dir);
    // Redis cannot say which port it was given, so the kernel is asked first.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = port.to_string();
    let tls = [
        ["--tls-port", &port],
        ["--tls-cert-file", "cert.pem"],
        ["--tls-key-file", "key.pem"],
        ["--tls-ca-cert-file", "ca.pem"],
        ["--tls-auth-clients", "no"],
    ];
    server.arguments = tls.concat().iter().map(ToString::to_string).collect();
    server.start_again().await;

    let mut config = server.config.clone();
    config.url = format!("rediss://127.0.0.1:{port}").into();
    let stranger = connect(config.clone(), "stranger").await.unwrap();
    assert!(!stranger.available(), "an authority that nobody knows is refused");
    config.tls_ca = Some(server.dir.join("ca.pem"));
    let pod = connect(config, "a").await.unwrap();
    assert!(pod.available());
    hold(&pod, Kind::Roster, "room", "s1", "ann").await;
    assert_eq!(sids(&server.pod("b").await, Kind::Roster, "room").await, ["s1"]);
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let cases = [
        ("scheme", RedisConfig { url: "http://user:hush@h".into(), ..RedisConfig::default() }),
        ("prefix", RedisConfig { prefix: "a{b".to_owned(), ..RedisConfig::default() }),
        ("empty prefix", RedisConfig { prefix: String::new(), ..RedisConfig::default() }),
        ("lease", RedisConfig { lease: Duration::ZERO, ..RedisConfig::default() }),
        ("ca", RedisConfig { tls_ca: Some("/nowhere.pem".into()), ..RedisConfig::default() }),
    ];
    for (name, config) in cases {
        let error = connect(config, "a").await.expect_err(name);
        assert!(!format!("{error} {error:?}").contains("hush"), "{name}: {error:?}");
        let fits = match name {
            "scheme" => matches!(error, ConnectError::Url { .. }),
            "lease" => matches!(error, ConnectError::Times(_)),
            "ca" => matches!(error, ConnectError::Certificates { key: "tls_ca", .. }),
            _ => matches!(error, ConnectError::Prefix(_)),
        };
        assert!(fits, "{name}: {error:?}");
    }
}
