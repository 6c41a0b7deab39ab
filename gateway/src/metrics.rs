//! Every series of the gateway's own, declared once; rooms receive ready handles.
//!
//! Labels come from closed sets: never a room, a user or an id.

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use adapter_redis::socketio::Snapshot;
use opentelemetry::trace::SpanContext;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::{contract::Contract, exposition::Exemplars, refusal::Code};

/// The histogram whose buckets have examples.
const EVENT_DURATION: &str = "gateway_event_duration_seconds";

/// Buckets of what is usually done in microseconds and must not take seconds.
const QUICK: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// Everything that is counted.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Where it is registered.
    pub registry: Registry,
    /// The edge's.
    pub edge: EdgeMetrics,
    /// The wire's.
    pub wire: WireMetrics,
    /// The events'.
    pub events: EventMetrics,
    /// What carries the connections.
    pub transport: TransportMetrics,
    /// The way between the pods.
    pub cluster: ClusterMetrics,
    /// 1 while Redis answers.
    pub redis_up: IntGauge,
}

/// What the edge counts.
#[derive(Clone, Debug)]
pub struct EdgeMetrics {
    connections: IntGauge,
    refused: IntCounterVec,
    handshake: Histogram,
}

impl EdgeMetrics {
    /// More or fewer open Engine.IO sessions.
    pub fn connections(&self, change: i64) {
        self.connections.add(change);
    }

    /// A request was refused before Socket.IO.
    pub fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A handshake was answered.
    pub fn handshake(&self, took: Duration) {
        self.handshake.observe(took.as_secs_f64());
    }
}

/// What the wire counts.
#[derive(Clone, Debug)]
pub struct WireMetrics {
    sent: IntCounter,
    dropped: IntCounter,
    delivery: Histogram,
    orders_dropped: IntCounter,
}

impl WireMetrics {
    /// A frame was handed to the queues of its receivers on this pod.
    pub fn delivered(&self, took: Duration) {
        self.delivery.observe(took.as_secs_f64());
    }

    /// Orders of other pods that found the line full.
    pub fn orders_dropped(&self) -> IntCounter {
        self.orders_dropped.clone()
    }

    /// Frames handed to the transports, a broadcast once.
    pub fn sent(&self, frames: u64) {
        self.sent.inc_by(frames);
    }

    /// Deliveries that a full queue did not take.
    pub fn dropped(&self, deliveries: u64) {
        self.dropped.inc_by(deliveries);
    }
}

/// What the transports count, under names for Prometheus.
#[derive(Clone, Debug)]
pub struct TransportMetrics {
    open: IntGaugeVec,
    bytes: IntCounterVec,
    packets: IntCounterVec,
    dropped: IntCounterVec,
    upgrades: IntCounterVec,
    ended: IntCounterVec,
    high_water: IntCounter,
}

