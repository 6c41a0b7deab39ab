//! Cases of holds that nothing but a call ends.
//!
//! In comes a cluster, out comes an outcome; no case here waits for a lapse.

use serde_json::json;

use super::{Cluster, Failure, Outcome, check, check_eq, denied, granted, place, wish};
use crate::{Denied, Kind, Place, Released, Wish};

fn exclusive(place: &Place, sid: &str, holder: &str) -> Wish {
    Wish { exclusive: true, ..wish(place, sid, holder) }
}

fn sids(released: &[Released]) -> Vec<(&str, bool)> {
    released.iter().map(|released| (released.hold.sid.as_str(), released.last)).collect()
}

pub(super) async fn first_and_last_go_by_holder(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let room = place(Kind::Roster, "room");
    check!(granted(&pod, wish(&room, "s1", "ann")).await?.first, "ann's first tab is first");
    check!(!granted(&pod, wish(&room, "s2", "ann")).await?.first, "ann's second tab is not first");
    check!(granted(&pod, wish(&room, "s3", "bob")).await?.first, "bob is first of his own");
    check!(!granted(&pod, wish(&room, "s1", "ann")).await?.first, "holding again is not first");

    let released = pod.release(&room, Some("s1"), None).await?;
    check_eq!(sids(&released), vec![("s1", false)], "one of ann's tabs goes");
    let released = pod.release(&room, Some("s2"), None).await?;
    check_eq!(sids(&released), vec![("s2", true)], "ann's last tab goes");
    check!(granted(&pod, wish(&room, "s1", "ann")).await?.first, "who comes back is first again");
    Ok(())
}

pub(super) async fn holding_again_replaces_and_keeps_since(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let room = place(Kind::Roster, "room");
    let before = granted(&pod, Wish { data: json!({"n": 1}), ..wish(&room, "s1", "ann") }).await?;
    granted(&pod, wish(&room, "s2", "bob")).await?;
    let data = json!({"n": 2, "list": [], "object": {}, "big": 9_007_199_254_740_993_u64});
    let after = granted(&pod, Wish { data: data.clone(), ..wish(&room, "s1", "eve") }).await?;
    check_eq!(after.holds.len(), 2, "a share is replaced, not added");
    let (Some(old), Some(new)) = (before.holds.first(), after.holds.first()) else {
        return Err(Failure::new("a granted hold lists itself"));
    };
    check_eq!(new.sid, "s1", "the oldest stays the oldest");
    check_eq!(new.since, old.since, "since is kept");
    check_eq!(new.data, data, "data is replaced, and given back as it was");
    check_eq!(new.holder, "eve", "the holder is replaced");
    check_eq!(new.pod, "a", "the pod is filled in");
    check!(old.since > 1_600_000_000_000, "since is in milliseconds of the epoch");
    Ok(())
}

pub(super) async fn shares_are_listed_oldest_first(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let room = place(Kind::Roster, "room");
    let order = ["s9", "s1", "s5", "s3", "s7"];
    for sid in order {
        granted(&pod, wish(&room, sid, sid)).await?;
    }
    let holds = pod.holds(&room).await?;
    let listed: Vec<&str> = holds.iter().map(|hold| hold.sid.as_str()).collect();
    check_eq!(listed, order.to_vec(), "holds");
    let held = granted(&pod, wish(&room, "s1", "s1")).await?;
    check_eq!(held.holds, holds, "a grant lists what holds lists");
    let released = pod.release(&room, None, None).await?;
    let ended: Vec<&str> = released.iter().map(|released| released.hold.sid.as_str()).collect();
    check_eq!(ended, order.to_vec(), "released");
    Ok(())
}

pub(super) async fn exclusive_stands_against_others(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let file = place(Kind::Lock, "file");
    let held = granted(&pod, exclusive(&file, "s1", "ann")).await?;
    let mine = held.holds.into_iter().next();
    for attempt in [exclusive(&file, "s2", "bob"), wish(&file, "s2", "bob")] {
        let Denied::Conflict(with) = denied(&pod, attempt).await? else {
            return Err(Failure::new("a conflict names the share that stands against"));
        };
        check_eq!(Some(with), mine, "the conflicting share");
    }
    check_eq!(pod.holds(&file).await?.len(), 1, "a denied wish leaves nothing");
    check!(pod.held_by("/", "s2").await?.is_empty(), "a denied wish is no hold of its connection");
    pod.release(&file, Some("s1"), None).await?;
    granted(&pod, exclusive(&file, "s2", "bob")).await?;
    Ok(())
}

