//! Read → overlay → resolve → check.
//!
//! In come the file's text, the environment and what the command line says; out goes a [`Config`].

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::sections::Config;
use crate::identity::Secret;

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The configuration file, if one was named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

/// Why there is no configuration. Every message names the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    File {
        /// Its path.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or says something that is not known.
    #[error("{file}: {message}")]
    Syntax {
        /// Its path.
        file: String,
        /// What, and where.
        message: String,
    },
    /// Keys have values that they cannot have together.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<ConfigError>),
    /// A key has a value that it cannot have.
    #[error("{key}: {message}")]
    Value {
        /// The key, or the variable that set it.
        key: String,
        /// What would be right.
        message: String,
    },
}

fn value(key: impl Into<String>, message: impl std::fmt::Display) -> ConfigError {
    ConfigError::Value { key: key.into(), message: message.to_string() }
}

/// Reads the file, lays the environment over it and checks the result.
///
/// # Errors
/// [`ConfigError`], naming the key.
pub fn load(source: &Source) -> Result<Config, ConfigError> {
    let mut table = toml::Table::new();
    if let Some(path) = &source.file {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { file: file.clone(), source })?;
        table = read(&file, &text)?;
    }
    let mut origin = BTreeMap::new();
    for (name, text) in &source.env {
        if let Some(path) = name.strip_prefix("GATEWAY__") {
            overlay(&mut table, name, path, text, &mut origin)?;
        }
    }
    let mut config: Config =
        serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
            let path = error.path().to_string();
            let message = error.into_inner().to_string();
            let key = origin
                .iter()
                .find(|(key, _)| {
                    path.starts_with(key.as_str()) || message.contains(&format!("`{}`", last(key)))
                })
                .map_or(path.clone(), |(key, name)| format!("{name} ({key})"));
            value(key, message.trim_end())
        })?;
    named_variables(&mut config, &source.env)?;
    check(&config)?;
    Ok(config)
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The file alone, so that an error can say its line.
fn read(file: &str, text: &str) -> Result<toml::Table, ConfigError> {
    let syntax = |message: String| ConfigError::Syntax { file: file.to_owned(), message };
    let deserializer = toml::Deserializer::parse(text)
        .map_err(|error| syntax(error.to_string().trim_end().to_owned()))?;
    serde_path_to_error::deserialize::<_, Config>(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let line = inner
            .span()
            .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1)
            .map_or_else(String::new, |line| format!("line {line}: "));
        syntax(format!("{line}{path}: {}", inner.message()))
    })?;
    toml::from_str(text).map_err(|error| syntax(error.to_string()))
}

/// Puts one `GATEWAY__A__B` variable into the table.
fn overlay(
    table: &mut toml::Table,
    name: &str,
    path: &str,
    text: &str,
    origin: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    let keys: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    if keys.iter().any(String::is_empty) {
        return Err(value(name, "written as GATEWAY__SECTION__KEY"));
    }
    origin.insert(keys.join("."), name.to_owned());
    let Some((key, parents)) = keys.split_last() else { return Ok(()) };
    let mut at = table;
    for parent in parents {
        at = at
            .entry(parent.clone())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| value(name, format!("`{parent}` is not a section")))?;
    }
    at.insert(key.clone(), scalar(text));
    Ok(())
}

/// A number, a boolean, a list or a table as TOML writes it, else the text itself.
fn scalar(text: &str) -> toml::Value {
    #[derive(Deserialize)]
    struct One {
        value: toml::Value,
    }
    let parsed = toml::from_str::<One>(&format!("value = {text}")).map(|one| one.value);
    match parsed {
        Ok(value) if !value.is_datetime() => value,
        Ok(_) | Err(_) => toml::Value::String(text.to_owned()),
    }
}

