//! A scenario: who connects, what they send and how often, and what the others must hear of it.
//!
//! In comes a TOML file, or the name of one that is built in, and changes from the command line; out goes a [`Scenario`]
//! that is whole: every group exists, every rate is a number, every message that others must hear carries its mark.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::template::Template;

/// Scenarios that need no file: their name and text.
const BUILT_IN: [(&str, &str); 15] = [
    ("idle", include_str!("../scenarios/idle.toml")),
    ("connect-storm", include_str!("../scenarios/connect-storm.toml")),
    ("fan-out", include_str!("../scenarios/fan-out.toml")),
    ("rooms", include_str!("../scenarios/rooms.toml")),
    ("echo", include_str!("../scenarios/echo.toml")),
    ("presence", include_str!("../scenarios/presence.toml")),
    ("reconnect-storm", include_str!("../scenarios/reconnect-storm.toml")),
    ("slow-consumers", include_str!("../scenarios/slow-consumers.toml")),
    ("mixed", include_str!("../scenarios/mixed.toml")),
    ("joins", include_str!("../scenarios/joins.toml")),
    ("toolbox", include_str!("../scenarios/toolbox.toml")),
    ("codx", include_str!("../scenarios/codx.toml")),
    ("coding-assistant", include_str!("../scenarios/coding-assistant.toml")),
    ("agent-stream", include_str!("../scenarios/agent-stream.toml")),
    ("security-gate", include_str!("../scenarios/security-gate.toml")),
];

/// Most clients of a run.
const MOST_CLIENTS: u64 = 10_000_000;

/// Most sends of one client's in a second, and most bytes that one is padded with.
const MOST_PER_SECOND: f64 = 1e6;
const MOST_BYTES: usize = 16 << 20;

/// A load, as a file describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it shows, in a line.
    #[serde(default)]
    pub about: String,
    /// The contract that a gateway which the tool starts serves at `/`.
    #[serde(default = "default_contract")]
    pub contract: String,
    /// The namespace that is joined.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Where Socket.IO is served.
    #[serde(default = "default_path")]
    pub path: String,
    /// How clients connect.
    #[serde(default)]
    pub transport: Transport,
    /// How many connect in a second, in an open loop.
    #[serde(default = "default_connects")]
    pub connects_per_second: f64,
    /// How long all of them may take to be ready.
    #[serde(default = "default_within", with = "humantime_serde")]
    pub connect_within: Duration,
    /// How long everybody is quiet between connecting and sending, so that memory at rest can be read.
    #[serde(default = "default_rest", with = "humantime_serde")]
    pub rest: Duration,
    /// What is sent but not measured.
    #[serde(default = "default_warm_up", with = "humantime_serde")]
    pub warm_up: Duration,
    /// What is measured.
    #[serde(default = "default_duration", with = "humantime_serde")]
    pub duration: Duration,
    /// How long what is on its way may take at the end before it counts as lost.
    #[serde(default = "default_settle", with = "humantime_serde")]
    pub settle: Duration,
    /// How long a client that was cut off waits before it returns, give or take a half.
    #[serde(default = "default_return", with = "humantime_serde")]
    pub returns_after: Duration,
    /// Events by which the server refuses what asked for no ack.
    #[serde(default)]
    pub refusal_events: Vec<String>,
    /// Who connects.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
}

/// Clients that do the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    /// What they are called.
    pub name: String,
    /// How many.
    pub clients: u32,
    /// Over how many rooms they are spread, in turns.
    #[serde(default = "one")]
    pub rooms: u32,
    /// What they speak.
    #[serde(default)]
    pub via: Via,
    /// How these connect, where they differ from the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// The payload of their CONNECT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Value>,
    /// The roles in their tokens.
    #[serde(default)]
    pub roles: Vec<String>,
    /// They are in their room, and must hear what is sent to it.
    #[serde(default = "yes")]
    pub listens: bool,
    /// They read what they are sent; `false` makes slow consumers, who are not asked what they heard, and find out at
    /// the end whether they were cut off.
    #[serde(default = "yes")]
    pub reads: bool,
    /// What each does once, in order, before it is ready.
    #[serde(default, rename = "step", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// What each sends, over and over.
    #[serde(default, rename = "send", skip_serializing_if = "Vec::is_empty")]
    pub sends: Vec<Send>,
    /// What each leaves and joins again, over and over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<Cycle>,
    /// When their connections are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// Something that is waited for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// The event's name.
    pub event: String,
    /// Its payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// It is done when this event comes; without it, when the ack does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Names for later blanks, each with the field of the answer that it takes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capture: BTreeMap<String, String>,
}

