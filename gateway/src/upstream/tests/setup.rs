//! Which configurations make which upstreams, and the two kinds that speak no HTTP.

use super::*;
use crate::identity::Secret;

#[test]
fn bad_configurations_name_their_key() {
    let cases = [
        ("no url", r#"kind = "http""#, "upstream.app.url"),
        ("not an address", r#"url = "nonsense""#, "upstream.app.url"),
        ("other scheme", r#"url = "ftp://x/""#, "upstream.app.url"),
        ("zero timeout", "url = \"http://x/\"\ntimeout = \"0s\"", "upstream.app.timeout"),
        ("zero reset", "url = \"http://x/\"\nbreaker_reset = \"0s\"", "upstream.app.breaker_reset"),
        ("secret without prefix", "url = \"http://x/\"\nsecret = \"abc\"", "upstream.app.secret"),
        (
            "both secrets",
            "url = \"http://x/\"\nsecret = \"whsec_YQ==\"\nsecret_file = \"f\"",
            "upstream.app.secret",
        ),
        (
            "no such file",
            "url = \"http://x/\"\nsecret_file = \"/nowhere\"",
            "upstream.app.secret_file",
        ),
        ("stream of http", "url = \"http://x/\"\nstream = \"s\"", "upstream.app.stream"),
        ("cap of http", "url = \"http://x/\"\ncap = 5", "upstream.app.cap"),
        ("url of a stream", "kind = \"redis-stream\"\nurl = \"http://x/\"", "upstream.app.url"),
        (
            "secret of a stream",
            "kind = \"redis-stream\"\nsecret = \"whsec_YQ==\"",
            "upstream.app.secret",
        ),
        ("url of the demo", "kind = \"demo\"\nurl = \"http://x/\"", "upstream.app.url"),
        ("empty stream", "kind = \"redis-stream\"\nstream = \"\"", "upstream.app.stream"),
    ];
    for (name, section, key) in cases {
        let config: UpstreamConfig = toml::from_str(section).expect(name);
        let error = build(config).expect_err(name).to_string();
        assert!(error.starts_with(&format!("{key}:")), "{name}: {error}");
    }
    let unread = ["kind = \"grpc\"", "urll = \"x\"", "max_in_flight = 0", "timeout = 5", "cap = 0"];
    for section in unread {
        assert!(toml::from_str::<UpstreamConfig>(section).is_err(), "{section}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let config = UpstreamConfig { secret: Some(Secret::new("whsec_abc")), ..config("http://x/") };
    let shown = format!("{config:?} {}", toml::to_string(&config).unwrap());
    assert!(!shown.contains("whsec_abc"), "{shown}");
    assert!(shown.contains("***"), "{shown}");
}

#[test]
fn the_schema_documents_every_key() {
    let schema = schemars::schema_for!(UpstreamConfig);
    let keys = schema.get("properties").and_then(Value::as_object).expect("an object's schema");
    for (key, of_key) in keys {
        assert!(of_key.get("description").is_some(), "{key}");
    }
    assert_eq!(keys["timeout"]["type"], "string");
}

#[tokio::test]
async fn what_is_not_configured_is_the_demo_and_the_image_stream() {
    struct Two;
    impl DemoScript for Two {
        fn answers(&self, call: &Call) -> Vec<Answer> {
            let part = |number: u8| answer(&json!({"ack": [call.event, number]}));
            vec![part(1), part(2)]
        }
    }
    let memory = Arc::new(MemoryState::new("pod"));
    let state: SharedState = memory.clone();
    let demo: Arc<dyn DemoScript> = Arc::new(Two);
    let upstreams =
        Upstreams::new(&BTreeMap::new(), "pre", &state, &demo, &Registry::new()).unwrap();
    assert_eq!(upstreams.names().collect::<Vec<_>>(), [APP, IMAGES]);
    assert!(upstreams.get("other").is_none());

    let began = tokio::time::Instant::now();
    let parts = all(upstreams.get(APP).unwrap().call(call("e"))).await;
    let want = [1, 2].map(|number| Ok(answer(&json!({"ack": ["e", number]}))));
    assert_eq!(parts, want);
    assert!(began.elapsed() >= Duration::from_millis(60), "a person sees the parts come");

    let parts = all(upstreams.get(IMAGES).unwrap().call(call("upload"))).await;
    let result = parts[0].as_ref().unwrap().result.clone().unwrap();
    let queued = memory.take("pre:images", 10);
    assert_eq!(queued.len(), 1);
    assert_eq!(queued[0].1["id"], result["id"]);
    assert_eq!(queued[0].1["event"], "upload");
    assert_eq!(queued[0].1["connection"]["sid"], "s1");
}

#[tokio::test]
async fn a_full_stream_is_refused_and_not_held_against_it() {
    let section = "kind = \"redis-stream\"\nstream = \"jobs\"\ncap = 2";
    let upstream = upstream(toml::from_str(section).unwrap());
    for want in ["ok", "ok"] {
        assert_eq!(ending(upstream.call(call("e"))).await, want);
    }
    for _ in 0..10 {
        let parts = all(upstream.call(call("e"))).await;
        assert_eq!(parts, [Err(Failure::Unavailable(Reason::QueueFull))]);
    }
    assert!(upstream.healthy());
}
