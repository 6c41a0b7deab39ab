//! Events with acks, in a closed loop: every connection keeps so many in flight and sends the next
//! when one is acknowledged.
//!
//! In comes a [`Plan`]; out goes a [`Report`] over the steady part alone, which begins after the
//! warm-up with every connection at work. A run in which an ack is missing, doubled or a refusal is no
//! measurement: it fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    client::{Client, Target, prefix},
    measure::{cpu, micros},
    packet::{Packet, parse},
};

/// Longest latency that is told apart, in microseconds: a minute.
const LONGEST: u64 = 60_000_000;

/// What stands for the connection's number in an event.
const NUMBER: &str = "{n}";

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where the server is.
    pub target: String,
    /// Which namespace is joined.
    pub namespace: String,
    /// The JSON text of the CONNECT packet's payload, or empty.
    pub auth: String,
    /// The JSON array that is sent once, before all others.
    pub first: Option<String>,
    /// The JSON array that is sent over and over.
    pub event: String,
    /// How many connections.
    pub connections: usize,
    /// How many events of each wait for their ack.
    pub in_flight: usize,
    /// What is not counted.
    pub warm_up: Duration,
    /// What is.
    pub duration: Duration,
    /// Whose CPU time is taken.
    pub server: Option<u32>,
}

/// What a run measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// How many connections.
    pub connections: usize,
    /// How many events of each waited for their ack.
    pub in_flight: usize,
    /// How long the steady part was.
    pub seconds: f64,
    /// Acks in it.
    pub acks: u64,
    /// The same, per second.
    pub acks_per_second: f64,
    /// Half of the acks came within this many microseconds.
    pub p50_us: u64,
    /// All but one in a hundred did.
    pub p99_us: u64,
    /// CPU time of the server for each ack, in microseconds.
    pub server_us_per_ack: Option<f64>,
    /// How much of a core the server used.
    pub server_cores: Option<f64>,
    /// How much of a core this program used: at 1 it is itself what is slow.
    pub driver_cores: f64,
}

/// What the connections of a run share.
#[derive(Debug)]
struct Shared {
    steady: AtomicBool,
    acks: AtomicU64,
    latencies: Mutex<Histogram<u64>>,
}

/// One reading of everything that the steady part is the difference of.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    acks: u64,
    server: Option<Duration>,
    driver: Duration,
}

impl Shared {
    fn read(&self, server: Option<u32>) -> Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            acks: self.acks.load(Ordering::Relaxed),
            server: server.map(cpu).transpose()?,
            driver: cpu(std::process::id())?,
        })
    }
}

/// Runs a plan.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let target = Target::find(&plan.target).await?;
    let shared = Arc::new(Shared {
        steady: AtomicBool::new(false),
        acks: AtomicU64::new(0),
        latencies: Mutex::new(Histogram::new_with_bounds(1, LONGEST, 3)?),
    });
    let mut loops = JoinSet::new();
    for number in 0..plan.connections {
        let client = Client::connect(&target, &plan.namespace, &plan.auth).await;
        let client = client.with_context(|| format!("connection {number}"))?;
        let own = Own::new(plan, number);
        loops.spawn(keep_sending(client, own, shared.clone()));
    }
    through(&mut loops, plan.warm_up).await?;
    let begun = shared.read(plan.server)?;
    shared.steady.store(true, Ordering::Relaxed);
    through(&mut loops, plan.duration).await?;
    let ended = shared.read(plan.server)?;
    loops.abort_all();
    report(plan, begun, ended, &shared.latencies.lock())
}

/// Lets time pass; a connection that ends meanwhile has failed.
async fn through(loops: &mut JoinSet<Result<()>>, time: Duration) -> Result<()> {
    tokio::select! {
        () = sleep(time) => Ok(()),
        Some(ended) = loops.join_next() => {
            ended.context("a connection's task")??;
            bail!("a connection ended by itself")
        }
    }
}

fn report(plan: &Plan, begun: Reading, ended: Reading, seen: &Histogram<u64>) -> Result<Report> {
    let seconds = (ended.at - begun.at).as_secs_f64();
    let acks = ended.acks - begun.acks;
    let count = f64::from(u32::try_from(acks).context("more acks than can be counted")?);
    if acks == 0 {
        bail!("not one ack in {seconds:.1} s");
    }
    let server = ended.server.zip(begun.server).map(|(ended, begun)| ended.saturating_sub(begun));
    Ok(Report {
        connections: plan.connections,
        in_flight: plan.in_flight,
        seconds,
        acks,
        acks_per_second: count / seconds,
        p50_us: seen.value_at_quantile(0.5),
        p99_us: seen.value_at_quantile(0.99),
        server_us_per_ack: server.map(|spent| micros(spent) / count),
        server_cores: server.map(|spent| spent.as_secs_f64() / seconds),
        driver_cores: ended.driver.saturating_sub(begun.driver).as_secs_f64() / seconds,
    })
}

