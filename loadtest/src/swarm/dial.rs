//! Connecting: from a TCP stream to a namespace that was joined, and back when the connection ends.
//!
//! In come the moments at which clients are due and the answers to handshakes; out go requests. What the server refuses
//! or breaks off is counted with its reason, and the client comes back later, as real ones do.

use std::{cmp::Reverse, io};

use anyhow::{Result, bail};
use mio::Token;

use super::{
    Due, Phase, Swarm,
    client::{Client, Courier, Script, Side, Stage},
    link::Link,
    track::Track,
};
use crate::{
    number::{float, index, micros, small, whole},
    plan::{Address, Stream},
    scenario::{Transport, Via},
    template::Filling,
    token,
    wire::{
        frame::{self, Kind},
        http, packet,
    },
};

/// How long a client may take from its first packet to being ready.
const OVERDUE: u64 = 20_000_000;

/// Requests that may wait at a courier. Beyond, the server answers far too slowly: the client is cut off.
pub(super) const MOST_QUEUED: usize = 100_000;

impl Swarm {
    /// A client connects.
    pub(super) fn dial(&mut self, at: usize, due: u64) -> Result<()> {
        let Some((programs, group)) = self.program(at) else { return Ok(()) };
        let (Some(program), Some(client)) = (programs.get(group), self.clients.get_mut(at)) else {
            return Ok(());
        };
        if client.stage != Stage::Off || matches!(self.phase, Phase::Settling(..)) {
            return Ok(());
        }
        client.life = client.life.wrapping_add(1);
        if !client.was_ready && client.life == 1 {
            client.since = due;
        }
        let overdue = (self.clock.now() + OVERDUE, small(at), Due::Overdue(client.life));
        self.timers.push(Reverse(overdue));
        let number = client.number;
        let Some(address) = self.plan.address(number, program.via).cloned() else {
            bail!("a group speaks the server API, and no --internal address was named");
        };
        let mut first = Vec::new();
        let stage = match (program.via, program.transport) {
            (Via::Api, _) => {
                client.courier = Some(Box::default());
                return self.open(at, Side::Post, &address, Vec::new(), Stage::Joining);
            }
            (Via::Socket, Transport::Websocket) => {
                http::upgrade(&address.host, &self.engine("websocket", None), &mut first);
                Stage::Upgrading
            }
            (Via::Socket, Transport::Polling | Transport::Upgrade) => {
                http::get(&address.host, &self.engine("polling", None), &mut first);
                Stage::Shaking
            }
        };
        self.open(at, Side::Main, &address, first, stage)
    }

    /// Where Engine.IO is asked for.
    pub(super) fn engine(&self, transport: &str, sid: Option<&str>) -> String {
        let path = &self.plan.scenario.path;
        let sid = sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
        format!("{path}?EIO=4&transport={transport}{sid}")
    }

    /// Opens one of a client's streams.
    fn open(
        &mut self,
        at: usize,
        side: Side,
        to: &Address,
        first: Vec<u8>,
        stage: Stage,
    ) -> Result<()> {
        let Some(client) = self.clients.get_mut(at) else { return Ok(()) };
        let sources = &self.plan.sources;
        let from = sources.get(index(client.number) % sources.len().max(1)).copied();
        self.tally.counts.bytes_out += first.len() as u64;
        let token = Token(at * 2 + usize::from(side == Side::Post));
        let dialled = Link::dial(to.addr, from, first, &self.registry, token);
        match dialled {
            Ok(link) => {
                match side {
                    Side::Main => client.link = Some(link),
                    Side::Post => client.courier.get_or_insert_default().link = Some(link),
                }
                client.stage = stage;
                Ok(())
            }
            Err(error) if is_ours(&error) => bail!(
                "no more connections can be opened here ({error}): {} are open. More sources (--source) give more \
                 ports, more processes (--workers) more files",
                self.ready
            ),
            Err(error) => {
                client.stage = stage;
                self.gone(at, &error.to_string());
                Ok(())
            }
        }
    }

    /// A stream takes more: one of the server API's has no handshake, and is ready with it.
    pub(super) fn writable(&mut self, at: usize) {
        let Some((programs, group)) = self.program(at) else { return };
        let (Some(program), Some(client)) = (programs.get(group), self.clients.get(at)) else {
            return;
        };
        if program.via == Via::Api && client.stage == Stage::Joining {
            self.connected(at);
        }
    }

