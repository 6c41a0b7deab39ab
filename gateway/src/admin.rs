//! The internal listener's own routes: `/metrics`, `/health/live`, `/health/ready`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use prometheus::{Encoder, TextEncoder};
use serde_json::json;

use crate::{core::Core, exposition, metrics::Metrics};

/// What these routes need.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What is counted.
    pub metrics: Metrics,
    /// For the state of the state.
    pub core: Arc<Core>,
    /// Whether Redis is configured.
    pub redis: bool,
    /// Whether the pod is not ready without it.
    pub redis_required: bool,
    /// The pod is leaving.
    pub leaving: Arc<AtomicBool>,
}

impl Admin {
    /// Whether everything that pods share is within reach.
    fn is_up(&self) -> bool {
        self.core.state.available() && self.core.fanout.wire().is_joined()
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/health/live", get(async || axum::Json(json!({"status": "ok"}))))
            .route("/health/ready", get(ready))
            .with_state(self)
    }
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    admin.metrics.transport.show(&admin.core.fanout.wire().transports());
    if let Some(counters) = admin.core.fanout.wire().counters() {
        admin.metrics.cluster.show(&counters.snapshot());
    }
    admin.metrics.redis_up.set(i64::from(admin.redis && admin.is_up()));
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if exposition::wants_open_metrics(accept) {
        let families = admin.metrics.registry.gather();
        let text = exposition::open_metrics(&families, &admin.metrics.events.examples());
        return ([(header::CONTENT_TYPE, exposition::OPEN_METRICS)], text).into_response();
    }
    let mut text = Vec::new();
    match TextEncoder::new().encode(&admin.metrics.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    let up = admin.is_up();
    let redis = if !admin.redis {
        "none"
    } else if up {
        "up"
    } else {
        "down"
    };
    let (status, word) = if admin.leaving.load(Ordering::Acquire) {
        (StatusCode::SERVICE_UNAVAILABLE, "leaving")
    } else if redis != "down" {
        (StatusCode::OK, "ok")
    } else if admin.redis_required {
        (StatusCode::SERVICE_UNAVAILABLE, "degraded")
    } else {
        (StatusCode::OK, "degraded")
    };
    (status, axum::Json(json!({"status": word, "redis": redis, "pod": admin.core.state.pod()})))
        .into_response()
}
