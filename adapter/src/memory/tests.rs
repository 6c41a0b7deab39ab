//! The suite on the memory state, and what only it promises: that nothing is left behind.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;

use super::{Lines, MemoryState, charges::Buckets};
use crate::{
    Charge, Queued, SharedState, State, Verdict, case_tests,
    conformance::{Cluster, Failure},
    one_pod_cases,
};

struct OneProcess;

#[async_trait]
impl Cluster for OneProcess {
    async fn pod(&self, name: &str) -> Result<SharedState, Failure> {
        Ok(Arc::new(MemoryState::new(name)))
    }
}

one_pod_cases!(case_tests, OneProcess);

#[tokio::test]
async fn queued_work_is_taken_in_order() {
    let state = MemoryState::new("a");
    let mut ids = Vec::new();
    for n in 0..3 {
        let Queued::Stored(id) = state.enqueue("q", &json!(n), 3).await.unwrap() else {
            panic!("message {n} was refused");
        };
        ids.push(id);
    }
    let taken = state.take("q", 2);
    assert_eq!(taken, vec![(ids[0].clone(), json!(0)), (ids[1].clone(), json!(1))]);
    assert!(matches!(state.enqueue("q", &json!(3), 2).await.unwrap(), Queued::Stored(_)));
    assert_eq!(state.clone().take("q", 9).len(), 2, "clones share one state");
    assert!(state.take("q", 9).is_empty());
    assert!(state.take("unknown", 9).is_empty());
}

#[tokio::test]
async fn idle_keys_leave_no_line() {
    let lines = Lines::default();
    let turn = lines.line_up("k").wait().await.unwrap();
    let behind = lines.line_up("k");
    assert_eq!(lines.keys(), 1);
    drop(turn);
    drop(behind);
    assert_eq!(lines.keys(), 0, "a turn that nobody took is given back");
}

#[tokio::test]
async fn full_buckets_are_swept() {
    let mut buckets = Buckets::default();
    let charge = |bucket: &str, per_second| Charge {
        bucket: bucket.to_owned(),
        per_second,
        burst: 1,
        cost: 1,
    };
    assert_eq!(buckets.charge(&[charge("quick", 1e9), charge("slow", 0.001)]), Verdict::Granted);
    assert_eq!(buckets.len(), 2);
    // A bucket of a billion tokens a second is full again after the clock moved at all.
    while buckets.charge(&[charge("quick", 1e9)]) != Verdict::Granted {}
    while buckets.len() > 1 {
        buckets.sweep();
    }
    assert_eq!(buckets.len(), 1);
}

#[tokio::test]
async fn rates_that_are_no_rate_are_slow_and_never_wrong() {
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let state = MemoryState::new("a");
        let charge = Charge { bucket: "b".to_owned(), per_second: rate, burst: 1, cost: 1 };
        let charges = [charge];
        assert_eq!(state.charge(&charges).await.unwrap(), Verdict::Granted, "{rate}");
        let Verdict::Refused { retry_after, .. } = state.charge(&charges).await.unwrap() else {
            panic!("{rate} refills at once");
        };
        assert!(retry_after > Duration::from_secs(1000), "{rate}");
    }
}
