//! The shape of a contract file: one struct for each table, with what each key means.
//!
//! In comes parsed TOML; out goes plain data with compiled templates. Whether the parts fit together
//! (schemas, `like`, names of rules) is `check.rs`'s to say.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    schema::Shape,
    step::{Announcement, DemoPart, Refused, Step, duration},
    template::Template,
};

/// Whether a connection needs a token.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// None is needed; one that is given must be good all the same.
    #[default]
    None,
    /// As `none`; events of the contract log in.
    Optional,
    /// A connection without a good token is refused.
    Required,
}

/// One application's contract.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Its name, as mountings use it.
    pub name: String,
    /// One line about it.
    #[serde(default)]
    pub about: String,
    /// Whether a connection needs a token.
    #[serde(default)]
    pub auth: AuthMode,
    /// The payload field that names the sender: never believed where the connection has a user.
    #[serde(default = "user_id")]
    pub identity: String,
    /// Fields put beside those of every event that the gateway emits.
    pub envelope: Option<Template>,
    /// How refusals are told where no step or event says otherwise.
    #[serde(default = "default_refused")]
    pub refused: Refused,
    /// Values that an operator may set, under `[contract.NAME]`, with their defaults.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// JSON Schemas that payloads may refer to as `#/$defs/NAME`.
    #[serde(default)]
    pub schemas: Map<String, Value>,
    /// A second namespace for trying things out.
    pub debug: Option<Debug>,
    /// Stored sessions.
    #[serde(default)]
    pub documents: Documents,
    /// Rooms whose comings and goings are announced, by the pattern of their names.
    #[serde(default)]
    pub room: BTreeMap<String, RoomRule>,
    /// Locks.
    #[serde(default)]
    pub lock: BTreeMap<String, LockRule>,
    /// Lists of connections.
    #[serde(default)]
    pub roster: BTreeMap<String, Roster>,
    /// Typing marks.
    pub typing: Option<Typing>,
    /// Presence.
    pub presence: Option<Presence>,
    /// What is told to everybody when it changes.
    pub watch: Option<Watch>,
    /// Done for every new connection.
    #[serde(default)]
    pub on_connect: Steps,
    /// What clients may send.
    #[serde(default)]
    pub event: BTreeMap<String, Event>,
    /// What the application behind may send, checked and completed.
    #[serde(default)]
    pub out: BTreeMap<String, Out>,
}

fn user_id() -> String {
    "userId".to_owned()
}

fn default_refused() -> Refused {
    let data = serde_json::json!({
        "code": "{error.code}", "message": "{error.message}", "event": "{event}",
        "retry_after_ms?": "{error.retry_after_ms}", "holder?": "{error.holder}",
    });
    Refused {
        event: "error".to_owned(),
        data: Template::compile(&data).unwrap_or(Template::Literal(Value::Null)),
        always: false,
        shows_payload: false,
    }
}

/// A second namespace with `echo`, `join`, `leave` and `rooms`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debug {
    /// Its name.
    pub namespace: String,
}

/// Stored sessions of the contract.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Documents {
    /// A session is forgotten this long after it was last used.
    #[serde(deserialize_with = "duration")]
    pub ttl: Duration,
    /// The state that it begins with.
    pub initial: Value,
}

impl Default for Documents {
    fn default() -> Self {
        Self { ttl: Duration::from_hours(1), initial: Value::Object(Map::new()) }
    }
}

/// A list of steps.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// Done in order.
    #[serde(rename = "do", default)]
    pub steps: Vec<Step>,
}

/// A room whose comings and goings are announced.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomRule {
    /// Its users are listed cluster-wide.
    #[serde(default)]
    pub roster: bool,
    /// It was joined as somebody: who logs out leaves it.
    #[serde(default)]
    pub personal: bool,
    /// Told to the others when a user's first connection joins.
    pub joined: Option<Announcement>,
    /// Told to the others when a user's last connection is gone.
    pub left: Option<Announcement>,
}

