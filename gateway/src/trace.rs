//! Traces: from a handshake, by each event, to the application behind.
//!
//! In come the trace that a client's handshake names, if it does, and what is handled; out go spans. Where
//! nothing is exported, a span costs nothing. An event is part of its connection's trace while that is
//! young; later it begins a trace of its own, linked to it, so that no trace grows for as long as somebody
//! is connected.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// What the spans of this file are called by, in filters.
pub const TARGET: &str = "gateway::trace";

/// A connection's trace takes in what happens this soon after its handshake.
const YOUNG: Duration = Duration::from_mins(5);

/// The span of a handshake, in the trace that its `traceparent` names.
pub fn handshake(namespace: &str, sid: &str, traceparent: Option<&str>) -> Span {
    let span = tracing::trace_span!(
        target: "gateway::trace", "handshake", namespace, sid,
        otel.kind = "server", trace_id = tracing::field::Empty, outcome = tracing::field::Empty,
    );
    if let Some(traceparent) = traceparent.filter(|_| !span.is_disabled()) {
        let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
        let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.extract(&carrier)
        });
        // It fails only where nothing is exported.
        let _ = span.set_parent(parent);
    }
    named(span)
}

/// The span of an event.
pub fn event(
    begun: Option<&SpanContext>,
    since: SystemTime,
    sid: &str,
    contract: &str,
    event: &str,
) -> Span {
    let span = tracing::trace_span!(
        target: "gateway::trace", "event", contract, event, sid,
        otel.kind = "server", trace_id = tracing::field::Empty, outcome = tracing::field::Empty,
    );
    if span.is_disabled() {
        return span;
    }
    if let Some(begun) = begun {
        if since.elapsed().is_ok_and(|age| age < YOUNG) {
            let _ = span.set_parent(Context::new().with_remote_span_context(begun.clone()));
        } else {
            span.add_link(begun.clone());
        }
    }
    named(span)
}

/// With its trace's id, which lines of the log then show.
fn named(span: Span) -> Span {
    if let Some(context) = context(&span) {
        span.record("trace_id", tracing::field::display(context.trace_id()));
    }
    span
}

/// What a span is to others, if it is exported.
pub fn context(span: &Span) -> Option<SpanContext> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context().span().span_context().clone();
    (context.is_valid() && context.is_sampled()).then_some(context)
}
