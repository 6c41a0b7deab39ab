//! The one table: every server, idle, connecting, fanning out, at its highest rate, and acknowledging.
//!
//! In come kinds of servers; out goes a table in Markdown with figures of all of them and the first one's ratio to the
//! best of the others. All that is printed was measured in this one run, in turns.

use std::{fmt::Write as _, time::Duration};

use anyhow::Result;

use crate::{
    cli::Force,
    compare::Rounds,
    crew::Crew,
    number::spread,
    outcome::Outcome,
    peak::{self, Bound},
    report::plot::short,
    scenario::Scenario,
    server::{Kind, Setup},
    view::View,
};

/// A row: from which rounds, which figure, what it is called, and whether less is better.
struct Row<'r> {
    rounds: &'r Rounds,
    figure: &'static str,
    name: &'static str,
    less: bool,
}

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    /// Who is measured; the first is compared with the best of the others.
    pub kinds: Vec<Kind>,
    /// How often each.
    pub rounds: usize,
    /// How many connections are idle.
    pub idle: u32,
    /// How long each run is measured.
    pub duration: Duration,
    /// The highest rate is searched, too.
    pub peaks: bool,
}

/// Measures all of it.
pub(crate) fn measure(
    what: &Measure,
    setup: &Setup,
    force: &Force,
    crew: &Crew,
    view: &mut View,
) -> Result<(String, Vec<Outcome>)> {
    let duration = format!("duration={}", humantime::format_duration(what.duration));
    let load = |name: &str, changes: &[String]| {
        let changes: Vec<String> = changes.iter().cloned().chain([duration.clone()]).collect();
        Scenario::load(name, &changes)
    };
    let mut run = |scenario: &Scenario| {
        Rounds::run(&what.kinds, what.rounds, scenario, setup, force, crew, view)
    };
    let idle = run(&load("idle", &[format!("listener.clients={}", what.idle)])?)?;
    let fan_out = run(&load("fan-out", &[])?)?;
    let echo = run(&load("echo", &[])?)?;
    let rows = [
        Row {
            rounds: &idle,
            figure: "private_kib_per_connection",
            name: "memory per idle connection, KiB",
            less: true,
        },
        Row {
            rounds: &idle,
            figure: "kernel_kib_per_connection",
            name: "kernel memory per connection, both ends, KiB",
            less: true,
        },
        Row {
            rounds: &idle,
            figure: "cpu_us_per_connect",
            name: "CPU per connect, us",
            less: true,
        },
        Row {
            rounds: &fan_out,
            figure: "cpu_us_per_delivery",
            name: "CPU per delivery at 20 000/s, us",
            less: true,
        },
        Row { rounds: &fan_out, figure: "p50", name: "p50 at 20 000/s, ms", less: true },
        Row { rounds: &fan_out, figure: "p99", name: "p99 at 20 000/s, ms", less: true },
        Row { rounds: &fan_out, figure: "p99.9", name: "p99.9 at 20 000/s, ms", less: true },
        Row {
            rounds: &echo,
            figure: "cpu_us_per_ack",
            name: "CPU per ack at 1000/s, us",
            less: true,
        },
        Row { rounds: &echo, figure: "p50", name: "ack p50 at 1000/s, ms", less: true },
        Row { rounds: &echo, figure: "p99", name: "ack p99 at 1000/s, ms", less: true },
    ];
    let mut out = head(&what.kinds);
    for row in &rows {
        row.write(what.kinds.len(), &mut out);
    }
    if what.peaks {
        let bound =
            Bound { p99: 200.0, duration: Duration::from_secs(3).min(what.duration), tries: 2 };
        peaks(what, bound, setup, force, crew, view, &mut out)?;
    }
    let outcomes = [idle, fan_out, echo].iter().flat_map(Rounds::outcomes).collect();
    Ok((out, outcomes))
}

fn head(kinds: &[Kind]) -> String {
    let mut out = String::from("| |");
    // Writing to a string does not fail; so in all of this file.
    for kind in kinds {
        write!(out, " {} |", kind.name()).ok();
    }
    if kinds.len() > 1 {
        write!(
            out,
            " {} / best rival |\n|---|{}---|",
            kinds.first().map(Kind::name).unwrap_or_default(),
            "---|".repeat(kinds.len())
        )
        .ok();
    } else {
        out.push_str("\n|---|---|");
    }
    out.push('\n');
    out
}

impl Row<'_> {
    fn write(&self, servers: usize, out: &mut String) {
        write!(out, "| {} |", self.name).ok();
        for at in 0..servers {
            match self.rounds.figure(at, self.figure) {
                Some((median, low, high)) => {
                    write!(out, " {} [{} .. {}] |", short(median), short(low), short(high)).ok();
                }
                None => out.push_str(" - |"),
            }
        }
        if servers > 1 {
            let rivals =
                (1..servers).filter_map(|at| Some((at, self.rounds.figure(at, self.figure)?.0)));
            let better = |one: &(usize, f64), two: &(usize, f64)| {
                let order = one.1.total_cmp(&two.1);
                if self.less { order } else { order.reverse() }
            };
            let ratio =
                rivals.min_by(better).and_then(|(best, _)| self.rounds.ratio(0, best, self.figure));
            match ratio {
                Some((ratio, low, high)) => {
                    write!(out, " **{ratio:.2}x** [{low:.2} .. {high:.2}] |").ok();
                }
                None => out.push_str(" - |"),
            }
        }
        out.push('\n');
    }
}

/// The highest rates, in turns as well.
fn peaks(
    what: &Measure,
    bound: Bound,
    setup: &Setup,
    force: &Force,
    crew: &Crew,
    view: &mut View,
    out: &mut String,
) -> Result<()> {
    let fan_out = Scenario::load("fan-out", &[])?;
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); what.kinds.len()];
    let mut limits = vec![String::new(); what.kinds.len()];
    for _ in 0..what.rounds {
        for (at, kind) in what.kinds.iter().enumerate() {
            let peak = peak::search(kind, &fan_out, bound, setup, force, crew, view)?;
            let rate = peak.best.map_or(0.0, |best| best.figure("delivered_per_second"));
            if let (Some(rates), Some(limit)) = (rates.get_mut(at), limits.get_mut(at)) {
                rates.push(rate);
                *limit = peak.limit;
            }
        }
    }
    out.push_str("| highest deliveries/s, nothing lost, in order, p99 <= 200 ms |");
    for (rates, limit) in rates.iter().zip(&limits) {
        let (median, low, high) = spread(rates).unwrap_or_default();
        write!(out, " {} [{} .. {}] ({limit}) |", short(median), short(low), short(high)).ok();
    }
    if let Some((own, rivals)) = rates.split_first().filter(|(_, rivals)| !rivals.is_empty()) {
        let median = |rates: &Vec<f64>| spread(rates).map_or(0.0, |(median, ..)| median);
        let best = rivals.iter().max_by(|one, two| median(one).total_cmp(&median(two)));
        let ratios: Vec<f64> =
            best.into_iter().flatten().zip(own).map(|(best, own)| own / best).collect();
        let (ratio, low, high) = spread(&ratios).unwrap_or_default();
        write!(out, " **{ratio:.2}x** [{low:.2} .. {high:.2}] |").ok();
    }
    out.push('\n');
    Ok(())
}
