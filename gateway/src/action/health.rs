//! `health`: how things are, as clients are told.

use serde_json::{Value, json};

use super::{Flow, documents::collection};
use crate::{core::Core, mount::Mounted};

/// `{healthy, upstream, sessions}` of a mounting.
pub async fn health(core: &Core, mount: &Mounted) -> Value {
    let upstream =
        core.upstreams.get(&mount.upstream).is_some_and(crate::upstream::Upstream::healthy);
    let sessions = core.state.count(&collection(&mount.contract())).await;
    json!({
        "healthy": upstream && sessions.is_ok(),
        "upstream": upstream,
        "sessions": sessions.unwrap_or_default(),
    })
}

pub(super) async fn bind(flow: &mut Flow) {
    let health = health(&flow.core, &flow.session.mount).await;
    flow.bind("health", health);
}
