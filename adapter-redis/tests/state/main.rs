//! The state over a real Redis: the suite, and what happens when pods and Redis fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use adapter::{
    Kind, Lapsed, Place, Released, State, Wish, case_tests, one_pod_cases, two_pod_cases,
};
use adapter_redis::RedisState;
use serde_json::json;

mod harness;
mod keys;
mod outages;
mod pods;
mod turns;

use harness::{Server, until};

one_pod_cases!(case_tests, Server::start().await);
two_pod_cases!(case_tests, Server::start().await);

const LONG: Duration = Duration::from_mins(10);

fn place(kind: Kind, key: &str) -> Place {
    Place { namespace: "/codx".to_owned(), kind, key: key.to_owned() }
}

fn wish(kind: Kind, key: &str, sid: &str, holder: &str) -> Wish {
    Wish {
        place: place(kind, key),
        sid: sid.to_owned(),
        holder: holder.to_owned(),
        exclusive: kind == Kind::Lock,
        data: json!({"of": holder}),
        ttl: (kind == Kind::Typing).then_some(LONG),
        at_most: None,
    }
}

async fn hold(pod: &RedisState, kind: Kind, key: &str, sid: &str, holder: &str) {
    let held = pod.hold(wish(kind, key, sid, holder)).await.unwrap();
    assert!(held.is_ok(), "{kind} {key} for {sid}: {held:?}");
}

async fn sids(pod: &RedisState, kind: Kind, key: &str) -> Vec<String> {
    pod.holds(&place(kind, key)).await.unwrap().into_iter().map(|hold| hold.sid).collect()
}

/// What the ticks of these pods bring until there is this much of it; pods may tick at once.
async fn collect(pods: &[&RedisState], enough: impl Fn(&Lapsed) -> bool) -> Lapsed {
    let found = parking_lot::Mutex::new(Lapsed::default());
    until("what lapsed", || async {
        for ticked in futures_util::future::join_all(pods.iter().map(|pod| pod.tick())).await {
            let lapsed = ticked.unwrap();
            found.lock().expired.extend(lapsed.expired);
            found.lock().departed.extend(lapsed.departed);
        }
        enough(&found.lock()).then_some(())
    })
    .await;
    found.into_inner()
}

async fn until_up(pod: &RedisState) -> Lapsed {
    until("redis is back", || async { pod.tick().await.ok() }).await
}

fn ends(released: &[Released]) -> Vec<(Kind, &str, &str, bool)> {
    released
        .iter()
        .map(|end| (end.place.kind, end.place.key.as_str(), end.hold.sid.as_str(), end.last))
        .collect()
}