/// The variables with names of their own.
fn named_variables(config: &mut Config, env: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    if let Some(secret) = secret(env, "GATEWAY_JWT_SECRET")? {
        config.auth.jwt_secret = Some(secret);
        config.auth.jwt_secret_file = None;
    }
    if let Some(key) = secret(env, "GATEWAY_API_KEY")? {
        config.api.key = Some(key);
        config.api.key_file = None;
    }
    if let Some(url) = secret(env, "REDIS_URL")? {
        config.redis.url = url.expose().to_owned().into();
    }
    if let Some(path) = config.api.key_file.take() {
        config.api.key = Some(secret_file("api.key_file", &path)?);
    }
    if let Some(path) = config.auth.jwt_secret_file.take() {
        config.auth.jwt_secret = Some(secret_file("auth.jwt_secret_file", &path)?);
    }
    if let Some(origins) = env.get("SOCKET_CORS_ORIGIN") {
        config.http.origins = origins
            .split(',')
            .map(|origin| origin.trim().to_owned())
            .filter(|o| !o.is_empty())
            .collect();
    }
    if let Some(most) = number(env, "SOCKET_MAX_CONNECTIONS")? {
        config.limits.connections_per_pod =
            u32::try_from(most).map_err(|error| value("SOCKET_MAX_CONNECTIONS", error))?;
    }
    for (name, target) in [
        ("SOCKET_PING_TIMEOUT", &mut config.engine.ping_timeout),
        ("SOCKET_PING_INTERVAL", &mut config.engine.ping_interval),
        ("SOCKET_UPGRADE_TIMEOUT", &mut config.engine.upgrade_timeout),
    ] {
        if let Some(milliseconds) = number(env, name)? {
            *target = Duration::from_millis(milliseconds);
        }
    }
    Ok(())
}

fn number(env: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>, ConfigError> {
    env.get(name)
        .map(|text| {
            text.trim().parse().map_err(|_| value(name, format!("`{text}` is not a whole number")))
        })
        .transpose()
}

/// A secret from `NAME` or from the file that `NAME_FILE` names.
fn secret(env: &BTreeMap<String, String>, name: &str) -> Result<Option<Secret>, ConfigError> {
    let file = format!("{name}_FILE");
    match (env.get(name).filter(|text| !text.is_empty()), env.get(&file)) {
        (Some(_), Some(_)) => Err(value(name, format!("set {name} or {file}, not both"))),
        (Some(text), None) => Ok(Some(Secret::new(text.clone()))),
        (None, Some(path)) => secret_file(&file, &PathBuf::from(path)).map(Some),
        (None, None) => Ok(None),
    }
}

fn secret_file(key: &str, path: &PathBuf) -> Result<Secret, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| value(key, format!("{}: {error}", path.display())))?;
    Ok(Secret::new(text.trim_end().to_owned()))
}

/// What a single key's type cannot say.
fn check(config: &Config) -> Result<(), ConfigError> {
    let not_zero = |key: &str, duration: Duration| {
        if duration.is_zero() { Err(value(key, "more than 0")) } else { Ok(()) }
    };
    not_zero("engine.ping_interval", config.engine.ping_interval)?;
    not_zero("engine.ping_timeout", config.engine.ping_timeout)?;
    not_zero("engine.write_timeout", config.engine.write_timeout)?;
    not_zero("engine.queue_timeout", config.engine.queue_timeout)?;
    not_zero("engine.upgrade_timeout", config.engine.upgrade_timeout)?;
    not_zero("engine.connect_timeout", config.engine.connect_timeout)?;
    not_zero("drain.grace", config.drain.grace)?;
    if config.engine.outbox_packets == 0 {
        return Err(value("engine.outbox_packets", "at least 1"));
    }
    if config.limits.waiting_events == 0 {
        return Err(value("limits.waiting_events", "at least 1"));
    }
    if config.limits.payload_bytes == 0 {
        return Err(value("limits.payload_bytes", "at least 1: a packet needs a bound"));
    }
    if !(0.0..=1.0).contains(&config.trace.sample) {
        return Err(value("trace.sample", "between 0 and 1"));
    }
    if config.http.socket_paths.is_empty() {
        return Err(value("http.socket_paths", "at least one path, such as /socket.io"));
    }
    for path in &config.http.socket_paths {
        if !path.starts_with('/') || path.trim_end_matches('/').is_empty() {
            return Err(value(
                "http.socket_paths",
                format!("`{path}` starts with / and names a path"),
            ));
        }
    }
    if config.redis.url.is_set() && !is_redis(config.redis.url.reveal()) {
        let text =
            "written as redis://HOST:PORT, or rediss://, redis+sentinel://, redis+cluster://";
        return Err(value("redis.url", text));
    }
    let same = config.listen == config.internal_listen && config.listen.port() != 0;
    if same {
        return Err(value("internal_listen", "another address than listen"));
    }
    for origin in &config.http.origins {
        if origin != "*" && !origin.contains("://") {
            let text = format!("`{origin}` is written with its scheme, as https://{origin}");
            return Err(value("http.origins", text));
        }
    }
    if let Some(endpoint) = &config.trace.endpoint
        && !endpoint.contains("://")
    {
        let text = format!("`{endpoint}` is written as http://HOST:4318/v1/traces");
        return Err(value("trace.endpoint", text));
    }
    if config.http.origins.is_empty() {
        return Err(value("http.origins", "at least one origin, or *"));
    }
    for mount in &config.mount {
        if !mount.namespace.starts_with('/') {
            return Err(value("mount.namespace", format!("`{}` starts with /", mount.namespace)));
        }
    }
    if config.production {
        production(config)?;
    }
    Ok(())
}

