//! Servers against each other, in turns: A B C A B C …
//!
//! In come kinds of servers and a scenario; out go all outcomes, and every figure as a ratio inside each round. A machine
//! that is shared changes its speed from minute to minute; runs that follow each other share that, so the ratio holds
//! where the figures alone do not.

use std::fmt::Write as _;

use anyhow::Result;

use crate::{
    cli::{Force, against},
    crew::Crew,
    number::{per, spread},
    outcome::Outcome,
    report::{COMPARED, plot::short},
    scenario::Scenario,
    server::{Kind, Servers, Setup},
    view::View,
};

/// Every server's run of every round.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    names: Vec<String>,
    /// By round, then by server.
    rounds: Vec<Vec<Outcome>>,
}

impl Rounds {
    /// Runs them.
    pub(crate) fn run(
        kinds: &[Kind],
        count: usize,
        scenario: &Scenario,
        setup: &Setup,
        force: &Force,
        crew: &Crew,
        view: &mut View,
    ) -> Result<Self> {
        let mut rounds = Self { names: kinds.iter().map(Kind::name).collect(), rounds: Vec::new() };
        for number in 1..=count {
            let mut round = Vec::new();
            for kind in kinds {
                let servers = Servers::start(kind, &scenario.contract, setup)?;
                let outcome = against(&servers, scenario.clone(), force, crew, view)?;
                eprintln!("round {number} of {count}: {}", line(&outcome));
                round.push(outcome);
            }
            rounds.rounds.push(round);
        }
        Ok(rounds)
    }

    /// All outcomes, in the order in which they were run.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.rounds.iter().flatten().cloned().collect()
    }

    /// Median, least and greatest of a figure of a server.
    pub(crate) fn figure(&self, server: usize, figure: &str) -> Option<(f64, f64, f64)> {
        let runs = self.rounds.iter().filter_map(|round| round.get(server));
        let values: Vec<f64> =
            runs.filter_map(|outcome| outcome.figures.get(figure).copied()).collect();
        spread(&values)
    }

    /// The same of its ratio to another server's, inside each round.
    pub(crate) fn ratio(&self, server: usize, to: usize, figure: &str) -> Option<(f64, f64, f64)> {
        let ratio = |round: &Vec<Outcome>| {
            let own = round.get(server)?.figures.get(figure)?;
            let other = round.get(to)?.figures.get(figure).filter(|value| **value > 0.0)?;
            Some(per(*own, *other))
        };
        let values: Vec<f64> = self.rounds.iter().filter_map(ratio).collect();
        spread(&values)
    }

    /// Figures of all servers and their ratios to the first, as a table.
    pub(crate) fn table(&self) -> String {
        let mut out = String::from("| |");
        // Writing to a string does not fail.
        for (at, name) in self.names.iter().enumerate() {
            let first = if at == 0 { " (1x)" } else { "" };
            write!(out, " {name}{first} |").ok();
        }
        out.push_str("\n|---|");
        out.push_str(&"---|".repeat(self.names.len()));
        out.push('\n');
        for (figure, name, unit) in COMPARED {
            let must_be_none =
                matches!(figure, "lost" | "out_of_order" | "never_connected" | "disconnected");
            let is_some = |(_, _, high): (f64, f64, f64)| high > 0.0 || must_be_none;
            let measured =
                (0..self.names.len()).any(|at| self.figure(at, figure).is_some_and(is_some));
            if !measured {
                continue;
            }
            write!(out, "| {name}{}{unit} |", if unit.is_empty() { "" } else { ", " }).ok();
            for at in 0..self.names.len() {
                out.push_str(&self.cell(at, figure));
            }
            out.push('\n');
        }
        out
    }

    fn cell(&self, at: usize, figure: &str) -> String {
        let Some((median, low, high)) = self.figure(at, figure) else { return " - |".into() };
        let mut cell = format!(" {} [{} .. {}]", short(median), short(low), short(high));
        if let Some((ratio, least, most)) = self.ratio(at, 0, figure).filter(|_| at > 0) {
            write!(cell, " **{ratio:.2}x** [{least:.2} .. {most:.2}]").ok();
        }
        cell.push_str(" |");
        cell
    }
}

/// A run in a line.
fn line(outcome: &Outcome) -> String {
    let mut text = format!("{}:", outcome.server);
    for (figure, name, unit) in COMPARED {
        if let Some(value) = outcome.figures.get(figure).filter(|value| **value > 0.0) {
            write!(text, " {name} {} {unit};", short(*value)).ok();
        }
    }
    if outcome.limited.is_some() {
        text.push_str(" LIMITED by the tool;");
    }
    text
}