/// A lock with a name, announced in a room.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRule {
    /// Its name, over the parameters of `with`.
    pub name: Template,
    /// Where it is announced; leaving this room gives the lock back.
    pub room: Template,
    /// Told to the others when it is taken.
    pub locked: Announcement,
    /// Told to the others however it ends; `reason` is bound.
    pub unlocked: Announcement,
}

/// A list of connections and what each shows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Told when a connection is gone from it; `members` is bound.
    pub left: Announcement,
}

/// Typing marks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Typing {
    /// The event's name.
    pub event: String,
    /// A mark ends this long after it was last renewed.
    #[serde(deserialize_with = "duration")]
    pub ttl: Duration,
    /// The rooms that a mark without a room is for: all of the sender's whose names start so.
    pub rooms: String,
    /// The payload; `typing` and the room rule's parameters (`room`) are bound.
    pub data: Template,
}

/// Presence of users.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// The event's name.
    pub event: String,
    /// The payload; `status` and `activity` are bound.
    pub data: Template,
}

/// What is told to everybody when it changes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The event's name.
    pub event: String,
    /// The payload; `health` is bound.
    pub data: Template,
}

/// A rate that one user (or one connection, if anonymous) may send an event at, in the cluster.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Events per second in the long run.
    pub per_second: f64,
    /// Events at once.
    pub burst: u32,
}

/// An event that clients may send.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// One line about it.
    #[serde(default)]
    pub about: String,
    /// Takes over every key that is not written here from this event.
    pub like: Option<String>,
    /// JSON Schema of the first argument.
    pub payload: Option<Value>,
    /// Other spellings of payload fields.
    pub aliases: Option<BTreeMap<String, String>>,
    /// A connection without a user is refused with `UNAUTHORIZED`.
    pub login: Option<bool>,
    /// The roles that may send it; none written: everybody.
    pub roles: Option<Vec<String>>,
    /// How often.
    pub limit: Option<Limit>,
    /// The upstream it goes to, where that is not `app`.
    pub upstream: Option<String>,
    /// What it does.
    #[serde(rename = "do")]
    pub steps: Option<Vec<Step>>,
    /// Fields of the ack besides `ok`, `event` and `ts`.
    pub ack: Option<Template>,
    /// The whole ack, in place of the usual one.
    pub reply: Option<Template>,
    /// How its refusals are told.
    pub refused: Option<Refused>,
    /// What the demo upstream answers.
    pub demo: Option<Vec<DemoPart>>,
    /// The compiled `payload`.
    #[serde(skip)]
    pub shape: Option<Shape>,
}

/// An event that the application behind may send.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Out {
    /// One line about it.
    #[serde(default)]
    pub about: String,
    /// Other spellings of payload fields.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// Fields that are filled in where they are missing, also inside objects.
    pub default: Option<Template>,
    /// JSON Schema of the first argument, after `aliases` and `default`.
    pub payload: Option<Value>,
    /// The compiled `payload`.
    #[serde(skip)]
    pub shape: Option<Shape>,
}

/// The three parts of a room pattern `before{param}after`; without a parameter the whole is `before`.
///
/// # Errors
/// Where it has more than one parameter or an unclosed one.
pub(super) fn pattern(text: &str) -> Result<(&str, Option<&str>, &str), String> {
    let Some((before, rest)) = text.split_once('{') else { return Ok((text, None, "")) };
    let (param, after) = rest.split_once('}').ok_or_else(|| "a `{` without its `}`".to_owned())?;
    if after.contains('{') || param.is_empty() {
        return Err("one parameter at most, with a name".to_owned());
    }
    Ok((before, Some(param), after))
}

impl Contract {
    /// The rule for a room of this name and the value of its pattern's parameter.
    pub fn room_rule<'a>(
        &'a self,
        room: &'a str,
    ) -> Option<(&'a RoomRule, Option<(&'a str, &'a str)>)> {
        self.room.iter().find_map(|(text, rule)| {
            let (before, param, after) = pattern(text).ok()?;
            let rest = room.strip_prefix(before)?;
            match param {
                None => rest.is_empty().then_some((rule, None)),
                Some(param) => {
                    let value = rest.strip_suffix(after)?;
                    (!value.is_empty()).then_some((rule, Some((param, value))))
                }
            }
        })
    }
}