pub(super) async fn shared_stands_against_exclusive(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let file = place(Kind::Lock, "file");
    granted(&pod, wish(&file, "s1", "ann")).await?;
    granted(&pod, wish(&file, "s2", "bob")).await?;
    granted(&pod, wish(&file, "s3", "eve")).await?;
    let Denied::Conflict(with) = denied(&pod, exclusive(&file, "s3", "eve")).await? else {
        return Err(Failure::new("an upgrade among several holders conflicts"));
    };
    check_eq!(with.sid, "s1", "the oldest share that stands against");
    let kept = pod.holds(&file).await?;
    check!(kept.iter().all(|hold| !hold.exclusive), "a denied upgrade keeps the share as it was");
    check_eq!(kept.len(), 3, "a denied upgrade keeps the share");
    Ok(())
}

pub(super) async fn sole_holder_changes_its_lock(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let file = place(Kind::Lock, "file");
    granted(&pod, wish(&file, "s1", "ann")).await?;
    let up = granted(&pod, exclusive(&file, "s1", "ann")).await?;
    check!(up.holds.iter().all(|hold| hold.exclusive), "a sole holder upgrades");
    denied(&pod, wish(&file, "s2", "bob")).await?;
    granted(&pod, wish(&file, "s1", "ann")).await?;
    granted(&pod, wish(&file, "s2", "bob")).await?;
    Ok(())
}

pub(super) async fn one_holder_locks_over_several_connections(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let file = place(Kind::Lock, "file");
    granted(&pod, exclusive(&file, "s1", "ann")).await?;
    let held = granted(&pod, exclusive(&file, "s2", "ann")).await?;
    check_eq!(held.holds.len(), 2, "both tabs of one user hold the lock");
    pod.release(&file, Some("s1"), None).await?;
    denied(&pod, wish(&file, "s3", "bob")).await?;
    pod.release(&file, Some("s2"), None).await?;
    granted(&pod, wish(&file, "s3", "bob")).await?;
    Ok(())
}

pub(super) async fn at_most_counts_all_and_spares_replacement(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let user = place(Kind::User, "ann");
    let limited = |sid: &str| Wish { at_most: Some(2), ..wish(&user, sid, "ann") };
    granted(&pod, limited("s1")).await?;
    granted(&pod, limited("s2")).await?;
    check_eq!(denied(&pod, limited("s3")).await?, Denied::Full, "the third");
    granted(&pod, limited("s2")).await?;
    pod.release(&user, Some("s1"), None).await?;
    granted(&pod, limited("s3")).await?;
    let none = Wish { at_most: Some(0), ..wish(&place(Kind::User, "bob"), "s9", "bob") };
    check_eq!(denied(&pod, none).await?, Denied::Full, "none at all");

    // Where both stand against a wish, the conflict says more than the limit.
    let file = place(Kind::Lock, "file");
    granted(&pod, exclusive(&file, "s1", "ann")).await?;
    let both = Wish { at_most: Some(1), ..wish(&file, "s2", "bob") };
    check!(matches!(denied(&pod, both).await?, Denied::Conflict(_)), "conflict before full");
    Ok(())
}

pub(super) async fn release_by_sid_by_holder_and_by_all(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let room = place(Kind::Roster, "room");
    for (sid, holder) in [("s1", "ann"), ("s2", "bob"), ("s3", "ann"), ("s4", "bob"), ("s5", "eve")]
    {
        granted(&pod, wish(&room, sid, holder)).await?;
    }
    let wrong = pod.release(&room, Some("s1"), Some("bob")).await?;
    check!(wrong.is_empty(), "a share of somebody else is not released: {wrong:?}");
    let ann = pod.release(&room, None, Some("ann")).await?;
    check_eq!(sids(&ann), vec![("s1", false), ("s3", true)], "ann's: last once, with the last");
    let one = pod.release(&room, Some("s2"), Some("bob")).await?;
    check_eq!(sids(&one), vec![("s2", false)], "one of bob's");
    check_eq!(one.first().map(|released| &released.place), Some(&room), "the place");
    let rest = pod.release(&room, None, None).await?;
    check_eq!(sids(&rest), vec![("s4", true), ("s5", true)], "all the others");
    check!(pod.release(&room, None, None).await?.is_empty(), "nothing is released twice");
    check!(pod.holds(&room).await?.is_empty(), "nothing is left");
    check!(pod.held_by("/", "s5").await?.is_empty(), "no connection keeps a trace");
    Ok(())
}

