//! What came of a run: everything that was measured, and the figures that people compare.
//!
//! In come a tally and samples of the servers; out go named figures, the JSON result and a summary for the terminal.
//! It computes and prints; it judges nothing.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use crate::{
    number::{float, per},
    resources::{Redis, Sample},
    scenario::Scenario,
    tally::{Tally, Times},
};

/// A run whose workers were at work for more than this share of the time says more of the tool than of the server.
const BUSY: f64 = 0.9;

/// Sends that leave this late, in microseconds, make the schedule a wish.
const LATE: u64 = 20_000;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// This tool's version.
    pub version: String,
    /// When the run began, as RFC 3339.
    pub began: String,
    /// What the server is called.
    pub server: String,
    /// How many servers there were.
    pub pods: u64,
    /// How many workers.
    pub workers: u64,
    /// The machine of the coordinator.
    pub machine: String,
    /// What was done.
    pub scenario: Scenario,
    /// What was measured, as the figures that people compare.
    pub figures: BTreeMap<String, f64>,
    /// Why this says more of the tool than of the server, if it does.
    pub limited: Option<String>,
    /// The servers over time.
    pub resources: Resources,
    /// What was counted and timed.
    pub tally: Tally,
}

/// The servers over time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Resources {
    /// When sending began, in microseconds of the Unix epoch.
    pub start: u64,
    /// Before anybody connected.
    pub before: Sample,
    /// When everybody was connected.
    pub connected: Sample,
    /// After everybody had been quiet.
    pub rested: Sample,
    /// When measuring began and ended.
    pub from: Sample,
    /// See `from`.
    pub to: Sample,
    /// All along.
    pub samples: Vec<Sample>,
    /// There were processes to watch.
    pub watched: bool,
}

/// The figures of a run.
pub(crate) fn figures(
    scenario: &Scenario,
    tally: &Tally,
    resources: &Resources,
) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        figures.insert(name.to_owned(), value);
    };
    let times = [
        ("connect", &tally.connects),
        ("reconnect", &tally.reconnects),
        ("step", &tally.steps),
        ("delivery", &tally.deliveries),
        ("across", &tally.across),
        ("ack", &tally.acks),
        ("lag", &tally.lag),
    ];
    for (name, times) in times.into_iter().filter(|(_, times)| times.count() > 0) {
        for (which, value) in percentiles(times) {
            put(&format!("{name}.{which}"), value);
        }
    }
    for (which, value) in percentiles(tally.main_times().1) {
        put(which, value);
    }
    if let Ok(serde_json::Value::Object(counts)) = serde_json::to_value(tally.counts) {
        for (name, count) in counts {
            put(&name, float(count.as_u64().unwrap_or_default()));
        }
    }
    let seconds = scenario.duration.as_secs_f64();
    put("sent_per_second", per(float(tally.sent_measured), seconds));
    put("delivered_per_second", per(float(tally.delivered_measured), seconds));
    put("acked_per_second", per(float(tally.acked_measured), seconds));
    put("steps_per_second", per(float(tally.steps_measured), seconds));
    put("tool_busy", tally.busiest());
    put("tool_kib_per_client", tally.bytes_per_client() / 1024.0);
    if resources.watched {
        servers(tally, resources, seconds, &mut put);
    }
    figures
}

/// What the servers cost.
fn servers(tally: &Tally, resources: &Resources, seconds: f64, put: &mut impl FnMut(&str, f64)) {
    let Resources { before, connected, rested, from, to, .. } = resources;
    let clients = float(tally.counts.connected);
    let cpu = float(to.cpu.saturating_sub(from.cpu));
    put("cpu_cores", per(cpu, seconds * 1e6));
    if tally.delivered_measured > 0 {
        put("cpu_us_per_delivery", per(cpu, float(tally.delivered_measured)));
    }
    // CPU time cannot be divided between kinds of work: it is told of the one that there is most of.
    let none_heard = tally.delivered_measured == 0;
    if tally.acked_measured > 0 && none_heard {
        put("cpu_us_per_ack", per(cpu, float(tally.acked_measured)));
    }
    if tally.steps_measured > tally.acked_measured && none_heard {
        put("cpu_us_per_step", per(cpu, float(tally.steps_measured)));
    }
    put("cpu_us_per_connect", per(float(connected.cpu.saturating_sub(before.cpu)), clients));
    let rest = float(rested.at.saturating_sub(connected.at));
    put("cpu_cores_at_rest", per(float(rested.cpu.saturating_sub(connected.cpu)), rest));
    let kib = |of: fn(&Sample) -> u64| {
        per(float(of(rested).saturating_sub(of(before))), clients * 1024.0)
    };
    put("private_kib_per_connection", kib(|sample| sample.private));
    put("rss_kib_per_connection", kib(|sample| sample.rss));
    put("kernel_kib_per_connection", kib(|sample| sample.kernel));
    put("rss_mib", float(to.rss) / 1024.0 / 1024.0);
    if let (Some(from), Some(to)) = (from.redis, to.redis) {
        redis(from, to, seconds, put);
    }
}

fn redis(from: Redis, to: Redis, seconds: f64, put: &mut impl FnMut(&str, f64)) {
    let cpu = float(to.cpu.saturating_sub(from.cpu));
    let published = float(to.published.saturating_sub(from.published));
    put("redis_cpu_cores", per(cpu, seconds * 1e6));
    put("redis_published_per_second", per(published, seconds));
    if published > 0.0 {
        put("redis_cpu_us_per_publish", per(cpu, published));
        put("redis_bytes_in_per_publish", per(float(to.bytes_in - from.bytes_in), published));
        put("redis_bytes_out_per_publish", per(float(to.bytes_out - from.bytes_out), published));
    }
}

