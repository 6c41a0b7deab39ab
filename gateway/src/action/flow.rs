//! The state of one event while its steps run: what it is, and what steps have bound.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    clock,
    contract::Scope,
    core::Core,
    gate::Permitted,
    mount::Served,
    session::{Released, Session, Work},
};

/// One event on its way.
#[derive(Debug)]
pub struct Flow {
    /// The handles.
    pub core: Arc<Core>,
    /// Whose event it is.
    pub session: Arc<Session>,
    /// What it is handled by.
    pub served: Arc<Served>,
    /// Its name.
    pub event: String,
    /// The application wants the connection gone.
    pub disconnect: bool,
    args: Vec<Value>,
    binaries: Vec<Bytes>,
    asked: bool,
    released: Released,
    bound: Vec<(Box<str>, Value)>,
    ack: Option<Value>,
    /// The time that its templates show, the same for all of them.
    ts: OnceLock<Value>,
    #[expect(dead_code, reason = "counts the work for as long as it lasts")]
    work: Work,
}

impl Flow {
    pub(super) fn new(
        core: Arc<Core>,
        session: Arc<Session>,
        permitted: Permitted,
        asked: bool,
        released: Released,
    ) -> Self {
        let work = session.work();
        let served = permitted.served();
        let Permitted { name, args, binaries, .. } = permitted;
        Self {
            core,
            session,
            served,
            event: name,
            disconnect: false,
            args,
            binaries,
            asked,
            released,
            bound: Vec::new(),
            ack: None,
            ts: OnceLock::new(),
            work,
        }
    }

    pub(super) fn of_connection(core: Arc<Core>, session: Arc<Session>) -> Self {
        let work = session.work();
        let served = session.mount.served();
        Self {
            core,
            session,
            served,
            event: "connect".to_owned(),
            disconnect: false,
            args: Vec::new(),
            binaries: Vec::new(),
            asked: false,
            released: Released::default(),
            bound: Vec::new(),
            ack: None,
            ts: OnceLock::new(),
            work,
        }
    }

    /// Gives a name to a value, in place of what had it.
    pub(super) fn bind(&mut self, name: &str, value: Value) {
        match self.bound.iter_mut().find(|(have, _)| **have == *name) {
            Some((_, have)) => *have = value,
            None => self.bound.push((name.into(), value)),
        }
    }

    /// The payload and the other arguments.
    pub(super) fn args(&self) -> &[Value] {
        &self.args
    }

    pub(super) fn binaries(&self) -> &[Bytes] {
        &self.binaries
    }

    pub(super) fn binaries_mut(&mut self) -> &mut Vec<Bytes> {
        &mut self.binaries
    }

    pub(super) fn into_binaries(self) -> Vec<Bytes> {
        self.binaries
    }

    /// The events behind need not wait for this one.
    pub(super) fn release(&self) {
        self.released.release();
    }

    pub(super) fn released(&self) -> Released {
        self.released.clone()
    }

    pub(super) fn set_ack(&mut self, ack: Value) {
        self.ack = Some(ack);
    }

    pub(super) fn take_ack(&mut self) -> Option<Value> {
        self.ack.take()
    }

    pub(super) fn log(&self, text: &str) {
        self.core.metrics.client_error();
        tracing::warn!(sid = %self.session.sid, namespace = %self.session.mount.namespace, text, "reported");
    }
}

impl Scope for Flow {
    fn root(&self, name: &str) -> Option<Cow<'_, Value>> {
        if let Some((_, value)) = self.bound.iter().find(|(have, _)| **have == *name) {
            return Some(Cow::Borrowed(value));
        }
        let value = match name {
            "payload" => return self.args.first().map(Cow::Borrowed),
            "option" => return Some(Cow::Borrowed(&self.served.options)),
            "args" => Value::from(self.args.clone()),
            "event" => Value::from(self.event.as_str()),
            "sid" => Value::from(&*self.session.sid),
            "ts" => {
                let now = || Value::from(clock::timestamp());
                return Some(Cow::Borrowed(self.ts.get_or_init(now)));
            }
            "user" => self.session.user_value(),
            "actor" => self.session.actor().to_value(),
            "roles" => json!(self.session.identity().roles),
            "ack" => Value::Bool(self.asked),
            "namespace" => Value::from(self.session.mount.namespace.as_str()),
            _ => return None,
        };
        Some(Cow::Owned(value))
    }
}

/// Names for templates that are filled outside of an event: rules that announce an end.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(Box<str>, Value)>);

impl Names {
    /// With the time, which every rule may show.
    pub(super) fn new() -> Self {
        Self::default().with("ts", Value::from(clock::timestamp()))
    }

    #[must_use]
    pub(super) fn with(mut self, name: &str, value: Value) -> Self {
        self.0.push((name.into(), value));
        self
    }

    /// Before every other value of that name.
    #[must_use]
    pub(super) fn first(mut self, name: &str, value: Value) -> Self {
        self.0.insert(0, (name.into(), value));
        self
    }
}

impl Scope for Names {
    fn root(&self, name: &str) -> Option<Cow<'_, Value>> {
        self.0.iter().find(|(have, _)| **have == *name).map(|(_, value)| Cow::Borrowed(value))
    }
}
