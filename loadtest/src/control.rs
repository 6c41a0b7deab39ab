//! What a coordinator and its workers say to each other, in one process, between processes, between machines.
//!
//! The order is always the same: the worker connects its clients and says `Ready`; `Go` names the moment to begin; the
//! worker says what it has `Sent`; `Settle` tells it what all have sent, so that it knows what its clients must have
//! heard; it says `Done`.

use serde::{Deserialize, Serialize};

use crate::{
    plan::{Plan, Stream},
    tally::Tally,
};

/// What a coordinator says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// What time is it there?
    Clock,
    /// Connect.
    Begin(Box<Plan>),
    /// Begin to send at this moment.
    Go(u64),
    /// All have sent this much: wait for what is on its way, then report.
    Settle(Vec<(Stream, u32)>),
    /// End at once.
    Stop,
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Update {
    /// Its time, in microseconds of the Unix epoch.
    Clock(u64),
    /// How it stands.
    Progress(Progress),
    /// Its clients are connected, or never will be.
    Ready,
    /// It has sent all, and how much of each stream.
    Sent(Vec<(Stream, u32)>),
    /// What it measured.
    Done(Box<Tally>),
    /// It cannot go on, and why.
    Failed(String),
}

/// How a worker stands, for those who watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Clients that are ready now.
    pub ready: u64,
    /// Clients in all.
    pub clients: u64,
    /// Messages sent so far.
    pub sent: u64,
    /// Messages heard so far.
    pub delivered: u64,
    /// Acks so far.
    pub acked: u64,
    /// Steps so far.
    pub steps: u64,
    /// Refusals so far, of events and of connects.
    pub refused: u64,
    /// Connections that ended by themselves so far.
    pub disconnected: u64,
    /// Messages out of order or doubled so far.
    pub disorder: u64,
    /// The median of the last second, in microseconds.
    pub p50: u64,
    /// Its 99th percentile.
    pub p99: u64,
}
