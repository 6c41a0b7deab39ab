//! The three kinds of upstream behind one door: a call goes in, [`Parts`] come out.
//!
//! Nothing here counts, waits in line or knows the breaker; that is done around it.

use std::sync::Arc;

use adapter::SharedState;

use super::{
    Answer, Call, DemoScript, Failure, UpstreamConfig, UpstreamError, UpstreamKind,
    demo::{Demo, Script},
    http::{Http, Streamed},
    queue::Queue,
};

pub(super) enum Backend {
    Http(Box<Http>),
    Queue(Queue),
    Demo(Demo),
}

/// What is still to come of an answer.
pub(super) enum Parts {
    /// Nothing more.
    Nothing,
    /// Exactly this.
    One(Box<Answer>),
    /// Line by line, as they arrive.
    Streamed(Box<Streamed>),
    /// As the demo's script has it.
    Script(Script),
}

impl Backend {
    pub(super) fn new(
        name: &str,
        config: &UpstreamConfig,
        prefix: &str,
        state: &SharedState,
        demo: &Arc<dyn DemoScript>,
    ) -> Result<Self, UpstreamError> {
        config.check(name)?;
        Ok(match config.kind {
            UpstreamKind::Http => Self::Http(Box::new(Http::new(name, config)?)),
            UpstreamKind::RedisStream => {
                Self::Queue(Queue::new(name, config, prefix, Arc::clone(state)))
            }
            UpstreamKind::Demo => Self::Demo(Demo::new(Arc::clone(demo))),
        })
    }

    /// Makes the call, and waits until it is known that something comes back.
    pub(super) async fn open(&self, call: &Call, span: &tracing::Span) -> Result<Parts, Failure> {
        match self {
            Self::Http(http) => http.open(call, span).await,
            Self::Queue(queue) => queue.open(call).await,
            Self::Demo(demo) => Ok(Parts::Script(demo.open(call))),
        }
    }
}

impl Parts {
    /// The next part.
    pub(super) async fn next(&mut self) -> Result<Option<Answer>, Failure> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Nothing => Ok(None),
            Self::One(answer) => Ok(Some(*answer)),
            Self::Streamed(mut streamed) => {
                let part = streamed.next().await?;
                *self = Self::Streamed(streamed);
                Ok(part)
            }
            Self::Script(mut script) => {
                let part = script.next().await;
                *self = Self::Script(script);
                Ok(part)
            }
        }
    }

    /// Whether it is known that nothing more comes, so that a slot need not be kept until somebody asks.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Script(script) => script.is_over(),
            Self::One(_) | Self::Streamed(_) => false,
        }
    }
}
