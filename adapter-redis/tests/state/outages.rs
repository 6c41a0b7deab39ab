//! Redis that hangs, dies, and comes back, as it was or empty.

use std::time::{Duration, Instant};

use adapter::{Charge, Denied, Departed, Kind, Lapsed, State, StateError};
use adapter_redis::RedisState;
use serde_json::json;

use crate::{
    LONG, ends,
    harness::{Server, until},
    hold, place, sids, until_up, wish,
};

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_told_again() {
    let mut server = Server::start().await;
    let (a, b) = (server.pod("a").await, server.pod("b").await);
    let mut second = wish(Kind::Roster, "room", "s2", "bob");
    second.data = json!({"later": []});
    for n in 0..300 {
        hold(&a, Kind::Roster, &format!("room{n}"), "s0", "ann").await;
    }
    hold(&a, Kind::Roster, "room", "s1", "ann").await;
    hold(&a, Kind::Lock, "file", "s1", "ann").await;
    hold(&a, Kind::Typing, "room", "s1", "ann").await;
    b.hold(second).await.unwrap().unwrap();
    b.release(&place(Kind::Typing, "room"), Some("s1"), None).await.unwrap();
    a.tick().await.unwrap();
    b.tick().await.unwrap();
    let before = a.holds(&place(Kind::Roster, "room")).await.unwrap();

    server.kill();
    let error = a.tick().await.unwrap_err();
    assert!(matches!(error, StateError::Unavailable(_)), "{error}");
    assert!(!a.available());
    server.start_again().await;
    assert_eq!(until_up(&b).await, Lapsed::default(), "an empty redis is no departure");
    assert_eq!(until_up(&a).await, Lapsed::default());
    assert!(a.available());

    assert_eq!(a.holds(&place(Kind::Roster, "room")).await.unwrap(), before, "as it was");
    assert_eq!(sids(&b, Kind::Lock, "file").await, ["s1"]);
    let denied = b.hold(wish(Kind::Lock, "file", "s2", "bob")).await.unwrap();
    assert!(matches!(denied, Err(Denied::Conflict(_))), "the lock is still held: {denied:?}");
    assert!(sids(&a, Kind::Typing, "room").await.is_empty(), "what b released stays released");
    assert_eq!(a.depart("/codx", "s0").await.unwrap().released.len(), 300);
}

