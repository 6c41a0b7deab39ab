//! Logs to stderr, in text or JSON; traces over OTLP where an endpoint is set.

use std::sync::OnceLock;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::{
    config::{LogConfig, LogFormat, TraceConfig},
    trace,
};

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The level cannot be read.
    #[error("log.level: {0}")]
    Level(String),
    /// The exporter cannot be built.
    #[error("trace.endpoint: {0}")]
    Trace(String),
}

/// What a module may be logged at.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether traces are exported.
static TRACED: OnceLock<bool> = OnceLock::new();

/// The spans that are exported: not those that last as long as a connection.
const SPANS: &str = "off,gateway::trace=trace,gateway::upstream=info";

/// By which the level of the running process is changed: logs are the process's, like stderr.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let bad = |error: &dyn std::fmt::Display| TelemetryError::Level(format!("`{level}`: {error}"));
    // A single word that is no level would be taken for the name of a module, and nothing be logged.
    for part in level.split(',').map(str::trim) {
        let named = part.rsplit_once('=').map_or(part, |(_, level)| level);
        let is_level = LEVELS.iter().any(|known| named.eq_ignore_ascii_case(known));
        if !is_level {
            return Err(bad(&format!(
                "{named:?} is none of {}; written as info, or info,gateway::upstream=debug",
                LEVELS.join(", ")
            )));
        }
    }
    let filter = EnvFilter::try_new(level).map_err(|error| bad(&error))?;
    if TRACED.get() == Some(&true) {
        let spans = format!("{}=trace", trace::TARGET).parse();
        return Ok(filter.add_directive(spans.map_err(|error| bad(&error))?));
    }
    Ok(filter)
}

/// Whether this is a level.
///
/// # Errors
/// [`TelemetryError::Level`].
pub fn check_level(level: &str) -> Result<(), TelemetryError> {
    filter(level).map(drop)
}

/// Logs at this level from now on.
///
/// # Errors
/// [`TelemetryError::Level`], and the level stays as it was.
pub fn set_level(level: &str) -> Result<(), TelemetryError> {
    let filter = filter(level)?;
    match LEVEL.get() {
        Some(handle) => {
            handle.reload(filter).map_err(|error| TelemetryError::Level(error.to_string()))
        }
        // Nothing is logged, so nothing changes.
        None => Ok(()),
    }
}

/// Keeps traces going until it is dropped.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Starts logs and traces for the process.
    ///
    /// # Errors
    /// [`TelemetryError`], naming the key.
    pub fn start(log: &LogConfig, trace: &TraceConfig) -> Result<Self, TelemetryError> {
        // Lines show the trace that they are of, where there are any.
        let _ = TRACED.set(trace.endpoint.is_some());
        let filter = filter(&log.level)?;
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_writer(std::io::stderr);
        let (filter, handle) = reload::Layer::new(filter);
        let _ = LEVEL.set(handle);
        let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
            LogFormat::Text => lines.with_filter(filter).boxed(),
            LogFormat::Json => lines.json().with_filter(filter).boxed(),
        };
        let provider =
            trace.endpoint.as_deref().map(|url| provider(url, trace.sample)).transpose()?;
        let traces = provider.as_ref().map(|provider| {
            let tracer = provider.tracer("gateway");
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(EnvFilter::new(SPANS))
        });
        let started = tracing_subscriber::registry().with(lines).with(traces).try_init();
        started.map_err(|error| TelemetryError::Level(error.to_string()))?;
        opentelemetry::global::set_text_map_propagator(
            opentelemetry_sdk::propagation::TraceContextPropagator::new(),
        );
        Ok(Self(provider))
    }
}

fn provider(url: &str, sample: f64) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(url)
        .build()
        .map_err(|error| TelemetryError::Trace(error.to_string()))?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample))))
        .with_resource(Resource::builder().with_service_name("gateway").build())
        .build())
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::debug!(%error, "the last traces are lost");
        }
    }
}