/// The times that are told, in milliseconds.
fn percentiles(times: &Times) -> [(&'static str, f64); 6] {
    let of = |percent: f64| float(times.percentile(percent)) / 1000.0;
    [
        ("p50", of(50.0)),
        ("p90", of(90.0)),
        ("p99", of(99.0)),
        ("p99.9", of(99.9)),
        ("p99.99", of(99.99)),
        ("max", float(times.max()) / 1000.0),
    ]
}

/// Why a run says more of the tool than of the server, if it does.
pub(crate) fn limited(tally: &Tally, figures: &BTreeMap<String, f64>) -> Option<String> {
    let busy = tally.busiest();
    let rate = figures.get("delivered_per_second").copied().unwrap_or_default()
        + figures.get("acked_per_second").copied().unwrap_or_default();
    if busy > BUSY {
        return Some(format!(
            "the tool was at work {:.0} % of the time: about {:.0} deliveries and acks a second are its ceiling here, \
             and the server may be faster; give it more workers",
            busy * 100.0,
            rate / busy
        ));
    }
    let late = tally.lag.percentile(99.0);
    let own = late > LATE && late * 4 > tally.main_times().1.percentile(99.0);
    own.then(|| {
        format!(
            "one in a hundred messages left {} ms late or more: the tool, or its machine, could not keep its own \
             schedule, and what was timed includes that",
            late / 1000
        )
    })
}

impl Outcome {
    /// A figure; 0 where it was not measured.
    pub(crate) fn figure(&self, name: &str) -> f64 {
        self.figures.get(name).copied().unwrap_or_default()
    }

    /// The summary for a terminal.
    pub(crate) fn summary(&self) -> String {
        let mut out = String::new();
        let counts = &self.tally.counts;
        // Writing to a string does not fail.
        let mut line = |name: &str, text: String| {
            writeln!(out, "{name:<14}{text}").ok();
        };
        line(
            "scenario",
            format!(
                "{} on {} ({} pods, {} workers)",
                self.scenario.name, self.server, self.pods, self.workers
            ),
        );
        line("connections", self.connections());
        line(
            "messages",
            format!(
                "{} sent ({:.0}/s), {} delivered ({:.0}/s), {} acks ({:.0}/s)",
                counts.sent,
                self.figure("sent_per_second"),
                counts.delivered,
                self.figure("delivered_per_second"),
                counts.acked,
                self.figure("acked_per_second")
            ),
        );
        line(
            "wrong",
            format!(
                "{} lost, {} duplicated, {} out of order, {} missed while cut off, {} refused, {} unacknowledged, {} unsent",
                counts.lost,
                counts.duplicated,
                counts.out_of_order,
                counts.missed,
                counts.refused,
                counts.unacked,
                counts.unsent
            ),
        );
        let named = [
            ("connect", &self.tally.connects),
            ("reconnect", &self.tally.reconnects),
            ("step", &self.tally.steps),
            ("delivery", &self.tally.deliveries),
            ("across pods", &self.tally.across),
            ("ack", &self.tally.acks),
        ];
        for (name, times) in named.into_iter().filter(|(_, times)| times.count() > 0) {
            line(name, times_line(times));
        }
        if self.resources.watched {
            line("server", self.server_line());
        }
        if self.resources.to.redis.is_some() {
            line(
                "redis",
                format!(
                    "{:.3} cores, {:.0} published/s, {:.1} us and {:.0} B in, {:.0} B out each",
                    self.figure("redis_cpu_cores"),
                    self.figure("redis_published_per_second"),
                    self.figure("redis_cpu_us_per_publish"),
                    self.figure("redis_bytes_in_per_publish"),
                    self.figure("redis_bytes_out_per_publish")
                ),
            );
        }
        line(
            "tool",
            format!(
                "busy {:.0} %, sent p99 {:.2} ms late, {:.1} KiB per connection",
                self.figure("tool_busy") * 100.0,
                self.figure("lag.p99"),
                self.figure("tool_kib_per_client")
            ),
        );
        for (reason, count) in &self.tally.reasons {
            line("reason", format!("{count} x {reason}"));
        }
        if let Some(limited) = &self.limited {
            line("LIMITED", limited.clone());
        }
        out
    }

    fn connections(&self) -> String {
        let counts = &self.tally.counts;
        format!(
            "{} ready, {} never, {} connects refused, {} cut off, {} slow ones cut off, {} came back",
            counts.connected,
            counts.never_connected,
            counts.connects_refused,
            counts.disconnected,
            counts.slow_disconnected,
            counts.reconnected
        )
    }

    fn server_line(&self) -> String {
        let mut text = format!(
            "{:.2} cores, {:.1} us per connect, {:.1} KiB private and {:.1} KiB of kernel memory per connection",
            self.figure("cpu_cores"),
            self.figure("cpu_us_per_connect"),
            self.figure("private_kib_per_connection"),
            self.figure("kernel_kib_per_connection")
        );
        for (name, what) in [("cpu_us_per_delivery", "delivery"), ("cpu_us_per_ack", "ack")] {
            if let Some(micros) = self.figures.get(name) {
                write!(text, ", {micros:.2} us per {what}").ok();
            }
        }
        text
    }
}

fn times_line(times: &Times) -> String {
    let [p50, _, p99, p999, _, max] = percentiles(times).map(|(_, value)| value);
    format!(
        "p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.2} ms of {}",
        times.count()
    )
}

/// What the machine is.
pub(crate) fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}
