//! What an event costs between the transport that read it and the queues that take its frames.
//!
//! ```text
//! event ──▶ bucket → line → gate → steps → ack ──▶ the sender's queue
//!                                    └───relay───▶ N receivers' queues
//! ```
//!
//! In comes a real gateway in this process, with real connections over loopback, all on one thread. Only
//! the handling is timed, which needs no waiting and is done on the spot; reading the frames at the
//! other ends happens between the timed parts. What the sockets cost is measured from outside, by
//! `loadtest compare`. The allocations of an event are printed before its time.
#![expect(clippy::expect_used, reason = "a bench that cannot be set up ends at once")]

use std::{
    alloc::System,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::Criterion;
use futures_util::{SinkExt, StreamExt};
use gateway::{
    config::{Config, Mount},
    door::Door,
    gate,
    gateway::Gateway,
    session::Session,
    wire::{Application, Inbound},
};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::{net::TcpStream, runtime::Runtime};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Frames that may be on their way to all receivers together between two readings.
const ON_THE_WAY: usize = 20_000;

/// Events between two readings at most: fewer than fit a connection's queue.
const BATCH: usize = 200;

/// A client that reads and counts.
struct Client {
    socket: WebSocketStream<TcpStream>,
    sid: String,
}

impl Client {
    async fn connect(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(gateway.public()).await.expect("the gateway listens");
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", gateway.public());
        let (socket, _) = client_async(url, stream).await.expect("a WebSocket");
        let mut client = Self { socket, sid: String::new() };
        client.socket.send(Message::text("40")).await.expect("written");
        let text = client.text("40").await;
        let body: Value = serde_json::from_str(&text[2..]).expect("the id is JSON");
        body["sid"].as_str().expect("the id is text").clone_into(&mut client.sid);
        client
    }

    /// The next text that starts so; others are passed over.
    async fn text(&mut self, start: &str) -> String {
        loop {
            let message = self.socket.next().await.expect("the connection lasts");
            if let Message::Text(text) = message.expect("the connection lasts")
                && text.starts_with(start)
            {
                return text.to_string();
            }
        }
    }

    async fn read(&mut self, start: &str, count: usize) {
        for _ in 0..count {
            self.text(start).await;
        }
    }
}

/// A gateway with a sender in the channel `busy`, and so many others in it.
struct Stage {
    runtime: Runtime,
    door: Door,
    session: Arc<Session>,
    sender: Client,
    receivers: Vec<Client>,
    // Its listeners end with it.
    _gateway: Gateway,
}

/// No limits, and no heartbeat among the frames that are counted.
fn config() -> Config {
    let mut config = Config::default();
    config.listen.set_port(0);
    config.internal_listen.set_port(0);
    config.limits.connection.events_per_second = 0;
    config.limits.user.events_per_second = 0;
    config.limits.ip.connects_per_second = 0;
    config.engine.ping_interval = Duration::from_hours(1);
    config.mount = vec![Mount {
        contract: "toolbox".to_owned(),
        namespace: "/".to_owned(),
        auth: None,
        upstream: None,
    }];
    config
}

impl Stage {
    fn new(receivers: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (gateway, sender, receivers) = runtime.block_on(async {
            let gateway = Gateway::start(&config()).await.expect("a gateway");
            let mut clients = Vec::new();
            for _ in 0..=receivers {
                let mut client = Client::connect(&gateway).await;
                let subscribe = r#"420["subscribe",{"channel":"busy"}]"#;
                client.socket.send(Message::text(subscribe)).await.expect("written");
                client.read(r#"430[{"ok":true"#, 1).await;
                clients.push(client);
            }
            let sender = clients.remove(0);
            (gateway, sender, clients)
        });
        let door = Door(gateway.core().clone());
        let mount = door.0.mount("/").expect("mounted");
        let session = mount.sessions.find(&sender.sid).expect("connected");
        Self { runtime, door, session, sender, receivers, _gateway: gateway }
    }

    /// Events as the wire hands them over.
    fn events(&self, count: usize, event: &Event) -> Vec<Inbound> {
        let one = |_| Inbound {
            event: event.name.to_owned(),
            args: event.args.clone(),
            binaries: Vec::new(),
            ack: event.acked.then(|| self.session.peer.ack(1)).flatten(),
        };
        (0..count).map(one).collect()
    }

    /// Handles events, all on the spot.
    fn handle(&self, events: Vec<Inbound>) {
        let _context = self.runtime.enter();
        for event in events {
            self.door.event(&self.session, Some(black_box(event)));
        }
    }

    /// Reads what was sent.
    fn drain(&mut self, count: usize, event: &Event) {
        let Self { runtime, sender, receivers, .. } = self;
        runtime.block_on(async {
            if event.acked {
                sender.read(r#"431[{"ok":true"#, count).await;
            }
            if event.relayed {
                for receiver in receivers {
                    receiver.read(r#"42["message""#, count).await;
                }
            }
        });
    }

    fn batch(&self, left: u64) -> usize {
        let most = BATCH.min(ON_THE_WAY / self.receivers.len().max(1)).max(1);
        usize::try_from(left).unwrap_or(most).min(most)
    }

    fn time(&mut self, iterations: u64, event: &Event) -> Duration {
        let (mut left, mut took) = (iterations, Duration::ZERO);
        while left > 0 {
            let count = self.batch(left);
            let events = self.events(count, event);
            let begun = Instant::now();
            self.handle(events);
            took += begun.elapsed();
            self.drain(count, event);
            left -= u64::try_from(count).unwrap_or(left);
        }
        took
    }

    /// Prints the allocations of one event, when everything has its size.
    fn count(&mut self, name: &str, event: &Event) {
        self.time(BATCH as u64, event);
        let count = self.batch(u64::MAX);
        let events = self.events(count, event);
        let region = Region::new(ALLOCATOR);
        self.handle(events);
        let change = region.change();
        self.drain(count, event);
        println!(
            "{name}: {} allocations, {} reallocations, {} bytes for each of {count} events",
            per(change.allocations, count),
            per(change.reallocations, count),
            per(change.bytes_allocated, count),
        );
    }

    fn bench(&mut self, criterion: &mut Criterion, name: &str, event: &Event) {
        self.count(name, event);
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| self.time(iterations, event));
        });
    }
}

/// With one decimal.
fn per(total: usize, count: usize) -> String {
    let tenths = total * 10 / count;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// What is sent, and what comes of it.
struct Event {
    name: &'static str,
    args: Vec<Value>,
    acked: bool,
    relayed: bool,
}

fn ping(acked: bool) -> Event {
    Event { name: "ping", args: Vec::new(), acked, relayed: false }
}

fn message(acked: bool) -> Event {
    let text = "a line of chat, as people write it";
    let payload = json!({"type": "note", "channel": "busy", "text": text});
    Event { name: "message", args: vec![payload], acked, relayed: true }
}

/// The gate alone: known, its shape, who may.
fn gate(criterion: &mut Criterion, stage: &Stage) {
    for (name, event) in [("gate/ping", ping(false)), ("gate/message", message(false))] {
        criterion.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (event.name.to_owned(), event.args.clone()),
                |(name, args)| {
                    let served = stage.session.mount.served();
                    gate::check(&stage.session, served, name, args, Vec::new())
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args();
    let mut alone = Stage::new(0);
    gate(&mut criterion, &alone);
    alone.bench(&mut criterion, "event/ping", &ping(false));
    alone.bench(&mut criterion, "event/ping, acked", &ping(true));
    alone.bench(&mut criterion, "event/message, acked", &message(true));
    drop(alone);
    for receivers in [1, 10, 100, 1000] {
        let mut stage = Stage::new(receivers);
        stage.bench(&mut criterion, &format!("relay/{receivers}"), &message(false));
    }
    criterion.final_summary();
}
