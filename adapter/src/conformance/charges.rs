//! Cases of token buckets.
//!
//! In comes a cluster, out comes an outcome. Rates are so slow, or waits asked about so exactly, that
//! the speed of the machine does not decide.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{Cluster, Failure, Outcome, check, check_eq, eventually};
use crate::{Charge, SharedState, Verdict};

fn charge(bucket: &str, per_second: f64, burst: u32, cost: u32) -> Charge {
    Charge { bucket: bucket.to_owned(), per_second, burst, cost }
}

async fn refused(pod: &SharedState, charges: &[Charge]) -> Result<(usize, Duration), Failure> {
    match pod.charge(charges).await? {
        Verdict::Granted => Err(Failure::new(format!("{charges:?} was granted"))),
        Verdict::Refused { charge, retry_after } => Ok((charge, retry_after)),
    }
}

pub(super) async fn burst_then_refusal_with_the_right_wait(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let slow = [charge("slow", 0.01, 5, 1)];
    for n in 0..5 {
        check_eq!(pod.charge(&slow).await?, Verdict::Granted, "charge {n} of the burst");
    }
    let (index, wait) = refused(&pod, &slow).await?;
    check_eq!(index, 0, "which");
    let (least, most) = (Duration::from_secs(70), Duration::from_secs(100));
    check!(wait > least && wait <= most, "one token comes in a hundred seconds, not {wait:?}");
    check!(refused(&pod, &slow).await?.1 <= wait, "a refusal costs nothing");

    // What `retry_after` says is neither too short, nor longer than one token takes: here the wait
    // itself is what is examined.
    let quick = [charge("quick", 2.0, 1, 1)];
    check_eq!(pod.charge(&quick).await?, Verdict::Granted, "the first");
    let (_, wait) = refused(&pod, &quick).await?;
    check!(!wait.is_zero() && wait <= Duration::from_millis(500), "half a second, not {wait:?}");
    tokio::time::sleep(wait + Duration::from_millis(2)).await;
    check_eq!(pod.charge(&quick).await?, Verdict::Granted, "after exactly that wait");
    Ok(())
}

pub(super) async fn all_or_none(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    check_eq!(pod.charge(&[]).await?, Verdict::Granted, "no charge at all");
    let (wide, narrow) = (charge("wide", 0.001, 10, 1), charge("narrow", 0.001, 2, 1));
    let both = [wide.clone(), narrow.clone()];
    for n in 0..2 {
        check_eq!(pod.charge(&both).await?, Verdict::Granted, "charge {n} of both");
    }
    for _ in 0..20 {
        check_eq!(refused(&pod, &both).await?.0, 1, "the narrow one is short");
    }
    for n in 0..8 {
        let verdict = pod.charge(std::slice::from_ref(&wide)).await?;
        check_eq!(verdict, Verdict::Granted, "refusals took nothing from the wide one: {n}");
    }
    check_eq!(refused(&pod, &both).await?.0, 0, "the first that is short, in the order given");
    let turned = [narrow, wide];
    check_eq!(refused(&pod, &turned).await?.0, 0, "the same, in the other order");
    Ok(())
}

pub(super) async fn cost_counts_and_excess_is_never_granted(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let (most, more) = (charge("b", 0.01, 10, 7), charge("b", 0.01, 10, 4));
    check_eq!(pod.charge(std::slice::from_ref(&most)).await?, Verdict::Granted, "seven of ten");
    let (_, wait) = refused(&pod, std::slice::from_ref(&more)).await?;
    let near = Duration::from_secs(70)..=Duration::from_secs(100);
    check!(near.contains(&wait), "one token is short, which takes a hundred seconds, not {wait:?}");
    check_eq!(pod.charge(&[charge("b", 0.01, 10, 3)]).await?, Verdict::Granted, "three are left");
    refused(&pod, &[charge("b", 0.01, 10, 1)]).await?;
    refused(&pod, &[charge("fresh", 1000.0, 10, 11)]).await?;
    check_eq!(
        pod.charge(&[charge("fresh", 1000.0, 10, 10)]).await?,
        Verdict::Granted,
        "a full one"
    );
    Ok(())
}

pub(super) async fn one_bucket_named_twice_pays_twice(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let twice = [charge("b", 0.001, 3, 1), charge("b", 0.001, 3, 1)];
    check_eq!(pod.charge(&twice).await?, Verdict::Granted, "two of three");
    check_eq!(refused(&pod, &twice).await?.0, 1, "the second is short");
    check_eq!(pod.charge(twice.get(..1).unwrap_or(&[])).await?, Verdict::Granted, "one is left");
    Ok(())
}

pub(super) async fn racing_charges_never_exceed_the_burst(cluster: &dyn Cluster) -> Outcome {
    race(&[cluster.pod("a").await?]).await
}

pub(super) async fn pods_share_buckets(cluster: &dyn Cluster) -> Outcome {
    race(&[cluster.pod("a").await?, cluster.pod("b").await?]).await
}

async fn race(pods: &[SharedState]) -> Outcome {
    let mut tasks = JoinSet::new();
    for pod in pods.iter().cycle().take(40) {
        let pod = pod.clone();
        tasks.spawn(async move { pod.charge(&[charge("b", 0.001, 10, 1)]).await });
    }
    let mut granted = 0;
    while let Some(done) = tasks.join_next().await {
        let verdict = done.map_err(|error| Failure::new(error.to_string()))??;
        granted += usize::from(verdict == Verdict::Granted);
    }
    check_eq!(granted, 10, "granted");

    // A bucket that refills goes on granting, on whichever pod it is asked for.
    for pod in pods {
        eventually("a refill", || async {
            let verdict = pod.charge(&[charge("refill", 50.0, 1, 1)]).await?;
            Ok((verdict == Verdict::Granted).then_some(()))
        })
        .await?;
    }
    Ok(())
}
