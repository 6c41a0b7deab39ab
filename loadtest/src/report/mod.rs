//! The report for people: one page that needs nothing else.
//!
//! In come outcomes; out goes HTML with its style and plots inside. It asks no network for anything, so it can be
//! attached to a mail and opened in ten years.

pub(crate) mod plot;

use std::{collections::BTreeMap, fmt::Write as _};

use self::plot::{Axis, Bar, Scale, Series, bars, escaped, lines, short};
use crate::{
    number::{float, per, spread},
    outcome::Outcome,
    tally::{Slot, Times},
};

const STYLE: &str = include_str!("style.css");

/// Figures that are compared: their name, what they are called, their unit.
pub(crate) const COMPARED: [(&str, &str, &str); 19] = [
    ("private_kib_per_connection", "memory per connection, its own", "KiB"),
    ("kernel_kib_per_connection", "memory per connection, the kernel's (both ends)", "KiB"),
    ("cpu_us_per_connect", "CPU per connect", "us"),
    ("cpu_us_per_delivery", "CPU per delivered message", "us"),
    ("cpu_us_per_ack", "CPU per ack", "us"),
    ("cpu_us_per_step", "CPU per join or leave", "us"),
    ("delivered_per_second", "deliveries per second", "/s"),
    ("acked_per_second", "acks per second", "/s"),
    ("steps_per_second", "joins and leaves per second", "/s"),
    ("p50", "half come within", "ms"),
    ("p99", "99 % come within", "ms"),
    ("p99.9", "99.9 % come within", "ms"),
    ("across.p99", "99 % between pods come within", "ms"),
    ("redis_cpu_us_per_publish", "Redis CPU per publish", "us"),
    ("redis_bytes_out_per_publish", "Redis bytes out per publish", "B"),
    ("lost", "lost", ""),
    ("out_of_order", "out of order", ""),
    ("never_connected", "never connected", ""),
    ("disconnected", "cut off", ""),
];

/// What must not happen: the count, and what it is called.
const WRONG: [(&str, &str); 8] = [
    ("lost", "lost"),
    ("duplicated", "duplicated"),
    ("out_of_order", "out of order"),
    ("missed", "missed while cut off"),
    ("refused", "refused"),
    ("unacked", "unacknowledged"),
    ("disconnected", "cut off"),
    ("never_connected", "never connected"),
];

/// What a second counts.
type Count = fn(&Slot) -> f64;

/// The page of one run, or of several.
pub(crate) fn page(outcomes: &[Outcome]) -> String {
    let mut page = String::new();
    let names: Vec<&str> = unique(outcomes.iter().map(|outcome| outcome.scenario.name.as_str()));
    let title = format!("{}: load test", names.join(", "));
    // Writing to a string does not fail; so in all of this file.
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style></head><body><main><h1>{0}</h1>",
        escaped(&title)
    )
    .ok();
    if let Some(first) = outcomes.first() {
        write!(
            page,
            "<p class=\"about\">{}<br>{}; {} workers; {}; loadtest {}</p>",
            escaped(&first.scenario.about),
            escaped(&first.machine),
            first.workers,
            escaped(&first.began),
            escaped(&first.version)
        )
        .ok();
    }
    for server in unique(outcomes.iter().map(|outcome| outcome.server.as_str())) {
        let runs = outcomes.iter().filter(|outcome| outcome.server == server);
        verdict(server, &runs.collect::<Vec<&Outcome>>(), &mut page);
    }
    match outcomes {
        [only] => tiles(only, &mut page),
        _ => comparison(outcomes, &mut page),
    }
    page.push_str("<h2>Over time</h2><div class=\"plots\">");
    over_time(outcomes, &mut page);
    page.push_str("</div>");
    table(outcomes, &mut page);
    if let Some(first) = outcomes.first()
        && let Ok(text) = toml::to_string(&first.scenario)
    {
        write!(page, "<h2>Scenario</h2><pre>{}</pre>", escaped(&text)).ok();
    }
    page.push_str("</main></body></html>");
    page
}

fn unique<'n>(names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// In a sentence: did all arrive, in all runs of a server?
fn verdict(server: &str, runs: &[&Outcome], page: &mut String) {
    let server = escaped(server);
    let mut said: Vec<String> = Vec::new();
    for (name, what) in WRONG {
        let sum: f64 = runs.iter().map(|outcome| outcome.figure(name)).sum();
        if sum > 0.0 {
            said.push(format!("{sum:.0} {what}"));
        }
    }
    let (class, said) = if said.is_empty() {
        ("", "everything arrived once, in order, and nobody was cut off".to_owned())
    } else {
        (" bad", said.join(", "))
    };
    let of = if runs.len() > 1 { format!(" ({} runs)", runs.len()) } else { String::new() };
    write!(page, "<p class=\"verdict{class}\"><b>{server}</b>{of}: {said}</p>").ok();
    let limited: Vec<&str> = runs.iter().filter_map(|run| run.limited.as_deref()).collect();
    if let Some(last) = limited.last() {
        let of = format!("in {} of {} runs the tool was the limit", limited.len(), runs.len());
        let last = escaped(last);
        write!(page, "<p class=\"verdict bad\"><b>{server}</b>: {of}; {last}</p>").ok();
    }
}

