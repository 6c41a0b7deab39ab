//! One client: where its connection stands, what it waits for, what it has heard.
//!
//! It holds state and decides nothing; the swarm does. At rest it is some hundred bytes.

use std::collections::VecDeque;

use super::{link::Link, track::Track};
use crate::{plan::Stream, wire::mark::Mark};

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not connected.
    Off,
    /// The handshake over polling was asked for.
    Shaking,
    /// A WebSocket was asked for.
    Upgrading,
    /// Engine.IO's first packet is awaited.
    Opening,
    /// The answer to the probe is awaited.
    Probing,
    /// The namespace's answer is awaited.
    Joining,
    /// A step of a script is under way.
    Stepping(Script, u16),
    /// Everything is done that comes before sending.
    Ready,
}

/// A list of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// What is done at first.
    First,
    /// What is done to leave.
    Leave,
    /// What is done to join again.
    Join,
}

/// Which of a client's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that hears: WebSocket, or the poll that waits.
    Main,
    /// The one that polling clients and those of the server API speak through.
    Post,
}

/// An ack that is awaited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    /// Its number.
    pub id: u32,
    /// When what it is for was due.
    pub due: u64,
    /// It is for a step, not for a send.
    pub step: bool,
}

/// Requests that leave one after another.
#[derive(Debug, Default)]
pub(crate) struct Courier {
    /// The stream that they leave through.
    pub link: Option<Link>,
    /// One was sent and is not answered.
    pub busy: bool,
    /// What waits: packets of a polling client, whole requests of the server API's.
    pub queue: VecDeque<Vec<u8>>,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its number in the run.
    pub number: u32,
    /// Its group.
    pub group: u16,
    /// How often it has connected: what belongs to an earlier connection is told by it.
    pub life: u16,
    pub stage: Stage,
    pub link: Option<Link>,
    pub courier: Option<Box<Courier>>,
    /// Its Engine.IO id, where it needs it.
    pub sid: Option<Box<str>>,
    /// The number of its next ack.
    pub next_id: u32,
    pub awaited: VecDeque<Awaited>,
    /// What it has heard of each stream that it must hear, in the order of the streams.
    pub tracks: Vec<(Stream, Track)>,
    pub captured: Vec<(Box<str>, Box<str>)>,
    /// It is in its room.
    pub present: bool,
    /// It was ready at least once.
    pub was_ready: bool,
    /// When it was due to connect, or was cut off.
    pub since: u64,
    /// When its present step was begun.
    pub step_since: u64,
    /// Binary packets that still belong to an event, and the event's mark.
    pub attached: Option<Box<(u32, Option<Mark>)>>,
    /// The beginning of a message that comes in several frames.
    pub fragments: Vec<u8>,
}

impl Client {
    /// A client that has not connected.
    pub(crate) const fn new(number: u32, group: u16) -> Self {
        Self {
            number,
            group,
            life: 0,
            stage: Stage::Off,
            link: None,
            courier: None,
            sid: None,
            next_id: 0,
            awaited: VecDeque::new(),
            tracks: Vec::new(),
            captured: Vec::new(),
            present: false,
            was_ready: false,
            since: 0,
            step_since: 0,
            attached: None,
            fragments: Vec::new(),
        }
    }

    /// One of its streams.
    pub(crate) fn side(&mut self, side: Side) -> Option<&mut Link> {
        match side {
            Side::Main => self.link.as_mut(),
            Side::Post => self.courier.as_mut().and_then(|courier| courier.link.as_mut()),
        }
    }

    /// The track of a stream.
    pub(crate) fn track(&mut self, stream: Stream) -> Option<&mut Track> {
        let at = self.tracks.binary_search_by_key(&stream, |(stream, _)| *stream).ok()?;
        self.tracks.get_mut(at).map(|(_, track)| track)
    }

    /// Takes out the ack of this number.
    pub(crate) fn acknowledged(&mut self, id: u32) -> Option<Awaited> {
        // Acks mostly come in the order of what they are for.
        let at = self.awaited.iter().position(|awaited| awaited.id == id)?;
        self.awaited.remove(at)
    }
}