/// Something that is sent on schedule.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Send {
    /// The event's name; over HTTP, the path.
    pub event: String,
    /// Its payload; over HTTP, the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// How often each client sends it, per second.
    pub rate: f64,
    /// Who must hear it.
    #[serde(default)]
    pub to: To,
    /// It is acknowledged.
    #[serde(default = "yes")]
    pub ack: bool,
    /// How long `{pad}` is.
    #[serde(default)]
    pub pad: usize,
    /// Bytes of a binary argument after the payload; 0 for none.
    #[serde(default)]
    pub bytes: usize,
    /// How sends are apart.
    #[serde(default)]
    pub arrival: Arrival,
}

/// Coming and going without losing the connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cycle {
    /// How often each does it, per second.
    pub rate: f64,
    /// What is done to leave.
    pub leave: Vec<Step>,
    /// How long one is away.
    #[serde(default, with = "humantime_serde")]
    pub away: Duration,
    /// What is done to join again.
    pub join: Vec<Step>,
}

/// Connections that the tool itself cuts off; their clients return at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cut {
    /// How long after the start of sending.
    #[serde(with = "humantime_serde")]
    pub at: Duration,
    /// Again after so long.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// Which share of the group, 0 to 1.
    #[serde(default = "all")]
    pub share: f64,
}

/// How a client connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// WebSocket from the beginning.
    #[default]
    Websocket,
    /// HTTP polling from beginning to end.
    Polling,
    /// A handshake over polling, and WebSocket from then on, as official clients do.
    Upgrade,
}

/// What a group speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Via {
    /// Socket.IO.
    #[default]
    Socket,
    /// HTTP to the internal listener: an application that speaks to its clients through the server API.
    Api,
}

/// Who must hear a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum To {
    /// Nobody: the ack is all.
    #[default]
    Nobody,
    /// The sender.
    Sender,
    /// The others in the sender's room.
    Others,
    /// All in the sender's room.
    Room,
    /// All who listen.
    All,
}

/// How sends are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrival {
    /// Evenly, and the clients of a group evenly among each other.
    #[default]
    Even,
    /// As independent people do: exponentially distributed pauses.
    Poisson,
}

fn default_contract() -> String {
    "toolbox".into()
}
fn default_namespace() -> String {
    "/".into()
}
fn default_path() -> String {
    "/socket.io/".into()
}
const fn default_connects() -> f64 {
    500.0
}
const fn default_within() -> Duration {
    Duration::from_mins(1)
}
const fn default_rest() -> Duration {
    Duration::from_secs(1)
}
const fn default_warm_up() -> Duration {
    Duration::from_secs(1)
}
const fn default_duration() -> Duration {
    Duration::from_secs(10)
}
const fn default_settle() -> Duration {
    Duration::from_secs(5)
}
const fn default_return() -> Duration {
    Duration::from_secs(1)
}
const fn one() -> u32 {
    1
}
const fn yes() -> bool {
    true
}
const fn all() -> f64 {
    1.0
}

/// The scenarios that are built in: name and first line.
pub(crate) fn built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN.into_iter()
}

impl Scenario {
    /// Reads a file, or what is built in under this name, with changes of the form `duration=5s` or `listener.clients=50`.
    pub(crate) fn load(name: &str, changes: &[String]) -> Result<Self> {
        let text = match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => (*text).to_owned(),
            None if Path::new(name).exists() => {
                std::fs::read_to_string(name).with_context(|| name.to_owned())?
            }
            None => {
                let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                bail!("{name} is no file and no built-in scenario; those are {}", names.join(", "));
            }
        };
        Self::parse(&text, changes).with_context(|| format!("scenario {name}"))
    }

    fn parse(text: &str, changes: &[String]) -> Result<Self> {
        let mut table: Table = text.parse()?;
        for change in changes {
            apply(&mut table, change).with_context(|| format!("--set {change}"))?;
        }
        let scenario: Self = table.try_into()?;
        scenario.check()?;
        Ok(scenario)
    }

    /// How many clients there are.
    pub(crate) fn clients(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.clients)).sum()
    }

    /// The same load, so many times as often.
    pub(crate) fn times(mut self, factor: f64) -> Self {
        for send in self.groups.iter_mut().flat_map(|group| &mut group.sends) {
            send.rate *= factor;
        }
        self
    }

    fn check(&self) -> Result<()> {
        ensure!(self.namespace.starts_with('/'), "namespace: begins with /");
        ensure!(self.path.starts_with('/'), "path: begins with /");
        ensure!(self.connects_per_second > 0.0, "connects_per_second: more than 0");
        ensure!((1..=MOST_CLIENTS).contains(&self.clients()), "1 to {MOST_CLIENTS} clients");
        for group in &self.groups {
            group.check(&self.namespace).with_context(|| format!("group {}", group.name))?;
        }
        Ok(())
    }
}

