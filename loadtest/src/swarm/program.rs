//! What each client of a group does, ready to be done: texts with blanks instead of values, microseconds instead of rates.
//!
//! In comes a [`Scenario`]; out goes a [`Program`] for each of its groups.

use anyhow::{Result, ensure};

use crate::{
    number::{micros, whole},
    scenario::{Arrival, Cycle, Group, Scenario, Send, Step, Transport, Via, json},
    template::Template,
};

/// Where a binary argument stands in a payload, and what stands there on the wire.
const BYTES: &str = r#""{bytes}""#;
const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

/// What each client of a group does.
#[derive(Debug)]
pub(crate) struct Program {
    pub via: Via,
    pub transport: Transport,
    pub auth: Option<Template>,
    pub roles: Vec<String>,
    pub needs_token: bool,
    pub reads: bool,
    pub clients: u32,
    pub steps: Vec<Asked>,
    pub sends: Vec<Sent>,
    pub cycle: Option<Turns>,
    /// When connections are cut, from the start of sending, and which share of them.
    pub cut: Option<(u64, Option<u64>, f64)>,
}

/// A step.
#[derive(Debug)]
pub(crate) struct Asked {
    pub body: Template,
    pub until: Option<Box<[u8]>>,
    pub capture: Vec<(Box<str>, String)>,
}

/// A send.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The event and its payload as a JSON array; over HTTP, the body.
    pub body: Template,
    /// The path, over HTTP.
    pub path: String,
    /// The binary argument.
    pub bytes: Option<Vec<u8>>,
    /// Microseconds from one to the next.
    pub period: f64,
    pub ack: bool,
    pub pad: usize,
    pub arrival: Arrival,
}

/// Leaving and joining.
#[derive(Debug)]
pub(crate) struct Turns {
    pub period: f64,
    pub leave: Vec<Asked>,
    pub away: u64,
    pub join: Vec<Asked>,
}

impl Program {
    /// The programs of all groups.
    pub(crate) fn all(scenario: &Scenario) -> Result<Vec<Self>> {
        scenario.groups.iter().map(|group| Self::of(group, scenario.transport)).collect()
    }

    fn of(group: &Group, transport: Transport) -> Result<Self> {
        let auth = group.auth.as_ref().map(json).transpose()?.map(|text| Template::parse(&text));
        let needs_token = auth.as_ref().is_some_and(Template::has_token);
        Ok(Self {
            via: group.via,
            transport: group.transport.unwrap_or(transport),
            auth,
            roles: group.roles.clone(),
            needs_token,
            reads: group.reads,
            clients: group.clients,
            steps: asked(&group.steps)?,
            sends: group.sends.iter().map(|send| sent(send, group.via)).collect::<Result<_>>()?,
            cycle: group.cycle.as_ref().map(turns).transpose()?,
            cut: group.cut.as_ref().map(|cut| (micros(cut.at), cut.every.map(micros), cut.share)),
        })
    }
}

fn asked(steps: &[Step]) -> Result<Vec<Asked>> {
    let one = |step: &Step| {
        Ok(Asked {
            body: Template::parse(&array(&step.event, step.data.as_ref())?),
            until: step.until.as_ref().map(|name| name.as_bytes().into()),
            capture: step
                .capture
                .iter()
                .map(|(name, field)| (name.as_str().into(), field.clone()))
                .collect(),
        })
    };
    steps.iter().map(one).collect()
}

fn sent(send: &Send, via: Via) -> Result<Sent> {
    let text = match via {
        Via::Socket => array(&send.event, send.data.as_ref())?,
        Via::Api => send.data.as_ref().map(json).transpose()?.unwrap_or_default(),
    };
    let bytes = (send.bytes > 0).then(|| vec![0xa5; send.bytes]);
    ensure!(
        bytes.is_none() || (text.contains(BYTES) && via == Via::Socket),
        "send {}: a binary argument stands as \"{{bytes}}\" in the data of an event",
        send.event
    );
    Ok(Sent {
        body: Template::parse(&text.replace(BYTES, PLACEHOLDER)),
        path: send.event.clone(),
        bytes,
        period: 1e6 / send.rate,
        ack: send.ack,
        pad: send.pad,
        arrival: send.arrival,
    })
}

fn turns(cycle: &Cycle) -> Result<Turns> {
    Ok(Turns {
        period: 1e6 / cycle.rate,
        leave: asked(&cycle.leave)?,
        away: micros(cycle.away),
        join: asked(&cycle.join)?,
    })
}

/// An event as Socket.IO has it.
fn array(event: &str, data: Option<&toml::Value>) -> Result<String> {
    let name = serde_json::to_string(event)?;
    Ok(match data {
        Some(data) => format!("[{name},{}]", json(data)?),
        None => format!("[{name}]"),
    })
}

/// A moment after another, so many periods later: no rounding adds up over a run.
pub(crate) fn after(start: u64, periods: f64, period: f64) -> u64 {
    start.saturating_add(whole(periods * period))
}
