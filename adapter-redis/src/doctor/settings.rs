//! The settings of a server that bite.
//!
//! In come a server's settings and its numbers, out come findings, each with what to set instead. Where it
//! may not read settings it says so. It never changes one.

use std::collections::HashMap;

use super::{Report, ask::Asker, servers::Info};
use crate::nodes::Node;

/// The buffer in which a pod's messages wait in Redis must hold the longest message of Node's default, and
/// some more.
const LEAST_BUFFER: u64 = 32 << 20;
/// How long a pod that vanished may be counted as a listener.
const LONGEST_KEEPALIVE: u64 = 60;

const READ: [&str; 8] = [
    "maxclients",
    "client-output-buffer-limit",
    "timeout",
    "maxmemory",
    "maxmemory-policy",
    "tcp-keepalive",
    "notify-keyspace-events",
    "busy-reply-threshold",
];

pub(super) async fn examine(asker: &mut Asker, node: &Node, info: &Info, report: &mut Report) {
    let mut settings = HashMap::new();
    for name in READ {
        match asker.ask::<HashMap<String, String>>(node, &["CONFIG", "GET", name]).await {
            Ok(answer) => settings.extend(answer),
            Err(error) => {
                let name = node.name();
                report.note(
                    "settings",
                    format!("The settings of {name} cannot be read ({error}). Allow this user +config|get to have them checked."),
                );
                break;
            }
        }
    }
    let get = |name: &str| settings.get(name).map(String::as_str);
    let number = |name: &str| get(name).and_then(|value| value.parse::<u64>().ok());
    let name = node.name();
    clients(name, info, number("maxclients"), report);
    if let Some(limit) = get("client-output-buffer-limit") {
        buffers(name, info, limit, report);
    }
    idle(name, number("timeout"), number("tcp-keepalive"), report);
    memory(name, info, get("maxmemory-policy"), report);
    if let Some(events) = get("notify-keyspace-events").filter(|events| !events.is_empty()) {
        report.note(
            "notifications",
            format!("{name} publishes keyspace events ({events}), which nothing of ours reads: each write costs a message. Clear notify-keyspace-events unless another application needs it."),
        );
    }
}

fn clients(name: &str, info: &Info, most: Option<u64>, report: &mut Report) {
    let (now, refused) = (info.number("connected_clients"), info.number("rejected_connections"));
    if let Some(most) = most {
        // A pod opens a few, or some dozens in a cluster with sharded channels.
        let share = now.saturating_mul(100).checked_div(most).unwrap_or(100);
        let text = format!(
            "{name} has {now} of at most {most} clients. Pods that come on top are refused. Raise maxclients, and the limit of open files with it."
        );
        match share {
            90.. => report.error("maxclients", text),
            70.. => report.warn("maxclients", text),
            _ if most < 100 => report.warn("maxclients", text),
            _ => {}
        }
    }
    if refused > 0 {
        report.warn(
            "maxclients",
            format!("{name} has refused {refused} connections since it started, because it had as many clients as it may. Raise maxclients."),
        );
    }
}

/// The limits are a list of class, hard limit, soft limit and the seconds for which that may be exceeded.
fn buffers(name: &str, info: &Info, limits: &str, report: &mut Report) {
    let words: Vec<&str> = limits.split_whitespace().collect();
    let pubsub = words.chunks(4).find(|limits| limits.first() == Some(&"pubsub"));
    let Some([_, hard, soft, seconds]) = pubsub else { return };
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let (hard, soft, seconds) = (number(hard), number(soft), number(seconds));
    let mib = |bytes: u64| bytes >> 20;
    if hard == 0 && soft == 0 {
        report.warn(
            "output-buffer",
            format!("{name} has no limit for what waits for a listener: one pod that hangs fills its memory. Set client-output-buffer-limit pubsub, for example 64mb 32mb 60."),
        );
    } else if hard != 0 && hard < LEAST_BUFFER {
        report.warn(
            "output-buffer",
            format!("{name} cuts a listener off with {} MiB waiting for it: a burst makes pods miss messages. Set client-output-buffer-limit pubsub to 64mb 32mb 60 or more.", mib(hard)),
        );
    } else if soft != 0 && soft < LEAST_BUFFER / 8 {
        report.warn(
            "output-buffer",
            format!("{name} cuts a listener off that has {} MiB waiting for {seconds} s: a busy pod misses messages. Set client-output-buffer-limit pubsub to 64mb 32mb 60 or more.", mib(soft)),
        );
    }
    let cut = info.number("client_output_buffer_limit_disconnections");
    if cut > 0 {
        report.warn(
            "output-buffer",
            format!("{name} has cut off {cut} clients since it started, because too much was waiting for them: those were pods, or others, that read too slowly. Give pods more CPU, or raise client-output-buffer-limit."),
        );
    }
}

fn idle(name: &str, timeout: Option<u64>, keepalive: Option<u64>, report: &mut Report) {
    if let Some(timeout @ 1..) = timeout {
        report.warn(
            "timeout",
            format!("{name} closes connections that are idle for {timeout} s: the next call of a quiet pod fails. Set timeout to 0."),
        );
    }
    if let Some(keepalive) = keepalive.filter(|seconds| *seconds == 0 || *seconds > 300) {
        let dead =
            if keepalive == 0 { "for ever".to_owned() } else { format!("for {keepalive} s") };
        report.warn(
            "keepalive",
            format!("{name} counts a pod whose host vanished {dead}, and for as long every cluster-wide question of Node's pods fails. Set tcp-keepalive to {LONGEST_KEEPALIVE}."),
        );
    }
}

fn memory(name: &str, info: &Info, policy: Option<&str>, report: &mut Report) {
    let (used, most) = (info.number("used_memory"), info.number("maxmemory"));
    let policy = policy.unwrap_or_else(|| info.text("maxmemory_policy"));
    if most > 0 && policy.starts_with("allkeys") {
        report.error(
            "eviction",
            format!("{name} may evict any key ({policy}): members, locks and sessions vanish without an event. Set maxmemory-policy to noeviction."),
        );
    } else if most > 0 && policy.starts_with("volatile") {
        report.warn(
            "eviction",
            format!("{name} may evict keys with an end ({policy}): sessions, turns and replies vanish early. Set maxmemory-policy to noeviction."),
        );
    } else if policy.starts_with("allkeys") {
        report.note(
            "eviction",
            format!("{name} would evict any key ({policy}) if it had a maxmemory. Set maxmemory-policy to noeviction before it gets one."),
        );
    }
    if most > 0 && used.saturating_mul(10) > most.saturating_mul(9) {
        report.error(
            "memory",
            format!("{name} uses {} of {} MiB: beyond, writes are refused and pods answer UNAVAILABLE. Raise maxmemory.", used >> 20, most >> 20),
        );
    }
    let evicted = info.number("evicted_keys");
    if evicted > 0 {
        report.warn(
            "eviction",
            format!("{name} has evicted {evicted} keys since it started. If they were ours, members, locks or sessions were lost."),
        );
    }
    if info.text("loading") == "1" {
        report.error(
            "loading",
            format!("{name} is still loading its data and answers nothing else."),
        );
    }
}