impl Group {
    fn check(&self, namespace: &str) -> Result<()> {
        ensure!(self.rooms > 0, "rooms: at least 1");
        ensure!(self.sends.len() <= 64, "at most 64 kinds of sends");
        let rates = self.sends.iter().map(|send| send.rate);
        for rate in rates.chain(self.cycle.iter().map(|cycle| cycle.rate)) {
            ensure!(rate > 0.0 && rate <= MOST_PER_SECOND, "rate: more than 0, at most a million");
        }
        if let Some(every) = self.cut.as_ref().and_then(|cut| cut.every) {
            ensure!(every >= Duration::from_millis(100), "cut.every: at least 100ms");
        }
        for send in &self.sends {
            ensure!(
                send.pad.max(send.bytes) <= MOST_BYTES,
                "send {}: at most {MOST_BYTES} bytes",
                send.event
            );
            let text = send.data.as_ref().map(json).transpose()?.unwrap_or_default();
            let heard = send.to != To::Nobody;
            ensure!(
                !heard || Template::parse(&text).has_mark(),
                "send {}: what others must hear carries {{mark}} in its data",
                send.event
            );
        }
        if self.via == Via::Api {
            ensure!(self.steps.is_empty() && self.cycle.is_none(), "the server API knows no steps");
        }
        ensure!(namespace.is_ascii(), "namespace: ASCII");
        let mut known: Vec<&str> = Vec::new();
        for step in &self.steps {
            let text = step.data.as_ref().map(json).transpose()?.unwrap_or_default();
            for word in Template::parse(&text).captured() {
                ensure!(known.contains(&word), "step {}: nothing captures {{{word}}}", step.event);
            }
            known.extend(step.capture.keys().map(String::as_str));
        }
        Ok(())
    }
}

/// A TOML value as JSON text.
pub(crate) fn json(value: &Value) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Makes one change: `key=value`, `group.key=value`, or `group.rate=value` for all sends of a group.
fn apply(table: &mut Table, change: &str) -> Result<()> {
    let (path, text) = change.split_once('=').ok_or_else(|| anyhow!("written as key=value"))?;
    // A bare word is a string: nobody quotes on a command line.
    let value = format!("v = {text}").parse::<Table>().ok().and_then(|mut one| one.remove("v"));
    let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
    let Some((group, key)) = path.split_once('.') else {
        table.insert(path.to_owned(), value);
        return Ok(());
    };
    let groups = table.get_mut("group").and_then(Value::as_array_mut);
    let found = groups.into_iter().flatten().filter_map(Value::as_table_mut);
    let mut found = found.filter(|table| table.get("name").and_then(Value::as_str) == Some(group));
    let table = found.next().ok_or_else(|| anyhow!("no group is called {group}"))?;
    if matches!(key, "rate" | "pad" | "bytes" | "arrival") {
        let sends = table.get_mut("send").and_then(Value::as_array_mut);
        for send in sends.into_iter().flatten().filter_map(Value::as_table_mut) {
            send.insert(key.to_owned(), value.clone());
        }
    } else {
        table.insert(key.to_owned(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_whole() {
        for (name, _) in BUILT_IN {
            let scenario = Scenario::load(name, &[]).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn changes_reach_what_they_name() {
        let changes =
            ["duration=3s", "listener.clients=7", "talker.rate=2.5", "talker.arrival=poisson"];
        let scenario = Scenario::load("fan-out", &changes.map(str::to_owned)).unwrap();
        assert_eq!(scenario.duration, Duration::from_secs(3));
        let group = |name: &str| scenario.groups.iter().find(|group| group.name == name).unwrap();
        assert_eq!(group("listener").clients, 7);
        assert!((group("talker").sends[0].rate - 2.5).abs() < 1e-9);
        assert_eq!(group("talker").sends[0].arrival, Arrival::Poisson);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let base = "name='x'\n[[group]]\nname='g'\nclients=1\n";
        let send = |more: &str| format!("{base}[[group.send]]\nevent='e'\n{more}");
        let cases = [
            ("unknown key", format!("{base}colour=1"), "colour"),
            ("no clients", "name='x'\n[[group]]\nname='g'\nclients=0\n".into(), "1 to"),
            ("a rate of nothing", send("rate=0"), "rate"),
            ("no mark", send("rate=1\nto='room'\ndata={a=1}"), "{mark}"),
            (
                "nothing captured",
                format!("{base}[[group.step]]\nevent='e'\ndata={{s='{{session}}'}}"),
                "{session}",
            ),
        ];
        for (name, text, want) in cases {
            let error = format!("{:#}", Scenario::parse(&text, &[]).unwrap_err());
            assert!(error.contains(want), "{name}: {error}");
        }
        for change in ["x", "nobody.clients=1", "colour=3"] {
            assert!(Scenario::load("idle", &[change.to_owned()]).is_err(), "{change}");
        }
    }
}