/// What the transports counted so far.
#[derive(Clone, Debug, Default)]
pub struct Transports {
    /// Sessions by transport.
    pub open: [(&'static str, u64); 2],
    /// Bytes by direction, as the transport carries them.
    pub bytes: [(&'static str, u64); 2],
    /// Packets by direction.
    pub packets: [(&'static str, u64); 2],
    /// Packets that were given up, by what they were.
    pub dropped: [(&'static str, u64); 2],
    /// Upgrades by outcome.
    pub upgrades: [(&'static str, u64); 2],
    /// Sessions that ended, by cause.
    pub ended: Vec<(&'static str, u64)>,
    /// How often as much waited for a client as may.
    pub high_water: u64,
}

impl TransportMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let open = IntGaugeVec::new(
            Opts::new("gateway_transport_sessions", "Engine.IO sessions, by transport"),
            &["transport"],
        )?;
        registry.register(Box::new(open.clone()))?;
        let high_water = IntCounter::new(
            "gateway_transport_high_water_total",
            "Times that as much waited for a client as may",
        )?;
        registry.register(Box::new(high_water.clone()))?;
        Ok(Self {
            open,
            bytes: counters(
                "gateway_transport_bytes_total",
                "Bytes as the transports carry them, by direction",
                "direction",
            )?,
            packets: counters(
                "gateway_transport_packets_total",
                "Engine.IO packets, by direction",
                "direction",
            )?,
            dropped: counters(
                "gateway_transport_dropped_total",
                "Packets that were given up: volatile ones, or those of a session that was ended",
                "kind",
            )?,
            upgrades: counters(
                "gateway_transport_upgrades_total",
                "Upgrades to a WebSocket, by outcome",
                "outcome",
            )?,
            ended: counters(
                "gateway_transport_ended_total",
                "Engine.IO sessions that ended, by cause",
                "cause",
            )?,
            high_water,
        })
    }

    /// Takes the engine's own counters over.
    pub fn show(&self, now: &Transports) {
        for (transport, sessions) in now.open {
            let sessions = i64::try_from(sessions).unwrap_or(i64::MAX);
            self.open.with_label_values(&[transport]).set(sessions);
        }
        let counters = [
            (&self.bytes, &now.bytes[..]),
            (&self.packets, &now.packets),
            (&self.dropped, &now.dropped),
            (&self.upgrades, &now.upgrades),
            (&self.ended, &now.ended),
        ];
        for (counters, values) in counters {
            for (label, value) in values {
                raise(&counters.with_label_values(&[label]), *value);
            }
        }
        raise(&self.high_water, now.high_water);
    }
}

/// A counter that somebody else counts.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

/// What the way between the pods counts, under names for Prometheus.
#[derive(Clone, Debug)]
pub struct ClusterMetrics {
    counters: IntCounterVec,
    subscriptions: IntGauge,
}

impl ClusterMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = IntCounterVec::new(
            Opts::new("gateway_adapter_total", "What happened between the pods, by kind"),
            &["kind"],
        )?;
        registry.register(Box::new(counters.clone()))?;
        let subscriptions =
            IntGauge::new("gateway_adapter_subscriptions", "Channels that are subscribed to")?;
        registry.register(Box::new(subscriptions.clone()))?;
        Ok(Self { counters, subscriptions })
    }

    /// Takes the adapter's own counters over.
    pub fn show(&self, now: &Snapshot) {
        let kinds = [
            ("published", now.published),
            ("refused", now.refused),
            ("stale", now.stale),
            ("unconfirmed", now.unconfirmed),
            ("unwritable", now.unwritable),
            ("received", now.received),
            ("echoes", now.echoes),
            ("malformed", now.malformed),
            ("foreign", now.foreign),
            ("requests", now.requests),
            ("asked", now.asked),
            ("partial", now.partial),
            ("late", now.late),
            ("unconfirmed_joins", now.unconfirmed_joins),
            ("orphans", now.orphans),
            ("gaps", now.gaps),
            ("failed_dials", now.failed_dials),
            ("missed", now.missed),
        ];
        for (kind, value) in kinds {
            raise(&self.counters.with_label_values(&[kind]), value);
        }
        self.subscriptions.set(i64::try_from(now.subscriptions).unwrap_or(i64::MAX));
    }
}

/// What events count.
#[derive(Clone, Debug)]
pub struct EventMetrics {
    sessions: IntGauge,
    handled: IntCounterVec,
    unknown: IntCounter,
    refusals: Arc<HashMap<Code, IntCounter>>,
    duration: Histogram,
    exemplars: Exemplars,
    redis: HistogramVec,
    disconnects: IntCounterVec,
    floods: IntCounter,
    client_errors: IntCounter,
    state_errors: IntCounter,
    connects: IntCounterVec,
    reloads: IntCounterVec,
}

impl EventMetrics {
    /// The configuration was read again, and taken over or refused.
    pub fn reloaded(&self, good: bool) {
        self.reloads.with_label_values(&[if good { "taken" } else { "refused" }]).inc();
    }

    /// A session began or ended.
    pub fn sessions(&self, change: i64) {
        self.sessions.add(change);
    }

    /// What counts the events of a contract, each by its own.
    pub fn counters(&self, contract: &Contract) -> HashMap<String, IntCounter> {
        let of = |event: &String| {
            (event.clone(), self.handled.with_label_values(&[contract.name.as_str(), event]))
        };
        contract.event.keys().map(of).collect()
    }

    /// An event was handled; one that is no event of the contract has no counter of its own.
    pub fn handled(
        &self,
        counter: Option<&IntCounter>,
        took: Duration,
        trace: Option<&SpanContext>,
    ) {
        counter.unwrap_or(&self.unknown).inc();
        self.duration.observe(took.as_secs_f64());
        if let Some(trace) = trace {
            self.exemplars.show(took.as_secs_f64(), trace);
        }
    }

    /// Waits for what is asked of the shared state, and says how long that took.
    pub async fn asked<T>(&self, call: &'static str, answer: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = answer.await;
        self.redis.with_label_values(&[call]).observe(begun.elapsed().as_secs_f64());
        answer
    }

    /// Examples for the series of events, by the name of their histogram.
    pub fn examples(&self) -> [(&'static str, &Exemplars); 1] {
        [(EVENT_DURATION, &self.exemplars)]
    }

    /// An event was refused.
    pub fn refused(&self, code: Code) {
        if let Some(counter) = self.refusals.get(&code) {
            counter.inc();
        }
    }

    /// A session ended.
    pub fn disconnected(&self, reason: &'static str) {
        self.disconnects.with_label_values(&[reason]).inc();
    }

    /// A flooding client was cut off.
    pub fn flooded(&self) {
        self.floods.inc();
    }

    /// A client reported an error of its own.
    pub fn client_error(&self) {
        self.client_errors.inc();
    }

    /// The state could not be asked and the gateway went on without.
    pub fn state_error(&self) {
        self.state_errors.inc();
    }

    /// A connection asked for a namespace: `accepted` or why not.
    pub fn connect(&self, outcome: &'static str) {
        self.connects.with_label_values(&[outcome]).inc();
    }
}

impl Metrics {
    /// Declares every series.
    ///
    /// # Errors
    /// Where a name is declared twice, which only a programming mistake does.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        // Where the values of a label are few, all are shown from the start: an absence is not a zero.
        let counters_of = |name: &str, help: &str, label: &str, values: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            for value in values {
                counters.with_label_values(&[value]);
            }
            Ok::<_, prometheus::Error>(counters)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(QUICK.to_vec());
            let histogram = Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let disconnects = counters_of(
            "gateway_disconnects_total",
            "Connections that ended, by reason",
            "reason",
            &[
                "bad_packet",
                "client",
                "flood",
                "multiple_polls",
                "never_began",
                "ping_timeout",
                "server",
                "shutdown",
                "slow_consumer",
                "transport_close",
                "transport_error",
            ],
        )?;
        let refusals =
            counters("gateway_refusals_total", "Events that were refused, by code", &["code"])?;
        let handled = counters(
            "gateway_events_total",
            "Events that were handled, by contract and event",
            &["contract", "event"],
        )?;
        let metrics = Self {
            edge: EdgeMetrics {
                connections: gauge("gateway_connections", "Open Engine.IO sessions")?,
                refused: counters_of(
                    "gateway_edge_refusals_total",
                    "Requests refused before Socket.IO, by reason",
                    "reason",
                    &["host", "origin", "leaving", "address", "pod"],
                )?,
                handshake: histogram(
                    "gateway_handshake_duration_seconds",
                    "Answering a handshake",
                )?,
            },
            wire: WireMetrics {
                sent: counter(
                    "gateway_frames_total",
                    "Frames handed to transports, a broadcast once",
                )?,
                dropped: counter(
                    "gateway_deliveries_dropped_total",
                    "Deliveries that the full queue of a slow receiver did not take",
                )?,
                delivery: histogram(
                    "gateway_delivery_duration_seconds",
                    "Handing a frame to the queues of all its receivers on this pod",
                )?,
                orders_dropped: counter(
                    "gateway_orders_dropped_total",
                    "Orders of other pods that found too many waiting",
                )?,
            },
            events: EventMetrics {
                sessions: gauge("gateway_sessions", "Connections in namespaces")?,
                unknown: counter("gateway_events_unknown_total", "Events that no contract has")?,
                exemplars: Exemplars::of(QUICK),
                redis: {
                    let options = HistogramOpts::new(
                        "gateway_state_duration_seconds",
                        "Asking the shared state, a round trip to Redis where there is one, by call",
                    );
                    let redis = HistogramVec::new(options.buckets(QUICK.to_vec()), &["call"])?;
                    registry.register(Box::new(redis.clone()))?;
                    redis
                },
                duration: histogram(
                    EVENT_DURATION,
                    "Handling an event, from its arrival to its ack",
                )?,
                floods: counter("gateway_floods_total", "Connections cut off since they flooded")?,
                client_errors: counter(
                    "gateway_client_errors_total",
                    "Errors that clients reported",
                )?,
                state_errors: counter(
                    "gateway_state_errors_total",
                    "Times that the state store did not answer and the pod went on without it",
                )?,
                connects: counters_of(
                    "gateway_connects_total",
                    "Connections that asked for a namespace, by outcome",
                    "outcome",
                    &["accepted", "token", "former", "too_many"],
                )?,
                handled,
                reloads: counters_of(
                    "gateway_reloads_total",
                    "Times that the configuration was read again, by what came of it",
                    "outcome",
                    &["taken", "refused"],
                )?,
                refusals: Arc::new(
                    Code::ALL
                        .into_iter()
                        .map(|code| (code, refusals.with_label_values(&[code.as_str()])))
                        .collect(),
                ),
                disconnects,
            },
            transport: TransportMetrics::new(&registry)?,
            cluster: ClusterMetrics::new(&registry)?,
            redis_up: gauge("gateway_redis_up", "1 while Redis answers")?,
            registry: registry.clone(),
        };
        Ok(metrics)
    }
}
