//! Plots as inline SVG: lines over an axis, and bars.
//!
//! In come named points; out goes text that stands in a page. Nothing is fetched, nothing is scripted: what the pointer
//! rests on says its value by the browser's own means.

use std::fmt::Write as _;

use crate::number::{float, per};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 58.0;

/// How many series have a colour of their own; more begin again.
const COLOURS: usize = 6;

/// Points of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// What they are called.
    pub name: String,
    /// Where they are.
    pub points: Vec<(f64, f64)>,
}

/// An axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// What it measures.
    pub label: &'static str,
    /// How it is divided.
    pub scale: Scale,
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly, from 0.
    Even,
    /// By powers of ten.
    Log,
    /// By nines: 90, 99, 99.9 percent. Points are given as `-log10(1 - share)`.
    Nines,
}

/// A value between marks that people like, and the distance between them.
fn nice(most: f64) -> (f64, f64) {
    if most <= 0.0 || !most.is_finite() {
        return (1.0, 0.25);
    }
    let rough = most / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(power * 10.0);
    ((most / step).ceil() * step, step)
}

/// A number as people write it.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{:.3}M", value / 1e6).replace(".000M", "M")
    } else if size >= 10_000.0 {
        format!("{:.1}k", value / 1e3).replace(".0k", "k")
    } else if size >= 100.0 || (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// Text as it stands in a page.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// From a value to a place, and the values that are marked.
struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    marks: Vec<(f64, String)>,
}

impl Ruler {
    fn of(axis: &Axis, values: impl Iterator<Item = f64> + Clone) -> Self {
        let most = values.clone().fold(0.0, f64::max);
        match axis.scale {
            Scale::Even => {
                let (high, step) = nice(most);
                let marks =
                    (0..=12).map(|n| f64::from(n) * step).take_while(|at| *at <= high * 1.0001);
                let marks = marks.map(|at| (at, short(at))).collect();
                Self { scale: axis.scale, low: 0.0, high, marks }
            }
            Scale::Log => {
                let least = values.filter(|value| *value > 0.0).fold(f64::MAX, f64::min);
                let low = if least < f64::MAX { least.log10().floor() } else { -1.0 };
                let high = if most > 0.0 { most.log10().ceil().max(low + 1.0) } else { low + 1.0 };
                let marks = (-9..=9).map(f64::from).filter(|power| (low..=high).contains(power));
                let marks = marks.map(|power| (power, short(10_f64.powf(power)))).collect();
                Self { scale: axis.scale, low, high, marks }
            }
            Scale::Nines => {
                let high = most.max(2.0);
                let all = [
                    (0.0, "0"),
                    (1.0, "90"),
                    (2.0, "99"),
                    (3.0, "99.9"),
                    (4.0, "99.99"),
                    (5.0, "99.999"),
                ];
                let marks = all.into_iter().filter(|(at, _)| *at <= high);
                let marks = marks.map(|(at, name)| (at, format!("{name} %"))).collect();
                Self { scale: axis.scale, low: 0.0, high, marks }
            }
        }
    }

    /// Where between 0 and 1 a value stands.
    fn share(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Log => value.max(1e-9).log10(),
            Scale::Even | Scale::Nines => value,
        };
        per(value - self.low, self.high - self.low).clamp(0.0, 1.0)
    }

    fn share_of_mark(&self, mark: f64) -> f64 {
        per(mark - self.low, self.high - self.low).clamp(0.0, 1.0)
    }
}

/// Lines over a common axis.
pub(crate) fn lines(title: &str, x: &Axis, y: &Axis, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let across = Ruler::of(x, points().map(|(x, _)| *x));
    let up = Ruler::of(y, points().map(|(_, y)| *y));
    let at_x = |share: f64| share.mul_add(WIDTH - LEFT - RIGHT, LEFT);
    let at_y = |share: f64| share.mul_add(-(HEIGHT - TOP - BOTTOM), HEIGHT - BOTTOM);
    let mut svg = open(title, HEIGHT);
    // Writing to a string does not fail; so in all of this file.
    for (mark, name) in &up.marks {
        let y = at_y(up.share_of_mark(*mark));
        write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#,
            WIDTH - RIGHT
        )
        .ok();
        write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{name}</text>"#,
            LEFT - 8.0,
            y + 6.0
        )
        .ok();
    }
    for (mark, name) in &across.marks {
        let x = at_x(across.share_of_mark(*mark));
        write!(
            svg,
            r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{name}</text>"#,
            HEIGHT - BOTTOM + 24.0
        )
        .ok();
    }
    write!(
        svg,
        r#"<text class="label" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
        WIDTH - RIGHT,
        HEIGHT - 6.0,
        escaped(x.label)
    )
    .ok();
    write!(svg, r#"<text class="label" x="14" y="{:.1}" transform="rotate(-90 14 {:.1})" text-anchor="end">{}</text>"#, TOP, TOP, escaped(y.label)).ok();
    for (at, series) in series.iter().enumerate() {
        let place = |(x, y): &(f64, f64)| {
            format!("{:.1},{:.1}", at_x(across.share(*x)), at_y(up.share(*y)))
        };
        let path: Vec<String> = series.points.iter().map(place).collect();
        write!(
            svg,
            r#"<polyline class="line c{}" points="{}"><title>{}</title></polyline>"#,
            at % COLOURS,
            path.join(" "),
            escaped(&series.name)
        )
        .ok();
    }
    svg.push_str("</svg>");
    svg.push_str(&legend(series.iter().map(|series| series.name.as_str())));
    svg
}

