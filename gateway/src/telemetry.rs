//! Logs to stderr, in text or JSON; traces over OTLP where an endpoint is set.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::config::{LogConfig, LogFormat, TraceConfig};

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

/// Keeps traces going until it is dropped.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Starts logs and traces for the process.
    ///
    /// # Errors
    /// [`TelemetryError`], naming the key.
    pub fn start(log: &LogConfig, trace: &TraceConfig) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(&log.level)
            .map_err(|error| TelemetryError::Level(format!("`{}`: {error}", log.level)))?;
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_writer(std::io::stderr);
        let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
            LogFormat::Text => lines.with_filter(filter).boxed(),
            LogFormat::Json => lines.json().with_filter(filter).boxed(),
        };
        let provider =
            trace.endpoint.as_deref().map(|url| provider(url, trace.sample)).transpose()?;
        let traces = provider.as_ref().map(|provider| {
            let tracer = provider.tracer("gateway");
            tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_filter(EnvFilter::new("gateway=info"))
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
