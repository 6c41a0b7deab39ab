//! Cases of holds that end by themselves.
//!
//! In comes a cluster, out comes an outcome. Lapses are collected by ticks until they come, and by a few
//! ticks more that must bring nothing again.

use std::time::Duration;

use super::{Cluster, Outcome, check, check_eq, denied, eventually, granted, place, wish};
use crate::{Kind, Released, SharedState, Wish};

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_mins(10);

fn typing(key: &str, sid: &str, holder: &str, ttl: Duration) -> Wish {
    Wish { ttl: Some(ttl), ..wish(&place(Kind::Typing, key), sid, holder) }
}

/// Ticks every pod in turn until this many holds lapsed.
async fn collect(pods: &[&SharedState], count: usize) -> Result<Vec<Released>, super::Failure> {
    let found = parking_lot::Mutex::new(Vec::new());
    eventually("the lapse", || async {
        for pod in pods {
            let lapsed = pod.tick().await?;
            check!(lapsed.departed.is_empty(), "nobody departed: {:?}", lapsed.departed);
            found.lock().extend(lapsed.expired);
        }
        Ok((found.lock().len() >= count).then_some(()))
    })
    .await?;
    Ok(found.into_inner())
}

pub(super) async fn ttl_lapse_is_handed_out_once(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let room = place(Kind::Typing, "room");
    granted(&pod, typing("room", "s1", "ann", SHORT)).await?;
    granted(&pod, typing("room", "s2", "ann", Duration::MAX)).await?;
    granted(&pod, typing("room", "s3", "bob", SHORT)).await?;
    let expired = collect(&[&pod], 2).await?;
    let mut got: Vec<_> =
        expired.iter().map(|end| (&end.place, end.hold.sid.as_str(), end.last)).collect();
    got.sort_unstable();
    check_eq!(got, vec![(&room, "s1", false), (&room, "s3", true)], "what lapsed");
    for _ in 0..3 {
        check!(pod.tick().await?.expired.is_empty(), "a lapse is handed out once");
    }
    check_eq!(pod.holds(&room).await?.len(), 1, "what did not lapse stays");
    check!(pod.held_by("/", "s1").await?.is_empty(), "nothing is held");
    check!(pod.depart("/", "s1").await?.released.is_empty(), "it does not end again");
    Ok(())
}

pub(super) async fn holding_again_puts_off_the_lapse(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    granted(&pod, typing("room", "s1", "ann", SHORT)).await?;
    granted(&pod, typing("room", "s1", "ann", LONG)).await?;
    // The witness lapses after the first time to live of s1 would have.
    granted(&pod, typing("room", "s2", "bob", SHORT * 2)).await?;
    let expired = collect(&[&pod], 1).await?;
    check_eq!(expired.len(), 1, "only the witness lapses: {expired:?}");
    check_eq!(pod.holds(&place(Kind::Typing, "room")).await?.len(), 1, "what was held again stays");
    let shortened = granted(&pod, typing("room", "s1", "ann", SHORT)).await?;
    check!(!shortened.first, "holding again is not first");
    check_eq!(collect(&[&pod], 1).await?.len(), 1, "a shorter time to live holds too");
    Ok(())
}

pub(super) async fn holding_again_without_ttl_stays(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let room = place(Kind::Typing, "room");
    granted(&pod, typing("room", "s1", "ann", SHORT)).await?;
    granted(&pod, wish(&room, "s1", "ann")).await?;
    granted(&pod, typing("room", "s2", "bob", SHORT * 2)).await?;
    let expired = collect(&[&pod], 1).await?;
    check!(expired.iter().all(|end| end.hold.sid == "s2"), "only the witness lapses: {expired:?}");
    check_eq!(pod.holds(&room).await?.len(), 1, "what has no time to live stays");
    Ok(())
}

