//! Token buckets, several at once, all or none, over all pods.
//!
//! In come charges, out comes a verdict, reckoned by the clock of Redis so that pods whose clocks
//! differ agree. It never waits for tokens.

use std::{sync::Arc, time::Duration};

use adapter::{Charge, StateError, Verdict};
use redis::Script;

use super::stored::corrupt;
use crate::{connection::Link, names::Names, scripts};

/// The slowest refill that is reckoned with: one token in about eleven days. Slower ones, and rates that
/// are no number, count as this one.
const SLOWEST_PER_SECOND: f64 = 1e-6;

/// Buckets in Redis.
pub(crate) struct Charges {
    link: Arc<Link>,
    names: Names,
    script: Script,
}

impl Charges {
    pub(crate) fn new(link: Arc<Link>, names: Names) -> Self {
        Self { link, names, script: scripts::charge() }
    }

    /// Finds out whether the buckets' server is back: charges themselves do not wait for that.
    pub(crate) async fn look(&self) {
        if !self.link.is_up() {
            // Whatever it says, the link knows now.
            let _ = self.link.look(&self.names.bucket("")).await;
        }
    }

    pub(crate) async fn charge(&self, charges: &[Charge]) -> Result<Verdict, StateError> {
        let Some(first) = charges.first() else { return Ok(Verdict::Granted) };
        let first = self.names.bucket(&first.bucket);
        let mut call = self.script.prepare_invoke();
        for charge in charges {
            call.key(self.names.bucket(&charge.bucket));
            call.arg(1e6 / pace(charge.per_second));
            call.arg(charge.burst.max(1)).arg(charge.cost.max(1));
        }
        let (short, wait): (i64, String) = self.link.dispensable(&first, &call).await?;
        let Ok(charge) = usize::try_from(short) else { return Ok(Verdict::Granted) };
        let micros = wait.parse().map_err(|_| corrupt("the wait for a charge"))?;
        Ok(Verdict::Refused { charge, retry_after: Duration::from_micros(micros) })
    }
}

fn pace(per_second: f64) -> f64 {
    if per_second.is_finite() { per_second.max(SLOWEST_PER_SECOND) } else { SLOWEST_PER_SECOND }
}
