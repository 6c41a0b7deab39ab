//! Who listens for requests, and who answers.
//!
//! In come the subscriptions of Redis and the answers to one question in each namespace, for the
//! connections of a room that nobody is in; out come who is there, who is silent and who is deaf.

use std::{collections::BTreeSet, time::Duration};

use rand::distr::{Alphanumeric, SampleString};
use redis::{PushInfo, PushKind, Value, from_redis_value};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use super::{NamespaceReport, Report, ask::Asker};
use crate::{
    config::RedisConfig,
    doctor::traffic::listen,
    nodes::At,
    socketio::{channels::Channels, witness},
};

/// Namespaces that are asked in.
const NAMESPACES: usize = 64;
/// How long a pod may take to answer. Node's give up after five seconds, so who takes longer than this is
/// near to be missed.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn examine(asker: &mut Asker, config: &RedisConfig, report: &mut Report) {
    let prefix = &config.channel_prefix;
    let pattern = format!("{prefix}-request#*");
    let mut namespaces = BTreeSet::new();
    for channels in asker.ask_all::<Vec<String>>(&["PUBSUB", "CHANNELS", &pattern]).await {
        let known = channels.iter().filter_map(|channel| witness::namespace(prefix, channel));
        namespaces.extend(known.map(str::to_owned));
    }
    if namespaces.is_empty() {
        report.note(
            "cluster",
            format!("Nobody listens to requests under {prefix}: no pod is connected, or pods use another channel_prefix."),
        );
    }
    if namespaces.len() > NAMESPACES {
        report.warn(
            "namespaces",
            format!("{} namespaces are served: Node's pods have a pattern subscription for each, and Redis compares every message with all of them.", namespaces.len()),
        );
    }
    for namespace in namespaces.into_iter().take(NAMESPACES) {
        one(asker, prefix, namespace, report).await;
    }
    deaf(report);
}

async fn one(asker: &mut Asker, prefix: &str, namespace: String, report: &mut Report) {
    let channels = Channels::new(prefix, &namespace);
    let servers = asker.listeners(&channels.request).await;
    let answers = match question(asker, &channels, servers).await {
        Ok(answers) => answers,
        Err(error) => {
            report.error(
                "channels",
                format!("The channels of {namespace} cannot be used: {error}. The user needs &{prefix}* and PUBLISH and SUBSCRIBE."),
            );
            return;
        }
    };
    let (mut ours, mut others) = (Vec::new(), 0_usize);
    for answerer in answers {
        match answerer {
            Answerer::Named(name) => ours.push(name),
            Answerer::Nameless => others += 1,
        }
    }
    ours.sort_unstable();
    let silent = servers.saturating_sub(ours.len() + others);
    if silent > 0 {
        report.error(
            "silent",
            format!("In {namespace} {silent} of {servers} servers did not answer within {PATIENCE:?}: they hang, are overloaded, have vanished without a word, or are of another kind (socketioxide-redis listens to the same channels and never answers). While they are counted, fetchSockets and acknowledged broadcasts of Node's pods fail. Compare CLIENT LIST with the pods that run."),
        );
    }
    // Ours listen to the channel itself; Node's to a pattern.
    let broadcast = asker.listeners(&channels.broadcast).await;
    if broadcast < ours.len() {
        report.error(
            "deaf",
            format!("In {namespace} {} of our pods answer, but {broadcast} listen to broadcasts: messages do not reach all of them. Restart those that are missing.", ours.len()),
        );
    }
    report.namespaces.push(NamespaceReport { namespace, servers, ours, others, silent });
}

/// Asks, and gives the names of those who answer, as far as they have any.
async fn question(
    asker: &mut Asker,
    channels: &Channels,
    servers: usize,
) -> redis::RedisResult<Vec<Answerer>> {
    let random = |length| Alphanumeric.sample_string(&mut rand::rng(), length);
    let (uid, id, room) = (format!("doctor-{}", random(6)), random(20), random(20));
    let (sender, mut answers) = mpsc::channel(4096);
    let node = asker.node(At::Anywhere).await?;
    // Some answer to all, some to whoever asked.
    let answer_channels = [channels.answer(None), channels.answer(Some(&uid))];
    let _listening = listen(&node, &answer_channels, &[], move |push| {
        // More answers than there is room for are more than there are pods.
        let _ = sender.try_send(push);
    })
    .await?;
    let question = json!({
        "uid": uid, "requestId": id, "type": 5, "opts": { "rooms": [room], "except": [] },
    });
    let _: Value = asker.ask(&node, &["PUBLISH", &channels.request, &question.to_string()]).await?;
    let deadline = Instant::now() + PATIENCE;
    let mut answered = Vec::new();
    // Who is called as another counts all the same: each answers once.
    while answered.len() < servers {
        let Ok(Some(push)) = tokio::time::timeout_at(deadline, answers.recv()).await else { break };
        answered.extend(answer(push, &id));
    }
    Ok(answered)
}

/// Whoever answered.
enum Answerer {
    Named(String),
    /// Node's pods have no names.
    Nameless,
}

/// Reads an answer to this question: the name of whoever gave it, if it has one.
fn answer(push: PushInfo, id: &str) -> Option<Answerer> {
    if push.kind != PushKind::Message {
        return None;
    }
    let payload: Vec<u8> = from_redis_value(push.data.into_iter().nth(1)?).ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    if answer.get("requestId")?.as_str()? != id {
        return None;
    }
    let name = answer.get("pod").and_then(|pod| pod.as_str());
    Some(name.map_or(Answerer::Nameless, |name| Answerer::Named(name.to_owned())))
}

/// Pods with a lease that answer in no namespace, or not in all.
fn deaf(report: &mut Report) {
    if report.namespaces.is_empty() {
        return;
    }
    let mut missing = Vec::new();
    let namespaces = &report.namespaces;
    for pod in &mut report.pods {
        let answers = namespaces.iter().any(|namespace| namespace.ours.contains(&pod.pod));
        pod.answers = Some(answers);
        if !answers && pod.lease_ms > 0 {
            missing.push(pod.pod.clone());
        }
    }
    for pod in missing {
        report.error(
            "deaf",
            format!("{pod} renews its lease but answers to nobody: what other pods send does not reach its clients. Restart it, or look whether it has another channel_prefix."),
        );
    }
}
