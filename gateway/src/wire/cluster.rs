//! The wire between the pods: joining them, asking them, and reaching connections that they serve.
//!
//! In come calls for the whole cluster; out go requests to the other pods, over the adapter. Nothing
//! here fails because Redis or a pod is away: who did not answer is named.

use std::time::Duration;

use adapter_redis::{
    ConnectError, RedisConfig,
    socketio::{AdapterConfig, Bus, Counters, RedisAdapter},
};
use serde_json::Value;
use socketioxide::{adapter::Emitter, extract::SocketRef, handler::ConnectHandler};
use socketioxide_core::adapter::{BroadcastOptions, Room};

use super::{
    Answers, CLUSTER, Service, Target, Wire, WireConfig,
    elsewhere::{Elsewhere, Orders},
    fabric::{Fabric, Fabrics, options},
    server::Rejected,
};
use crate::metrics::WireMetrics;

/// How this pod is joined with others.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Where they meet.
    pub redis: RedisConfig,
    /// How much may wait for them.
    pub adapter: AdapterConfig,
    /// What this pod is called.
    pub pod: String,
}

impl Wire {
    /// As [`Wire::new`], joined with other pods. What they want of this one comes as orders.
    ///
    /// # Errors
    /// Where Redis cannot be used as configured. One that is away is no error.
    pub fn clustered(
        config: &WireConfig,
        cluster: Cluster,
        metrics: WireMetrics,
    ) -> Result<(Self, Service, Orders), ConnectError> {
        let (elsewhere, orders) = Elsewhere::new(metrics.orders_dropped());
        let Cluster { redis, adapter, pod } = cluster;
        let bus = Bus::connect(&redis, adapter, pod, elsewhere)?;
        let (wire, service) = Self::over(config, Fabrics::new(Some(bus)), metrics);
        // Nobody is ever let in here: it is where the pods ask each other.
        let connected = |_: SocketRef<Fabric>| async {};
        wire.io.ns(CLUSTER, connected.with(nobody));
        Ok((wire, service, orders))
    }

    /// Puts the connections that a target means on other pods into rooms.
    pub fn join_elsewhere(&self, namespace: &str, target: &Target, rooms: &[String]) {
        self.elsewhere(namespace, target, |adapter, options| {
            adapter.join_elsewhere(options, &as_rooms(rooms));
        });
    }

    /// Takes the connections that a target means on other pods out of rooms.
    pub fn leave_elsewhere(&self, namespace: &str, target: &Target, rooms: &[String]) {
        self.elsewhere(namespace, target, |adapter, options| {
            adapter.leave_elsewhere(options, &as_rooms(rooms));
        });
    }

    /// Disconnects the connections that a target means on other pods.
    pub fn disconnect_elsewhere(&self, namespace: &str, target: &Target, close: bool) {
        self.elsewhere(namespace, target, |adapter, options| {
            adapter.disconnect_elsewhere(options, close);
        });
    }

    fn elsewhere(
        &self,
        namespace: &str,
        target: &Target,
        ask: impl FnOnce(&RedisAdapter<Emitter>, &BroadcastOptions),
    ) {
        let fabric = self.fabric(namespace).filter(|_| !target.is_nobody());
        if let Some(adapter) = fabric.as_deref().and_then(Fabric::cluster) {
            ask(adapter, &options(target, false));
        }
    }

    /// Asks the other pods of ours. Those that do not answer in time are missing.
    pub async fn ask(&self, question: Value, patience: Duration) -> Answers {
        let fabric = self.fabric(CLUSTER);
        let Some(adapter) = fabric.as_deref().and_then(Fabric::cluster) else {
            return Answers::default();
        };
        let gathered =
            adapter.server_side_emit_with_ack(&[Value::from("ask"), question], patience).await;
        let mut missing = gathered.silent;
        // What has no name yet has a place in the list all the same.
        missing.resize(missing.len().max(gathered.missing), "unknown".to_owned());
        Answers { said: gathered.items, missing }
    }

    /// Tells the other pods of ours something that wants no answer.
    pub fn tell(&self, what: Value) {
        let fabric = self.fabric(CLUSTER);
        if let Some(adapter) = fabric.as_deref().and_then(Fabric::cluster) {
            adapter.server_side_emit(&[Value::from("tell"), what]);
        }
    }

    /// Whether other pods are reached and heard, where there are any.
    pub fn is_joined(&self) -> bool {
        self.fabrics.bus.as_ref().is_none_or(Bus::is_up)
    }

    /// What the way between the pods counts, where there is one.
    pub fn counters(&self) -> Option<&Counters> {
        self.fabrics.bus.as_ref().map(Bus::counters)
    }

    /// Waits until what is to be sent to other pods has left, but no longer than this.
    pub async fn flush(&self, patience: Duration) {
        if let Some(bus) = &self.fabrics.bus
            && !bus.flush(patience).await
        {
            tracing::warn!("some of what was for other pods did not leave in time");
        }
    }

    /// Waits until this pod hears the others, but no longer than this.
    pub async fn joined(&self, patience: Duration) -> bool {
        match &self.fabrics.bus {
            Some(bus) => bus.ready(patience).await,
            None => true,
        }
    }
}

async fn nobody() -> Result<(), Rejected> {
    Err(Rejected("Invalid namespace".to_owned()))
}

fn as_rooms(rooms: &[String]) -> Vec<Room> {
    rooms.iter().map(|room| room.clone().into()).collect()
}
