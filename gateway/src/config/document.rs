//! The documentation of every key, made from the types, so that it cannot be out of date.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::sections::Config;

/// One documented key.
struct Key {
    path: String,
    about: String,
    default: String,
}

/// `docs/config.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\nGenerated from the types: `gateway default-config --markdown > docs/config.md`.\n\n\
         Keys are TOML paths. Every key can be set as `GATEWAY__SECTION__KEY` in the environment, which wins over the file.\n\
         Variables with names of their own: `GATEWAY_JWT_SECRET`, `GATEWAY_API_KEY`, `REDIS_URL` (each also as `…_FILE`, the path of a file that holds it),\n\
         `SOCKET_CORS_ORIGIN`, `SOCKET_MAX_CONNECTIONS`, `SOCKET_PING_TIMEOUT`, `SOCKET_PING_INTERVAL`, `SOCKET_UPGRADE_TIMEOUT` (times in milliseconds).\n\
         Keys and variables that are not known are refused.\n\n| key | default | meaning |\n|---|---|---|\n",
    );
    for key in keys() {
        let about = key.about.replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(text, "| `{}` | `{}` | {about} |", key.path, key.default);
    }
    text
}

/// A configuration file with every key at its default, each with its meaning above it.
pub fn default_file() -> String {
    let (mut text, mut section) = (String::new(), String::new());
    for key in keys() {
        if key.path.contains('<') {
            continue; // named by the operator: shown in the documentation only
        }
        let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
        if parent != section {
            let _ = write!(text, "\n[{parent}]\n");
            parent.clone_into(&mut section);
        }
        for line in key.about.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let unset = key.default == "not set";
        let _ = if unset {
            writeln!(text, "# {name} = …")
        } else {
            writeln!(text, "{name} = {}", key.default)
        };
    }
    text
}

/// Scalars of the top first, then section by section, as TOML needs it.
fn keys() -> Vec<Key> {
    let schema = schemars::schema_for!(Config).to_value();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let mut found = Vec::new();
    collect(&schema, &schema, &defaults, "", &mut found, 0);
    let depth = |key: &Key| key.path.matches('.').count();
    let (top, rest): (Vec<Key>, Vec<Key>) = found.into_iter().partition(|key| depth(key) == 0);
    top.into_iter().chain(rest).collect()
}

/// Deeper tables than this are not configuration.
const DEEPEST: usize = 6;

fn collect(
    schema: &Value,
    at: &Value,
    default: &Value,
    path: &str,
    found: &mut Vec<Key>,
    depth: usize,
) {
    let Some(properties) = at.get("properties").and_then(Value::as_object) else { return };
    if depth > DEEPEST {
        return;
    }
    let (mut leaves, mut tables) = (Vec::new(), Vec::new());
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let target = resolve(schema, property);
        let default = default.get(name).cloned().unwrap_or(Value::Null);
        if target.get("properties").is_some() && !default.is_null() {
            tables.push((path, target, default));
        } else if let Some(inner) = element(schema, target) {
            leaves.push(leaf(&path, property, &default));
            let path = if target.get("items").is_some() { path } else { format!("{path}.<name>") };
            tables.push((
                path + if target.get("items").is_some() { "[<n>]" } else { "" },
                inner,
                Value::Null,
            ));
        } else {
            leaves.push(leaf(&path, property, &default));
        }
    }
    found.extend(leaves);
    for (path, target, default) in tables {
        collect(schema, target, &default, &path, found, depth + 1);
    }
}

fn leaf(path: &str, property: &Value, default: &Value) -> Key {
    let about = property.get("description").and_then(Value::as_str).unwrap_or_default();
    let default = match default {
        Value::Null => {
            property.get("default").filter(|d| !d.is_null()).map_or("not set".to_owned(), toml_text)
        }
        other => toml_text(other),
    };
    Key { path: path.to_owned(), about: about.to_owned(), default }
}

/// The table that a list or a map of tables consists of.
fn element<'s>(schema: &'s Value, target: &'s Value) -> Option<&'s Value> {
    let inner = target.get("items").or_else(|| target.get("additionalProperties"))?;
    let inner = resolve(schema, inner);
    inner.get("properties").is_some().then_some(inner)
}

fn resolve<'s>(schema: &'s Value, at: &'s Value) -> &'s Value {
    let reference = at
        .get("$ref")
        .or_else(|| at.get("allOf").and_then(|all| all.get(0)).and_then(|one| one.get("$ref")))
        .and_then(Value::as_str);
    match reference.and_then(|text| text.strip_prefix('#')).and_then(|path| schema.pointer(path)) {
        Some(target) => target,
        None => at,
    }
}

fn toml_text(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let inner: Map<String, Value> = map.clone();
            let fields: Vec<String> =
                inner.iter().map(|(key, value)| format!("{key} = {}", toml_text(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(list) => {
            format!("[{}]", list.iter().map(toml_text).collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_file_is_the_default() {
        let text = super::default_file();
        let read: super::Config =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (read, want) =
            (serde_json::to_value(read), serde_json::to_value(super::Config::default()));
        assert_eq!(read.expect("read"), want.expect("default"));
    }

    #[test]
    fn every_key_is_explained() {
        for key in super::keys() {
            assert!(!key.about.is_empty(), "{} has no doc comment", key.path);
        }
    }
}
