//! Payload shapes: JSON Schemas, compiled once.
//!
//! In comes a schema at start and a payload for every event; out goes nothing, or what is wrong with
//! the payload in words its sender acts on. It never follows a reference outside the file.

use std::sync::Arc;

use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::{Map, Value, json};

/// A compiled JSON Schema.
#[derive(Clone, Debug)]
pub struct Shape(Arc<jsonschema::Validator>);

/// Longest part of a payload's value that a refusal repeats.
const SHOWN: usize = 64;

impl Shape {
    /// Compiles a schema that may refer to `defs` as `#/$defs/NAME`.
    ///
    /// # Errors
    /// What is wrong with the schema.
    pub fn compile(schema: &Value, defs: &Map<String, Value>) -> Result<Self, String> {
        let mut whole = schema.clone();
        let Value::Object(map) = &mut whole else {
            return Err("a schema is a table".to_owned());
        };
        map.insert("$defs".to_owned(), json!(defs));
        jsonschema::options()
            .should_validate_formats(true)
            .build(&whole)
            .map(|validator| Self(Arc::new(validator)))
            .map_err(|error| error.to_string())
    }

    /// Checks a payload.
    ///
    /// # Errors
    /// The first thing wrong with it, naming the field.
    pub fn check(&self, payload: &Value) -> Result<(), String> {
        if self.0.is_valid(payload) {
            return Ok(());
        }
        let error = self.0.iter_errors(payload).next();
        Err(error.map_or_else(|| "not of the expected shape".to_owned(), |error| words(&error)))
    }
}

fn words(error: &jsonschema::ValidationError<'_>) -> String {
    let path = error.instance_path().to_string().trim_start_matches('/').replace('/', ".");
    let field = |name: &str| {
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    };
    let subject = if path.is_empty() { "payload".to_owned() } else { path.clone() };
    match error.kind() {
        Kind::Required { property } => {
            format!("{} required", field(property.as_str().unwrap_or("field")))
        }
        Kind::Type { kind } => {
            let wanted = format!("{kind:?}").to_lowercase();
            match wanted.split('(').nth(1).map(|rest| rest.trim_end_matches(')')) {
                Some(single) => format!("{subject} must be of type {single}"),
                None => format!("{subject} is of the wrong type"),
            }
        }
        Kind::MinLength { limit: 1 } => format!("{subject} required"),
        Kind::Pattern { .. } => format!("{subject} has characters that are not allowed"),
        _ => {
            let text: String = error.to_string().chars().take(4 * SHOWN).collect();
            format!("{subject}: {text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong() {
        let defs = Map::from_iter([("id".to_owned(), json!({"type": "string", "minLength": 1}))]);
        let schema = json!({"type": "object", "required": ["id"], "properties": {
            "id": {"$ref": "#/$defs/id"}, "at": {"type": "string", "format": "date-time"},
            "in": {"type": "object", "required": ["x"]}}});
        let shape = Shape::compile(&schema, &defs).expect("compiles");
        let cases = [
            ("good", json!({"id": "a", "at": "2026-01-21T12:00:00+00:00"}), None),
            ("missing", json!({}), Some("id required")),
            ("empty", json!({"id": ""}), Some("id required")),
            ("type", json!({"id": 5}), Some("id must be of type string")),
            ("whole type", json!(5), Some("payload must be of type object")),
            ("inner", json!({"id": "a", "in": {}}), Some("in.x required")),
        ];
        for (name, payload, want) in cases {
            assert_eq!(shape.check(&payload).err().as_deref(), want, "{name}");
        }
        assert!(shape.check(&json!({"id": "a", "at": "yesterday"})).is_err(), "format");
    }
}
