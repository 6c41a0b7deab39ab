//! What a person sees while a run is under way.
//!
//! In comes how the workers stand; out go a few lines on stderr that are drawn over, or, where that is no terminal, a
//! line every few seconds. It shows and never decides; results go to stdout, elsewhere.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _, stderr},
};

use crate::{
    control::Progress,
    number::{float, index, per, small, whole},
    resources::Sample,
};

/// How often a line is printed where nothing can be drawn over.
const PLAIN: u64 = 5_000_000;

/// How wide the bar and the sparkline are.
const WIDTH: usize = 40;

/// Heights of a sparkline.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is drawn.
#[derive(Debug)]
pub(crate) struct View {
    quiet: bool,
    drawn: usize,
    terminal: bool,
    title: String,
    phase: String,
    span: Option<(u64, u64, u64)>,
    last: Option<(u64, u64, u64)>,
    cpu: Option<(u64, u64)>,
    cores: f64,
    p99: Vec<u64>,
    next_plain: u64,
}

impl View {
    /// A view that shows, or, with `quiet`, one that does not.
    pub(crate) fn new(title: &str, quiet: bool) -> Self {
        Self {
            quiet,
            drawn: 0,
            terminal: stderr().is_terminal(),
            title: title.to_owned(),
            phase: String::new(),
            span: None,
            last: None,
            cpu: None,
            cores: 0.0,
            p99: Vec::new(),
            next_plain: 0,
        }
    }

    /// What is run next is called this.
    pub(crate) fn title(&mut self, title: &str) {
        title.clone_into(&mut self.title);
        self.span = None;
        self.last = None;
        self.cpu = None;
        self.p99.clear();
    }

    /// The run goes on to something else.
    pub(crate) fn phase(&mut self, phase: &str, now: u64) {
        phase.clone_into(&mut self.phase);
        self.next_plain = now;
    }

    /// Sending begins, is measured from, and ends at these moments.
    pub(crate) fn begin(&mut self, start: u64, measured: u64, end: u64) {
        self.span = Some((start, measured, end));
        self.phase("sending", start);
    }

    /// Shows how things stand.
    pub(crate) fn show(&mut self, workers: &[Progress], sample: Option<&Sample>, now: u64) {
        if self.quiet {
            return;
        }
        let all = sum(workers);
        if let Some(sample) = sample {
            if let Some((at, cpu)) = self.cpu.filter(|(at, _)| *at < sample.at) {
                self.cores = per(float(sample.cpu.saturating_sub(cpu)), float(sample.at - at));
            }
            self.cpu = Some((sample.at, sample.cpu));
        }
        let rates = self.last.map(|(at, sent, heard)| {
            let seconds = float(now.saturating_sub(at)) / 1e6;
            (
                per(float(all.sent.saturating_sub(sent)), seconds),
                per(float((all.delivered + all.acked).saturating_sub(heard)), seconds),
            )
        });
        self.last = Some((now, all.sent, all.delivered + all.acked));
        if all.p99 > 0 {
            self.p99.push(all.p99);
            let keep = self.p99.len().saturating_sub(WIDTH);
            self.p99.drain(..keep);
        }
        let text = self.text(&all, rates.unwrap_or_default(), sample, now);
        if self.terminal {
            self.draw(&text);
        } else if now >= self.next_plain {
            self.next_plain = now + PLAIN;
            let line: Vec<&str> = text.lines().map(str::trim).collect();
            eprintln!("{}", line.join(" | "));
        }
    }