/// A bar: its name, how long it is, and from where to where it was measured.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// What it is called.
    pub name: String,
    /// How long it is.
    pub value: f64,
    /// The least and the greatest that was measured.
    pub spread: (f64, f64),
}

/// Bars beside each other's names.
pub(crate) fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    const ROW: f64 = 40.0;
    let most = bars.iter().map(|bar| bar.value.max(bar.spread.1)).fold(0.0, f64::max);
    let left = 200.0;
    let room = WIDTH - left - 150.0;
    let height = float(bars.len() as u64).mul_add(ROW, 12.0);
    let mut svg = open(title, height);
    for (at, bar) in bars.iter().enumerate() {
        let y = float(at as u64).mul_add(ROW, 6.0);
        let wide = |value: f64| per(value, most).clamp(0.0, 1.0) * room;
        let (middle, low, high) =
            (y + ROW / 2.0, left + wide(bar.spread.0), left + wide(bar.spread.1));
        write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            left - 10.0,
            middle + 6.0,
            escaped(&bar.name)
        )
        .ok();
        write!(
            svg,
            r#"<rect class="bar c{}" x="{left}" y="{:.1}" width="{:.1}" height="{:.1}" rx="2"/>"#,
            at % COLOURS,
            y + 5.0,
            wide(bar.value).max(1.0),
            ROW - 10.0
        )
        .ok();
        if bar.spread.1 > bar.spread.0 {
            write!(svg, r#"<line class="spread" x1="{low:.1}" x2="{high:.1}" y1="{middle:.1}" y2="{middle:.1}"/>"#).ok();
        }
        let end = high.max(left + wide(bar.value)) + 8.0;
        write!(
            svg,
            r#"<text x="{end:.1}" y="{:.1}">{} {}</text>"#,
            middle + 6.0,
            short(bar.value),
            escaped(unit)
        )
        .ok();
    }
    svg.push_str("</svg>");
    svg
}

fn open(title: &str, height: f64) -> String {
    let title = escaped(title);
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{title}"><title>{title}</title>"#
    )
}

fn legend<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut text = String::from(r#"<p class="legend">"#);
    for (at, name) in names.enumerate() {
        write!(text, r#"<span><i class="c{}"></i>{}</span>"#, at % COLOURS, escaped(name)).ok();
    }
    text.push_str("</p>");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_write_them() {
        let cases = [
            (0.0, "0"),
            (0.1234, "0.123"),
            (1.5, "1.50"),
            (250.4, "250"),
            (12_500.0, "12.5k"),
            (2e6, "2M"),
        ];
        for (value, want) in cases {
            assert_eq!(short(value), want);
        }
    }

    #[test]
    fn axes_end_beyond_what_they_show() {
        for most in [0.003, 0.9, 1.0, 7.3, 99.0, 12_345.0] {
            let (high, step) = nice(most);
            assert!(
                high >= most && high <= most * 2.0 && high / step <= 6.0,
                "{most}: {high} by {step}"
            );
        }
    }

    #[test]
    fn plots_hold_every_point_inside() {
        let points = (0..50).map(|n| (f64::from(n), f64::from(n * n))).collect();
        let series = [Series { name: "a <b>".into(), points }];
        let even = |label| Axis { label, scale: Scale::Even };
        let svg = lines("t", &even("s"), &even("ms"), &series);
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("NaN"));
        assert_eq!(svg.matches(',').count(), 50);
        let empty = lines("t", &even("s"), &Axis { label: "ms", scale: Scale::Log }, &[]);
        assert!(!empty.contains("NaN"));
    }
}
