//! Cases of turns.
//!
//! In comes a cluster, out comes an outcome. That nobody overlaps is seen by a counter which each turn
//! raises on its way in and lowers on its way out, with room for others to run between.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::{task::JoinSet, time::timeout};

use super::{Cluster, Failure, Outcome, PATIENCE, check, check_eq};
use crate::{StateError, Ticket, Turn};

/// Waits for the turn, but not for ever.
async fn in_time(ticket: Box<dyn Ticket>, whose: &str) -> Result<Turn, Failure> {
    match timeout(PATIENCE, ticket.turn()).await {
        Ok(turn) => Ok(turn?),
        Err(_) => Err(Failure::new(format!("the turn of {whose} did not come"))),
    }
}

pub(super) async fn one_at_a_time_in_order(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = in_time(pod.line_up("k"), "the first").await?;
    let mut tasks = JoinSet::new();
    let tickets: Vec<_> = (0..8).map(|n| (n, pod.line_up("k"))).collect();
    // The last in line asks first: the order is that of lining up.
    for (n, ticket) in tickets.into_iter().rev() {
        let order = order.clone();
        tasks.spawn(async move {
            let turn = ticket.turn().await?;
            order.lock().push(n);
            tokio::task::yield_now().await;
            order.lock().push(n);
            drop(turn);
            Ok::<(), StateError>(())
        });
    }
    tokio::task::yield_now().await;
    check!(order.lock().is_empty(), "nobody has the turn before the first is done");
    drop(first);
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done.map_err(|error| Failure::new(error.to_string()))??;
        }
        Ok::<(), Failure>(())
    };
    timeout(PATIENCE, all)
        .await
        .map_err(|_| Failure::new("the line did not come to its end"))??;
    let want: Vec<i32> = (0..8).flat_map(|n| [n, n]).collect();
    check_eq!(*order.lock(), want, "first come, first served, one at a time");
    in_time(pod.line_up("k"), "a late comer").await?;
    Ok(())
}

pub(super) async fn keys_do_not_wait_for_each_other(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let one = in_time(pod.line_up("k1"), "k1").await?;
    let two = in_time(pod.line_up("k2"), "k2").await?;
    drop(one);
    in_time(pod.line_up("k1"), "k1 again").await?;
    drop(two);
    Ok(())
}

pub(super) async fn who_gives_up_does_not_block(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let had = in_time(pod.line_up("k"), "the first").await?;
    let unasked = pod.line_up("k");
    let waiting = tokio::spawn(pod.line_up("k").turn());
    let behind = pod.line_up("k");
    drop(unasked);
    waiting.abort();
    let stopped = waiting.await;
    check!(stopped.is_err_and(|error| error.is_cancelled()), "the waiting task is stopped");
    drop(had);
    let turn = in_time(behind, "who is behind those who gave up").await?;
    drop(turn);
    // A turn that was never asked for is given back as well.
    drop(pod.line_up("k"));
    in_time(pod.line_up("k"), "the last").await?;
    Ok(())
}

pub(super) async fn pods_never_have_the_turn_at_once(cluster: &dyn Cluster) -> Outcome {
    let pods = [cluster.pod("a").await?, cluster.pod("b").await?];
    let inside = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for n in 0..12_usize {
        let (pod, inside) = (pods[n % 2].clone(), inside.clone());
        tasks.spawn(async move {
            let turn = in_time(pod.line_up("k"), &format!("task {n}")).await?;
            let before = inside.fetch_add(1, Ordering::SeqCst);
            // A call to the state gives the others every chance to come in.
            pod.read("c", "1").await?;
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(turn);
            check_eq!(before, 0, "somebody is inside already when task {n} comes in");
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| Failure::new(error.to_string()))??;
    }
    Ok(())
}
