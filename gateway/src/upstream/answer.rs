//! What an application wants done: the bytes of one answer come in, an [`Answer`] goes out.
//!
//! A key that is not known is an error that names it: a misspelt `emit` must not pass as "nothing to do".
//! `null` is the same as leaving a key out, but for `ack`, where it is a value. Nothing here is acted on.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::object::{ObjectOnly, optional};

/// One part of what an application answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Replaces the contract's whole ack payload. `Some(Value::Null)` is an ack of `null`.
    #[serde(default, deserialize_with = "present")]
    pub ack: Option<Value>,
    /// Events to send, in order.
    #[serde(default, deserialize_with = "or_empty")]
    pub emit: Vec<Emit>,
    /// Rooms that the sender enters.
    #[serde(default, deserialize_with = "or_empty")]
    pub join: Vec<String>,
    /// Rooms that the sender leaves.
    #[serde(default, deserialize_with = "or_empty")]
    pub leave: Vec<String>,
    /// A merge patch to the stored state of the session that the event names.
    #[serde(default)]
    pub state: Option<Map<String, Value>>,
    /// What fills the contract's own reply event.
    #[serde(default)]
    pub result: Option<Map<String, Value>>,
    /// A refusal: the event failed, whatever was emitted before stands.
    #[serde(default, deserialize_with = "optional")]
    pub error: Option<AnswerError>,
    /// The sender is to be disconnected.
    #[serde(default, deserialize_with = "or_empty")]
    pub disconnect: bool,
}

/// A refusal in the application's words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerError {
    /// One of the closed list, or the application's own, in capital letters and underscores.
    pub code: String,
    /// For the client.
    #[serde(default, deserialize_with = "or_empty")]
    pub message: String,
}

/// An event to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Emit {
    /// Its name.
    pub event: String,
    /// Its arguments: `args`, or `data` as the only one.
    pub args: Vec<Value>,
    /// Who gets it; `None` is the sender.
    pub to: Option<Target>,
}

/// Who gets an event: all of these together, less `except`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Connections.
    #[serde(default, deserialize_with = "or_empty")]
    pub sids: Vec<String>,
    /// Users, with all of their connections.
    #[serde(default, deserialize_with = "or_empty")]
    pub users: Vec<String>,
    /// Rooms.
    #[serde(default, deserialize_with = "or_empty")]
    pub rooms: Vec<String>,
    /// Rooms or connections that do not get it.
    #[serde(default, deserialize_with = "or_empty")]
    pub except: Vec<String>,
    /// Everybody in the namespace.
    #[serde(default, deserialize_with = "or_empty")]
    pub all: bool,
}

impl Answer {
    /// Reads one answer.
    ///
    /// # Errors
    /// What is wrong with it, and where: `emit[0].colour: unknown field …`.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let answer: Self = serde_path_to_error::deserialize(ObjectOnly(&mut reader))
            .map_err(|error| error.to_string())?;
        reader.end().map_err(|error| error.to_string())?;
        Ok(answer)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEmit {
    event: String,
    #[serde(default, deserialize_with = "present")]
    data: Option<Value>,
    #[serde(default)]
    args: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "optional")]
    to: Option<Target>,
}

impl<'de> Deserialize<'de> for Emit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawEmit::deserialize(ObjectOnly(deserializer))?;
        raw.try_into().map_err(serde::de::Error::custom)
    }
}

impl TryFrom<RawEmit> for Emit {
    type Error = &'static str;

    fn try_from(raw: RawEmit) -> Result<Self, Self::Error> {
        if raw.event.is_empty() {
            return Err("`event` is empty");
        }
        let args = match (raw.data, raw.args) {
            (Some(_), Some(_)) => return Err("`data` and `args` are both set"),
            (Some(data), None) => vec![data],
            (None, args) => args.unwrap_or_default(),
        };
        Ok(Self { event: raw.event, args, to: raw.to })
    }
}

