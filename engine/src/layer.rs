//! A tower layer that puts the engine in front of a service.

use std::sync::Arc;

use tower_layer::Layer;

use crate::{config::EngineIoConfig, handler::EngineIoHandler, service::EngineIoService};

/// Puts an engine in front of a service.
#[derive(Clone, Debug)]
pub struct EngineIoLayer<H: EngineIoHandler> {
    handler: Arc<H>,
    config: EngineIoConfig,
}

impl<H: EngineIoHandler> EngineIoLayer<H> {
    /// With the default configuration.
    pub fn new(handler: Arc<H>) -> Self {
        Self::from_config(handler, EngineIoConfig::default())
    }

    /// With a configuration.
    pub const fn from_config(handler: Arc<H>, config: EngineIoConfig) -> Self {
        Self { handler, config }
    }
}

impl<S: Clone, H: EngineIoHandler> Layer<S> for EngineIoLayer<H> {
    type Service = EngineIoService<H, S>;

    fn layer(&self, inner: S) -> Self::Service {
        EngineIoService::with_config_inner(inner, self.handler.clone(), self.config.clone())
    }
}
