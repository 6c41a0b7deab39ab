//! Frames: an event's arguments as the text and attachments that go on the wire.
//!
//! In come JSON values whose binary parts are placeholders; out goes one text, encoded once, with the
//! attachments that it uses. In JSON that is not Socket.IO (upstreams, the server API) a binary part
//! is written `{"$binary": "<base64>"}`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::{Map, Value, json};

/// The key of a binary part in JSON.
const BINARY: &str = "$binary";

/// An encoded event, ready for any number of receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The JSON array `["event", …]`.
    pub text: String,
    /// Attachments, in the order of their placeholders.
    pub binaries: Vec<Bytes>,
}

struct Array<'a>(&'a str, &'a [Value]);

impl Serialize for Array<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.1.len() + 1))?;
        seq.serialize_element(self.0)?;
        for arg in self.1 {
            seq.serialize_element(arg)?;
        }
        seq.end()
    }
}

/// The first object's fields that the second does not have, then the second's.
struct Merged<'a>(&'a Map<String, Value>, &'a Map<String, Value>);

impl Serialize for Merged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = self.0.iter().filter(|(key, _)| !self.1.contains_key(*key));
        serializer.collect_map(own.chain(self.1.iter()))
    }
}

struct MergedArray<'a>(&'a str, Merged<'a>, &'a [Value]);

impl Serialize for MergedArray<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.2.len() + 2))?;
        seq.serialize_element(self.0)?;
        seq.serialize_element(&self.1)?;
        for arg in self.2 {
            seq.serialize_element(arg)?;
        }
        seq.end()
    }
}

impl Frame {
    /// Encodes an event.
    pub fn event(name: &str, args: &[Value], binaries: &[Bytes]) -> Self {
        if binaries.is_empty() {
            let text = serde_json::to_string(&Array(name, args)).unwrap_or_default();
            return Self { text, binaries: Vec::new() };
        }
        let mut used = Vec::new();
        let args: Vec<Value> = args.iter().map(|arg| renumber(arg, binaries, &mut used)).collect();
        let text = serde_json::to_string(&Array(name, &args)).unwrap_or_default();
        Self { text, binaries: used }
    }

    /// Encodes an event whose payload is an object with fields put beside and over its own. What has
    /// attachments is better put together before.
    pub fn merged(
        name: &str,
        payload: &Map<String, Value>,
        add: &Map<String, Value>,
        rest: &[Value],
    ) -> Self {
        let text = serde_json::to_string(&MergedArray(name, Merged(payload, add), rest))
            .unwrap_or_default();
        Self { text, binaries: Vec::new() }
    }

    /// Encodes the arguments of an ack.
    pub fn ack(args: &[Value], binaries: &[Bytes]) -> Self {
        let mut used = Vec::new();
        let args: Vec<Value> = args.iter().map(|arg| renumber(arg, binaries, &mut used)).collect();
        let text = serde_json::to_string(&args).unwrap_or_default();
        Self { text, binaries: used }
    }
}

/// The number of a placeholder.
fn placeholder(map: &Map<String, Value>) -> Option<usize> {
    let marked = map.get("_placeholder") == Some(&Value::Bool(true));
    let number = map.get("num")?.as_u64()?;
    marked.then(|| usize::try_from(number).ok()).flatten()
}