fn is_redis(url: &str) -> bool {
    url.starts_with("redis") && url.contains("://") || url.starts_with("unix://")
}

/// What is not to be had in production, all of it.
fn production(config: &Config) -> Result<(), ConfigError> {
    let mut faults = Vec::new();
    if config.http.origins.iter().any(|origin| origin == "*") {
        let text = "`*` is not for production: name the origins, such as [\"https://app.example\"]";
        faults.push(value("http.origins", text));
    }
    if config.debug.enabled == Some(true) {
        faults.push(value("debug.enabled", "not for production"));
    }
    if config.auth.has_short_secret() {
        faults.push(value("auth.jwt_secret", "at least 32 bytes in production"));
    }
    match faults.len() {
        0 => Ok(()),
        1 => Err(faults.remove(0)),
        _ => Err(ConfigError::Several(faults)),
    }
}

/// Variables that look like ours and mean nothing: one underscore where two belong. They are no error,
/// since a cluster sets variables for a service of this name.
pub fn strangers(env: &BTreeMap<String, String>) -> Vec<String> {
    let sections = serde_json::to_value(Config::default()).unwrap_or_default();
    let is_section = |word: &str| sections.get(word.to_lowercase()).is_some();
    let known = ["GATEWAY_JWT_SECRET", "GATEWAY_API_KEY"];
    env.keys()
        .filter(|name| !known.contains(&name.trim_end_matches("_FILE")))
        .filter_map(|name| {
            let rest = name.strip_prefix("GATEWAY_").filter(|rest| !rest.starts_with('_'))?;
            let (section, key) = rest.split_once('_')?;
            is_section(section).then(|| {
                let key = key.trim_start_matches('_');
                format!("{name} means nothing here; was GATEWAY__{section}__{key} meant?")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        load(&Source { file: None, env })
    }

    #[test]
    fn environment_wins() {
        let config = with(&[
            ("GATEWAY__LIMITS__CONNECTION__BURST", "7"),
            ("GATEWAY__HTTP__ORIGINS", "[\"https://a.example\"]"),
            ("GATEWAY__LOG__LEVEL", "debug"),
            ("GATEWAY__UPSTREAM__APP__KIND", "http"),
            ("GATEWAY__UPSTREAM__APP__URL", "http://127.0.0.1:1/"),
            ("SOCKET_PING_TIMEOUT", "60000"),
            ("SOCKET_CORS_ORIGIN", "http://localhost:3000, http://b.example"),
            ("GATEWAY_API_KEY", "k"),
        ])
        .expect("loads");
        assert_eq!(config.limits.connection.burst, 7);
        assert_eq!(config.http.origins, ["http://localhost:3000", "http://b.example"]);
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.engine.ping_timeout, Duration::from_mins(1));
        assert!(config.upstream.contains_key("app"));
        assert!(!format!("{config:?}").contains("\"k\""), "secrets are not shown");
    }

    #[test]
    fn refusals_name_the_key() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[("GATEWAY__LIMITS__BRUST", "7")], "brust"),
            (&[("GATEWAY__NOSUCH__KEY", "7")], "nosuch"),
            (
                &[("GATEWAY__LIMITS__CONNECTION__BURST", "many")],
                "GATEWAY__LIMITS__CONNECTION__BURST",
            ),
            (&[("GATEWAY__ENGINE__PING_INTERVAL", "0s")], "engine.ping_interval"),
            (&[("SOCKET_PING_TIMEOUT", "soon")], "SOCKET_PING_TIMEOUT"),
            (&[("GATEWAY__PRODUCTION", "true")], "http.origins"),
            (&[("GATEWAY_API_KEY", "a"), ("GATEWAY_API_KEY_FILE", "b")], "GATEWAY_API_KEY"),
        ];
        for (env, want) in cases {
            let error = with(env).expect_err(want).to_string();
            assert!(error.contains(want), "`{error}` names {want}");
        }
    }

    #[test]
    fn file_errors_say_the_line() {
        let error =
            read("g.toml", "production = false\n[limits]\nburts = 1\n").expect_err("unknown key");
        let text = error.to_string();
        assert!(text.contains("line 3") && text.contains("burts"), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = read("g.toml", &text);
        }

        #[test]
        fn any_variable_is_read_or_refused(key in "[A-Z_]{0,40}", text in "\\PC{0,40}") {
            let _ = with(&[(&format!("GATEWAY__{key}"), &text)]);
        }
    }
}
