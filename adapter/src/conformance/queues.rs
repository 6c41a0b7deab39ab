//! Cases of queues and remembered replies.
//!
//! In comes a cluster, out comes an outcome.

use std::time::Duration;

use serde_json::json;

use super::{Cluster, Outcome, check, check_eq, eventually};
use crate::{Queued, Reply};

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_mins(10);

pub(super) async fn queue_refuses_at_its_cap(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let mut ids = Vec::new();
    for n in 0..3 {
        match pod.enqueue("gateway:q", &json!({"n": n}), 3).await? {
            Queued::Stored(id) => ids.push(id),
            Queued::Full => check!(false, "message {n} of three was refused"),
        }
    }
    check_eq!(pod.enqueue("gateway:q", &json!(4), 3).await?, Queued::Full, "the fourth");
    let wider = pod.enqueue("gateway:q", &json!(4), 4).await?;
    check!(matches!(wider, Queued::Stored(_)), "nothing was dropped, and a wider cap has room");
    check_eq!(pod.enqueue("gateway:q", &json!(5), 4).await?, Queued::Full, "the fifth");
    let other = pod.enqueue("gateway:other", &json!(1), 1).await?;
    check!(matches!(other, Queued::Stored(_)), "another queue");
    check_eq!(pod.enqueue("gateway:none", &json!(1), 0).await?, Queued::Full, "no room at all");
    ids.sort_unstable();
    ids.dedup();
    check_eq!(ids.len(), 3, "each message has an id of its own");
    Ok(())
}

pub(super) async fn replies_are_remembered(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    check_eq!(pod.begin("k", LONG).await?, Reply::New, "the first");
    check_eq!(pod.begin("k", LONG).await?, Reply::InProgress, "while it is at work");
    check_eq!(pod.begin("other", LONG).await?, Reply::New, "another key");
    for answer in [json!({"ok": true, "list": []}), json!(null), json!("")] {
        pod.answered("k", Some(answer.clone()), LONG).await?;
        check_eq!(pod.begin("k", LONG).await?, Reply::Done(answer), "the repetition");
    }
    Ok(())
}

pub(super) async fn forgotten_replies_are_new_again(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    check_eq!(pod.begin("k", LONG).await?, Reply::New, "the first");
    pod.answered("k", None, LONG).await?;
    check_eq!(pod.begin("k", LONG).await?, Reply::New, "after it was forgotten");
    check_eq!(pod.begin("k", LONG).await?, Reply::InProgress, "and is at work again");
    pod.answered("unknown", None, LONG).await?;
    Ok(())
}

pub(super) async fn replies_lapse(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    check_eq!(pod.begin("begun", SHORT).await?, Reply::New, "the first");
    pod.answered("done", Some(json!(1)), SHORT).await?;
    for key in ["begun", "done"] {
        eventually("the lapse", || async {
            Ok((pod.begin(key, LONG).await? == Reply::New).then_some(()))
        })
        .await?;
        check_eq!(pod.begin(key, LONG).await?, Reply::InProgress, "{key} is at work again");
    }
    Ok(())
}

pub(super) async fn pods_share_replies(cluster: &dyn Cluster) -> Outcome {
    let (a, b) = (cluster.pod("a").await?, cluster.pod("b").await?);
    check_eq!(a.begin("k", LONG).await?, Reply::New, "on a");
    check_eq!(b.begin("k", LONG).await?, Reply::InProgress, "on b");
    a.answered("k", Some(json!(7)), LONG).await?;
    check_eq!(b.begin("k", LONG).await?, Reply::Done(json!(7)), "b answers for a");
    Ok(())
}
