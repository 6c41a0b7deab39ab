//! `open`, `load`, `patch`, `close`: sessions that an application stores here between its events.

use serde_json::{Value, json};

use super::{Flow, Stopped};
use crate::{
    contract::{Contract, Template},
    refusal::{Code, Refusal},
};

/// The name under which a contract's stored sessions are kept.
pub fn collection(contract: &Contract) -> String {
    format!("contract:{}", contract.name)
}

fn unknown() -> Refusal {
    Refusal::new(Code::NotFound, "unknown session_id")
}

/// A fresh id: 128 random bits, as a version 4 UUID.
fn fresh_id() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn bind(flow: &mut Flow, id: &str, document: &Value) {
    let state = document.get("state").cloned().unwrap_or_else(|| json!({}));
    flow.bind("session", json!({"id": id, "state": state}));
}

pub(super) async fn open(flow: &mut Flow) -> Result<(), Stopped> {
    let contract = flow.served.contract.clone();
    let id = fresh_id();
    let document = json!({"state": contract.documents.initial});
    let ttl = contract.documents.ttl;
    flow.core.state.write(&collection(&contract), &id, document.clone(), ttl).await?;
    bind(flow, &id, &document);
    Ok(())
}

/// Reads a session, which counts as using it.
pub(super) async fn load(flow: &mut Flow, id: &Template) -> Result<(), Stopped> {
    let id = id.fill_text(flow).ok_or_else(unknown)?;
    apply(flow, &id, json!({})).await
}

/// Merges a patch into a session's state, and binds what it is then.
pub(super) async fn apply(flow: &mut Flow, id: &str, patch: Value) -> Result<(), Stopped> {
    let contract = flow.served.contract.clone();
    let ttl = contract.documents.ttl;
    let state = &flow.core.state;
    let document = state.patch(&collection(&contract), id, json!({"state": patch}), ttl).await?;
    let document = document.ok_or_else(unknown)?;
    bind(flow, id, &document);
    Ok(())
}

pub(super) async fn patch(flow: &mut Flow, template: &Template) -> Result<(), Stopped> {
    use crate::contract::Scope as _;
    let id = flow
        .root("session")
        .and_then(|session| session.get("id").and_then(Value::as_str).map(str::to_owned))
        .ok_or_else(unknown)?;
    let patch = template.fill(flow);
    apply(flow, &id, patch).await
}

pub(super) async fn close(flow: &mut Flow, id: &Template) -> Result<(), Stopped> {
    let id = id.fill_text(flow).ok_or_else(unknown)?;
    let contract = flow.served.contract.clone();
    if flow.core.state.remove(&collection(&contract), &id).await? {
        return Ok(());
    }
    Err(unknown().into())
}
