//! The paces that hold for the whole cluster: a user's, and an event's own.

use adapter::{Charge, State, Verdict};

use super::Permitted;
use crate::{core::Core, refusal::Refusal, session::Session};

/// Charges the user's bucket and the event's, all or none, in one round trip. While the shared state
/// is away, this pod's own buckets stand in for it.
///
/// # Errors
/// `RATE_LIMITED`, saying when to try again.
pub async fn pace(core: &Core, session: &Session, event: &Permitted) -> Result<(), Refusal> {
    let charges = charges(core, session, event);
    if charges.is_empty() {
        return Ok(());
    }
    let verdict = match core.metrics.asked("charge", core.state.charge(&charges)).await {
        Ok(verdict) => verdict,
        Err(error) => {
            tracing::debug!(%error, "this pod's own buckets stand in");
            core.metrics.state_error();
            core.local_pace.charge(&charges).await?
        }
    };
    match verdict {
        Verdict::Granted => Ok(()),
        Verdict::Refused { retry_after, .. } => Err(Refusal::rate_limited(retry_after)),
    }
}

fn charges(core: &Core, session: &Session, event: &Permitted) -> Vec<Charge> {
    let mut charges = Vec::new();
    let limit = core.limits.load().user;
    let identity = session.identity();
    if let Some(user) = identity.user.as_ref().filter(|_| limit.events_per_second > 0) {
        charges.push(Charge {
            bucket: format!("user:{}", user.id),
            per_second: f64::from(limit.events_per_second),
            burst: limit.burst.max(1),
            cost: 1,
        });
    }
    if let Some(limit) = event.rule().and_then(|rule| rule.limit) {
        let namespace = &session.mount.namespace;
        charges.push(Charge {
            bucket: format!("event:{namespace}:{}:{}", event.name, session.holder()),
            per_second: limit.per_second,
            burst: limit.burst,
            cost: 1,
        });
    }
    charges
}