pub(super) async fn release_of_the_unknown_is_empty(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let room = place(Kind::Roster, "nowhere");
    check!(pod.release(&room, None, None).await?.is_empty(), "an unknown place");
    check!(pod.holds(&room).await?.is_empty(), "holds of an unknown place");
    check!(pod.held_by("/", "nobody").await?.is_empty(), "an unknown connection");
    let departed = pod.depart("/", "nobody").await?;
    check_eq!(departed.sid, "nobody", "the departed");
    check!(departed.released.is_empty(), "an unknown connection departs with nothing");
    Ok(())
}

pub(super) async fn namespaces_kinds_and_odd_keys_are_apart(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let keys = ["", "a", "a:b", "a}b", "{a}", "a b", "a\nb", "ä\u{1F600}", "*", "a\"b\\", "a\0b"];
    let mut places = Vec::new();
    for namespace in ["/", "/a", "/a:b"] {
        for kind in [Kind::Roster, Kind::Lock] {
            for key in keys {
                places.push(Place { namespace: namespace.to_owned(), kind, key: key.to_owned() });
            }
        }
    }
    for place in &places {
        let held = granted(&pod, exclusive(place, "s:1\n", "a\"b\\ä")).await?;
        check!(held.first, "{place:?} is a place of its own");
    }
    for place in &places {
        let holds = pod.holds(place).await?;
        check_eq!(holds.len(), 1, "{place:?}");
        check!(holds.iter().all(|hold| hold.holder == "a\"b\\ä"), "{place:?} has its holder");
    }
    let departed = pod.depart("/a", "s:1\n").await?;
    check_eq!(departed.released.len(), keys.len() * 2, "departing leaves other namespaces alone");
    check!(pod.depart("/a", "s:1\n").await?.released.is_empty(), "departing twice");
    check_eq!(pod.held_by("/a:b", "s:1\n").await?.len(), keys.len() * 2, "the other namespace");
    Ok(())
}

pub(super) async fn held_by_names_what_a_connection_holds(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let mut want = vec![place(Kind::Lock, "b"), place(Kind::Roster, "b"), place(Kind::Roster, "a")];
    for place in &want {
        granted(&pod, wish(place, "s1", "ann")).await?;
        granted(&pod, wish(place, "s2", "bob")).await?;
    }
    let mut got = pod.held_by("/", "s1").await?;
    got.sort();
    want.sort();
    check_eq!(got, want, "held");
    pod.release(&place(Kind::Lock, "b"), Some("s1"), None).await?;
    check_eq!(pod.held_by("/", "s1").await?.len(), 2, "after a release");
    check_eq!(pod.held_by("/", "s2").await?.len(), 3, "the other connection");
    Ok(())
}

pub(super) async fn depart_ends_everything_in_order(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let in_order = [
        place(Kind::User, "ann"),
        place(Kind::Roster, "B"),
        place(Kind::Roster, "a"),
        place(Kind::Roster, "b"),
        place(Kind::Lock, "a"),
        place(Kind::Typing, "a"),
        place(Kind::Status, "ann"),
    ];
    for place in in_order.iter().rev() {
        granted(&pod, wish(place, "s1", "ann")).await?;
    }
    granted(&pod, wish(&place(Kind::Roster, "a"), "s2", "ann")).await?;
    granted(&pod, wish(&place(Kind::Roster, "b"), "s3", "bob")).await?;

    let departed = pod.depart("/", "s1").await?;
    check_eq!((departed.namespace.as_str(), departed.sid.as_str()), ("/", "s1"), "who");
    let places: Vec<&Place> = departed.released.iter().map(|released| &released.place).collect();
    check_eq!(places, in_order.iter().collect::<Vec<_>>(), "the order");
    for released in &departed.released {
        let stays = released.place == place(Kind::Roster, "a");
        check_eq!(released.last, !stays, "last of {:?}", released.place);
        check_eq!(released.hold.sid, "s1", "whose share");
    }
    check!(pod.held_by("/", "s1").await?.is_empty(), "nothing is held");
    check_eq!(pod.holds(&place(Kind::Roster, "a")).await?.len(), 1, "the second tab stays");
    check!(pod.depart("/", "s1").await?.released.is_empty(), "departing twice gives nothing");
    Ok(())
}

