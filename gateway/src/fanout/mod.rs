//! Who hears it: events to their receivers, encoded once.
//!
//! In come an event's name, its arguments and a target; out go frames to the members of
//! this pod, then to those of the others. A
//! contract's own out events are completed and checked on the way. It never asks who may send.

mod complete;

use bytes::Bytes;
use serde_json::Value;

pub use complete::{Broken, complete, enveloped, rename};

use crate::{
    mount::Mounted,
    wire::{Frame, Target, Wire},
};

/// Sends events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fanout {
    wire: Wire,
}

impl Fanout {
    /// Over this wire.
    pub const fn new(wire: Wire) -> Self {
        Self { wire }
    }

    /// The wire below.
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Sends an event as it is given.
    pub fn send(
        &self,
        namespace: &str,
        target: &Target,
        event: &str,
        args: &[Value],
        binaries: &[Bytes],
        volatile: bool,
    ) {
        if !target.is_nobody() {
            let frame = Frame::event(event, args, binaries);
            self.wire.send(namespace, target, frame, volatile);
        }
    }

    /// Sends an event to this pod's connections in a namespace, where every pod tells its own.
    pub fn send_here(&self, namespace: &str, event: &str, args: &[Value]) {
        let frame = Frame::event(event, args, &[]);
        self.wire.send_here(namespace, &Target::everybody(), frame, false);
    }

    /// Sends an event of the application behind: completed and checked where the contract declares it.
    ///
    /// # Errors
    /// [`Broken`] where the payload is not of the declared shape; nothing is sent then.
    pub fn send_out(
        &self,
        mount: &Mounted,
        target: &Target,
        event: &str,
        mut args: Vec<Value>,
        binaries: &[Bytes],
        volatile: bool,
    ) -> Result<(), Broken> {
        complete(mount, event, &mut args)?;
        self.send(&mount.namespace, target, event, &args, binaries, volatile);
        Ok(())
    }

    /// The connections of this pod that a target means.
    pub fn members(&self, namespace: &str, target: &Target) -> Vec<String> {
        self.wire.members(namespace, target)
    }
}
