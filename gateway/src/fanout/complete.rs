//! Out events as their contract declares them: other spellings put right, gaps filled, shape checked,
//! the envelope put beside.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::{contract::Scope, mount::Mounted};

/// An out event that is not of its declared shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event}: {message}")]
pub struct Broken {
    /// Its name.
    pub event: String,
    /// What is wrong with it.
    pub message: String,
}

/// What templates of out events may look up.
struct OutScope<'a> {
    event: &'a str,
    data: &'a Value,
    options: &'a Value,
}

impl Scope for OutScope<'_> {
    fn root(&self, name: &str) -> Option<Cow<'_, Value>> {
        match name {
            "event" => Some(Cow::Owned(Value::from(self.event))),
            "data" | "payload" => Some(Cow::Borrowed(self.data)),
            "ts" => Some(Cow::Owned(Value::from(crate::clock::timestamp()))),
            "option" => Some(Cow::Borrowed(self.options)),
            _ => None,
        }
    }
}

/// Completes and checks the arguments of an out event.
///
/// # Errors
/// [`Broken`].
pub fn complete(mount: &Mounted, event: &str, args: &mut Vec<Value>) -> Result<(), Broken> {
    let served = mount.served();
    let contract = &served.contract;
    let Some(out) = contract.out.get(event).filter(|_| !mount.debug) else { return Ok(()) };
    let mut data = args.first().cloned().unwrap_or(Value::Null);
    rename(&mut data, &out.aliases);
    if let Some(template) = &out.default {
        let defaults = {
            let scope = OutScope { event, data: &data, options: &served.options };
            template.fill(&scope)
        };
        fill_gaps(&mut data, defaults);
    }
    if let Some(shape) = &out.shape {
        shape.check(&data).map_err(|message| Broken { event: event.to_owned(), message })?;
    }
    if let Some(envelope) = &contract.envelope {
        let scope = OutScope { event, data: &data, options: &served.options };
        let filled = envelope.fill(&scope);
        data = enveloped(data, filled);
    }
    if args.is_empty() {
        args.push(data);
    } else {
        args[0] = data;
    }
    Ok(())
}

/// Puts fields under the names that the contract knows.
pub fn rename(data: &mut Value, aliases: &std::collections::BTreeMap<String, String>) {
    let Value::Object(map) = data else { return };
    for (other, name) in aliases {
        if let Some(value) = map.shift_remove(other) {
            map.entry(name.clone()).or_insert(value);
        }
    }
}

/// Fills in what is missing, inside objects too.
fn fill_gaps(data: &mut Value, defaults: Value) {
    let (Value::Object(map), Value::Object(defaults)) = (data, defaults) else { return };
    for (key, default) in defaults {
        match map.get_mut(&key) {
            None => {
                // A default for the inside of an object does not make the object.
                if !default.is_object() {
                    map.insert(key, default);
                }
            }
            Some(inner) => {
                if inner.is_object()
                    && let (Value::Object(inner), Value::Object(default)) = (inner, default)
                {
                    for (key, value) in default {
                        inner.entry(key).or_insert(value);
                    }
                }
            }
        }
    }
}

/// The payload's own fields, and those of the envelope beside them.
pub fn enveloped(data: Value, envelope: Value) -> Value {
    let Value::Object(envelope) = envelope else { return data };
    let mut whole = match data {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    };
    for (key, value) in envelope {
        whole.entry(key).or_insert(value);
    }
    Value::Object(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn gaps() {
        let mut data = json!({"data": {"code": "X"}, "type": "mine"});
        fill_gaps(&mut data, json!({"type": "t", "timestamp": "now", "data": {"details": {}}}));
        assert_eq!(
            data,
            json!({"data": {"code": "X", "details": {}}, "type": "mine", "timestamp": "now"})
        );
        let mut none = json!({});
        fill_gaps(&mut none, json!({"data": {"details": {}}}));
        assert_eq!(none, json!({}), "no object is made up");
    }

    #[test]
    fn envelope_stands_beside() {
        let envelope = json!({"event": "e", "data": {"a": 1}, "timestamp": "now"});
        let cases = [
            (
                "object",
                json!({"a": 1}),
                json!({"a": 1, "event": "e", "data": {"a": 1}, "timestamp": "now"}),
            ),
            (
                "own field wins",
                json!({"timestamp": "mine"}),
                json!({"timestamp": "mine", "event": "e", "data": {"a": 1}}),
            ),
            ("text", json!("x"), json!({"event": "e", "data": {"a": 1}, "timestamp": "now"})),
        ];
        for (name, data, want) in cases {
            assert_eq!(enveloped(data, envelope.clone()), want, "{name}");
        }
    }
}
