//! Contracts: what an application's events are called, look like and do, read from a file.
//!
//! In comes TOML; out goes a [`Contract`] whose schemas and templates are compiled and whose names
//! are checked, so that handling an event is look-ups only. A contract is data: no application's name
//! occurs anywhere else. It never acts and does no I/O but to read its own files.

mod check;
mod file;
mod schema;
mod step;
mod template;

pub use check::{ContractError, RESERVED, load_dir};
pub use file::{
    AuthMode, Contract, Documents, Event, Limit, LockRule, Out, Presence, RoomRule, Roster, Typing,
    Watch,
};
pub use schema::Shape;
pub use step::{
    Announcement, Audience, Audiences, BatchStep, DemoPart, Emit, EnterStep, Expect, ImageStep,
    LockStep, Refused, Relay, Step, TypingStep, UpstreamStep, Verb,
};
pub use template::{Condition, Scope, Template, TemplateError};

/// The contracts that the binary brings along.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// File names and texts.
    pub files: &'static [(&'static str, &'static str)],
    /// Contract names and the namespaces where the demo mounts them.
    pub demo: &'static [(&'static str, &'static str)],
}

/// The list is kept beside the files themselves.
pub const BUILT_IN: BuiltIn = include!("../../../contracts/built_in.rs");
