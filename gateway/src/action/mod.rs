//! What an event does: its steps, in order, each a verb of the vocabulary.
//!
//! In comes a [`Permitted`](crate::gate::Permitted) event; out goes its ack, or the refusal that ends it. What was done before
//! a refusal stands. Each verb is a function in a file by what it is about; none of them knows an
//! application's name. Waiting for an application behind is done out of the connection's line.

mod announce;
mod auth;
mod batch;
mod depart;
mod documents;
mod emit;
mod flow;
mod health;
mod locks;
mod media;
mod presence;
mod rooms;
mod roster;
mod typing;
mod upstream;

use std::{future::Future, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};
use tracing::Instrument;

pub use announce::announce;
pub use announce::lapses;
pub use auth::SESSIONS;
pub use auth::{become_anonymous, leave_as_user, welcome};
pub use depart::depart;
pub use documents::collection;
pub use emit::{resolve, send_refused};
pub use flow::Flow;
pub use health::health;
pub use locks::free;
pub use rooms::{Chooser, admit_room, check_room, join, leave};

use crate::{
    contract::{Contract, Refused, Step, Verb},
    core::Core,
    gate,
    mount::Served,
    refusal::{Code, Refusal},
    session::{Released, Session},
    trace,
};

/// A refusal, and how its sender is told where the step says so.
#[derive(Debug)]
pub struct Stopped {
    /// Why.
    pub refusal: Refusal,
    /// The step's own way to tell it, filled in.
    pub told: Option<Told>,
}

/// An event that tells of a refusal.
#[derive(Debug)]
pub struct Told {
    /// Its name.
    pub event: String,
    /// Its payload.
    pub data: Value,
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, told: None }
    }
}

impl From<adapter::StateError> for Stopped {
    fn from(error: adapter::StateError) -> Self {
        Refusal::from(error).into()
    }
}

/// The arguments of an ack.
#[derive(Debug)]
pub enum Reply {
    /// These.
    Args(Vec<Value>),
    /// `{ok, event, ts}` and the contract's fields. Written as it is, since most acks are no more.
    Usual {
        /// The event's name.
        event: String,
        /// Fields besides.
        fields: Option<Map<String, Value>>,
    },
}

