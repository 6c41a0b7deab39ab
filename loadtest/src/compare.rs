//! The gateway against the plain server below it, in turns: A B A B …
//!
//! In come two programs; out go the figures of every round, and the ratio inside each round. A machine
//! that is shared changes its speed from minute to minute; two runs side by side share that, so the
//! ratio holds where the figures alone do not. Each server has one core, the driver another.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    echo::Report,
    measure::spread,
    server::{Program, Server, pinned},
};

/// How long a run may take beyond what it was told to: starting, connecting, reporting.
const SLACK: Duration = Duration::from_mins(1);

/// What is compared.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// The gateway's binary.
    pub gateway: PathBuf,
    /// The plain server's binary.
    pub plain: PathBuf,
    /// This program, which is started once more for every run, on a core of its own.
    pub driver: PathBuf,
    /// How often both are run.
    pub rounds: usize,
    /// How many connections.
    pub connections: usize,
    /// How many events of each wait for their ack.
    pub in_flight: usize,
    /// What is not counted.
    pub warm_up: Duration,
    /// What is.
    pub duration: Duration,
    /// The core of the servers.
    pub server_core: usize,
    /// The core of the driver.
    pub driver_core: usize,
}

/// What both servers are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Case {
    /// An event without a payload, acknowledged.
    Ping,
    /// An event with a payload of a declared shape, relayed to the others of a channel in which
    /// nobody else is, and acknowledged.
    Message,
}

impl Case {
    /// The driver's arguments for it.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Ping => &["--event", "ping"],
            Self::Message => &[
                "--event",
                "message",
                "--payload",
                r#"{"type":"note","channel":"channel-{n}","text":"a line of chat, as people write it"}"#,
                "--first",
                "subscribe",
                "--first-payload",
                r#"{"channel":"channel-{n}"}"#,
            ],
        }
    }
}

/// The figures of one case.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    case: Case,
    rounds: Vec<Round>,
    /// CPU time per ack, the gateway's divided by the plain server's.
    cpu: Ratio,
    /// Acks per second, likewise.
    throughput: Ratio,
}

/// Both servers, one after the other.
#[derive(Debug, Serialize)]
struct Round {
    gateway: Report,
    plain: Report,
    cpu_ratio: f64,
    throughput_ratio: f64,
}

/// A ratio over all rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Ratio {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Ratio {
    fn of(rounds: &[Round], which: impl Fn(&Round) -> f64) -> Result<Self> {
        let values: Vec<f64> = rounds.iter().map(which).collect();
        let (median, least, greatest) = spread(&values).context("no round was run")?;
        Ok(Self { median, least, greatest })
    }
}

impl Comparison {
    /// Runs a case round by round, and prints each.
    pub(crate) async fn run(&self, case: Case) -> Result<Outcome> {
        println!(
            "{case:?}: {} connections, {} in flight each; CPU us/ack, acks/s",
            self.connections, self.in_flight
        );
        let mut rounds = Vec::with_capacity(self.rounds);
        for number in 1..=self.rounds {
            let gateway = self.measure(&Program::Gateway(self.gateway.clone()), case).await?;
            let plain = self.measure(&Program::Plain(self.plain.clone()), case).await?;
            let (ours, theirs) = gateway
                .server_us_per_ack
                .zip(plain.server_us_per_ack)
                .context("a run without the server's CPU time")?;
            let round = Round {
                cpu_ratio: ours / theirs,
                throughput_ratio: gateway.acks_per_second / plain.acks_per_second,
                gateway,
                plain,
            };
            println!(
                "  round {number}: gateway {ours:6.2} us {:8.0}/s   plain {theirs:6.2} us {:8.0}/s   CPU x{:.3}",
                round.gateway.acks_per_second, round.plain.acks_per_second, round.cpu_ratio
            );
            rounds.push(round);
        }
        let cpu = Ratio::of(&rounds, |round| round.cpu_ratio)?;
        let throughput = Ratio::of(&rounds, |round| round.throughput_ratio)?;
        println!(
            "  CPU per ack, gateway/plain: median x{:.3} [{:.3} .. {:.3}]; acks/s: median x{:.3} [{:.3} .. {:.3}]",
            cpu.median,
            cpu.least,
            cpu.greatest,
            throughput.median,
            throughput.least,
            throughput.greatest
        );
        Ok(Outcome { case, rounds, cpu, throughput })
    }

    async fn measure(&self, program: &Program, case: Case) -> Result<Report> {
        let name = program.name();
        let server = Server::start(program, self.server_core).await?;
        let report = self.drive(&server, case).await.with_context(|| format!("load on {name}"));
        server.stop().await?;
        report
    }

    /// Runs this program's `echo` on the driver's core.
    async fn drive(&self, server: &Server, case: Case) -> Result<Report> {
        let mut command = pinned(self.driver_core, &self.driver);
        command
            .args(["echo", "--json", "--target", &server.url])
            .args(["--server-pid", &server.pid.to_string()])
            .args(["--connections", &self.connections.to_string()])
            .args(["--in-flight", &self.in_flight.to_string()])
            .args(["--warm-up", &humantime::format_duration(self.warm_up).to_string()])
            .args(["--duration", &humantime::format_duration(self.duration).to_string()])
            .args(case.arguments())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let longest = self.warm_up + self.duration + SLACK;
        let output = timeout(longest, command.output()).await.context("the driver hangs")??;
        if !output.status.success() {
            bail!("the driver failed: {}", output.status);
        }
        serde_json::from_slice::<Report>(&output.stdout).context("the driver's report")
    }
}
