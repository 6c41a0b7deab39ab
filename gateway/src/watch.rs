//! What is done every second or so: leases, lapses, what is due, and what is told when it changes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    action, clock,
    contract::Scope,
    core::Core,
    door::{Door, due},
    mount::Mounted,
};

/// How often leases are renewed and lapses collected.
const TICK: Duration = Duration::from_millis(500);

/// Renews leases and announces what lapsed.
pub async fn leases(core: Arc<Core>) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        action::lapses(&core).await;
    }
}

/// Warns of tokens that end, and ends what is over.
pub async fn expiries(door: Door) {
    let mut every = tokio::time::interval(TICK / 2);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        due(&door).await;
    }
}

struct Names(Value);

impl Scope for Names {
    fn root(&self, name: &str) -> Option<std::borrow::Cow<'_, Value>> {
        match name {
            "health" => Some(std::borrow::Cow::Borrowed(&self.0)),
            "ts" => Some(std::borrow::Cow::Owned(json!(clock::timestamp()))),
            _ => None,
        }
    }
}

/// Tells everybody on this pod when what a contract watches has changed. Every pod does so for its own.
pub async fn changes(core: Arc<Core>) {
    let watched: Vec<Arc<Mounted>> = core
        .mounts
        .iter()
        .filter(|mount| mount.contract().watch.is_some() && !mount.debug)
        .cloned()
        .collect();
    if watched.is_empty() {
        return;
    }
    let mut last: HashMap<String, Value> = HashMap::new();
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        for mount in &watched {
            let contract = mount.contract();
            let Some(watch) = &contract.watch else { continue };
            let data = watch.data.fill(&Names(action::health(&core, mount).await));
            let before = last.insert(mount.namespace.clone(), data.clone());
            if before.is_some_and(|before| before != data) {
                let namespace = &mount.namespace;
                core.fanout.send_here(namespace, &watch.event, &[data]);
            }
        }
    }
}