/// The figures that a person looks for first.
fn tiles(outcome: &Outcome, page: &mut String) {
    page.push_str("<div class=\"tiles\">");
    let mut tile = |value: String, name: &str| {
        write!(page, "<div class=\"tile\"><b>{value}</b><span>{}</span></div>", escaped(name)).ok();
    };
    tile(outcome.tally.counts.connected.to_string(), "connections");
    for (figure, name, unit) in COMPARED {
        if let Some(value) = outcome.figures.get(figure).filter(|value| **value > 0.0) {
            tile(format!("{} {unit}", short(*value)), name);
        }
    }
    tile(
        format!("{:.0} %", outcome.figure("tool_busy") * 100.0),
        "of its time the tool was at work",
    );
    page.push_str("</div>");
}

/// The values of a figure for each server, over all its runs.
fn by_server<'o>(outcomes: &'o [Outcome], figure: &str) -> Vec<(&'o str, Vec<f64>)> {
    let names = unique(outcomes.iter().map(|outcome| outcome.server.as_str()));
    let values = |name: &&'o str| {
        let runs = outcomes.iter().filter(|outcome| outcome.server == *name);
        (
            *name,
            runs.filter_map(|outcome| outcome.figures.get(figure).copied()).collect::<Vec<f64>>(),
        )
    };
    names.iter().map(values).filter(|(_, values)| !values.is_empty()).collect()
}

/// Bars of every figure that differs.
fn comparison(outcomes: &[Outcome], page: &mut String) {
    page.push_str("<h2>Side by side</h2><div class=\"plots\">");
    for (figure, name, unit) in COMPARED {
        let each = by_server(outcomes, figure);
        let all: Vec<Bar> = each
            .iter()
            .filter_map(|(name, values)| {
                let (value, low, high) = spread(values)?;
                Some(Bar { name: (*name).to_owned(), value, spread: (low, high) })
            })
            .collect();
        if all.iter().any(|bar| bar.value > 0.0) {
            write!(page, "<figure><h3>{}</h3>{}</figure>", escaped(name), bars(name, unit, &all))
                .ok();
        }
    }
    page.push_str("</div>");
}

/// Latency, throughput, CPU and memory, second by second, and latency by percentile.
fn over_time(outcomes: &[Outcome], page: &mut String) {
    let several = outcomes.len() > 1;
    let name = |outcome: &Outcome, what: &str| {
        if several { format!("{} {what}", outcome.server) } else { what.to_owned() }
    };
    let shown = last_of_each(outcomes);
    let seconds = Axis { label: "seconds", scale: Scale::Even };
    let slots = |outcome: &Outcome, of: &dyn Fn(&Slot) -> f64| -> Vec<(f64, f64)> {
        // What came after the end is a part of a second, and no rate.
        let whole = (outcome.scenario.warm_up + outcome.scenario.duration).as_secs();
        let whole = usize::try_from(whole).unwrap_or(usize::MAX);
        let each = outcome.tally.slots.iter().enumerate().take(whole.max(1));
        each.map(|(second, slot)| (float(second as u64), of(slot))).collect()
    };
    let mut latency = Vec::new();
    let mut rates = Vec::new();
    for outcome in &shown {
        let kinds: &[(f64, &str)] = if several {
            &[(99.0, "p99")]
        } else {
            &[(50.0, "p50"), (99.0, "p99"), (99.9, "p99.9")]
        };
        for (percent, what) in kinds {
            let points = slots(outcome, &|slot| float(slot.percentile(*percent)) / 1000.0);
            let points = points.into_iter().filter(|(_, value)| *value > 0.0).collect();
            latency.push(Series { name: name(outcome, what), points });
        }
        let counts: [(&str, &str, Count); 4] = [
            ("sent", "", |slot| float(slot.sent)),
            ("delivered", "delivery", |slot| float(slot.delivered)),
            ("acks", "ack", |slot| float(slot.acked)),
            ("joins and leaves", "step", |slot| float(slot.steps)),
        ];
        for (what, of_times, of) in counts {
            let points = slots(outcome, &of);
            let is_main = outcome.tally.main_times().0 == of_times;
            if points.iter().any(|(_, value)| *value > 0.0) && (!several || is_main) {
                rates.push(Series { name: name(outcome, what), points });
            }
        }
    }
    let log = Axis { label: "ms", scale: Scale::Log };
    figure(page, "Latency over time", &lines("latency over time", &seconds, &log, &latency));
    let nines: Vec<Series> = shown
        .iter()
        .map(|outcome| Series {
            name: name(outcome, outcome.tally.main_times().0),
            points: by_nines(outcome.tally.main_times().1),
        })
        .collect();
    let percent = Axis { label: "of all", scale: Scale::Nines };
    figure(page, "Latency by percentile", &lines("latency by percentile", &percent, &log, &nines));
    let rate = Axis { label: "per second", scale: Scale::Even };
    figure(page, "Throughput", &lines("throughput", &seconds, &rate, &rates));
    costs(&shown, &name, page);
}