/// The value with placeholders counted in the order that they occur, and their attachments.
fn renumber(value: &Value, binaries: &[Bytes], used: &mut Vec<Bytes>) -> Value {
    match value {
        Value::Object(map) => {
            if let Some(binary) = placeholder(map).and_then(|number| binaries.get(number)) {
                used.push(binary.clone());
                return json!({"_placeholder": true, "num": used.len() - 1});
            }
            let fields =
                map.iter().map(|(key, value)| (key.clone(), renumber(value, binaries, used)));
            Value::Object(fields.collect())
        }
        Value::Array(list) => list.iter().map(|value| renumber(value, binaries, used)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Whether every placeholder points at an attachment. One that does not would make the official
/// client of every receiver disconnect.
pub fn placeholders_are_good(value: &Value, attachments: usize) -> bool {
    match value {
        Value::Object(map) => {
            if map.get("_placeholder") == Some(&Value::Bool(true)) {
                return placeholder(map).is_some_and(|number| number < attachments);
            }
            map.values().all(|value| placeholders_are_good(value, attachments))
        }
        Value::Array(list) => list.iter().all(|value| placeholders_are_good(value, attachments)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Placeholders become `{"$binary": base64}`.
pub fn lower_binary(value: &Value, binaries: &[Bytes]) -> Value {
    match value {
        Value::Object(map) => {
            if let Some(binary) = placeholder(map).and_then(|number| binaries.get(number)) {
                return json!({BINARY: BASE64_STANDARD.encode(binary)});
            }
            let fields =
                map.iter().map(|(key, value)| (key.clone(), lower_binary(value, binaries)));
            Value::Object(fields.collect())
        }
        Value::Array(list) => list.iter().map(|value| lower_binary(value, binaries)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// A `$binary` that is no base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("$binary: not base64")]
pub struct NotBase64;

/// `{"$binary": base64}` becomes a placeholder into `binaries`.
///
/// # Errors
/// [`NotBase64`].
pub fn lift_binary(value: Value, binaries: &mut Vec<Bytes>) -> Result<Value, NotBase64> {
    match value {
        Value::Object(map) => {
            if map.len() == 1
                && let Some(Value::String(text)) = map.get(BINARY)
            {
                let bytes = BASE64_STANDARD.decode(text).map_err(|_| NotBase64)?;
                binaries.push(bytes.into());
                return Ok(json!({"_placeholder": true, "num": binaries.len() - 1}));
            }
            let fields =
                map.into_iter().map(|(key, value)| Ok((key, lift_binary(value, binaries)?)));
            fields.collect::<Result<_, _>>().map(Value::Object)
        }
        Value::Array(list) => {
            let items = list.into_iter().map(|value| lift_binary(value, binaries));
            items.collect::<Result<_, _>>().map(Value::Array)
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(number: usize) -> Value {
        json!({"_placeholder": true, "num": number})
    }

    #[test]
    fn renumbers_what_is_used() {
        let binaries = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let frame = Frame::event("e", &[json!({"x": hole(1)}), hole(0)], &binaries);
        assert_eq!(frame.binaries, [Bytes::from_static(b"b"), Bytes::from_static(b"a")]);
        let text = r#"["e",{"x":{"_placeholder":true,"num":0}},{"_placeholder":true,"num":1}]"#;
        assert_eq!(frame.text, text);
        let partly = Frame::event("e", &[hole(1)], &binaries);
        assert_eq!(partly.binaries, [Bytes::from_static(b"b")]);
    }

    #[test]
    fn merges_payloads() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let (payload, add) =
            (object(json!({"a": 1, "from": "me"})), object(json!({"from": "x", "ts": 2})));
        let frame = Frame::merged("e", &payload, &add, &[json!(3)]);
        assert_eq!(frame.text, r#"["e",{"a":1,"from":"x","ts":2},3]"#);
    }

    #[test]
    fn forged_placeholders() {
        let cases = [
            ("in range", hole(0), 1, true),
            ("out of range", hole(1), 1, false),
            ("none attached", hole(0), 0, false),
            ("negative", json!({"_placeholder": true, "num": -1}), 1, false),
            ("text", json!({"_placeholder": true, "num": "0"}), 1, false),
            ("no number", json!({"_placeholder": true}), 1, false),
            ("deep", json!([{"a": [hole(5)]}]), 1, false),
            ("not marked", json!({"_placeholder": false, "num": 9}), 0, true),
        ];
        for (name, value, attachments, want) in cases {
            assert_eq!(placeholders_are_good(&value, attachments), want, "{name}");
        }
    }

    #[test]
    fn to_json_and_back() {
        let binaries = vec![Bytes::from_static(&[0, 255, 7])];
        let lowered = lower_binary(&json!({"f": hole(0), "g": 1}), &binaries);
        assert_eq!(lowered, json!({"f": {"$binary": "AP8H"}, "g": 1}));
        let mut lifted = Vec::new();
        assert_eq!(lift_binary(lowered, &mut lifted), Ok(json!({"f": hole(0), "g": 1})));
        assert_eq!(lift_binary(json!({"$binary": "%"}), &mut Vec::new()), Err(NotBase64));
        assert_eq!(lifted, binaries);
    }
}
