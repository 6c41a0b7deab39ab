//! The application's own code, behind the gateway: a [`Call`] goes in, [`Answer`]s or a [`Failure`] come out.
//!
//! ```text
//! Call ─▶ breaker ─▶ lane: a slot, else a place in line ─▶ http | redis-stream | demo ─▶ Answers, one at a time
//!            ▲                                                        │
//!            └───────────── how it ended ─────────────────────────────┘
//! ```
//!
//! What it guarantees: at most `max_in_flight` calls run and at most `queue` wait, in the order of
//! [`Upstream::call`]; everything read from the application is bounded in bytes and in time; dropping
//! [`Answers`] ends the call and frees its slot. What it never does: start a task, act on an answer, wait
//! where there is no room, or repeat a call that the contract does not call idempotent. Where the
//! application is down or slow, the caller is told, and the other upstreams go on.

use std::{collections::BTreeMap, fmt, future::poll_fn, sync::Arc};

use adapter::SharedState;
use futures_util::{StreamExt, stream::BoxStream};
use prometheus::Registry;
use tracing::info_span;

mod answer;
mod backend;
mod breaker;
mod call;
pub(crate) mod client;
mod config;
mod demo;
mod failure;
mod http;
mod lane;
mod lines;
mod metrics;
mod object;
mod queue;
mod run;
mod sign;
#[cfg(test)]
mod tests;
mod trace;

pub use answer::{Answer, AnswerError, Emit, Target};
pub use call::{Call, Caller};
pub use config::{UpstreamConfig, UpstreamError, UpstreamKind};
pub use demo::DemoScript;
pub use failure::{Failure, Reason};

use backend::Backend;
use breaker::Breaker;
use lane::Lane;
use metrics::{Handles, Metrics};
use run::Run;

/// The upstream that events go to unless their contract names another.
pub const APP: &str = "app";

/// The upstream that images go to.
pub const IMAGES: &str = "images";

/// All upstreams, by name. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Upstreams {
    by_name: Arc<BTreeMap<String, Upstream>>,
}

impl Upstreams {
    /// Builds every configured upstream, and the two that are always there: `app` (the demo, unless it is
    /// configured) and `images` (the stream `{prefix}:images`, unless it is configured).
    pub fn new(
        configs: &BTreeMap<String, UpstreamConfig>,
        prefix: &str,
        state: &SharedState,
        demo: &Arc<dyn DemoScript>,
        registry: &Registry,
    ) -> Result<Self, UpstreamError> {
        let metrics = Metrics::new(registry)?;
        let mut configs = configs.clone();
        configs.entry(APP.into()).or_insert_with(|| UpstreamConfig::of(UpstreamKind::Demo));
        configs
            .entry(IMAGES.into())
            .or_insert_with(|| UpstreamConfig::of(UpstreamKind::RedisStream));
        let mut by_name = BTreeMap::new();
        for (name, config) in configs {
            let backend = Backend::new(&name, &config, prefix, state, demo)?;
            let upstream = Upstream::new(&name, &config, backend, metrics.of(&name));
            by_name.insert(name, upstream);
        }
        Ok(Self { by_name: Arc::new(by_name) })
    }

    /// The upstream of this name.
    pub fn get(&self, name: &str) -> Option<&Upstream> {
        self.by_name.get(name)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// One application behind the gateway. Clones are cheap and share its limits.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    backend: Backend,
    breaker: Arc<Breaker>,
    lane: Lane,
    metrics: Handles,
}

impl Upstream {
    fn new(name: &str, config: &UpstreamConfig, backend: Backend, metrics: Handles) -> Self {
        let breaker =
            Breaker::new(config.breaker_failures, config.breaker_reset, metrics.open.clone());
        let lane = Lane::new(config.max_in_flight, config.queue, &metrics);
        let name = name.to_owned();
        Self { inner: Arc::new(Inner { name, backend, breaker: Arc::new(breaker), lane, metrics }) }
    }

    /// Begins a call. Its slot, or its place in line, is taken before this returns, so calls are served in
    /// the order in which they were made; where there is neither, or the breaker is open, the first answer
    /// is the failure that says so.
    #[must_use = "dropping the answers ends the call"]
    pub fn call(&self, call: Call) -> Answers {
        let span = info_span!(
            "upstream",
            upstream = %self.inner.name,
            contract = %call.contract,
            event = %call.event,
            otel.kind = "client",
        );
        let run = span.in_scope(|| Run::begin(Arc::clone(&self.inner), call));
        let parts = futures_util::stream::unfold(run, async |mut run| {
            let part = run.next().await?;
            Some((part, run))
        });
        Answers { parts: parts.fuse().boxed(), span }
    }

    /// Whether the breaker is closed: the application answered when last asked.
    pub fn healthy(&self) -> bool {
        self.inner.breaker.is_closed()
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.inner.name
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// What comes back of a call, part by part. Nothing moves unless it is pulled; dropping it ends the call.
#[must_use = "dropping the answers ends the call"]
pub struct Answers {
    parts: BoxStream<'static, Result<Answer, Failure>>,
    span: tracing::Span,
}

impl Answers {
    /// The next part. After a failure, and after the last part, `None`. A `next` that is dropped while it
    /// waits loses nothing.
    pub async fn next(&mut self) -> Option<Result<Answer, Failure>> {
        poll_fn(|cx| {
            let _entered = self.span.enter();
            self.parts.poll_next_unpin(cx)
        })
        .await
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}
