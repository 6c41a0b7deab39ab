//! Turns between pods.

use std::time::{Duration, Instant};

use adapter::State;

use crate::harness::{Server, until};

#[test]
fn a_turn_of_a_dead_pod_comes_free() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (doomed, alive) = (runtime(), runtime());
    let mut server = alive.block_on(Server::start());
    server.config.turn_lease = Duration::from_secs(1);
    let turn = doomed.block_on(async {
        let pod = server.pod("doomed").await;
        pod.line_up("k").turn().await.unwrap()
    });
    let waiting = doomed.block_on(server.pod("doomed")).line_up("k");
    let waiting = doomed.spawn(waiting.turn());
    alive.block_on(async {
        let pod = server.pod("alive").await;
        until("the doomed pod waits too", || async {
            let waiting = server.redis("ZCARD", &["gateway:turn:{k}:line"]).await;
            (waiting == redis::Value::Int(1)).then_some(())
        })
        .await;
        let died = Instant::now();
        // Nothing of the pod runs any more; what it had and waited for stays in Redis.
        doomed.shutdown_background();
        pod.line_up("k").turn().await.unwrap();
        assert!(died.elapsed() < Duration::from_secs(4), "after {:?}", died.elapsed());
    });
    drop((turn, waiting));
}

#[tokio::test]
async fn a_turn_is_kept_for_longer_than_its_lease() {
    let mut server = Server::start().await;
    server.config.turn_lease = Duration::from_millis(400);
    let (a, b) = (server.pod("a").await, server.pod("b").await);
    let turn = a.line_up("k").turn().await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(1500), b.line_up("k").turn()).await;
    assert!(early.is_err(), "b has the turn while a has it");
    drop(turn);
    b.line_up("k").turn().await.unwrap();
}

#[tokio::test]
async fn pods_take_turns_at_a_busy_key() {
    let server = Server::start().await;
    let pods = [server.pod("a").await, server.pod("b").await];
    let order = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let first = pods[0].line_up("k").turn().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (ticket, order) = (pods[n % 2].line_up("k"), order.clone());
        tasks.spawn(async move {
            let turn = ticket.turn().await.unwrap();
            order.lock().push(n % 2);
            drop(turn);
        });
    }
    until("both pods wait", || async {
        let waiting = server.redis("ZCARD", &["gateway:turn:{k}:line"]).await;
        // The head of a's own line is behind `first`, so only b's waits in Redis.
        (waiting == redis::Value::Int(1)).then_some(())
    })
    .await;
    drop(first);
    tasks.join_all().await;
    let order = order.lock();
    let runs = order.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
    assert!(runs < Some(5), "one pod starves the other: {order:?}");
}