impl Serialize for Reply {
    /// Writes the first argument.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Args(args) => args.first().serialize(serializer),
            Self::Usual { event, fields } => {
                let own =
                    |key: &str| fields.as_ref().is_some_and(|fields| fields.contains_key(key));
                let mut map = serializer.serialize_map(None)?;
                if !own("ok") {
                    map.serialize_entry("ok", &true)?;
                }
                if !own("event") {
                    map.serialize_entry("event", event)?;
                }
                if !own("ts") {
                    map.serialize_entry("ts", &crate::clock::timestamp())?;
                }
                for (key, value) in fields.iter().flatten() {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl Reply {
    /// As values, where they are needed as such.
    pub fn into_args(self) -> Vec<Value> {
        match self {
            Self::Args(args) => args,
            usual @ Self::Usual { .. } => vec![serde_json::to_value(usual).unwrap_or_default()],
        }
    }
}

/// What came of an event.
#[derive(Debug)]
pub struct Done {
    /// The ack's arguments.
    pub ack: Reply,
    /// Attachments that the ack may refer to.
    pub binaries: Vec<Bytes>,
    /// The application wants the connection gone.
    pub disconnect: bool,
}

/// An event whose turn has come.
#[derive(Debug)]
pub struct Incoming {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub args: Vec<Value>,
    /// Binary attachments of the arguments.
    pub binaries: Vec<Bytes>,
    /// Its sender wants an ack.
    pub asked: bool,
    /// By which those behind it are let go before it is over.
    pub released: Released,
}

/// Handles one event from the gate to its ack.
///
/// # Errors
/// The refusal, already told by its event where that is to be sent; the ack is the caller's.
pub async fn perform(
    core: &Arc<Core>,
    session: &Arc<Session>,
    incoming: Incoming,
) -> Result<Done, Refusal> {
    let begun = Instant::now();
    let Incoming { name, args, asked, .. } = &incoming;
    let (event, asked) = (gate::shown(name), *asked);
    // Only a refusal that shows something of the payload needs it after the event is over.
    let served = session.mount.served();
    let payload = args.first().filter(|_| shows_payload(&served.contract, name)).cloned();
    let counter = served.handled.get(name).cloned();
    let span = trace::event(
        session.begun.as_ref(),
        session.since,
        &session.sid,
        &served.contract.name,
        &event,
    );
    let done = permit_and_run(core, session, served, incoming);
    let result = done.instrument(span.clone()).await;
    let outcome = result.as_ref().err().map_or("ok", |stopped| stopped.refusal.code.as_str());
    span.record("outcome", outcome);
    core.metrics.handled(counter.as_ref(), begun.elapsed(), trace::context(&span).as_ref());
    result.map_err(|stopped| {
        core.metrics.refused(stopped.refusal.code);
        tracing::debug!(sid = %session.sid, code = stopped.refusal.code.as_str(), "event refused");
        send_refused(core, session, &event, payload.as_ref(), &stopped, asked);
        stopped.refusal
    })
}

/// Whether the way in which an event's refusal is told looks at its payload.
fn shows_payload(contract: &Contract, event: &str) -> bool {
    let refused = contract.event.get(event).and_then(|event| event.refused.as_ref());
    refused.unwrap_or(&contract.refused).shows_payload
}

async fn permit_and_run(
    core: &Arc<Core>,
    session: &Arc<Session>,
    served: Arc<Served>,
    incoming: Incoming,
) -> Result<Done, Stopped> {
    let Incoming { name, args, binaries, asked, released } = incoming;
    if session.mount.debug {
        let done = Box::pin(crate::debug::perform(core, session, &name, args, binaries)).await;
        return done.map_err(Stopped::from);
    }
    let contract = &served.contract;
    if name == auth::REFRESH && !contract.event.contains_key(&name) {
        return Box::pin(auth::refresh_anywhere(core, session, &args)).await.map_err(Stopped::from);
    }
    let permitted = gate::check(session, served, name, args, binaries)?;
    gate::pace(core, session, &permitted).await?;
    if session.wants_mark() {
        Box::pin(presence::mark(core, session)).await;
    }
    run(Flow::new(core.clone(), session.clone(), permitted, asked, released)).await
}

async fn run(mut flow: Flow) -> Result<Done, Stopped> {
    let contract = flow.served.contract.clone();
    let Some(event) = contract.event.get(&flow.event) else {
        return Err(Refusal::new(Code::UnknownEvent, "unknown event").into());
    };
    steps(&mut flow, event.steps.as_deref().unwrap_or_default()).await?;
    let ack = match (flow.take_ack(), &event.reply) {
        (Some(ack), _) => Reply::Args(vec![ack]),
        (None, Some(reply)) => Reply::Args(vec![reply.fill(&flow)]),
        (None, None) => usual_ack(&flow, event.ack.as_ref()),
    };
    Ok(Done { ack, disconnect: flow.disconnect, binaries: flow.into_binaries() })
}

fn usual_ack(flow: &Flow, fields: Option<&crate::contract::Template>) -> Reply {
    let fields = match fields.map(|fields| fields.fill(flow)) {
        Some(Value::Object(fields)) => Some(fields),
        Some(_) | None => None,
    };
    Reply::Usual { event: flow.event.clone(), fields }
}

/// The ack of a refused event.
pub fn negative_ack(event: &str, refusal: &Refusal) -> Value {
    json!({
        "ok": false,
        "event": gate::shown(event),
        "ts": crate::clock::timestamp(),
        "error": refusal.to_value(),
    })
}

/// Runs steps in order, until one refuses.
pub async fn steps(flow: &mut Flow, steps: &[Step]) -> Result<(), Stopped> {
    for step in steps {
        if step.when.as_ref().is_some_and(|when| !when.holds(flow)) {
            continue;
        }
        if let Err(stopped) = verb(flow, &step.verb).await {
            return Err(match &step.refused {
                Some(refused) if stopped.told.is_none() => told(flow, stopped, refused),
                Some(_) | None => stopped,
            });
        }
    }
    Ok(())
}

fn told(flow: &mut Flow, stopped: Stopped, refused: &Refused) -> Stopped {
    flow.bind("error", stopped.refusal.to_value());
    let told = Told { event: refused.event.clone(), data: refused.data.fill(flow) };
    Stopped { told: Some(told), ..stopped }
}

/// Steps inside a step; boxed, since a future cannot contain itself.
fn inner<'f>(
    flow: &'f mut Flow,
    list: &'f [Step],
) -> Pin<Box<dyn Future<Output = Result<(), Stopped>> + Send + 'f>> {
    Box::pin(steps(flow, list))
}

async fn verb(flow: &mut Flow, verb: &Verb) -> Result<(), Stopped> {
    match verb {
        // What waits for others is boxed, so that the future of what does not stays small.
        Verb::Batch(step) => Box::pin(batch::batch(flow, step)).await?,
        Verb::Close(id) => Box::pin(documents::close(flow, id)).await?,
        Verb::Emit(emit) => emit::emit(flow, emit),
        Verb::Enter(step) => Box::pin(roster::enter(flow, step)).await?,
        Verb::Expect(expect) => media::expect(flow, expect)?,
        Verb::File(path) => Box::pin(media::file(flow, path)).await?,
        Verb::Health => Box::pin(health::bind(flow)).await,
        Verb::Image(step) => media::image(flow, step)?,
        Verb::Join(room) => Box::pin(rooms::join_step(flow, room)).await?,
        Verb::Leave(room) => Box::pin(rooms::leave_step(flow, room)).await?,
        Verb::LeaveAll(list) => Box::pin(rooms::leave_all(flow, list)).await?,
        Verb::Load(id) => Box::pin(documents::load(flow, id)).await?,
        Verb::Lock(step) => Box::pin(locks::lock(flow, step)).await?,
        Verb::Log(text) => flow.log(text),
        Verb::Login(id) => Box::pin(auth::login(flow, id)).await?,
        Verb::Logout(announcement) => Box::pin(auth::logout(flow, announcement)).await?,
        Verb::Member(room) => rooms::member(flow, room)?,
        Verb::Open => Box::pin(documents::open(flow)).await?,
        Verb::Patch(patch) => Box::pin(documents::patch(flow, patch)).await?,
        Verb::Presence(data) => Box::pin(presence::presence(flow, data)).await?,
        Verb::Refresh(token) => Box::pin(auth::refresh(flow, token)).await?,
        Verb::Relay(relay) => emit::relay(flow, relay)?,
        Verb::Typing(step) => Box::pin(typing::typing(flow, step)).await?,
        Verb::Unlock(step) => Box::pin(locks::unlock(flow, step)).await?,
        Verb::Unlocked(step) => Box::pin(locks::unlocked(flow, step)).await?,
        Verb::Upstream(step) => Box::pin(upstream::upstream(flow, step)).await?,
        Verb::Whoami => Box::pin(auth::whoami(flow)).await?,
    }
    Ok(())
}

/// Done for every connection that was let in.
pub async fn on_connect(core: &Arc<Core>, session: &Arc<Session>) {
    presence::mark(core, session).await;
    let contract = session.mount.contract();
    if session.mount.debug || contract.on_connect.steps.is_empty() {
        return;
    }
    let mut flow = Flow::of_connection(core.clone(), session.clone());
    if let Err(stopped) = steps(&mut flow, &contract.on_connect.steps).await {
        tracing::warn!(code = stopped.refusal.code.as_str(), "a step on connect was refused");
    }
}