fn figure(page: &mut String, title: &str, svg: &str) {
    write!(page, "<figure><h3>{title}</h3>{svg}</figure>").ok();
}

/// CPU and memory of the servers while the run went on.
fn costs(shown: &[&Outcome], name: &dyn Fn(&Outcome, &str) -> String, page: &mut String) {
    let mut cpu = Vec::new();
    let mut memory = Vec::new();
    for outcome in shown.iter().filter(|outcome| outcome.resources.watched) {
        let samples = &outcome.resources.samples;
        let Some(first) = samples.first() else { continue };
        let second = |at: u64| float(at.saturating_sub(first.at)) / 1e6;
        let pairs = samples.iter().zip(samples.iter().skip(1));
        let points = pairs.map(|(one, two)| {
            let cores =
                per(float(two.cpu.saturating_sub(one.cpu)), float(two.at.saturating_sub(one.at)));
            (second(two.at), cores)
        });
        cpu.push(Series { name: name(outcome, "CPU"), points: points.collect() });
        let points =
            samples.iter().map(|sample| (second(sample.at), float(sample.rss) / 1024.0 / 1024.0));
        memory.push(Series { name: name(outcome, "resident"), points: points.collect() });
    }
    let seconds = Axis { label: "seconds, from connecting on", scale: Scale::Even };
    if !cpu.is_empty() {
        figure(
            page,
            "CPU of the servers",
            &lines("CPU", &seconds, &Axis { label: "cores", scale: Scale::Even }, &cpu),
        );
        figure(
            page,
            "Memory of the servers",
            &lines("memory", &seconds, &Axis { label: "MiB", scale: Scale::Even }, &memory),
        );
    }
}

/// The last run of each server: plots over time show one each.
fn last_of_each(outcomes: &[Outcome]) -> Vec<&Outcome> {
    let last: BTreeMap<&str, &Outcome> =
        outcomes.iter().map(|outcome| (outcome.server.as_str(), outcome)).collect();
    unique(outcomes.iter().map(|outcome| outcome.server.as_str()))
        .into_iter()
        .filter_map(|name| last.get(name).copied())
        .collect()
}

/// Points of times by nines.
fn by_nines(times: &Times) -> Vec<(f64, f64)> {
    let count = float(times.count());
    if count < 1.0 {
        return Vec::new();
    }
    let most = count.log10().min(5.0);
    let steps = 60_u32;
    let place = |step: u32| {
        let nines = most * f64::from(step) / f64::from(steps);
        let percent = (1.0 - 10_f64.powf(-nines)) * 100.0;
        (nines, float(times.percentile(percent)) / 1000.0)
    };
    (0..=steps).map(place).collect()
}

/// Every figure of every server.
fn table(outcomes: &[Outcome], page: &mut String) {
    let names = unique(outcomes.iter().map(|outcome| outcome.server.as_str()));
    page.push_str("<h2>All figures</h2><div class=\"wide\"><table><tr><th>figure</th>");
    for name in &names {
        write!(page, "<th>{}</th>", escaped(name)).ok();
    }
    page.push_str("</tr>");
    let figures: std::collections::BTreeSet<&String> =
        outcomes.iter().flat_map(|outcome| outcome.figures.keys()).collect();
    for figure in figures {
        write!(page, "<tr><td>{}</td>", escaped(figure)).ok();
        let each: BTreeMap<&str, Vec<f64>> = by_server(outcomes, figure).into_iter().collect();
        for name in &names {
            let cell = each.get(name).and_then(|values| spread(values)).map_or_else(
                String::new,
                |(value, low, high)| {
                    if high > low {
                        format!("{} <small>{} .. {}</small>", short(value), short(low), short(high))
                    } else {
                        short(value)
                    }
                },
            );
            write!(page, "<td>{cell}</td>").ok();
        }
        page.push_str("</tr>");
    }
    page.push_str("</table></div>");
}
