//! Two pods of one installation, with all that pods share.

use std::{sync::Arc, time::Duration};

use adapter::{Held, Kind, Place, State, Wish};
use adapter_redis::{
    RedisConfig, RedisState, connect,
    socketio::{AdapterConfig, PubSub, Reach},
};
use serde_json::{Value, json};

use crate::{
    harness::{Node, Pod},
    redis_server::{PATIENCE, until},
};

/// Two pods, each with its state and one client of the stock package: `a` and `b`, both in `room`.
pub(crate) struct Two {
    pub(crate) states: [RedisState; 2],
    pub(crate) pods: [Pod; 2],
    pub(crate) ids: [String; 2],
    pub(crate) node: Arc<Node>,
}

impl Two {
    pub(crate) async fn start(config: &RedisConfig) -> Self {
        Self::with(config, PubSub::Classic).await
    }

    pub(crate) async fn with(config: &RedisConfig, pubsub: PubSub) -> Self {
        let settings = AdapterConfig {
            pubsub,
            ping_interval: Duration::from_millis(200),
            ..AdapterConfig::default()
        };
        let node = Arc::new(Node::with(String::new()));
        let pods =
            [Pod::of(config, "a", settings.clone()).await, Pod::of(config, "b", settings).await];
        let states = [
            connect(config.clone(), "a").await.unwrap(),
            connect(config.clone(), "b").await.unwrap(),
        ];
        let mut ids = [String::new(), String::new()];
        for (pod, (name, id)) in pods.iter().zip(["a", "b"].into_iter().zip(&mut ids)) {
            assert!(pod.bus.ready(PATIENCE).await, "redis is there");
            *id = node.join(name, &pod.port).await;
            node.until(name, "attached").await;
            join(pod, id, "room").await;
        }
        Self { states, pods, ids, node }
    }

    /// Sends something from each pod to the other until it arrives.
    pub(crate) async fn messages_flow(&self, mark: &str) {
        for (from, to) in [(0, "b"), (1, "a")] {
            let pod = &self.pods[from];
            until("a message arrives", || async {
                pod.io.to("room").emit("mark", mark).await.unwrap();
                let heard = self.node.run(&format!("return clients.{to}.heard")).await;
                heard.as_array().unwrap().contains(&json!(["mark", mark])).then_some(())
            })
            .await;
        }
    }

    /// Everything is up on both pods.
    pub(crate) async fn is_well(&self) {
        for (pod, state) in self.pods.iter().zip(&self.states) {
            until("messages are up", || async { pod.bus.is_up().then_some(()) }).await;
            until("the state is up", || async { state.tick().await.ok() }).await;
        }
    }

    /// Both pods agree on who is in a roster.
    pub(crate) async fn members(&self, key: &str, want: &[&str]) {
        for state in &self.states {
            until(&format!("{want:?} are in {key}"), || async {
                // A pod ticks once a second or so, come what may.
                let _ = state.tick().await;
                let holds = state.holds(&place(Kind::Roster, key)).await.ok()?;
                let sids: Vec<String> = holds.into_iter().map(|hold| hold.sid).collect();
                (sids == want).then_some(())
            })
            .await;
        }
    }

    /// What a client heard of one kind, in order.
    pub(crate) async fn heard(&self, client: &str, event: &str) -> Vec<Value> {
        let heard = self.node.run(&format!("return clients.{client}.heard")).await;
        let mut heard = heard.as_array().unwrap().clone();
        heard.retain(|heard| heard[0] == event);
        let argument = |heard: Value| heard.get(1).cloned().unwrap_or_default();
        heard.into_iter().map(argument).collect()
    }
}

pub(crate) async fn join(pod: &Pod, id: &str, room: &str) {
    until("the cluster reaches the room", || async {
        let reach = pod.adapter.join(id.parse().unwrap(), room).await;
        (reach == Reach::Cluster).then_some(())
    })
    .await;
}

pub(crate) fn place(kind: Kind, key: &str) -> Place {
    Place { namespace: "/codx".to_owned(), kind, key: key.to_owned() }
}

pub(crate) fn wish(kind: Kind, key: &str, sid: &str) -> Wish {
    Wish {
        place: place(kind, key),
        sid: sid.to_owned(),
        holder: format!("holder of {sid}"),
        exclusive: kind == Kind::Lock,
        data: json!({ "of": sid }),
        ttl: None,
        at_most: None,
    }
}

pub(crate) async fn hold(state: &RedisState, kind: Kind, key: &str, sid: &str) -> Held {
    state.hold(wish(kind, key, sid)).await.unwrap().unwrap()
}