/// A key that is there is `Some`, even where it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// `null` is the default.
fn or_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_read() {
        let empty = Answer::default;
        let object = |value: Value| value.as_object().cloned();
        let emit = |args: Vec<Value>, to| vec![Emit { event: "e".into(), args, to }];
        let all = Target { all: true, except: vec!["r".into()], ..Target::default() };
        let cases = [
            ("nothing", json!({}), empty()),
            ("ack", json!({"ack": {"a": 1}}), Answer { ack: Some(json!({"a": 1})), ..empty() }),
            ("ack null", json!({"ack": null}), Answer { ack: Some(Value::Null), ..empty() }),
            (
                "nulls",
                json!({"emit": null, "join": null, "leave": null, "state": null, "result": null, "error": null, "disconnect": null}),
                empty(),
            ),
            (
                "data",
                json!({"emit": [{"event": "e", "data": 1}]}),
                Answer { emit: emit(vec![json!(1)], None), ..empty() },
            ),
            (
                "data null",
                json!({"emit": [{"event": "e", "data": null}]}),
                Answer { emit: emit(vec![Value::Null], None), ..empty() },
            ),
            (
                "args",
                json!({"emit": [{"event": "e", "args": [1, 2]}]}),
                Answer { emit: emit(vec![json!(1), json!(2)], None), ..empty() },
            ),
            (
                "no data",
                json!({"emit": [{"event": "e", "to": {"all": true, "except": ["r"]}}]}),
                Answer { emit: emit(vec![], Some(all)), ..empty() },
            ),
            (
                "rooms",
                json!({"join": ["a"], "leave": ["b"]}),
                Answer { join: vec!["a".into()], leave: vec!["b".into()], ..empty() },
            ),
            (
                "state",
                json!({"state": {"a": null}}),
                Answer { state: object(json!({"a": null})), ..empty() },
            ),
            (
                "result",
                json!({"result": {"a": 1}}),
                Answer { result: object(json!({"a": 1})), ..empty() },
            ),
            (
                "error",
                json!({"error": {"code": "FORBIDDEN"}}),
                Answer {
                    error: Some(AnswerError { code: "FORBIDDEN".into(), message: String::new() }),
                    ..empty()
                },
            ),
            ("disconnect", json!({"disconnect": true}), Answer { disconnect: true, ..empty() }),
        ];
        for (name, input, want) in cases {
            assert_eq!(Answer::parse(input.to_string().as_bytes()), Ok(want), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("unknown key", r#"{"emits": []}"#, "emits"),
            ("unknown key of an emit", r#"{"emit": [{"event": "e", "payload": 1}]}"#, "payload"),
            (
                "unknown key of a target",
                r#"{"emit": [{"event": "e", "to": {"room": "r"}}]}"#,
                "room",
            ),
            ("data and args", r#"{"emit": [{"event": "e", "data": 1, "args": []}]}"#, "both set"),
            ("no event", r#"{"emit": [{"data": 1}]}"#, "event"),
            ("empty event", r#"{"emit": [{"event": ""}]}"#, "event"),
            ("a list", "[]", "invalid"),
            ("an emit that is a list", r#"{"emit": [["e", 1]]}"#, "emit[0]"),
            ("a target that is a list", r#"{"emit": [{"event": "e", "to": []}]}"#, "to"),
            ("an error that is a list", r#"{"error": ["FORBIDDEN", "no"]}"#, "error"),
            ("result a list", r#"{"result": []}"#, "result"),
            ("rest", "{} {}", "trailing"),
            ("cut off", r#"{"ack": "#, "EOF"),
            ("twice", r#"{"ack": 1, "ack": 2}"#, "duplicate"),
            ("no bytes", "", "EOF"),
        ];
        for (name, input, needle) in cases {
            let error = Answer::parse(input.as_bytes()).expect_err(name);
            assert!(error.contains(needle), "{name}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(Answer::parse(format!(r#"{{"ack": {deep}"#).as_bytes()).is_err(), "deep");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Answer::parse(&bytes);
        }

        #[test]
        fn no_near_miss_panics(text in r#"\{("(ack|emit|to|state|x)":[\[{]?("e"|1|null|true)[\]}]?,?){0,4}\}?"#) {
            let _ = Answer::parse(text.as_bytes());
        }
    }
}