/// What one connection sends: the parts of its packets around the ack's number.
#[derive(Clone, Debug)]
struct Own {
    head: String,
    first: Option<String>,
    event: String,
    in_flight: usize,
}

impl Own {
    fn new(plan: &Plan, number: usize) -> Self {
        let numbered = |text: &String| text.replace(NUMBER, &number.to_string());
        Self {
            head: format!("42{}", prefix(&plan.namespace)),
            first: plan.first.as_ref().map(numbered),
            event: numbered(&plan.event),
            in_flight: plan.in_flight,
        }
    }

    fn packet(&self, id: u64) -> String {
        format!("{}{id}{}", self.head, self.event)
    }
}

/// The events of one connection that wait for their acks, a place for each.
#[derive(Debug)]
struct Waiting(Vec<Place>);

#[derive(Clone, Copy, Debug)]
struct Place {
    id: u64,
    sent: Instant,
}

impl Waiting {
    /// Takes note of an ack and gives the number of the event that follows in its place.
    fn acknowledged(&mut self, id: u64, now: Instant) -> Result<(u64, Duration)> {
        let places = u64::try_from(self.0.len())?;
        let at = usize::try_from(id % places.max(1))?;
        let place = self.0.get_mut(at).filter(|place| place.id == id);
        let place = place.ok_or_else(|| anyhow!("an ack that nothing waits for: {id}"))?;
        let took = now - place.sent;
        *place = Place { id: id + places, sent: now };
        Ok((place.id, took))
    }
}

async fn keep_sending(mut client: Client, own: Own, shared: Arc<Shared>) -> Result<()> {
    if let Some(first) = &own.first {
        client.feed(format!("{}0{first}", own.head)).await?;
        client.flush().await?;
        while acknowledged(&client.next().await?)?.is_none() {}
    }
    let mut waiting = Waiting(Vec::with_capacity(own.in_flight));
    for id in (0_u64..).take(own.in_flight) {
        waiting.0.push(Place { id, sent: Instant::now() });
        client.feed(own.packet(id)).await?;
    }
    client.flush().await?;
    loop {
        let mut text = Some(client.next().await?);
        while let Some(came) = text {
            if let Some(id) = acknowledged(&came)? {
                let (next, took) = waiting.acknowledged(id, Instant::now())?;
                shared.count(took);
                client.feed(own.packet(next)).await?;
            }
            text = client.ready().await?;
        }
        client.flush().await?;
    }
}

impl Shared {
    fn count(&self, took: Duration) {
        self.acks.fetch_add(1, Ordering::Relaxed);
        if self.steady.load(Ordering::Relaxed) {
            let took = u64::try_from(took.as_micros()).unwrap_or(LONGEST);
            self.latencies.lock().saturating_record(took.clamp(1, LONGEST));
        }
    }
}

/// The number of an ack that says yes; an ack that does not is the end of the run.
fn acknowledged(text: &str) -> Result<Option<u64>> {
    match parse(text) {
        Packet::Ack(id, args) if args.starts_with(r#"[{"ok":true"#) => Ok(Some(id)),
        Packet::Ack(_, args) => bail!("refused: {args}"),
        Packet::Ended => bail!("the server ended the connection"),
        Packet::Refused(why) => bail!("not let in: {why}"),
        Packet::Open | Packet::Ping | Packet::Connected | Packet::Event(_) | Packet::Other => {
            Ok(None)
        }
    }
}

/// The JSON array of an event; the payload is checked to be JSON.
pub(crate) fn event(name: &str, payload: Option<&str>) -> Result<String> {
    let name = Value::from(name);
    let Some(payload) = payload else { return Ok(format!("[{name}]")) };
    serde_json::from_str::<Value>(payload).with_context(|| format!("not JSON: {payload}"))?;
    Ok(format!("[{name},{payload}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let now = Instant::now();
        let mut waiting = Waiting((0..3).map(|id| Place { id, sent: now }).collect());
        let mut take = |id| waiting.acknowledged(id, now).map(|(next, _)| next).ok();
        assert_eq!(take(1), Some(4), "the next in its place");
        assert_eq!(take(1), None, "doubled");
        assert_eq!(take(0), Some(3), "in any order");
        assert_eq!(take(4), Some(7));
        assert_eq!(take(100), None, "never sent");
    }

    #[test]
    fn acks_that_say_yes() {
        assert_eq!(acknowledged(r#"435[{"ok":true,"event":"a"}]"#).ok(), Some(Some(5)));
        assert_eq!(acknowledged(r#"42["news"]"#).ok(), Some(None));
        assert!(acknowledged(r#"435[{"ok":false}]"#).is_err());
        assert!(acknowledged("41").is_err());
    }

    #[test]
    fn events() {
        assert_eq!(event("a", None).ok().as_deref(), Some(r#"["a"]"#));
        assert_eq!(event("a\"", Some("{}")).ok().as_deref(), Some(r#"["a\"",{}]"#));
        assert!(event("a", Some("{")).is_err());
    }
}
