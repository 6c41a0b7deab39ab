//! The servers, one by one.
//!
//! In comes what each says of itself, out come their part of the report and findings about reachability,
//! versions, replication and clocks. Settings are judged next door.

use std::{collections::HashMap, time::Instant};

use super::{Report, ServerReport, ask::Asker, settings};
use crate::nodes::Node;

/// Slower answers than this make every call of a pod slow.
const SLOW_MILLIS: u128 = 50;
/// Leases are reckoned by the clock of the server; a replica that takes over should agree with it.
const SKEW_MILLIS: i64 = 1000;

/// The lines of `INFO` by their names.
pub(super) struct Info(HashMap<String, String>);

impl Info {
    pub(super) fn of(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.trim().split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }
}

/// Whether any server answers.
pub(super) async fn examine(asker: &mut Asker, report: &mut Report) -> bool {
    let (mut clocks, mut reached) = (Vec::new(), false);
    let masters = asker.nodes.masters();
    for node in asker.nodes.all() {
        let begun = Instant::now();
        match asker.ask::<String>(&node, &["INFO"]).await {
            Err(error) if error.code() == Some("NOPERM") => {
                reached = true;
                let name = node.name();
                report.note(
                    "info",
                    format!("This user may not ask {name} about itself. Allow it +info and +config|get to have its settings checked."),
                );
            }
            Err(error) => {
                let name = node.name();
                report.error("unreachable", format!("The server {name} does not answer: {error}."));
            }
            Ok(text) => {
                reached = true;
                let info = Info::of(&text);
                let took = begun.elapsed().as_millis();
                one(&node, masters.contains(&node), &info, took, report);
                settings::examine(asker, &node, &info, report).await;
                clocks.extend(clock(asker, &node).await);
            }
        }
    }
    skew(&clocks, report);
    if asker.nodes.is_cluster() {
        cluster(asker, report).await;
    }
    reached
}

fn one(node: &Node, master: bool, info: &Info, took: u128, report: &mut Report) {
    let (kind, version) = match (info.text("valkey_version"), info.text("redis_version")) {
        ("", version) => ("redis", version),
        (version, _) => ("valkey", version),
    };
    let address = node.name().to_owned();
    report.servers.push(ServerReport {
        address: address.clone(),
        version: format!("{kind} {version}"),
        role: info.text("role").to_owned(),
        clients: info.number("connected_clients"),
    });
    let major: u64 = version.split('.').next().and_then(|part| part.parse().ok()).unwrap_or(0);
    if major < 6 {
        report.error(
            "version",
            format!("{address} is {kind} {version}; 6.2 is the oldest that works. Upgrade it."),
        );
    } else if major < 7 {
        report.note(
            "version",
            format!("{address} is {kind} {version}, which has no sharded channels: leave pubsub at \"classic\"."),
        );
    }
    if took > SLOW_MILLIS {
        report.warn(
            "slow",
            format!("{address} took {took} ms to answer; every event that needs the state waits as long. Look at its CPU, its slow log and the network between."),
        );
    }
    if master && info.text("role") == "master" && info.number("connected_slaves") == 0 {
        report.note(
            "replicas",
            format!(
                "{address} has no replica: while it is away, pods serve their own clients only."
            ),
        );
    }
    if info.text("role") == "slave" && info.text("master_link_status") == "down" {
        report.warn(
            "replicas",
            format!("{address} is a replica that has lost its master, and cannot stand in for it. Look at its log."),
        );
    }
}

/// By how much the clock of a server is ahead of ours.
async fn clock(asker: &mut Asker, node: &Node) -> Option<(String, i64)> {
    let (seconds, micros): (i64, i64) = asker.ask(node, &["TIME"]).await.ok()?;
    let ours = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    let ours = i64::try_from(ours.as_millis()).ok()?;
    Some((node.name().to_owned(), seconds * 1000 + micros / 1000 - ours))
}

fn skew(clocks: &[(String, i64)], report: &mut Report) {
    let first = clocks.iter().min_by_key(|(_, ahead)| *ahead);
    let last = clocks.iter().max_by_key(|(_, ahead)| *ahead);
    let (Some((slow, least)), Some((fast, most))) = (first, last) else { return };
    let apart = most.saturating_sub(*least);
    if apart > SKEW_MILLIS {
        report.warn(
            "clock",
            format!("The clocks of {slow} and {fast} are {apart} ms apart: leases end early or late when one takes over from the other. Run NTP on both."),
        );
    }
}

async fn cluster(asker: &mut Asker, report: &mut Report) {
    let mut states = Vec::new();
    for text in asker.ask_all::<String>(&["CLUSTER", "INFO"]).await {
        let info = Info::of(&text);
        states.push((info.text("cluster_state") == "ok", info.number("cluster_slots_ok")));
    }
    if states.iter().any(|(well, _)| !well) {
        report.error(
            "cluster",
            "Some node says that the cluster is down: its slots are refused. Look at CLUSTER NODES for nodes that failed.".to_owned(),
        );
    } else if let Some((_, slots)) = states.iter().find(|(_, slots)| *slots < 16_384) {
        report.error(
            "cluster",
            format!("Only {slots} of 16384 slots are served: what is in the others is refused. Assign them with redis-cli --cluster fix."),
        );
    }
}
