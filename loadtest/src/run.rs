//! One run, from connecting to the outcome: the coordinator's side.
//!
//! In come a scenario, servers and workers; out goes an [`Outcome`]. The coordinator keeps time: it reads what the
//! servers cost at the moments between which messages are counted, so that both speak of the same span.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    clock::Clock,
    control::{Command, Progress, Update},
    crew::Crew,
    number::{float, index, micros, whole},
    outcome::{self, Outcome, Resources},
    plan::{Address, Plan, Stream},
    resources::Watched,
    scenario::Scenario,
    tally::Tally,
    view::View,
};

/// How often the servers are looked at.
const SAMPLE: u64 = 500_000;

/// Between the word to begin and the beginning, so that all workers have heard it.
const LEAD: u64 = 200_000;

/// How long a worker may be silent beyond what it was told to take.
const SLACK: u64 = 60_000_000;

/// How long the coordinator waits for news before it looks at the clock.
const NEWS: Duration = Duration::from_millis(20);

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Job<'j> {
    /// What is done.
    pub scenario: Scenario,
    /// What the server is called.
    pub server: String,
    /// Where the servers are.
    pub targets: Vec<Address>,
    /// Where their internal listeners are.
    pub internal: Vec<Address>,
    /// Who is watched.
    pub watched: &'j Watched,
    /// Addresses to connect from.
    pub sources: Vec<IpAddr>,
    /// What tokens are signed with.
    pub secret: String,
    /// The key of the server API.
    pub key: String,
    /// The core of the workers.
    pub core: Option<usize>,
}

/// A run that is under way.
struct Running<'r> {
    job: &'r Job<'r>,
    crew: &'r Crew,
    view: &'r mut View,
    clock: Clock,
    progress: Vec<Progress>,
    resources: Resources,
    next_sample: u64,
    /// What workers said before it was asked for.
    early: Vec<(usize, Update)>,
}

/// Runs it.
pub(crate) fn run(job: &Job<'_>, crew: &Crew, view: &mut View) -> Result<Outcome> {
    let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let clock = Clock::new(0);
    let mut running = Running {
        job,
        crew,
        view,
        clock,
        progress: vec![Progress::default(); index(crew.len())],
        resources: Resources { watched: !job.watched.pids.is_empty(), ..Resources::default() },
        next_sample: 0,
        early: Vec::new(),
    };
    let result = running.through();
    if result.is_err() {
        // Whoever still works on it has no reason to.
        crew.tell_all(&Command::Stop).ok();
    }
    let tally = result?;
    let resources = running.resources;
    running.view.finish();
    let figures = outcome::figures(&job.scenario, &tally, &resources);
    Ok(Outcome {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        began,
        server: job.server.clone(),
        pods: job.targets.len() as u64,
        workers: crew.len().into(),
        machine: outcome::machine(),
        scenario: job.scenario.clone(),
        limited: outcome::limited(&tally, &figures),
        figures,
        resources,
        tally,
    })
}

impl Running<'_> {
    fn through(&mut self) -> Result<Tally> {
        let scenario = &self.job.scenario;
        ensure!(!self.job.targets.is_empty(), "no server to speak to");
        self.resources.before = self.job.watched.sample(self.clock.now())?;
        self.view.phase("connecting", self.clock.now());
        let run =
            u32::try_from(self.clock.now() / 1000 % 1_000_000_000).context("the run's number")?;
        for worker in 0..self.crew.len() {
            self.crew.tell(index(worker), Command::Begin(Box::new(self.plan(run, worker))))?;
        }
        let pause = micros(scenario.connect_within)
            + whole(float(scenario.clients()) / scenario.connects_per_second * 1e6);
        self.gather(pause, "connecting", |update| matches!(update, Update::Ready).then_some(()))?;
        self.resources.connected = self.job.watched.sample(self.clock.now())?;
        self.view.phase("resting", self.clock.now());
        self.wait_until(self.clock.now() + micros(scenario.rest))?;
        self.resources.rested = self.job.watched.sample(self.clock.now())?;
        let start = self.clock.now() + LEAD;
        let measured = start + micros(scenario.warm_up);
        let end = measured + micros(scenario.duration);
        self.resources.start = start;
        self.crew.tell_all(&Command::Go(start))?;
        self.view.begin(start, measured, end);
        self.wait_until(measured)?;
        self.resources.from = self.job.watched.sample(self.clock.now())?;
        self.wait_until(end)?;
        self.resources.to = self.job.watched.sample(self.clock.now())?;
        self.view.phase("settling", self.clock.now());
        let sent = self.gather(0, "sending", |update| match update {
            Update::Sent(sent) => Some(sent),
            _ => None,
        })?;
        let all: Vec<(Stream, u32)> = sent.into_iter().flatten().collect();
        self.crew.tell_all(&Command::Settle(all))?;
        let settle = micros(scenario.settle);
        let tallies = self.gather(settle, "settling", |update| match update {
            Update::Done(tally) => Some(tally),
            _ => None,
        })?;
        let mut merged = Tally::default();
        tallies.iter().for_each(|tally| merged.merge(tally));
        Ok(merged)
    }

    fn plan(&self, run: u32, worker: u32) -> Plan {
        let job = self.job;
        Plan {
            scenario: job.scenario.clone(),
            targets: job.targets.clone(),
            internal: job.internal.clone(),
            run,
            worker,
            workers: self.crew.len(),
            sources: job.sources.clone(),
            secret: job.secret.clone(),
            key: job.key.clone(),
            ahead: self.crew.ahead.get(index(worker)).copied().unwrap_or_default(),
            core: job.core,
        }
    }

    /// Waits until every worker has said one thing.
    fn gather<T>(
        &mut self,
        within: u64,
        what: &str,
        of: impl Fn(Update) -> Option<T>,
    ) -> Result<Vec<T>> {
        let deadline = self.clock.now() + within + SLACK;
        let mut said = BTreeMap::new();
        while said.len() < self.progress.len() {
            ensure!(self.clock.now() < deadline, "{what}: a worker does not say that it is done");
            let heard = if self.early.is_empty() {
                self.hear_within(NEWS)?
            } else {
                Some(self.early.remove(0))
            };
            if let Some((worker, update)) = heard
                && let Some(it) = of(update)
            {
                said.insert(worker, it);
            }
        }
        Ok(said.into_values().collect())
    }

    /// Hears what comes until a moment.
    fn wait_until(&mut self, moment: u64) -> Result<()> {
        while self.clock.now() < moment {
            let left = Duration::from_micros(moment - self.clock.now().min(moment));
            let heard = self.hear_within(left.min(NEWS))?;
            self.early.extend(heard);
        }
        Ok(())
    }

    /// The next update but progress, which is shown.
    fn hear_within(&mut self, within: Duration) -> Result<Option<(usize, Update)>> {
        let heard = self.crew.hear(within)?;
        let now = self.clock.now();
        if now >= self.next_sample {
            self.next_sample = now + SAMPLE;
            if self.resources.watched {
                self.resources.samples.push(self.job.watched.sample(now)?);
            }
        }
        if let Some((worker, Update::Progress(progress))) = heard {
            if let Some(slot) = self.progress.get_mut(worker) {
                *slot = progress;
            }
            self.view.show(&self.progress, self.resources.samples.last(), now);
            return Ok(None);
        }
        Ok(heard)
    }
}
