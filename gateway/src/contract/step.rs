//! The vocabulary of contracts: what an event may do, as it is written in a file.
//!
//! In comes the table of a step; out goes one [`Verb`] with its templates compiled. What each verb
//! does is in `action/`, a file each; nothing here acts.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::template::{Condition, Template};

/// One step of an event: a verb, when it applies, and how its refusal is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "StepFile")]
pub struct Step {
    /// The step is passed over where this does not hold.
    pub when: Option<Condition>,
    /// How a refusal by this step is told, in place of the event's way.
    pub refused: Option<Refused>,
    /// What it does.
    pub verb: Verb,
}

/// How a refusal is told to its sender, besides the ack.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RefusedFile")]
pub struct Refused {
    /// The event's name.
    pub event: String,
    /// Its payload.
    pub data: Template,
    /// Also where the sender asked for an ack.
    pub always: bool,
    /// The payload of the refused event is looked at.
    pub shows_payload: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedFile {
    event: String,
    data: Template,
    #[serde(default)]
    always: bool,
}

impl From<RefusedFile> for Refused {
    fn from(file: RefusedFile) -> Self {
        let shows_payload = file.data.roots().contains(&"payload");
        Self { event: file.event, data: file.data, always: file.always, shows_payload }
    }
}

/// Whom an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The connection that sent the event.
    Sender,
    /// Everybody in the room that `room` names.
    Room,
    /// The same, or the whole namespace where no `room` is written, less the sender.
    Others,
    /// Everybody in the namespace.
    All,
    /// All connections of the sender's user.
    User,
    /// Every room that the sender is in and whose name starts with `room`.
    Joined,
}

/// One audience or several; nobody is sent an event twice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    /// One.
    One(Audience),
    /// Several.
    Many(Vec<Audience>),
}

impl Audiences {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Audience> {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(list) => list.as_slice(),
        }
        .iter()
        .copied()
    }
}

impl Default for Audiences {
    fn default() -> Self {
        Self::One(Audience::Sender)
    }
}

/// An event to send.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emit {
    /// Its name.
    pub event: Template,
    /// Its payload.
    #[serde(default = "null")]
    pub data: Template,
    /// Whom it is for.
    #[serde(default)]
    pub to: Audiences,
    /// The room, for those audiences that need one.
    pub room: Option<Template>,
    /// Dropped rather than queued for a receiver that is behind.
    #[serde(default)]
    pub volatile: bool,
}

fn null() -> Template {
    Template::Literal(Value::Null)
}

/// The sender's own event, passed on under its own name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// Whom it is for.
    pub to: Audiences,
    /// The room, for those audiences that need one.
    pub room: Option<Template>,
    /// Fields put beside the payload's own, and over them.
    pub add: Option<Template>,
    /// Dropped rather than queued for a receiver that is behind.
    #[serde(default)]
    pub volatile: bool,
}

/// A lock that `[lock.RULE]` declares.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockStep {
    /// The rule's name.
    pub rule: String,
    /// The parameters of the rule's `name`.
    pub with: BTreeMap<String, Template>,
    /// `exclusive` or `shared`; only where a lock is taken.
    pub kind: Option<Template>,
}

/// A call to the application behind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamStep {
    /// Which upstream; else the event's or mounting's, else `app`.
    pub name: Option<String>,
    /// The stored session that the event is about; its state goes along and may be patched.
    pub session: Option<Template>,
    /// One call of that session at a time, in order, in the whole cluster.
    #[serde(default)]
    pub in_turn: bool,
    /// A call may be repeated without harm.
    #[serde(default)]
    pub idempotent: bool,
    /// Done for every part of the answer, with `progress` bound.
    #[serde(default)]
    pub on_part: Vec<Step>,
    /// Done for every part that has a `result`, with `result` bound.
    #[serde(default)]
    pub on_result: Vec<Step>,
    /// Done where the call fails or is refused, with `error` bound, before the refusal is told.
    #[serde(default)]
    pub on_error: Vec<Step>,
}

/// An image to check.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageStep {
    /// Base64, with or without a `data:` prefix.
    pub data: Template,
    /// Decoded bytes at most.
    pub max_bytes: Template,
}

/// A place in a roster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnterStep {
    /// The roster that `[roster.NAME]` declares.
    pub roster: String,
    /// What others are shown; absent: nothing, yet the connection is counted.
    #[serde(default = "null")]
    pub data: Template,
}

/// A typing mark.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypingStep {
    /// Whether the sender is typing.
    pub on: Template,
    /// The room; where it is missing, every room of the sender that `[typing] rooms` starts.
    pub room: Option<Template>,
}

/// Events inside an event.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchStep {
    /// A list of `{event, data}`.
    pub updates: Template,
    /// More are refused with `TOO_LARGE`.
    pub at_most: usize,
}

/// What a refresh, a logout and their like announce.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// The event's name.
    pub event: String,
    /// Its payload.
    pub data: Template,
    /// Whom it is for, where that is not given by what announces it: `all` the namespace.
    pub to: Option<Audience>,
}

