//! `upstream`: the application behind is asked, and what it answers is done as it arrives.

use serde_json::{Map, Value, json};

use super::{Flow, Stopped, documents, emit::resolve, inner, rooms};
use crate::{
    contract::UpstreamStep,
    refusal::{Code, Refusal},
    upstream::{Answer, AnswerError, Answers, Call, Caller, Failure},
    wire::{NotBase64, Target, lift_binary, lower_binary},
};

/// Asks an application and does what it answers. The events behind in the connection's line do not
/// wait; calls that are to be in turn wait for one another.
pub(super) async fn upstream(flow: &mut Flow, step: &UpstreamStep) -> Result<(), Stopped> {
    let result = ask(flow, step).await;
    if let Err(stopped) = &result {
        let error = stopped.refusal.to_value();
        flow.bind("error", error);
        inner(flow, &step.on_error).await?;
    }
    result
}

async fn ask(flow: &mut Flow, step: &UpstreamStep) -> Result<(), Stopped> {
    let id = step.session.as_ref().and_then(|session| session.fill_text(flow));
    if step.in_turn
        && let Some(id) = &id
    {
        let full = || Refusal::new(Code::Unavailable, "too much work is waiting, try again later");
        let _place = flow.core.turns.clone().try_acquire_owned().map_err(|_| full())?;
        let key = format!("{}:{id}", documents::collection(&flow.served.contract));
        let ticket = flow.core.state.line_up(&key);
        flow.release();
        let abandon = flow.core.abandon.clone();
        let turn = tokio::select! {
            turn = ticket.turn() => turn?,
            () = abandon.cancelled() => return Err(leaving()),
        };
        // What the session's last event left behind.
        documents::apply(flow, id, json!({})).await?;
        let answers = call(flow, step, Some(id))?;
        let done = take_all(flow, step, answers, Some(id)).await;
        drop(turn);
        return done;
    }
    let answers = call(flow, step, id.as_deref())?;
    flow.release();
    take_all(flow, step, answers, id.as_deref()).await
}

fn leaving() -> Stopped {
    Refusal::new(Code::Unavailable, "this pod is leaving, try again").into()
}

/// Takes a place in the upstream's line, at once.
fn call(flow: &Flow, step: &UpstreamStep, id: Option<&str>) -> Result<Answers, Stopped> {
    use crate::contract::Scope as _;
    let session = &flow.session;
    let rule = flow.served.contract.event.get(&flow.event);
    let name = step
        .name
        .as_deref()
        .or_else(|| rule.and_then(|rule| rule.upstream.as_deref()))
        .unwrap_or(&session.mount.upstream);
    let upstream = flow.core.upstreams.get(name).ok_or_else(|| {
        tracing::error!(upstream = name, "an upstream that a contract names is not configured");
        Refusal::new(Code::Unavailable, "the service behind is not available")
    })?;
    let identity = session.identity();
    let state =
        id.and_then(|_| flow.root("session")).and_then(|session| session.get("state").cloned());
    Ok(upstream.call(Call {
        contract: flow.served.contract.name.clone(),
        namespace: session.mount.namespace.clone(),
        event: flow.event.clone(),
        args: flow.args().iter().map(|arg| lower_binary(arg, flow.binaries())).collect(),
        connection: Caller {
            sid: session.sid.to_string(),
            user: identity.user.clone(),
            roles: identity.roles.clone(),
            ip: session.ip,
        },
        session_id: id.map(str::to_owned),
        state,
        idempotent: step.idempotent,
    }))
}

async fn take_all(
    flow: &mut Flow,
    step: &UpstreamStep,
    mut answers: Answers,
    id: Option<&str>,
) -> Result<(), Stopped> {
    let abandon = flow.core.abandon.clone();
    let mut parts = 0_u32;
    loop {
        let next = tokio::select! {
            next = answers.next() => next,
            () = abandon.cancelled() => return Err(leaving()),
        };
        match next {
            None => return Ok(()),
            Some(Err(failure)) => return Err(refusal(&failure).into()),
            Some(Ok(answer)) => {
                parts += 1;
                // It is not known how many will come; each halves what seems left.
                flow.bind("progress", json!(100 - 100 / (parts + 1)));
                inner(flow, &step.on_part).await?;
                apply(flow, step, answer, id).await?;
            }
        }
    }
}

fn refusal(failure: &Failure) -> Refusal {
    if !matches!(failure, Failure::Refused { .. }) {
        tracing::warn!(%failure, "an upstream failed");
    }
    Refusal::by_application(failure.code(), failure.message())
}

fn not_binary(error: NotBase64) -> Refusal {
    tracing::warn!(%error, "an upstream answered what cannot be read");
    Refusal::new(Code::Unavailable, "the service behind is not available")
}

/// Does what one part of an answer says, in the order of its keys' description.
async fn apply(
    flow: &mut Flow,
    step: &UpstreamStep,
    answer: Answer,
    id: Option<&str>,
) -> Result<(), Stopped> {
    let (core, session) = (flow.core.clone(), flow.session.clone());
    for emit in answer.emit {
        let mut binaries = Vec::new();
        let args = emit.args.into_iter().map(|arg| lift_binary(arg, &mut binaries));
        let args = args.collect::<Result<_, _>>().map_err(not_binary)?;
        let target = emit.to.as_ref().map_or_else(|| Target::one(&session.sid), resolve);
        core.fanout.send_out(&session.mount, &target, &emit.event, args, &binaries, false).map_err(
            |broken| {
                tracing::warn!(%broken, "an upstream sent an event that its contract does not allow");
                Refusal::new(Code::Unavailable, "the service behind is not available")
            },
        )?;
    }
    for room in &answer.join {
        rooms::join(&core, &session, room, rooms::Chooser::Application).await?;
    }
    for room in &answer.leave {
        rooms::leave(&core, &session, room).await;
    }
    if let (Some(patch), Some(id)) = (answer.state, id) {
        documents::apply(flow, id, Value::Object(patch)).await?;
    }
    flow.disconnect |= answer.disconnect;
    if let Some(ack) = answer.ack {
        let ack = lift_binary(ack, flow.binaries_mut()).map_err(not_binary)?;
        flow.set_ack(ack);
    }
    if let Some(result) = answer.result {
        let result = Value::Object(Map::from_iter(result));
        let result = lift_binary(result, flow.binaries_mut()).map_err(not_binary)?;
        flow.bind("result", result);
        inner(flow, &step.on_result).await?;
    }
    match answer.error {
        Some(error) => {
            let AnswerError { code, message } = error;
            Err(refusal(&Failure::Refused { code, message }).into())
        }
        None => Ok(()),
    }
}