    /// An answer to one of the handshake's requests, or to a poll.
    pub(super) fn answered(&mut self, at: usize, status: u16, body: &[u8]) {
        let Some(client) = self.clients.get(at) else { return };
        match (client.stage, status) {
            (Stage::Shaking, 200) => self.shaken(at, body),
            (Stage::Upgrading, 101) => self.upgraded(at),
            (Stage::Shaking | Stage::Upgrading, other) => self.gone(at, &format!("HTTP {other}")),
            (_, 200) => {
                let life = client.life;
                for text in body.split(|byte| *byte == 0x1e) {
                    self.payload(at, text);
                }
                if self.clients.get(at).is_some_and(|client| client.life == life) {
                    self.poll_again(at);
                }
            }
            (_, other) => self.gone(at, &format!("HTTP {other}")),
        }
    }

    /// The handshake over polling was answered.
    fn shaken(&mut self, at: usize, body: &[u8]) {
        let packet::Packet::Open(json) = packet::parse(body) else {
            self.gone(at, "not Engine.IO");
            return;
        };
        let Some(sid) = packet::field(json, "sid").map(str::to_owned) else {
            self.gone(at, "a session without an id");
            return;
        };
        let Some((programs, group)) = self.program(at) else { return };
        let (Some(program), Some(client)) = (programs.get(group), self.clients.get_mut(at)) else {
            return;
        };
        client.sid = Some(sid.as_str().into());
        let Some(address) = self.plan.address(client.number, program.via).cloned() else { return };
        if program.transport == Transport::Upgrade {
            let mut first = Vec::new();
            http::upgrade(&address.host, &self.engine("websocket", Some(&sid)), &mut first);
            // A failure here is one of this client's, and counted as such.
            if let Err(error) = self.open(at, Side::Main, &address, first, Stage::Upgrading) {
                self.gone(at, &error.to_string());
            }
            return;
        }
        client.courier = Some(Box::<Courier>::default());
        client.stage = Stage::Joining;
        if let Err(error) = self.open(at, Side::Post, &address, Vec::new(), Stage::Joining) {
            self.gone(at, &error.to_string());
            return;
        }
        self.join(at);
        self.poll_again(at);
    }

    /// The server speaks WebSocket from here on.
    fn upgraded(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if client.sid.is_some() {
            client.stage = Stage::Probing;
            self.say(at, b"2probe");
        } else {
            client.stage = Stage::Opening;
        }
    }

    /// Asks for the namespace.
    pub(super) fn join(&mut self, at: usize) {
        let Some((programs, group)) = self.program(at) else { return };
        let (Some(program), Some(client)) = (programs.get(group), self.clients.get_mut(at)) else {
            return;
        };
        client.stage = Stage::Joining;
        let user = format!("u{}-{}", self.plan.run, client.number);
        let token = if program.needs_token {
            token::mint(&user, &program.roles, &self.plan.secret)
        } else {
            String::new()
        };
        let filling = Filling {
            number: client.number,
            room: self.streams.room(client.number),
            run: self.plan.run,
            mark: None,
            token: &token,
            key: &self.plan.key,
            pad: 0,
            captured: &[],
        };
        let mut text = String::from("40");
        text.push_str(&self.prefix());
        if let Some(auth) = &program.auth {
            auth.fill(&filling, &mut text);
        }
        self.say(at, text.as_bytes());
    }

    /// The namespace as it stands in a packet.
    pub(super) fn prefix(&self) -> String {
        let namespace = &self.plan.scenario.namespace;
        if namespace == "/" { String::new() } else { format!("{namespace},") }
    }

    /// The namespace was joined.
    pub(super) fn connected(&mut self, at: usize) {
        let now = self.clock.now();
        let Some(client) = self.clients.get_mut(at) else { return };
        let took = now.saturating_sub(client.since);
        if client.was_ready {
            self.tally.reconnects.add(took);
        } else {
            self.tally.connects.add(took);
        }
        self.run_script(at, Script::First, 0);
    }

    /// Everything is done that comes before sending.
    pub(super) fn be_ready(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        client.stage = Stage::Ready;
        self.ready += 1;
        if client.was_ready {
            self.tally.counts.reconnected += 1;
        } else {
            client.was_ready = true;
            self.tally.counts.connected += 1;
        }
        self.be_present(at);
    }

    /// A client is in its room: from here on it must hear everything that is sent there.
    pub(super) fn be_present(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        client.present = true;
        let number = client.number;
        let Some(group) = self.plan.scenario.groups.get(usize::from(client.group)) else { return };
        if !group.reads {
            return;
        }
        let mut before = std::mem::take(&mut client.tracks);
        let mut tracks = Vec::new();
        for stream in self.streams.heard_by(number, group) {
            let Some(from) = self.position(stream) else { continue };
            if let Ok(found) = before.binary_search_by_key(&stream, |(stream, _)| *stream)
                && let Some((_, old)) = before.get_mut(found)
            {
                self.tally.counts.missed += old.behind(from);
                self.tally.counts.lost += old.holes();
            }
            tracks.push((stream, Track::new(from)));
        }
        if let Some(client) = self.clients.get_mut(at) {
            client.tracks = tracks;
        }
    }

