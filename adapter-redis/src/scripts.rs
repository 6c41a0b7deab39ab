//! The Lua that runs inside Redis, one script for one operation.
//!
//! In comes nothing, out come the scripts, ready to be called by their hash. A script is atomic, which
//! is what makes two pods agree; none of them runs longer than its batch.

use redis::Script;

/// Prepends the layout of holds to a script about them.
fn on_holds(script: &str) -> Script {
    Script::new(&[include_str!("scripts/layout.lua"), script].concat())
}

/// The scripts about holds.
pub(crate) struct HoldScripts {
    pub(crate) hold: Script,
    pub(crate) release: Script,
    pub(crate) holds: Script,
    pub(crate) held_by: Script,
    pub(crate) depart: Script,
    pub(crate) register: Script,
    pub(crate) tick: Script,
    pub(crate) namespaces: Script,
}

impl HoldScripts {
    pub(crate) fn new() -> Self {
        Self {
            hold: on_holds(include_str!("scripts/hold.lua")),
            release: on_holds(include_str!("scripts/release.lua")),
            holds: on_holds(include_str!("scripts/holds.lua")),
            held_by: on_holds(include_str!("scripts/held_by.lua")),
            depart: on_holds(include_str!("scripts/depart.lua")),
            register: on_holds(include_str!("scripts/register.lua")),
            tick: on_holds(include_str!("scripts/tick.lua")),
            namespaces: Script::new(include_str!("scripts/namespaces.lua")),
        }
    }
}

/// The scripts about documents.
pub(crate) struct DocumentScripts {
    pub(crate) write: Script,
    pub(crate) swap: Script,
    pub(crate) remove: Script,
    pub(crate) count: Script,
}

impl DocumentScripts {
    pub(crate) fn new() -> Self {
        Self {
            write: Script::new(include_str!("scripts/write.lua")),
            swap: Script::new(include_str!("scripts/swap.lua")),
            remove: Script::new(include_str!("scripts/remove.lua")),
            count: Script::new(include_str!("scripts/count.lua")),
        }
    }
}

/// The scripts about turns.
pub(crate) struct TurnScripts {
    pub(crate) turn: Script,
    pub(crate) renew: Script,
    pub(crate) leave: Script,
}

impl TurnScripts {
    pub(crate) fn new() -> Self {
        Self {
            turn: Script::new(include_str!("scripts/turn.lua")),
            renew: Script::new(include_str!("scripts/renew.lua")),
            leave: Script::new(include_str!("scripts/leave.lua")),
        }
    }
}

/// The script that charges buckets.
pub(crate) fn charge() -> Script {
    Script::new(include_str!("scripts/charge.lua"))
}

/// The script that appends to a queue.
pub(crate) fn enqueue() -> Script {
    Script::new(include_str!("scripts/enqueue.lua"))
}

/// The script that begins a request.
pub(crate) fn begin() -> Script {
    Script::new(include_str!("scripts/begin.lua"))
}