/// A value that must be there.
#[derive(Clone, Debug)]
pub struct Expect {
    /// The value.
    pub value: Template,
    /// Its type: `array`, `object` or `string`.
    pub shape: Option<String>,
    /// What the sender is told else.
    pub message: String,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Verb {
    /// Runs a list of events in order; binds `results`.
    Batch(BatchStep),
    /// Ends a stored session; `NOT_FOUND` where there is none.
    Close(Template),
    /// Sends an event.
    Emit(Emit),
    /// Enters a roster, or replaces what is shown there; binds `members`.
    Enter(EnterStep),
    /// Refuses with `UNAVAILABLE` where a value is missing or of another type.
    Expect(Expect),
    /// Reads a JSON file; binds `records`.
    File(Template),
    /// Asks how things are; binds `health` with `healthy`, `upstream` and `sessions`.
    Health,
    /// Checks a base64 image.
    Image(ImageStep),
    /// Joins a room; binds `users` where the room keeps a roster.
    Join(Template),
    /// Leaves a room.
    Leave(Template),
    /// Leaves every room but the connection's own, with these steps for each (`room` is bound).
    LeaveAll(Vec<Step>),
    /// Reads a stored session; binds `session`; `NOT_FOUND` where there is none.
    Load(Template),
    /// Takes a lock; `CONFLICT` where somebody else has it.
    Lock(LockStep),
    /// Writes a line to the log.
    Log(String),
    /// Logs in with a stored login session; binds `session`.
    Login(Template),
    /// Logs all connections of the user out and destroys the login session.
    Logout(Announcement),
    /// Refuses with `FORBIDDEN` where the sender is not in the room.
    Member(Template),
    /// Begins a stored session; binds `session`.
    Open,
    /// Merges into the stored session that was loaded.
    Patch(Template),
    /// Says what the sender is up to, to the rooms that its user is in.
    Presence(Template),
    /// Renews the login session or takes over a fresh token; binds `session`.
    Refresh(Template),
    /// Passes the event on under its own name.
    Relay(Relay),
    /// Marks the sender as typing, or not.
    Typing(TypingStep),
    /// Gives a lock back.
    Unlock(LockStep),
    /// Refuses with `CONFLICT` where somebody else has the lock exclusively.
    Unlocked(LockStep),
    /// Calls the application behind; binds `result`.
    Upstream(Box<UpstreamStep>),
    /// Binds `session` to who the sender is, `UNAUTHORIZED` where nobody.
    Whoami,
}

/// A table without keys.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    when: Option<Condition>,
    refused: Option<Refused>,
    batch: Option<BatchStep>,
    close: Option<Template>,
    emit: Option<Emit>,
    enter: Option<EnterStep>,
    expect: Option<Template>,
    #[serde(rename = "as")]
    shape: Option<String>,
    message: Option<String>,
    file: Option<Template>,
    health: Option<Nothing>,
    image: Option<ImageStep>,
    join: Option<Template>,
    leave: Option<Template>,
    leave_all: Option<Vec<Step>>,
    load: Option<Template>,
    lock: Option<LockStep>,
    log: Option<String>,
    login: Option<Template>,
    logout: Option<Announcement>,
    member: Option<Template>,
    open: Option<Nothing>,
    patch: Option<Template>,
    presence: Option<Template>,
    refresh: Option<Template>,
    relay: Option<Relay>,
    typing: Option<TypingStep>,
    unlock: Option<LockStep>,
    unlocked: Option<LockStep>,
    upstream: Option<UpstreamStep>,
    whoami: Option<Nothing>,
}

impl TryFrom<StepFile> for Step {
    type Error = String;

    fn try_from(file: StepFile) -> Result<Self, String> {
        let expect = file.expect.map(|value| {
            Verb::Expect(Expect {
                value,
                shape: file.shape.clone(),
                message: file.message.clone().unwrap_or_else(|| "not available".to_owned()),
            })
        });
        let verbs = [
            file.batch.map(Verb::Batch),
            file.close.map(Verb::Close),
            file.emit.map(Verb::Emit),
            file.enter.map(Verb::Enter),
            expect,
            file.file.map(Verb::File),
            file.health.map(|_| Verb::Health),
            file.image.map(Verb::Image),
            file.join.map(Verb::Join),
            file.leave.map(Verb::Leave),
            file.leave_all.map(Verb::LeaveAll),
            file.load.map(Verb::Load),
            file.lock.map(Verb::Lock),
            file.log.map(Verb::Log),
            file.login.map(Verb::Login),
            file.logout.map(Verb::Logout),
            file.member.map(Verb::Member),
            file.open.map(|_| Verb::Open),
            file.patch.map(Verb::Patch),
            file.presence.map(Verb::Presence),
            file.refresh.map(Verb::Refresh),
            file.relay.map(Verb::Relay),
            file.typing.map(Verb::Typing),
            file.unlock.map(Verb::Unlock),
            file.unlocked.map(Verb::Unlocked),
            file.upstream.map(|step| Verb::Upstream(Box::new(step))),
            file.whoami.map(|_| Verb::Whoami),
        ];
        let mut found = verbs.into_iter().flatten();
        match (found.next(), found.next()) {
            (Some(verb), None) => Ok(Self { when: file.when, refused: file.refused, verb }),
            (None, _) => Err("a step needs one verb, such as `emit` or `join`".to_owned()),
            (Some(_), Some(_)) => Err("a step has one verb only; write two steps".to_owned()),
        }
    }
}

/// One part of the demo upstream's answer, in templates.
#[derive(Clone, Debug)]
pub struct DemoPart {
    /// The part is left out where this does not hold.
    pub when: Option<Condition>,
    /// The answer's keys.
    pub answer: Template,
}

impl<'de> Deserialize<'de> for DemoPart {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut map = Map::<String, Value>::deserialize(deserializer)?;
        let when = match map.remove("when") {
            Some(Value::String(text)) => Some(Condition::parse(&text).map_err(D::Error::custom)?),
            Some(_) => return Err(D::Error::custom("`when` is a text")),
            None => None,
        };
        let answer = Template::compile(&Value::Object(map)).map_err(D::Error::custom)?;
        Ok(Self { when, answer })
    }
}

/// Reads durations such as `3s`.
pub(super) fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    humantime_serde::deserialize(from)
}