    /// How many messages of a stream were sent; not known of another worker's once it has begun.
    fn position(&self, stream: Stream) -> Option<u32> {
        let begun = !matches!(self.phase, Phase::Connecting | Phase::Waiting);
        if begun && !self.plan.is_mine(stream.sender) {
            return None;
        }
        Some(self.sent.get(&stream).copied().unwrap_or_default())
    }

    /// A client did not become ready in time.
    pub(super) fn overdue(&mut self, at: usize) {
        let is_ready = |client: &Client| client.stage == Stage::Ready || client.was_ready;
        if self
            .clients
            .get(at)
            .is_some_and(|client| client.stage != Stage::Off && !is_ready(client))
        {
            self.gone(at, "not ready in time");
        }
    }

    /// A connection ended although nobody asked for it; the client comes back.
    pub(super) fn gone(&mut self, at: usize, why: &str) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let stage = client.stage;
        let life = client.life;
        let number = client.number;
        let reads =
            self.programs.get(usize::from(client.group)).is_none_or(|program| program.reads);
        client.since =
            if client.was_ready && stage == Stage::Ready { self.clock.now() } else { client.since };
        self.hang_up(at);
        match stage {
            Stage::Off => return,
            Stage::Ready | Stage::Stepping(..) => {
                self.tally.counts.disconnected += u64::from(reads);
                self.tally.counts.slow_disconnected += u64::from(!reads);
                self.tally.refuse(&format!("disconnected: {why}"));
            }
            Stage::Shaking
            | Stage::Upgrading
            | Stage::Opening
            | Stage::Probing
            | Stage::Joining => {
                self.tally.counts.connects_refused += 1;
                self.tally.refuse(&format!("connect: {why}"));
            }
        }
        if !matches!(self.phase, Phase::Settling(..)) {
            let pause = float(micros(self.plan.scenario.returns_after));
            let pause = whole(pause * (0.5 + self.chance()));
            let due = self.clock.now() + pause;
            debug_assert_eq!(self.clients.get(at).map(|client| client.number), Some(number));
            debug_assert_eq!(self.clients.get(at).map(|client| client.life), Some(life));
            self.timers.push(Reverse((due, small(at), Due::Dial)));
        }
    }

    /// Cuts a client off, and lets it come back at once.
    pub(super) fn cut(&mut self, at: usize, due: u64) {
        let Some(client) = self.clients.get_mut(at).filter(|client| client.stage == Stage::Ready)
        else {
            return;
        };
        client.since = due;
        // What was on its way is nobody's fault; what others overtook was lost before.
        for (_, track) in std::mem::take(&mut client.tracks) {
            self.tally.counts.lost += track.holes();
        }
        client.awaited.clear();
        self.hang_up(at);
        let again = self.clock.now();
        self.timers.push(Reverse((again, small(at), Due::Dial)));
    }

    /// Ends a client's connection. What it has heard stays, so that what it misses can be counted.
    fn hang_up(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let unacked = client.awaited.iter().filter(|awaited| !awaited.step).count();
        self.tally.counts.unacked += unacked as u64;
        client.awaited.clear();
        self.ready -= u64::from(client.stage == Stage::Ready || is_away(client));
        client.stage = Stage::Off;
        client.present = false;
        client.link = None;
        client.courier = None;
        client.sid = None;
        client.attached = None;
        client.fragments = Vec::new();
    }

    /// Says a packet.
    pub(super) fn say(&mut self, at: usize, packet: &[u8]) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if let Some(courier) = &mut client.courier {
            if courier.queue.len() >= MOST_QUEUED {
                self.gone(at, "the server does not answer");
                return;
            }
            courier.queue.push_back(packet.to_vec());
            self.post(at);
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        frame::encode(Kind::Text, packet, &mut scratch);
        self.write(at, Side::Main, &scratch);
        self.scratch = scratch;
    }

    /// Writes to one of a client's streams.
    pub(super) fn write(&mut self, at: usize, side: Side, bytes: &[u8]) {
        let Some(link) = self.clients.get_mut(at).and_then(|client| client.side(side)) else {
            return;
        };
        self.tally.counts.bytes_out += bytes.len() as u64;
        if let Err(error) = link.write(bytes) {
            self.gone(at, &error.to_string());
        }
    }
}

/// A client that has left its room for a while is connected all the same.
fn is_away(client: &Client) -> bool {
    matches!(client.stage, Stage::Stepping(Script::Leave | Script::Join, _))
}

/// The machine, not the server, allows no more connections.
fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS];
    ours.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