#[tokio::test]
async fn what_ends_before_it_is_written_down_again_is_told_all_the_same() {
    let mut server = Server::start().await;
    let pod = server.pod("a").await;
    for sid in ["s1", "s2"] {
        hold(&pod, Kind::Lock, sid, sid, "ann").await;
        hold(&pod, Kind::Roster, "room", sid, sid).await;
        hold(&pod, Kind::User, "ann", sid, "ann").await;
    }
    pod.tick().await.unwrap();
    server.kill();
    assert!(pod.depart("/codx", "unknown").await.is_err());
    server.start_again().await;
    until("redis is back", || async { pod.count("c").await.ok() }).await;

    let lock = place(Kind::Lock, "s1");
    let released = pod.release(&lock, Some("s1"), None).await.unwrap();
    assert_eq!(ends(&released), [(Kind::Lock, "s1", "s1", true)]);
    let room = place(Kind::Roster, "room");
    let released = pod.release(&room, None, Some("s2")).await.unwrap();
    assert_eq!(ends(&released), [(Kind::Roster, "room", "s2", true)]);
    let departed = pod.depart("/codx", "s1").await.unwrap();
    assert_eq!(departed.released.len(), 2, "{departed:?}");
    assert_eq!(pod.tick().await.unwrap(), Lapsed::default());
    assert!(pod.holds(&lock).await.unwrap().is_empty(), "what was released stays so");
    assert!(pod.holds(&room).await.unwrap().is_empty());
    let left = pod.held_by("/codx", "s2").await.unwrap();
    assert_eq!(left, [place(Kind::User, "ann"), place(Kind::Lock, "s2")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_it_is_written_down_again_stays_changed() {
    let mut server = Server::start().await;
    let pod = server.pod("a").await;
    let connections = 150;
    for n in 0..connections {
        for key in ["one", "two", "three"] {
            hold(&pod, Kind::Roster, key, &format!("s{n:03}"), &format!("u{n}")).await;
        }
    }
    pod.tick().await.unwrap();
    server.kill();
    assert!(pod.tick().await.is_err());
    server.start_again().await;

    // The first call that comes through begins to write down again; the others run beside it.
    let ticking = tokio::spawn({
        let pod = pod.clone();
        async move { until_up(&pod).await }
    });
    until("redis is back", || async { pod.count("c").await.ok() }).await;
    for n in 0..connections {
        let sid = format!("s{n:03}");
        match n % 3 {
            0 => drop(pod.depart("/codx", &sid).await.unwrap()),
            1 => drop(pod.release(&place(Kind::Roster, "two"), Some(&sid), None).await.unwrap()),
            _ => hold(&pod, Kind::Roster, "two", &sid, "new").await,
        }
    }
    let lapsed = ticking.await.unwrap();
    assert_eq!(lapsed, Lapsed::default());
    assert_eq!(pod.tick().await.unwrap(), Lapsed::default());
    for n in 0..connections {
        let sid = format!("s{n:03}");
        let held = pod.held_by("/codx", &sid).await.unwrap();
        let keys: Vec<_> = held.iter().map(|place| place.key.as_str()).collect();
        let want: &[&str] = match n % 3 {
            0 => &[],
            1 => &["one", "three"],
            _ => &["one", "three", "two"],
        };
        assert_eq!(keys, want, "{sid}");
    }
    for held in pod.holds(&place(Kind::Roster, "two")).await.unwrap() {
        assert_eq!(held.holder, "new", "{held:?}");
    }
}

#[tokio::test]
async fn an_outage_longer_than_the_lease_ends_nothing() {
    let mut server = Server::start().await;
    server.config.lease = Duration::from_millis(900);
    server.config.connect_timeout = Duration::from_millis(150);
    server.config.response_timeout = Duration::from_millis(150);
    let (a, b) = (server.pod("a").await, server.pod("b").await);
    hold(&a, Kind::Lock, "file", "s1", "ann").await;
    hold(&b, Kind::Roster, "room", "s2", "bob").await;
    a.tick().await.unwrap();
    b.tick().await.unwrap();
    server.freeze();
    let frozen = Instant::now();
    until("the outage is longer than two leases", || async {
        assert!(a.tick().await.is_err());
        (frozen.elapsed() > Duration::from_secs(2)).then_some(())
    })
    .await;
    server.thaw();
    assert_eq!(until_up(&a).await, Lapsed::default(), "b is not given up");
    assert_eq!(until_up(&b).await, Lapsed::default(), "a is not given up");
    assert_eq!(sids(&a, Kind::Lock, "file").await, ["s1"]);
    assert_eq!(sids(&a, Kind::Roster, "room").await, ["s2"]);
}

#[tokio::test]
async fn a_redis_that_hangs_or_is_gone_fails_every_call_in_time() {
    let mut server = Server::start().await;
    let pod = server.pod("a").await;
    assert!(pod.available());
    hold(&pod, Kind::Roster, "room", "s1", "ann").await;
    server.freeze();
    every_call_fails_in_time(&pod, "frozen").await;
    server.thaw();
    until_up(&pod).await;
    assert!(pod.available());
    server.kill();
    every_call_fails_in_time(&pod, "killed").await;
}

/// Each call within the bound, the whole of them too: only one in a while waits to find out.
async fn every_call_fails_in_time(pod: &RedisState, how: &str) {
    // One second, and what a busy machine adds; two waits in a row would be over it.
    let bound = Duration::from_millis(1800);
    let charge = [Charge { bucket: "b".to_owned(), per_second: 1.0, burst: 1, cost: 1 }];
    let room = place(Kind::Roster, "room");
    for round in 0..2 {
        let begun = Instant::now();
        let lock = || wish(Kind::Lock, "file", "s9", "ann");
        let message = json!(1);
        let (charged, held, ended, ticked, read, patched, turn, queued, reply, held_by, counted) = tokio::join!(
            pod.charge(&charge),
            pod.hold(lock()),
            pod.release(&room, None, None),
            pod.tick(),
            pod.read("c", "1"),
            pod.patch("c", "1", json!({}), LONG),
            pod.line_up("k").turn(),
            pod.enqueue("gateway:q", &message, 1),
            pod.begin("k", LONG),
            pod.held_by("/codx", "s1"),
            pod.count("c"),
        );
        let errors = [
            charged.err(),
            held.err(),
            ended.err(),
            ticked.err(),
            read.err(),
            patched.err(),
            turn.err(),
            queued.err(),
            reply.err(),
            held_by.err(),
            counted.err(),
        ];
        for (n, error) in errors.iter().enumerate() {
            assert!(
                matches!(error, Some(StateError::Unavailable(_))),
                "call {n} of round {round}, {how}: {error:?}"
            );
        }
        assert!(begun.elapsed() < bound, "round {round}, {how}: {:?}", begun.elapsed());
        assert!(!pod.available(), "{how}");
    }
    let begun = Instant::now();
    for _ in 0..200 {
        assert!(pod.charge(&charge).await.is_err());
    }
    assert!(begun.elapsed() < bound, "200 charges, {how}: {:?}", begun.elapsed());
}

#[tokio::test]
async fn what_happens_while_redis_is_away_is_told_afterwards() {
    for empty in [false, true] {
        let mut server = Server::start().await;
        let pod = server.pod("a").await;
        for (sid, holder) in [("s1", "ann"), ("s2", "ann"), ("s3", "bob")] {
            hold(&pod, Kind::Roster, "room", sid, holder).await;
        }
        hold(&pod, Kind::Lock, "file", "s1", "ann").await;
        pod.tick().await.unwrap();
        if empty {
            server.kill();
        } else {
            server.freeze();
        }

        for sid in ["s1", "s3"] {
            let error = pod.depart("/codx", sid).await.unwrap_err();
            assert!(matches!(error, StateError::Unavailable(_)), "{error}");
        }
        let joins = [
            wish(Kind::Roster, "room", "s4", "eve"),
            wish(Kind::Roster, "room", "s5", "sue"),
            wish(Kind::Lock, "other", "s4", "eve"),
        ];
        for join in joins {
            assert!(pod.hold(join).await.is_err());
        }
        // Who was turned away after all is not written down.
        assert!(pod.release(&place(Kind::Roster, "room"), Some("s5"), None).await.is_err());

        if empty {
            server.start_again().await;
        } else {
            server.thaw();
        }
        let mut lapsed = until_up(&pod).await;
        lapsed.departed.sort_by(|a, b| a.sid.cmp(&b.sid));
        let told: Vec<_> = lapsed
            .departed
            .iter()
            .map(|Departed { sid, released, .. }| (sid.as_str(), ends(released)))
            .collect();
        let want = [
            ("s1", vec![(Kind::Roster, "room", "s1", false), (Kind::Lock, "file", "s1", true)]),
            ("s3", vec![(Kind::Roster, "room", "s3", true)]),
        ];
        assert_eq!(told, want, "empty: {empty}");
        assert!(lapsed.expired.is_empty(), "{lapsed:?}");
        let mut there = sids(&pod, Kind::Roster, "room").await;
        there.sort();
        assert_eq!(there, ["s2", "s4"], "empty: {empty}");
        assert!(sids(&pod, Kind::Lock, "other").await.is_empty(), "a lock is never assumed");
        assert_eq!(pod.tick().await.unwrap(), Lapsed::default(), "it is told once");
    }
}

#[tokio::test]
async fn a_state_begins_without_redis() {
    let mut server = Server::start().await;
    server.kill();
    let pod = server.pod("a").await;
    assert!(!pod.available());
    assert!(pod.tick().await.is_err());
    server.start_again().await;
    until_up(&pod).await;
    hold(&pod, Kind::Roster, "room", "s1", "ann").await;
    assert!(pod.available());
}
