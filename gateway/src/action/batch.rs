//! `batch`: several events in one, each as if it was sent alone.

use std::time::Instant;

use serde_json::Value;

use super::{Flow, Incoming, Stopped, negative_ack, perform};
use crate::{
    contract::BatchStep,
    refusal::{Code, Refusal},
};

pub(super) async fn batch(flow: &mut Flow, step: &BatchStep) -> Result<(), Stopped> {
    let Value::Array(updates) = step.updates.fill(flow) else {
        return Err(Refusal::new(Code::BadPayload, "updates must be a list").into());
    };
    if updates.len() > step.at_most {
        let message = format!("at most {} updates at once", step.at_most);
        return Err(Refusal::new(Code::TooLarge, message).into());
    }
    let mut results = Vec::with_capacity(updates.len());
    for update in updates {
        results.push(one(flow, update).await);
    }
    flow.bind("results", Value::from(results));
    Ok(())
}

async fn one(flow: &mut Flow, update: Value) -> Value {
    let name = update.get("event").and_then(Value::as_str).map(str::to_owned);
    let Some(name) = name.filter(|name| *name != flow.event) else {
        let refusal = Refusal::new(Code::BadPayload, "an update is {event, data}, and no batch");
        return negative_ack(
            update.get("event").and_then(Value::as_str).unwrap_or_default(),
            &refusal,
        );
    };
    if let Err(retry_after) = flow.session.charge(1, Instant::now()) {
        return negative_ack(&name, &Refusal::rate_limited(retry_after));
    }
    let args = update.get("data").cloned().into_iter().collect();
    let (core, session) = (flow.core.clone(), flow.session.clone());
    let (binaries, released) = (flow.binaries().to_vec(), flow.released());
    let event = name.clone();
    let incoming = Incoming { name, args, binaries, asked: true, released };
    let done = Box::pin(perform(&core, &session, incoming)).await;
    match done {
        Ok(done) => {
            flow.disconnect |= done.disconnect;
            // A contract acks with one argument.
            done.ack.into_args().into_iter().next().unwrap_or_default()
        }
        Err(refusal) => negative_ack(&event, &refusal),
    }
}
