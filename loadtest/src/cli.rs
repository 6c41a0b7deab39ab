//! The command line.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};

use crate::{
    compare::Rounds,
    crew::{self, Crew},
    outcome::Outcome,
    peak::{self, Bound},
    plan::Address,
    report,
    resources::Watched,
    run::{self, Job},
    scenario::{self, Scenario},
    server::{KEY, Kind, SECRET, Servers, Setup},
    table::{self, Measure},
    threshold::Threshold,
    view::View,
};

const LONG_ABOUT: &str = "\
Puts load on a Socket.IO server and says what it cost.

Messages are sent on schedule, whatever the server does, and every time is counted from the moment a message was due: \
a server that stalls is charged for everybody who would have waited. Every message is numbered, so that the report \
says exactly how many were lost, duplicated or out of order for each sender and room.";

const EXAMPLES: &str = "\
A first run, against a server that is already there:
    loadtest run echo --target http://127.0.0.1:3001

Start the gateway beside this tool, measure it with its CPU and memory, and fail where it is too slow:
    loadtest run fan-out --server gateway --fail-if 'p99>50ms' --fail-if 'lost>0'

Another size of the same load:
    loadtest run fan-out --server gateway --set listener.clients=5000 --set talker.rate=4 --set duration=30s

A load of one's own, for any Socket.IO server (event names and auth are part of the file):
    loadtest scenario show fan-out > mine.toml
    loadtest run ./mine.toml --target http://10.0.0.5:3000 --pid 4711

More connections than one process can have:
    loadtest run idle --target http://10.0.0.5:3000 --workers 4 --set listener.clients=100000

From several machines:
    loadtest run idle --target http://10.0.0.5:3000 --workers 3 --listen 10.0.0.1:7000
    loadtest worker --join 10.0.0.1:7000            # on each of the three

Exit status: 0 all is well, 1 a --fail-if holds or the run failed, 2 the arguments make no sense.";

/// The arguments.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, about = "Puts load on a Socket.IO server and says what it cost", long_about = LONG_ABOUT, after_long_help = EXAMPLES, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one scenario against one server, or one cluster
    Run(Run),
    /// Run one scenario against several servers in turns, and print the ratios with their spread
    Compare(Compare),
    /// Search the highest rate that servers sustain: nothing lost, in order, nobody cut off, 99 % in time
    Peak(Peak),
    /// Measure all that docs/performance.md shows, of several servers in turns, and print its table
    Table(Table),
    /// Make the HTML report of results that were written with --json
    Report {
        /// The results
        #[arg(required = true)]
        results: Vec<PathBuf>,
        /// Where it is written
        #[arg(long, default_value = "report.html", value_name = "FILE")]
        html: PathBuf,
    },
    /// List the built-in scenarios, or show one
    Scenario {
        /// `list`, or `show NAME`
        #[command(subcommand)]
        what: Option<Show>,
    },
    /// Work for a coordinator: `loadtest run --workers N --listen ADDR`
    Worker {
        /// The coordinator's address
        #[arg(long, value_name = "HOST:PORT")]
        join: String,
    },
}

#[derive(Debug, Subcommand)]
enum Show {
    /// List the built-in scenarios
    List,
    /// Print a scenario, as a start for one's own
    Show {
        /// Its name
        name: String,
    },
}

/// What is sent, how often, and how much of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// A built-in scenario (see `loadtest scenario`), or a file
    pub scenario: String,
    /// Change the scenario: `duration=5s`, `warm_up=1s`, `connects_per_second=200`, `transport=polling`,
    /// `listener.clients=500` (of a group), `talker.rate=50` (of all sends of a group). Repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub changes: Vec<String>,
    /// Send so many times as often
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub times: f64,
}

impl Load {
    pub(crate) fn scenario(&self) -> Result<Scenario> {
        ensure!(self.times.is_finite() && self.times > 0.0, "--times: more than 0");
        Ok(Scenario::load(&self.scenario, &self.changes)?.times(self.times))
    }
}

/// Who does the work, and where.
#[derive(Clone, Debug, Args)]
pub(crate) struct Force {
    /// How many processes share the clients; 1 is a thread of this one
    #[arg(long, default_value = "1", value_name = "N")]
    pub workers: NonZeroUsize,
    /// Wait here for workers of other machines (`loadtest worker --join`) instead of starting them. Whoever reaches
    /// this address takes part in the run and learns its secrets: keep it to a network that you trust
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Connect from this address; repeatable, in turns. Each gives about 28 000 connections to one server
    #[arg(long = "source", value_name = "IP")]
    pub sources: Vec<IpAddr>,
    /// Bind the workers to this core, away from the server's
    #[arg(long, value_name = "CORE")]
    pub core: Option<usize>,
    /// Bind servers that this tool starts to this core
    #[arg(long, value_name = "CORE")]
    pub server_core: Option<usize>,
    /// Where the rivals' packages are kept [default: beside this tool]
    #[arg(long, value_name = "DIR")]
    pub rivals: Option<PathBuf>,
    /// Print no progress
    #[arg(long)]
    pub quiet: bool,
}

