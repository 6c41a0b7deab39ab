//! W3C trace context: the span of a call comes in, the value of `traceparent` goes out.
//!
//! It never leaves a call without one: where nothing is traced, the application gets fresh, unsampled ids to
//! log by.

use opentelemetry::trace::TraceContextExt;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The trace that this span belongs to, if anything traces it.
pub(super) fn inherited(span: &tracing::Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid().then(|| {
        format!("00-{}-{}-{:02x}", ids.trace_id(), ids.span_id(), ids.trace_flags().to_u8())
    })
}

/// What is inherited, or fresh ids. Ids are never all zero, which would make them invalid.
pub(super) fn traceparent(inherited: Option<String>) -> String {
    inherited.unwrap_or_else(|| {
        let trace: u128 = rand::random_range(1..=u128::MAX);
        let span: u64 = rand::random_range(1..=u64::MAX);
        format!("00-{trace:032x}-{span:016x}-00")
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn parts(value: &str) -> Vec<(usize, bool)> {
        let hex =
            |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        value.split('-').map(|part| (part.len(), hex(part))).collect()
    }

    #[test]
    fn fresh_ids_are_well_formed_and_differ() {
        let (one, two) = (traceparent(None), traceparent(None));
        assert_eq!(parts(&one), [(2, true), (32, true), (16, true), (2, true)], "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn a_traced_span_is_passed_on() {
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("upstream");
            let value = inherited(&span).expect("the span is traced");
            assert_eq!(parts(&value), [(2, true), (32, true), (16, true), (2, true)], "{value}");
            let trace_id = span.context().span().span_context().trace_id().to_string();
            assert!(value.contains(&trace_id), "{value} is of {trace_id}");
        });
    }
}
