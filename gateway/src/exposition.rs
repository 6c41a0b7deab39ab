//! What Prometheus reads: the text format, or `OpenMetrics` 1.0 with an example trace for the buckets of a
//! histogram.
//!
//! In come the gathered series and what the scraper accepts; out goes their text. The library writes the
//! first; it has no notion of examples, so the second is written here.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::trace::{SpanContext, TraceId};
use parking_lot::Mutex;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// The content type of `OpenMetrics`.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The last traced observation of each bucket of a histogram. Clones are the same.
#[derive(Clone, Debug)]
pub struct Exemplars(Arc<[Bucket]>);

#[derive(Debug)]
struct Bucket {
    up_to: f64,
    last: Mutex<Option<Example>>,
}

#[derive(Clone, Copy, Debug)]
struct Example {
    trace: TraceId,
    value: f64,
    at: Duration,
}

impl Exemplars {
    /// None yet, for buckets with these upper bounds.
    pub fn of(bounds: &[f64]) -> Self {
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        Self(bounds.map(|up_to| Bucket { up_to, last: Mutex::default() }).collect())
    }

    /// An observation that was traced.
    pub fn show(&self, value: f64, trace: &SpanContext) {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if let Some(bucket) = self.0.iter().find(|bucket| value <= bucket.up_to) {
            *bucket.last.lock() = Some(Example { trace: trace.trace_id(), value, at });
        }
    }

    /// As a bucket's line ends.
    fn suffix(&self, up_to: f64) -> String {
        let bucket = self.0.iter().find(|bucket| bucket.up_to.total_cmp(&up_to).is_eq());
        let last = bucket.and_then(|bucket| *bucket.last.lock());
        last.map_or_else(String::new, |Example { trace, value, at }| {
            format!(" # {{trace_id=\"{trace}\"}} {value} {:.3}", at.as_secs_f64())
        })
    }
}

/// Whether a scraper that accepts this reads `OpenMetrics`.
pub fn wants_open_metrics(accept: Option<&str>) -> bool {
    accept.is_some_and(|accept| accept.contains("application/openmetrics-text"))
}

/// All series as `OpenMetrics`, with examples for the histograms of these names.
pub fn open_metrics(families: &[MetricFamily], examples: &[(&str, &Exemplars)]) -> String {
    let mut text = String::new();
    for family in families {
        let name = family.name();
        let examples = examples.iter().find(|(of, _)| *of == name).map(|(_, examples)| *examples);
        write_family(&mut text, family, examples);
    }
    text.push_str("# EOF\n");
    text
}

fn write_family(text: &mut String, family: &MetricFamily, examples: Option<&Exemplars>) {
    let (kind, name) = match family.get_field_type() {
        // A counter is named without its ending, and its sample with it.
        MetricType::COUNTER => ("counter", family.name().trim_end_matches("_total")),
        MetricType::GAUGE => ("gauge", family.name()),
        MetricType::HISTOGRAM => ("histogram", family.name()),
        MetricType::SUMMARY | MetricType::UNTYPED => ("unknown", family.name()),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {}", escaped(family.help()));
    let _ = writeln!(text, "# TYPE {name} {kind}");
    for metric in family.get_metric() {
        let labels = metric.get_label();
        match family.get_field_type() {
            MetricType::COUNTER => {
                sample(
                    text,
                    &format!("{name}_total"),
                    labels,
                    None,
                    metric.get_counter().get_value(),
                    "",
                );
            }
            MetricType::GAUGE => {
                sample(text, name, labels, None, metric.get_gauge().get_value(), "");
            }
            MetricType::HISTOGRAM => histogram(text, name, metric, examples),
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
}

fn histogram(text: &mut String, name: &str, metric: &Metric, examples: Option<&Exemplars>) {
    let (labels, histogram) = (metric.get_label(), metric.get_histogram());
    let suffix = |up_to: f64| examples.map_or_else(String::new, |of| of.suffix(up_to));
    let bucket = format!("{name}_bucket");
    let count = |count: u64| {
        #[expect(clippy::cast_precision_loss, reason = "so are all samples")]
        let count = count as f64;
        count
    };
    for part in histogram.get_bucket() {
        let up_to = part.upper_bound();
        if up_to.is_finite() {
            let le = format!("{up_to:?}");
            sample(
                text,
                &bucket,
                labels,
                Some(&le),
                count(part.cumulative_count()),
                &suffix(up_to),
            );
        }
    }
    let all = count(histogram.get_sample_count());
    sample(text, &bucket, labels, Some("+Inf"), all, &suffix(f64::INFINITY));
    sample(text, &format!("{name}_sum"), labels, None, histogram.get_sample_sum(), "");
    sample(text, &format!("{name}_count"), labels, None, all, "");
}

fn sample(
    text: &mut String,
    name: &str,
    labels: &[LabelPair],
    le: Option<&str>,
    value: f64,
    suffix: &str,
) {
    text.push_str(name);
    let own = labels.iter().map(|label| (label.name(), label.value()));
    let mut first = true;
    for (label, value) in own.chain(le.map(|le| ("le", le))) {
        let _ = write!(text, "{}{label}=\"{}\"", if first { '{' } else { ',' }, escaped(value));
        first = false;
    }
    if !first {
        text.push('}');
    }
    let _ = writeln!(text, " {value}{suffix}");
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceState};
    use prometheus::{HistogramOpts, IntCounterVec, Opts, Registry};

    use super::*;

    #[test]
    fn open_metrics_with_an_example() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("x_total", "Xs, \"so\""), &["kind"]).unwrap();
        let histogram = prometheus::Histogram::with_opts(
            HistogramOpts::new("y_seconds", "Ys").buckets(vec![0.1, 1.0]),
        )
        .unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        registry.register(Box::new(histogram.clone())).unwrap();
        counter.with_label_values(&["a\"b"]).inc();
        histogram.observe(0.5);
        let examples = Exemplars::of(&[0.1, 1.0]);
        let trace = SpanContext::new(
            TraceId::from(7),
            SpanId::from(9),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        examples.show(0.5, &trace);
        let text = open_metrics(&registry.gather(), &[("y_seconds", &examples)]);
        let (start, example) = text.split_once(" # {trace_id=").expect("an example");
        assert_eq!(
            start,
            "# HELP x Xs, \\\"so\\\"\n# TYPE x counter\nx_total{kind=\"a\\\"b\"} 1\n\
             # HELP y_seconds Ys\n# TYPE y_seconds histogram\ny_seconds_bucket{le=\"0.1\"} 0\n\
             y_seconds_bucket{le=\"1.0\"} 1"
        );
        assert!(example.starts_with("\"00000000000000000000000000000007\"} 0.5 "), "{example}");
        assert!(
            text.ends_with(
                "y_seconds_bucket{le=\"+Inf\"} 1\ny_seconds_sum 0.5\ny_seconds_count 1\n# EOF\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn only_who_asks_gets_it() {
        assert!(!wants_open_metrics(None));
        assert!(!wants_open_metrics(Some("text/plain;version=0.0.4,*/*")));
        assert!(wants_open_metrics(Some(
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2"
        )));
    }
}
