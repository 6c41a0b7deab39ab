//! The pods that share the state, by their leases.
//!
//! In come the leases that pods keep in Redis, out comes who is alive and who is late. It reads only.

use std::collections::BTreeMap;

use super::{PodReport, Report, ask::Asker};
use crate::{config::RedisConfig, names::Names};

/// Namespaces that are looked at.
const NAMESPACES: usize = 64;

#[derive(Default)]
struct Pod {
    connections: u64,
    /// The lease that ends last.
    lease_ms: Option<i64>,
}

pub(super) async fn examine(asker: &mut Asker, config: &RedisConfig, report: &mut Report) {
    let names = Names::new(&config.prefix);
    let namespaces: Vec<String> = match asker.ask_of(&["SMEMBERS", &names.namespaces()]).await {
        Ok(namespaces) => namespaces,
        Err(error) => {
            let prefix = &config.prefix;
            report.error(
                "keys",
                format!("The keys under {prefix}: cannot be read: {error}. The user needs ~{prefix}:* and the commands for keys and scripts."),
            );
            return;
        }
    };
    let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
    for namespace in namespaces.iter().take(NAMESPACES) {
        let base = names.holds(namespace);
        for (incarnation, lease_ms) in leases(asker, &base).await {
            let holders = format!("{base}:pod:{incarnation}");
            let connections: u64 = asker.ask_of(&["SCARD", &holders]).await.unwrap_or(0);
            let pod = pods.entry(incarnation).or_default();
            // A connection is in one namespace, so none is counted twice.
            pod.connections = pod.connections.saturating_add(connections);
            pod.lease_ms = pod.lease_ms.max(Some(lease_ms));
        }
    }
    tell(pods, config, report);
}

/// The processes of a namespace and for how long their leases are still good, by the clock of Redis.
async fn leases(asker: &mut Asker, base: &str) -> Vec<(String, i64)> {
    let leases = asker.ask_of(&["ZRANGE", &format!("{base}:pods"), "0", "-1", "WITHSCORES"]).await;
    let leases: Vec<(String, f64)> = leases.unwrap_or_default();
    if leases.is_empty() {
        return Vec::new();
    }
    let slot = crate::slot::of(base.as_bytes());
    let Ok(node) = asker.node(crate::nodes::At::Slot(slot)).await else { return Vec::new() };
    let Ok((seconds, micros)) = asker.ask::<(i64, i64)>(&node, &["TIME"]).await else {
        return Vec::new();
    };
    let now = seconds * 1000 + micros / 1000;
    #[expect(clippy::cast_possible_truncation, reason = "a float saturates, and a score is a time")]
    let left = |end: f64| (end as i64).saturating_sub(now);
    leases.into_iter().map(|(pod, end)| (pod, left(end))).collect()
}

fn tell(pods: BTreeMap<String, Pod>, config: &RedisConfig, report: &mut Report) {
    let lease = i64::try_from(config.lease.as_millis()).unwrap_or(i64::MAX);
    for (incarnation, Pod { connections, lease_ms }) in pods {
        let lease_ms = lease_ms.unwrap_or(0);
        let pod = incarnation.rsplit_once('#').map_or(&*incarnation, |(pod, _)| pod).to_owned();
        if lease_ms < 0 {
            report.error(
                "lease",
                format!("The lease of {pod} has lapsed and nobody gave its {connections} connections up: no pod ticks. Look whether any pod reaches Redis."),
            );
        } else if lease_ms < lease / 2 {
            // It is renewed about once a second.
            report.warn(
                "lease",
                format!("{pod} has not renewed its lease for {} ms: it hangs, is cut off, or just ended. Its connections are given up in {lease_ms} ms.", lease - lease_ms),
            );
        }
        report.pods.push(PodReport { pod, connections, lease_ms, answers: None });
    }
    let mut names: Vec<&str> = report.pods.iter().map(|pod| pod.pod.as_str()).collect();
    names.sort_unstable();
    let twice: Vec<String> =
        names.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0].to_owned()).collect();
    for pod in twice {
        report.warn(
            "names",
            format!("Two processes are called {pod}: one was restarted within its lease, or two pods were given the same name, which makes reports about them useless."),
        );
    }
}
