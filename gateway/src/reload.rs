//! `SIGHUP`: keys, limits, contracts and the log level are read again, and taken over as a whole or not at all.
//!
//! In comes a configuration that was read anew; out goes what of it needs a restart. Nobody is
//! disconnected: events that began under the old contract end under it, and what is new holds from the
//! next one on.

use serde_json::Value;

use crate::{
    config::Config,
    core::Core,
    gateway::{StartError, check, trial_auth},
    mount, telemetry,
};

/// What a reload takes over; a change to anything else needs a restart.
const LIVE: [&str; 5] = ["auth", "contract", "contracts", "limits", "log.level"];

/// These of the limits are built into the transport when it starts. What of them the gateway keeps itself,
/// the buckets of new connections, changes all the same.
const FIXED: [&str; 4] = [
    "limits.payload_bytes",
    "limits.connection.events_per_second",
    "limits.connection.burst",
    "limits.disconnect_after",
];

/// Takes over a configuration. Gives the keys that differ from those of the start and need a restart.
///
/// # Errors
/// [`StartError`], naming the key; then everything stays as it was.
pub(crate) fn reload(
    core: &Core,
    running: &Config,
    wanted: &Config,
) -> Result<Vec<String>, StartError> {
    check(wanted)?;
    let mounts = mount::mounts(wanted, &core.metrics)?;
    telemetry::check_level(&wanted.log.level)?;
    let trial = trial_auth(wanted);
    // The last that may fail; from here on everything is taken over.
    core.verifier.reload(trial.as_ref().unwrap_or(&wanted.auth))?;
    telemetry::set_level(&wanted.log.level)?;
    core.limits.store(wanted.limits.clone().into());
    for mount in &core.mounts {
        let other = mounts.iter().find(|other| {
            other.namespace == mount.namespace && other.contract().name == mount.contract().name
        });
        if let Some(other) = other {
            mount.serve_as(other);
        }
    }
    Ok(needs_restart(running, wanted))
}

fn needs_restart(running: &Config, wanted: &Config) -> Vec<String> {
    let value = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    let mut changed = Vec::new();
    differing("", &value(running), &value(wanted), &mut changed);
    let live = |key: &String| {
        let under = |of: &&str| key == *of || key.starts_with(&format!("{of}."));
        LIVE.iter().any(under) && !FIXED.contains(&key.as_str())
    };
    changed.retain(|key| !live(key));
    changed
}

/// The keys at which two configurations differ.
fn differing(key: &str, one: &Value, other: &Value, into: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let null = Value::Null;
                let value = |map: &serde_json::Map<String, Value>| map.get(name).cloned();
                let (a, b) = (value(one), value(other));
                differing(&key, a.as_ref().unwrap_or(&null), b.as_ref().unwrap_or(&null), into);
            }
        }
        (one, other) if one != other => into.push(key.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named() {
        let running = Config::default();
        let mut wanted = Config::default();
        wanted.limits.user.burst += 1;
        wanted.log.level = "debug".to_owned();
        assert_eq!(needs_restart(&running, &wanted), Vec::<String>::new());
        wanted.limits.payload_bytes += 1;
        wanted.limits.connection.burst += 1;
        wanted.engine.outbox_packets += 1;
        wanted.production = true;
        assert_eq!(
            needs_restart(&running, &wanted),
            [
                "engine.outbox_packets",
                "limits.connection.burst",
                "limits.payload_bytes",
                "production"
            ]
        );
    }
}