impl Force {
    pub(crate) fn crew(&self) -> Result<Crew> {
        match (self.workers.get(), self.listen) {
            (1, None) => Ok(Crew::alone()),
            (count, listen) => Crew::gather(count, listen),
        }
    }

    pub(crate) fn setup(&self, pods: usize) -> Result<Setup> {
        let beside = std::env::current_exe()?.with_file_name("rivals");
        let folder = self.rivals.clone().unwrap_or(beside);
        Ok(Setup { core: self.server_core, redis_core: self.core, pods, folder })
    }
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    load: Load,
    /// A server that is already there, as http://host:port; repeatable for the pods of a cluster
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    target: Vec<String>,
    /// Its internal listener, for scenarios that use the server API; as often as --target
    #[arg(long, value_name = "URL")]
    internal: Vec<String>,
    /// The process of such a server, to read its CPU time and memory; repeatable
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// The Redis of such a server, to read what it costs
    #[arg(long, value_name = "HOST:PORT")]
    redis: Option<SocketAddr>,
    /// A server to start: gateway, gateway=BINARY, node, python, socketioxide, program=PATH
    #[arg(long, value_name = "KIND")]
    server: Option<Kind>,
    /// Start so many of it, with one Redis between them
    #[arg(long, default_value = "1", value_name = "N", requires = "server")]
    pods: NonZeroUsize,
    #[command(flatten)]
    force: Force,
    /// Fail where this holds, such as 'p99>50ms', 'lost>0', 'ack.p99.9>=1s', 'sent<1000'; any figure
    /// of the JSON result. Repeatable
    #[arg(long = "fail-if", value_name = "CONDITION")]
    fail_if: Vec<Threshold>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// What tokens are signed with, where the server is already there [env: `GATEWAY_JWT_SECRET`]
    #[arg(long, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// The key of its server API [env: `GATEWAY_API_KEY`]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
}

/// Who is measured, and how often.
#[derive(Debug, Args)]
struct Field {
    /// A server to start, as for `run`; repeatable. The others are compared with the first
    #[arg(long = "server", value_name = "KIND", required = true)]
    servers: Vec<Kind>,
    /// How often each is measured, in turns
    #[arg(long, default_value = "3", value_name = "N")]
    rounds: NonZeroUsize,
    /// Start so many pods of each, with one Redis between them
    #[arg(long, default_value = "1", value_name = "N")]
    pods: NonZeroUsize,
    #[command(flatten)]
    force: Force,
    /// Write all results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Compare {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    field: Field,
}

#[derive(Debug, Args)]
struct Peak {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    field: Field,
    /// 99 % must come within this
    #[arg(long, default_value = "200ms", value_parser = humantime::parse_duration, value_name = "TIME")]
    p99: Duration,
    /// How long each rate is measured
    #[arg(long = "for", default_value = "3s", value_parser = humantime::parse_duration, value_name = "TIME")]
    each: Duration,
    /// How often a rate is tried before it does not hold: a shared machine stands still now and then
    #[arg(long, default_value = "2", value_name = "N")]
    tries: NonZeroUsize,
}

#[derive(Debug, Args)]
struct Table {
    #[command(flatten)]
    field: Field,
    /// How many connections are idle
    #[arg(long, default_value_t = 5000, value_name = "N")]
    idle: u32,
    /// How long each run is measured
    #[arg(long = "for", default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME")]
    each: Duration,
    /// Leave out the search for the highest rate, which takes longest
    #[arg(long)]
    no_peak: bool,
}

impl Arguments {
    /// Does what is asked for; `false` where a threshold does not hold.
    pub(crate) fn run(self) -> Result<bool> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Compare(compare) => compare.run().map(|()| true),
            Command::Peak(peak) => peak.run().map(|()| true),
            Command::Table(table) => table.run().map(|()| true),
            Command::Report { results, html } => {
                let mut outcomes = Vec::new();
                for path in &results {
                    outcomes.extend(read_json(path)?);
                }
                write_text(&html, &report::page(&outcomes)).map(|()| true)
            }
            Command::Worker { join } => crew::join(&join).map(|()| true),
            Command::Scenario { what: None | Some(Show::List) } => {
                for (name, _) in scenario::built_in() {
                    println!("{name:<18}{}", Scenario::load(name, &[])?.about);
                }
                Ok(true)
            }
            Command::Scenario { what: Some(Show::Show { name }) } => {
                let found = scenario::built_in().find(|(known, _)| *known == name);
                let (_, text) = found.with_context(|| format!("no scenario is called {name}"))?;
                print!("{text}");
                Ok(true)
            }
        }
    }
}

