//! `kind = "demo"`: a call goes in, the parts of a written script come out, at a pace that can be watched.
//!
//! It does no I/O and knows no contract; what is said is the script's.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{Answer, Call};

/// Slow enough to be seen to stream, fast enough not to be waited for.
const PACE: Duration = Duration::from_millis(60);

/// What the demo application answers.
pub trait DemoScript: Send + Sync + 'static {
    /// The parts of the answer to this call, in order; the same call gives the same parts.
    fn answers(&self, call: &Call) -> Vec<Answer>;
}

pub(super) struct Demo {
    script: Arc<dyn DemoScript>,
}

impl Demo {
    pub(super) fn new(script: Arc<dyn DemoScript>) -> Self {
        Self { script }
    }

    pub(super) fn open(&self, call: &Call) -> Script {
        Script { parts: self.script.answers(call).into(), due: Instant::now() }
    }
}

/// What is still to be said.
pub(super) struct Script {
    parts: VecDeque<Answer>,
    due: Instant,
}

impl Script {
    pub(super) async fn next(&mut self) -> Option<Answer> {
        let part = self.parts.pop_front()?;
        sleep_until(self.due).await;
        self.due = Instant::now() + PACE;
        Some(part)
    }

    pub(super) fn is_over(&self) -> bool {
        self.parts.is_empty()
    }
}
