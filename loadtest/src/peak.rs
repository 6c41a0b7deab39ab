//! The highest rate that a server sustains: nothing lost, everything in order, nobody cut off, and 99 % in time.
//!
//! In come a kind of server and a scenario; out goes the best run that held. The rate is doubled until a run does not
//! hold, then the gap is halved by ratio. A run that does not hold leaves its server behind: the next has a fresh one.

use std::time::Duration;

use anyhow::Result;

use crate::{
    cli::{Force, against},
    crew::Crew,
    outcome::Outcome,
    scenario::Scenario,
    server::{Kind, Servers, Setup},
    view::View,
};

/// How often the gap between what holds and what does not is halved: to within a twentieth.
const HALVINGS: usize = 3;

/// How often a rate is doubled at most.
const DOUBLINGS: i32 = 16;

/// What a run must hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// 99 % must come within this, in milliseconds.
    pub p99: f64,
    /// How long each run is measured.
    pub duration: Duration,
    /// How often a rate is tried before it does not hold.
    pub tries: usize,
}

/// The highest rate.
#[derive(Clone, Debug)]
pub(crate) struct Peak {
    /// The best run that held.
    pub best: Option<Outcome>,
    /// So many times the scenario's rate.
    pub times: f64,
    /// Why more did not hold.
    pub limit: String,
}

/// Searches it.
pub(crate) fn search(
    kind: &Kind,
    scenario: &Scenario,
    bound: Bound,
    setup: &Setup,
    force: &Force,
    crew: &Crew,
    view: &mut View,
) -> Result<Peak> {
    let mut scenario = scenario.clone();
    scenario.rest = Duration::ZERO;
    scenario.duration = bound.duration;
    let mut peak = Peak { best: None, times: 0.0, limit: "not reached".into() };
    let mut fails = f64::INFINITY;
    let mut servers = None;
    for step in 0..DOUBLINGS + i32::try_from(HALVINGS).unwrap_or_default() {
        let times = if fails.is_finite() { (peak.times * fails).sqrt() } else { 2_f64.powi(step) };
        let is_close = fails.is_finite() && fails / peak.times.max(f64::MIN_POSITIVE) < 1.1;
        if is_close || peak.times <= 0.0 && fails.is_finite() {
            break;
        }
        let load = scenario.clone().times(times);
        let mut last = None;
        // A machine that is shared stands still now and then: what holds once is what the server can do.
        for _ in 0..bound.tries {
            let there = match servers.take() {
                Some(there) => there,
                None => Servers::start(kind, &scenario.contract, setup)?,
            };
            let outcome = against(&there, load.clone(), force, crew, view)?;
            let why = failed(&outcome, bound);
            let (rate, said) =
                (outcome.figure("delivered_per_second"), why.as_deref().unwrap_or("holds"));
            eprintln!(
                "{}: {times:.1} times the rate, {rate:.0} deliveries/s: {said}",
                outcome.server
            );
            let holds = why.is_none();
            last = Some((outcome, why));
            if holds {
                servers = Some(there);
                break;
            }
        }
        let Some((outcome, why)) = last else { break };
        match why {
            None => {
                peak.times = times;
                peak.best = Some(outcome);
            }
            Some(why) => {
                fails = times;
                peak.limit = why;
            }
        }
    }
    Ok(peak)
}

/// Why a run does not hold.
fn failed(outcome: &Outcome, bound: Bound) -> Option<String> {
    let counts = &outcome.tally.counts;
    let is = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let p99 = outcome.figure("p99");
    let late = (p99 > bound.p99).then(|| {
        let whose = if outcome.limited.is_some() { " (the tool's limit)" } else { "" };
        format!("p99 {p99:.0} ms{whose}")
    });
    is(counts.lost + counts.missed, "lost")
        .or_else(|| is(counts.out_of_order, "out of order"))
        .or_else(|| is(counts.duplicated, "duplicated"))
        .or_else(|| is(counts.disconnected + counts.never_connected, "cut off"))
        .or_else(|| is(counts.unacked, "unacknowledged"))
        .or_else(|| is(counts.refused, "refused"))
        .or(late)
}