impl Run {
    fn run(self) -> Result<bool> {
        let scenario = self.load.scenario()?;
        let crew = self.force.crew()?;
        let mut view = View::new(&scenario.name, self.force.quiet);
        let outcome = match &self.server {
            Some(kind) => {
                let setup = self.force.setup(self.pods.get())?;
                let servers = Servers::start(kind, &scenario.contract, &setup)?;
                against(&servers, scenario, &self.force, &crew, &mut view)?
            }
            None => self.against_targets(scenario, &crew, &mut view)?,
        };
        print!("{}", outcome.summary());
        if let Some(path) = &self.json {
            write_text(path, &serde_json::to_string(&[&outcome])?)?;
        }
        if let Some(path) = &self.html {
            write_text(path, &report::page(std::slice::from_ref(&outcome)))?;
        }
        let failed: Vec<String> = self
            .fail_if
            .iter()
            .filter_map(|threshold| threshold.failed(&outcome.figures))
            .collect();
        for why in &failed {
            println!("FAILED        {why}");
        }
        Ok(failed.is_empty())
    }

    fn against_targets(&self, scenario: Scenario, crew: &Crew, view: &mut View) -> Result<Outcome> {
        if self.target.is_empty() {
            bail!(
                "name a server: --target URL for one that is there, --server KIND for one to start"
            );
        }
        let named = |given: &Option<String>, variable: &str| {
            given.clone().or_else(|| std::env::var(variable).ok()).unwrap_or_default()
        };
        let watched = Watched { pids: self.pid.clone(), redis: self.redis };
        let job = Job {
            scenario,
            server: self.target.join(" "),
            targets: self.target.iter().map(|url| Address::find(url)).collect::<Result<_>>()?,
            internal: self.internal.iter().map(|url| Address::find(url)).collect::<Result<_>>()?,
            watched: &watched,
            sources: self.force.sources.clone(),
            secret: named(&self.jwt_secret, "GATEWAY_JWT_SECRET"),
            key: named(&self.api_key, "GATEWAY_API_KEY"),
            core: self.force.core,
        };
        run::run(&job, crew, view)
    }
}

/// Runs a scenario against servers that this tool has started.
pub(crate) fn against(
    servers: &Servers,
    scenario: Scenario,
    force: &Force,
    crew: &Crew,
    view: &mut View,
) -> Result<Outcome> {
    view.title(&format!("{} on {}", scenario.name, servers.name));
    let job = Job {
        scenario,
        server: servers.name.clone(),
        targets: servers.targets.clone(),
        internal: servers.internal.clone(),
        watched: &servers.watched,
        sources: force.sources.clone(),
        secret: SECRET.to_owned(),
        key: KEY.to_owned(),
        core: force.core,
    };
    run::run(&job, crew, view)
}

impl Field {
    fn write(&self, outcomes: &[Outcome]) -> Result<()> {
        if let Some(path) = &self.json {
            write_text(path, &serde_json::to_string(outcomes)?)?;
        }
        if let Some(path) = &self.html {
            write_text(path, &report::page(outcomes))?;
        }
        Ok(())
    }
}

impl Compare {
    fn run(self) -> Result<()> {
        let scenario = self.load.scenario()?;
        let Self { field, .. } = self;
        let (crew, setup) = (field.force.crew()?, field.force.setup(field.pods.get())?);
        let mut view = View::new(&scenario.name, field.force.quiet);
        let count = field.rounds.get();
        let rounds =
            Rounds::run(&field.servers, count, &scenario, &setup, &field.force, &crew, &mut view)?;
        print!("{}", rounds.table());
        field.write(&rounds.outcomes())
    }
}

impl Peak {
    fn run(self) -> Result<()> {
        let scenario = self.load.scenario()?;
        let Self { field, p99, each, tries, .. } = self;
        let (crew, setup) = (field.force.crew()?, field.force.setup(field.pods.get())?);
        let mut view = View::new(&scenario.name, field.force.quiet);
        let p99 = p99.as_secs_f64() * 1000.0;
        let bound = Bound { p99, duration: each, tries: tries.get() };
        let mut outcomes = Vec::new();
        for round in 1..=field.rounds.get() {
            for kind in &field.servers {
                let peak =
                    peak::search(kind, &scenario, bound, &setup, &field.force, &crew, &mut view)?;
                let Some(best) = peak.best else {
                    println!(
                        "round {round}  {}: not even the scenario's own rate holds: {}",
                        kind.name(),
                        peak.limit
                    );
                    continue;
                };
                println!(
                    "round {round}  {}: {:.1} times the rate holds: {:.0} deliveries/s, {:.0} acks/s, p99 {:.1} ms; more: {}",
                    kind.name(),
                    peak.times,
                    best.figure("delivered_per_second"),
                    best.figure("acked_per_second"),
                    best.figure("p99"),
                    peak.limit
                );
                outcomes.push(best);
            }
        }
        field.write(&outcomes)
    }
}

impl Table {
    fn run(self) -> Result<()> {
        let Self { field, idle, each, no_peak } = self;
        let (crew, setup) = (field.force.crew()?, field.force.setup(field.pods.get())?);
        let mut view = View::new("table", field.force.quiet);
        let what = Measure {
            kinds: field.servers.clone(),
            rounds: field.rounds.get(),
            idle,
            duration: each,
            peaks: !no_peak,
        };
        let (text, outcomes) = table::measure(&what, &setup, &field.force, &crew, &mut view)?;
        print!("{text}");
        field.write(&outcomes)
    }
}

fn write_text(path: &PathBuf, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn read_json(path: &PathBuf) -> Result<Vec<Outcome>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