    fn text(&self, all: &Progress, rates: (f64, f64), sample: Option<&Sample>, now: u64) -> String {
        let mut text = String::new();
        let done = match self.span {
            Some((start, _, end)) => {
                per(float(now.saturating_sub(start)), float(end.saturating_sub(start)))
            }
            None => per(float(all.ready), float(all.clients)),
        };
        let warm =
            self.span.is_some_and(|(_, measured, _)| now < measured && self.phase == "sending");
        let phase = if warm { "warming up" } else { &self.phase };
        // Writing to a string does not fail.
        if self.terminal {
            writeln!(
                text,
                "{}  {phase:<10} {} {:3.0} %",
                self.title,
                bar(done),
                done.clamp(0.0, 1.0) * 100.0
            )
            .ok();
        } else {
            writeln!(text, "{}: {phase} {:.0} %", self.title, done.clamp(0.0, 1.0) * 100.0).ok();
        }
        writeln!(text, "  ready {} of {}", all.ready, all.clients).ok();
        writeln!(text, "  sent {:.0}/s, heard {:.0}/s, {} steps", rates.0, rates.1, all.steps).ok();
        let wrong = format!(
            "refused {}, cut off {}, out of order or doubled {}",
            all.refused, all.disconnected, all.disorder
        );
        writeln!(text, "  {wrong}").ok();
        if all.p99 > 0 {
            let (p50, p99) = (float(all.p50) / 1000.0, float(all.p99) / 1000.0);
            let spark = if self.terminal { sparkline(&self.p99) } else { String::new() };
            writeln!(text, "  p50 {p50:.2} ms, p99 {p99:.2} ms {spark}").ok();
        }
        if let Some(sample) = sample {
            writeln!(
                text,
                "  server {:.2} cores, {:.0} MiB",
                self.cores,
                float(sample.rss) / 1024.0 / 1024.0
            )
            .ok();
        }
        text
    }

    /// Draws over what was drawn before.
    fn draw(&mut self, text: &str) {
        let mut out = String::new();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.drawn).ok();
        }
        out.push_str(text);
        self.drawn = text.lines().count();
        // Whoever has closed their terminal does not want to see this.
        stderr().write_all(out.as_bytes()).ok();
    }

    /// Leaves the screen as it was.
    pub(crate) fn finish(&mut self) {
        if self.terminal && self.drawn > 0 && !self.quiet {
            eprint!("\x1b[{}A\x1b[J", self.drawn);
        }
        self.drawn = 0;
    }
}

fn sum(workers: &[Progress]) -> Progress {
    let mut all = Progress::default();
    for one in workers {
        all.ready += one.ready;
        all.clients += one.clients;
        all.sent += one.sent;
        all.delivered += one.delivered;
        all.acked += one.acked;
        all.steps += one.steps;
        all.refused += one.refused;
        all.disconnected += one.disconnected;
        all.disorder += one.disorder;
        // Percentiles cannot be added; the worst worker is what a person wants to see.
        all.p50 = all.p50.max(one.p50);
        all.p99 = all.p99.max(one.p99);
    }
    all
}

fn bar(done: f64) -> String {
    let full = index(small(
        usize::try_from(whole(done.clamp(0.0, 1.0) * float(WIDTH as u64))).unwrap_or(WIDTH),
    ));
    format!("{}{}", "█".repeat(full), "░".repeat(WIDTH.saturating_sub(full)))
}

fn sparkline(values: &[u64]) -> String {
    let most = values.iter().max().copied().unwrap_or(1).max(1);
    let height = |value: &u64| {
        let at = usize::try_from(value * (BARS.len() as u64 - 1) / most).unwrap_or_default();
        BARS.get(at).copied().unwrap_or('█')
    };
    values.iter().map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_tells_all() {
        let mut view = View::new("echo on gateway", false);
        view.terminal = false;
        view.begin(0, 1_000_000, 11_000_000);
        let progress =
            Progress { ready: 5, clients: 5, p99: 1500, p50: 500, ..Progress::default() };
        let sample = Sample { rss: 10 << 20, ..Sample::default() };
        let text = view.text(&progress, (10.0, 20.0), Some(&sample), 5_500_000);
        for part in
            ["echo on gateway", "50 %", "ready 5 of 5", "heard 20/s", "p99 1.50 ms", "10 MiB"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0.5).chars().filter(|c| *c == '█').count(), WIDTH / 2);
        assert_eq!(sparkline(&[0, 7, 14]), "▁▄█");
    }
}
