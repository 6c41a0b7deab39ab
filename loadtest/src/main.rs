//! Puts load on a Socket.IO server and says what it cost.
//!
//! In come arguments; out go figures, for people or as JSON. It speaks the wire through its own client
//! and never retries: a run that did not go through is no measurement.

mod client;
mod compare;
mod echo;
mod measure;
mod packet;
mod server;

use std::{num::NonZeroU16, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::{
    compare::{Case, Comparison},
    echo::{Plan, Report},
};

const EXAMPLES: &str = "\
A first look, at a gateway on its usual port (limits off, or they are what you measure):

  GATEWAY__LIMITS__CONNECTION__EVENTS_PER_SECOND=0 gateway serve --contract toolbox
  loadtest echo --target http://127.0.0.1:3001 --event ping

What the gateway costs beyond the library below it, on two cores:

  cargo build --release -p gateway -p loadtest
  target/release/loadtest compare";

const ECHO_EXAMPLES: &str = "\
Examples:

  loadtest echo --target http://127.0.0.1:3001 --event ping --server-pid $(pidof gateway)

  loadtest echo --target http://127.0.0.1:3001 --event message \\
    --payload '{\"type\":\"note\",\"channel\":\"c-{n}\"}' \\
    --first subscribe --first-payload '{\"channel\":\"c-{n}\"}'";

/// Puts load on a Socket.IO server and says what it cost.
#[derive(Debug, Parser)]
#[command(version, after_long_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Echo(Echo),
    Compare(Compare),
}

/// Sends events that are acknowledged, as fast as the acks come back.
///
/// Every connection keeps --in-flight events waiting for their acks. The figures are of the steady
/// part alone, after the warm-up. An ack that is missing, doubled or does not say `"ok": true` fails
/// the run. Where "driver cores" is near 1, this program was what was slow: give the server more to
/// do, or believe only its CPU time per ack.
#[derive(Debug, clap::Args)]
#[command(after_long_help = ECHO_EXAMPLES)]
struct Echo {
    /// The server, as http://host:port; a path such as /realtime/ where it is not /socket.io/.
    #[arg(long, value_name = "URL")]
    target: String,
    /// The namespace to join.
    #[arg(long, value_name = "NS", default_value = "/")]
    namespace: String,
    /// What the handshake carries, as JSON, such as {"token":"…"}.
    #[arg(long, value_name = "JSON")]
    auth: Option<String>,
    /// The event.
    #[arg(long, value_name = "NAME")]
    event: String,
    /// Its payload; {n} is the number of the connection.
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// An event that each connection sends once before.
    #[arg(long, value_name = "NAME")]
    first: Option<String>,
    /// The payload of that.
    #[arg(long, value_name = "JSON", requires = "first")]
    first_payload: Option<String>,
    #[command(flatten)]
    load: Load,
    /// The server's process, for its CPU time per ack (on this machine only).
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// How much, for how long.
#[derive(Debug, clap::Args)]
struct Load {
    /// Connections.
    #[arg(long, value_name = "N", default_value = "50")]
    connections: NonZeroU16,
    /// Events of each connection that wait for their ack.
    #[arg(long, value_name = "K", default_value = "4")]
    in_flight: NonZeroU16,
    /// Time before anything is counted.
    #[arg(long, value_name = "D", default_value = "2s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Time that is counted.
    #[arg(long, value_name = "D", default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
}

/// Measures the gateway against the plain server of the library below it.
///
/// Both are started by turns, A B A B …, each for itself on --server-core with all limits off; the
/// driver has --driver-core. Read the ratio, which is taken inside each round: single figures move
/// with whatever else the machine does. Needs taskset (util-linux).
#[derive(Debug, clap::Args)]
struct Compare {
    /// The gateway's binary, a release build. By default the one beside this program.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// The plain server's binary. By default the one beside this program.
    #[arg(long, value_name = "FILE")]
    plain: Option<PathBuf>,
    /// What to do; by default everything.
    #[arg(long = "case", value_enum)]
    cases: Vec<Case>,
    /// Rounds of each case; each runs both servers once.
    #[arg(long, value_name = "N", default_value = "5")]
    rounds: NonZeroU16,
    #[command(flatten)]
    load: Load,
    /// The servers' core.
    #[arg(long, value_name = "CORE", default_value = "0")]
    server_core: usize,
    /// The driver's core.
    #[arg(long, value_name = "CORE", default_value = "1")]
    driver_core: usize,
    /// Write every figure into a file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    // One thread: what the driver uses is then plain to see, and it fits on one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Echo(echo) => echo.run().await,
            Command::Compare(compare) => compare.run().await,
        }
    })
}

impl Echo {
    async fn run(self) -> Result<()> {
        if let Some(auth) = &self.auth {
            serde_json::from_str::<serde_json::Value>(auth).context("--auth is not JSON")?;
        }
        let first = self.first.as_deref();
        let first = first.map(|name| echo::event(name, self.first_payload.as_deref()));
        let plan = Plan {
            event: echo::event(&self.event, self.payload.as_deref())?,
            first: first.transpose()?,
            target: self.target,
            namespace: self.namespace,
            auth: self.auth.unwrap_or_default(),
            connections: self.load.connections.get().into(),
            in_flight: self.load.in_flight.get().into(),
            warm_up: self.load.warm_up,
            duration: self.load.duration,
            server: self.server_pid,
        };
        let report = echo::run(&plan).await?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print(&report);
        }
        Ok(())
    }
}

fn print(report: &Report) {
    println!("acks             {} in {:.2} s", report.acks, report.seconds);
    println!("acks per second  {:.0}", report.acks_per_second);
    println!("latency          p50 {} us, p99 {} us", report.p50_us, report.p99_us);
    println!("driver cores     {:.2}", report.driver_cores);
    if let (Some(cores), Some(each)) = (report.server_cores, report.server_us_per_ack) {
        println!("server cores     {cores:.2}");
        println!("server CPU       {each:.2} us per ack");
    }
}

impl Compare {
    async fn run(self) -> Result<()> {
        let driver = std::env::current_exe()?;
        let beside = |name: &str| driver.with_file_name(name);
        let comparison = Comparison {
            gateway: self.gateway.unwrap_or_else(|| beside("gateway")),
            plain: self.plain.unwrap_or_else(|| beside("rival-socketioxide")),
            driver,
            rounds: self.rounds.get().into(),
            connections: self.load.connections.get().into(),
            in_flight: self.load.in_flight.get().into(),
            warm_up: self.load.warm_up,
            duration: self.load.duration,
            server_core: self.server_core,
            driver_core: self.driver_core,
        };
        let cases =
            if self.cases.is_empty() { vec![Case::Ping, Case::Message] } else { self.cases };
        let mut outcomes = Vec::with_capacity(cases.len());
        for case in cases {
            outcomes.push(comparison.run(case).await?);
        }
        if let Some(path) = self.json {
            let text = serde_json::to_string_pretty(&outcomes)?;
            tokio::fs::write(&path, text)
                .await
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}
