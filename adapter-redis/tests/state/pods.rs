//! Pods that die, freeze and come back.

use std::time::{Duration, Instant};

use adapter::{Kind, Lapsed, State};

use crate::{collect, ends, harness::Server, hold, sids};

#[tokio::test]
async fn a_dead_pods_holds_are_gone_within_ten_seconds() {
    let server = Server::start().await;
    let (dead, alive) = (server.pod("dead").await, server.pod("alive").await);
    hold(&dead, Kind::Roster, "room", "s1", "ann").await;
    hold(&dead, Kind::Lock, "file", "s1", "ann").await;
    hold(&alive, Kind::Roster, "room", "s2", "bob").await;
    dead.tick().await.unwrap();
    let died = Instant::now();
    let lapsed = collect(&[&alive], |lapsed| !lapsed.departed.is_empty()).await;
    assert!(died.elapsed() < Duration::from_secs(10), "after {:?}", died.elapsed());
    assert!(died.elapsed() > Duration::from_secs(5), "given up early: {:?}", died.elapsed());
    let [departed] = lapsed.departed.as_slice() else { panic!("{lapsed:?}") };
    assert_eq!((departed.namespace.as_str(), departed.sid.as_str()), ("/codx", "s1"));
    let want = [(Kind::Roster, "room", "s1", true), (Kind::Lock, "file", "s1", true)];
    assert_eq!(ends(&departed.released), want);
    assert_eq!(sids(&alive, Kind::Roster, "room").await, ["s2"]);
    assert!(sids(&alive, Kind::Lock, "file").await.is_empty());
}

#[tokio::test]
async fn a_dead_pods_connections_are_handed_out_once_among_survivors() {
    let mut server = Server::start().await;
    server.config.lease = Duration::from_secs(1);
    let dead = server.pod("dead").await;
    let survivors = [server.pod("b").await, server.pod("c").await, server.pod("d").await];
    let count = 600;
    for n in 0..count {
        let sid = format!("s{n:03}");
        hold(&dead, Kind::User, &format!("u{}", n % 50), &sid, &format!("u{}", n % 50)).await;
        hold(&dead, Kind::Roster, "room", &sid, &format!("u{}", n % 50)).await;
    }
    dead.tick().await.unwrap();
    let all = survivors.iter().collect::<Vec<_>>();
    let mut lapsed = collect(&all, |lapsed| lapsed.departed.len() >= count).await;
    for _ in 0..3 {
        let more = collect(&all, |_| true).await;
        assert_eq!(more, Lapsed::default(), "nothing comes after the last");
    }
    lapsed.departed.sort_by(|a, b| a.sid.cmp(&b.sid));
    lapsed.departed.dedup_by(|a, b| a.sid == b.sid);
    assert_eq!(lapsed.departed.len(), count, "each once");
    assert!(lapsed.departed.iter().all(|departed| departed.released.len() == 2));
    let last = |kind| {
        let ended = lapsed.departed.iter().flat_map(|departed| &departed.released);
        ended.filter(|end| end.place.kind == kind && end.last).count()
    };
    assert_eq!((last(Kind::User), last(Kind::Roster)), (50, 50), "one last of each user");
    let left = server.keys().await;
    let left: Vec<_> = left
        .iter()
        .filter(|key| ["hold", "tally", "sid"].iter().any(|part| key.contains(part)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_pod_that_comes_back_under_its_name_does_not_keep_the_dead_alive() {
    let mut server = Server::start().await;
    server.config.lease = Duration::from_secs(1);
    let before = server.pod("gateway-0").await;
    hold(&before, Kind::Roster, "room", "old", "ann").await;
    before.tick().await.unwrap();
    let after = server.pod("gateway-0").await;
    hold(&after, Kind::Roster, "room", "new", "ann").await;
    let lapsed = collect(&[&after], |lapsed| !lapsed.departed.is_empty()).await;
    assert_eq!(lapsed.departed.len(), 1, "{lapsed:?}");
    assert_eq!(ends(&lapsed.departed[0].released), [(Kind::Roster, "room", "old", false)]);
    assert_eq!(sids(&after, Kind::Roster, "room").await, ["new"]);
}

#[tokio::test]
async fn a_pod_that_was_given_up_registers_again_and_loses_what_was_taken() {
    let mut server = Server::start().await;
    server.config.lease = Duration::from_millis(600);
    let (frozen, other) = (server.pod("frozen").await, server.pod("other").await);
    hold(&frozen, Kind::Roster, "room", "s1", "ann").await;
    hold(&frozen, Kind::Lock, "taken", "s1", "ann").await;
    hold(&frozen, Kind::Lock, "free", "s1", "ann").await;
    frozen.tick().await.unwrap();
    let lapsed = collect(&[&other], |lapsed| !lapsed.departed.is_empty()).await;
    assert_eq!(lapsed.departed[0].released.len(), 3);
    hold(&other, Kind::Lock, "taken", "s2", "bob").await;

    let lapsed = frozen.tick().await.unwrap();
    assert_eq!(ends(&lapsed.expired), [(Kind::Lock, "taken", "s1", true)]);
    assert!(lapsed.departed.is_empty(), "{lapsed:?}");
    assert_eq!(lapsed.expired[0].hold.pod, "frozen");
    assert_eq!(sids(&other, Kind::Roster, "room").await, ["s1"]);
    assert_eq!(sids(&other, Kind::Lock, "free").await, ["s1"]);
    assert_eq!(sids(&other, Kind::Lock, "taken").await, ["s2"]);
    assert_eq!(frozen.tick().await.unwrap(), Lapsed::default(), "it is told once");
    let departed = frozen.depart("/codx", "s1").await.unwrap();
    assert_eq!(departed.released.len(), 2, "the lost lock is no more of it: {departed:?}");
}
