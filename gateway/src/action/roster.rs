//! `enter`: lists of connections that are in no room together.

use std::sync::Arc;

use adapter::{Kind, Place, Wish};
use serde_json::{Map, Value};

use super::{Flow, Stopped, announce::tell, flow::Names};
use crate::{
    contract::{Audience, EnterStep},
    core::Core,
    mount::Mounted,
    wire::Target,
};

/// Before the key of a list, so that no room's roster has its name.
pub(super) const LIST: &str = "\u{1}list:";

fn place(namespace: &str, list: &str) -> Place {
    Place { namespace: namespace.to_owned(), kind: Kind::Roster, key: format!("{LIST}{list}") }
}

pub(super) async fn enter(flow: &mut Flow, step: &EnterStep) -> Result<(), Stopped> {
    let session = flow.session.clone();
    let wish = Wish {
        place: place(&session.mount.namespace, &step.roster),
        sid: session.sid.to_string(),
        holder: session.sid.to_string(),
        exclusive: false,
        data: step.data.fill(flow),
        ttl: None,
        at_most: None,
    };
    if let Ok(held) = flow.core.state.hold(wish).await? {
        flow.bind("members", members(&held.holds));
    }
    Ok(())
}

/// What each member shows, by its id; those that show nothing are left out.
fn members(holds: &[adapter::Hold]) -> Value {
    let shown = holds.iter().filter(|hold| !hold.data.is_null());
    Value::Object(shown.map(|hold| (hold.sid.clone(), hold.data.clone())).collect::<Map<_, _>>())
}

/// A connection is gone from a list.
pub(super) async fn left(core: &Arc<Core>, mount: &Arc<Mounted>, list: &str) {
    let contract = mount.contract();
    let Some(rule) = contract.roster.get(list) else { return };
    let holds = match core.state.holds(&place(&mount.namespace, list)).await {
        Ok(holds) => holds,
        Err(error) => {
            tracing::debug!(%error, "a list is not told");
            core.metrics.state_error();
            return;
        }
    };
    let target = match rule.left.to {
        Some(Audience::All) | None => Target::everybody(),
        Some(_) => return,
    };
    let names = Names::new().with("members", members(&holds));
    tell(core, mount, &target, &rule.left, &names);
}
