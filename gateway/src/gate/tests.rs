//! Whatever a peer sends, the gate lets it pass or refuses it; it never panics.

use std::{net::Ipv4Addr, sync::Arc, time::Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::check;
use crate::{
    config::{Config, Mount},
    contract::{BUILT_IN, Contract},
    metrics::Metrics,
    mount::{Mounted, mounts},
    refusal::Code,
    session::{Bucket, Identity, Session},
    wire::Peer,
};

fn session(mount: &Arc<Mounted>, identity: Identity) -> Session {
    let bucket = Bucket::new(0, 0, Instant::now());
    let ip = Ipv4Addr::LOCALHOST.into();
    Session::new("AAAAAAAAAAAAAAAA", mount.clone(), ip, Peer::detached(), identity, bucket, 10)
}

fn everybody() -> Vec<Session> {
    let config = Config::default();
    let metrics = Metrics::new().expect("metrics");
    let mounted = mounts(&config, &metrics.events).expect("the demo mounting");
    let user = crate::identity::User { id: "ann".to_owned(), name: None };
    let roles = ["teacher", "service"].map(str::to_owned).to_vec();
    mounted
        .iter()
        .filter(|mount| !mount.debug)
        .flat_map(|mount| {
            let known =
                Identity { user: Some(user.clone()), roles: roles.clone(), ..Identity::default() };
            [session(mount, Identity::default()), session(mount, known)]
        })
        .collect()
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!({"_placeholder": true, "num": 3})),
    ];
    // Keys that contracts know, so that the way goes deep.
    let key = prop_oneof![
        "[a-z]{1,6}",
        Just("projectId".to_owned()),
        Just("userId".to_owned()),
        Just("file".to_owned()),
        Just("update".to_owned()),
        Just("updates".to_owned()),
        Just("session_id".to_owned()),
        Just("message".to_owned()),
        Just("room".to_owned()),
        Just("chat".to_owned()),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_payload_of_any_event(args in proptest::collection::vec(any_json(), 0..3), odd in "\\PC{0,20}") {
        for session in everybody() {
            let names: Vec<String> = session.mount.contract().event.keys().cloned().collect();
            for name in names.into_iter().chain([odd.clone()]) {
                let known = session.mount.contract().event.contains_key(&name);
                let checked = check(&session, session.mount.served(), name, args.clone(), Vec::new());
                if !known {
                    prop_assert_eq!(checked.expect_err("unknown").code, Code::UnknownEvent);
                }
            }
        }
    }

    #[test]
    fn any_contract_file(text in "\\PC{0,300}") {
        let _ = Contract::read("any.toml", &text);
    }

    #[test]
    fn any_cut_or_changed_contract(file in 0..BUILT_IN.files.len(), at in any::<prop::sample::Index>(), put in "\\PC{0,3}") {
        let (name, text) = BUILT_IN.files[file];
        let mut at = at.index(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let _ = Contract::read(name, &text[..at]);
        let changed = format!("{}{put}{}", &text[..at], &text[at..]);
        let _ = Contract::read(name, &changed);
    }
}

#[test]
fn who_may() {
    let config = Config {
        mount: vec![Mount {
            contract: "toolbox".to_owned(),
            namespace: "/".to_owned(),
            auth: None,
            upstream: None,
        }],
        ..Config::default()
    };
    let metrics = Metrics::new().expect("metrics");
    let mounted = mounts(&config, &metrics.events).expect("mounts");
    let of = |roles: &[&str]| Identity {
        user: Some(crate::identity::User { id: "ann".to_owned(), name: None }),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..Identity::default()
    };
    let cases = [
        (
            "nobody may not broadcast",
            Identity::default(),
            "broadcast",
            json!({}),
            Some(Code::Forbidden),
        ),
        ("a pupil may not", of(&["pupil"]), "broadcast", json!({}), Some(Code::Forbidden)),
        ("a teacher may", of(&["teacher"]), "broadcast", json!({}), None),
        (
            "a login is needed",
            Identity::default(),
            "quiz_response",
            json!({}),
            Some(Code::Unauthorized),
        ),
        (
            "somebody else's id",
            of(&[]),
            "collaboration_message",
            json!({"channel": "c", "userId": "eve"}),
            Some(Code::Forbidden),
        ),
        (
            "one's own id",
            of(&[]),
            "collaboration_message",
            json!({"channel": "c", "userId": "ann"}),
            None,
        ),
        ("a missing field", of(&[]), "subscribe", json!({}), Some(Code::BadPayload)),
        ("an unknown event", of(&[]), "nosuch", json!({}), Some(Code::UnknownEvent)),
    ];
    for (name, identity, event, payload, want) in cases {
        let session = session(&mounted[0], identity);
        let got =
            check(&session, session.mount.served(), event.to_owned(), vec![payload], Vec::new());
        assert_eq!(got.err().map(|refusal| refusal.code), want, "{name}");
    }
}