pub(super) async fn racing_locks_have_one_winner(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let file = place(Kind::Lock, "file");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let (pod, attempt) = (pod.clone(), exclusive(&file, &format!("s{n}"), &format!("u{n}")));
        tasks.spawn(async move { pod.hold(attempt).await });
    }
    let mut winners = 0;
    while let Some(done) = tasks.join_next().await {
        winners += usize::from(done.map_err(|error| Failure::new(error.to_string()))??.is_ok());
    }
    check_eq!(winners, 1, "winners");
    check_eq!(pod.holds(&file).await?.len(), 1, "holders");
    Ok(())
}

pub(super) async fn pods_see_each_others_holds(cluster: &dyn Cluster) -> Outcome {
    let (a, b) = (cluster.pod("a").await?, cluster.pod("b").await?);
    check_eq!((a.pod(), b.pod()), ("a", "b"), "names");
    let room = place(Kind::Roster, "room");
    check!(granted(&a, wish(&room, "s1", "ann")).await?.first, "the first on a");
    let held = granted(&b, wish(&room, "s2", "ann")).await?;
    check!(!held.first, "the second tab, on b");
    let pods: Vec<&str> = held.holds.iter().map(|hold| hold.pod.as_str()).collect();
    check_eq!(pods, vec!["a", "b"], "each share names its pod");
    check_eq!(a.holds(&room).await?, b.holds(&room).await?, "both pods see the same");
    check_eq!(b.held_by("/", "s1").await?, vec![room.clone()], "b sees what a's connection holds");
    let departed = a.depart("/", "s1").await?;
    check_eq!(sids(&departed.released), vec![("s1", false)], "ann stays through b");
    let departed = b.depart("/", "s2").await?;
    check_eq!(sids(&departed.released), vec![("s2", true)], "ann goes");
    Ok(())
}

pub(super) async fn one_pod_releases_the_others_lock(cluster: &dyn Cluster) -> Outcome {
    let (a, b) = (cluster.pod("a").await?, cluster.pod("b").await?);
    let file = place(Kind::Lock, "file");
    granted(&a, exclusive(&file, "s1", "ann")).await?;
    let released = b.release(&file, None, None).await?;
    check_eq!(sids(&released), vec![("s1", true)], "the operator's release");
    granted(&b, exclusive(&file, "s2", "bob")).await?;
    let lapsed = a.tick().await?;
    check!(lapsed.expired.is_empty(), "a release is handed out once: {lapsed:?}");
    check!(a.depart("/", "s1").await?.released.is_empty(), "nothing of it is left on a");
    check_eq!(a.holds(&file).await?.len(), 1, "b's lock stands");
    Ok(())
}

pub(super) async fn pods_race_for_one_lock(cluster: &dyn Cluster) -> Outcome {
    let pods = [cluster.pod("a").await?, cluster.pod("b").await?];
    for round in 0..10 {
        let file = place(Kind::Lock, &format!("file{round}"));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..16 {
            let pod = pods[n % 2].clone();
            let attempt = exclusive(&file, &format!("s{n}"), &format!("u{n}"));
            tasks.spawn(async move { pod.hold(attempt).await });
        }
        let mut winners = 0;
        while let Some(done) = tasks.join_next().await {
            winners += usize::from(done.map_err(|error| Failure::new(error.to_string()))??.is_ok());
        }
        check_eq!(winners, 1, "winners of round {round}");
    }
    Ok(())
}