pub(super) async fn lapsed_shares_stand_against_nobody(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let file = place(Kind::Lock, "file");
    let lock =
        |sid: &str, ttl| Wish { exclusive: true, ttl, at_most: Some(1), ..wish(&file, sid, sid) };
    granted(&pod, lock("s1", Some(Duration::from_secs(1)))).await?;
    denied(&pod, lock("s2", None)).await?;
    // No tick collects the lapsed lock here, and yet it is gone for everybody who asks.
    eventually("the lock", || async { Ok(pod.hold(lock("s2", None)).await?.ok()) }).await?;
    let sids: Vec<_> = pod.holds(&file).await?.into_iter().map(|hold| hold.sid).collect();
    check_eq!(sids, vec!["s2"], "the lapsed share is not listed");
    check!(pod.held_by("/", "s1").await?.is_empty(), "nor is it held");
    let expired = collect(&[&pod], 1).await?;
    check!(expired.iter().all(|end| end.hold.sid == "s1"), "the lapse is handed out: {expired:?}");
    Ok(())
}

pub(super) async fn departed_marks_do_not_lapse_again(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    granted(&pod, typing("room", "s1", "ann", SHORT)).await?;
    granted(&pod, typing("other", "s1", "ann", SHORT)).await?;
    let ended = pod.release(&place(Kind::Typing, "other"), Some("s1"), None).await?;
    check_eq!(ended.len(), 1, "released");
    check_eq!(pod.depart("/", "s1").await?.released.len(), 1, "departed");
    granted(&pod, typing("room", "s2", "bob", SHORT)).await?;
    let expired = collect(&[&pod], 1).await?;
    check_eq!(expired.len(), 1, "only the witness lapses: {expired:?}");
    check!(expired.iter().all(|end| end.hold.sid == "s2"), "the witness: {expired:?}");
    Ok(())
}

pub(super) async fn quiet_tick_is_empty(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    check_eq!(pod.tick().await?, crate::Lapsed::default(), "an empty state");
    granted(&pod, wish(&place(Kind::Roster, "room"), "s1", "ann")).await?;
    for _ in 0..3 {
        check_eq!(pod.tick().await?, crate::Lapsed::default(), "a state where nothing lapses");
    }
    check!(pod.available(), "a state that answers is available");
    Ok(())
}

pub(super) async fn lapses_are_handed_out_once_among_pods(cluster: &dyn Cluster) -> Outcome {
    let (a, b) = (cluster.pod("a").await?, cluster.pod("b").await?);
    let count = 200;
    for n in 0..count {
        let pod = if n % 2 == 0 { &a } else { &b };
        granted(pod, typing(&format!("room{}", n % 7), &format!("s{n}"), "ann", SHORT)).await?;
    }
    let (mut lapsed, mut last) = (Vec::new(), 0);
    let deadline = tokio::time::Instant::now() + super::PATIENCE;
    while lapsed.len() < count {
        check!(tokio::time::Instant::now() < deadline, "{} of {count} lapsed", lapsed.len());
        let (of_a, of_b) = tokio::join!(a.tick(), b.tick());
        for end in of_a?.expired.into_iter().chain(of_b?.expired) {
            last += usize::from(end.last);
            lapsed.push(end.hold.sid);
        }
    }
    let (of_a, of_b) = (a.tick().await?, b.tick().await?);
    check!(of_a.expired.is_empty() && of_b.expired.is_empty(), "nothing comes after the last");
    lapsed.sort_unstable();
    lapsed.dedup();
    check_eq!(lapsed.len(), count, "each exactly once");
    check_eq!(last, 7, "one last of each room");
    Ok(())
}

pub(super) async fn a_living_pod_keeps_its_holds(cluster: &dyn Cluster) -> Outcome {
    let (a, b) = (cluster.pod("a").await?, cluster.pod("b").await?);
    let room = place(Kind::Roster, "room");
    granted(&a, wish(&room, "s1", "ann")).await?;
    granted(&b, wish(&room, "s2", "bob")).await?;
    granted(&b, typing("room", "witness", "bob", SHORT * 4)).await?;
    let expired = collect(&[&a, &b], 1).await?;
    check_eq!(expired.len(), 1, "only the witness lapses: {expired:?}");
    check_eq!(b.holds(&room).await?.len(), 2, "pods that tick keep what they hold");
    Ok(())
}
