//! Hearing: from bytes that arrived to what they mean for the count.
//!
//! In come streams that can be read; out go counts, times and the answers that the protocol wants. What a server sends
//! that is no protocol ends its connection, with the reason counted; it never ends the run.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Phase, Swarm,
    client::{Awaited, Script, Side, Stage},
    program::Program,
    track::{Heard, Track},
};
use crate::{
    plan::Stream,
    scenario::Via,
    wire::{
        frame::{self, Kind},
        http,
        mark::Mark,
        packet::{self, Packet},
    },
};

/// How a negative ack is told from a positive one.
const REFUSED: &[u8] = br#""ok":false"#;

impl Swarm {
    /// Reads a stream until nothing is there now.
    pub(super) fn read(&mut self, at: usize, side: Side, to_the_end: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(client) = self.clients.get_mut(at) {
            let settling = matches!(self.phase, Phase::Settling(..));
            let reads =
                self.programs.get(usize::from(client.group)).is_none_or(|program| program.reads);
            // At the end slow consumers wake up, to find out whether they were cut off.
            let asleep = client.stage == Stage::Ready && !reads && !settling;
            let life = client.life;
            let Some(link) = client.side(side).filter(|_| !asleep) else { break };
            match link.read(&mut buffer) {
                Ok(Some(0)) => {
                    self.gone(at, "closed by the server");
                    break;
                }
                Ok(Some(count)) => {
                    self.tally.counts.bytes_in += count as u64;
                    self.arrived(at, side, buffer.get(..count).unwrap_or_default());
                    let same = self.clients.get(at).is_some_and(|client| client.life == life);
                    // A read that did not fill the buffer has emptied the stream, unless its end is behind it.
                    if !same || (count < buffer.len() && !to_the_end) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.gone(at, &error.to_string());
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes what arrived, with what was kept before it, and keeps what is not whole.
    fn arrived(&mut self, at: usize, side: Side, fresh: &[u8]) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let life = client.life;
        let joined = client.side(side).and_then(|link| link.join(fresh));
        let bytes = joined.as_deref().unwrap_or(fresh);
        let used = self.consume(at, side, bytes);
        let Some(client) = self.clients.get_mut(at).filter(|client| client.life == life) else {
            return;
        };
        if let Some(link) = client.side(side) {
            link.keep(bytes.get(used..).unwrap_or_default());
        }
    }

    /// Takes all that is whole, and says how much that is.
    fn consume(&mut self, at: usize, side: Side, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let Some(client) = self.clients.get(at) else { return used };
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() || client.stage == Stage::Off {
                return bytes.len();
            }
            let life = client.life;
            let speaks_http = client.courier.is_some()
                || matches!(client.stage, Stage::Shaking | Stage::Upgrading);
            let taken =
                if speaks_http { self.answer(at, side, rest) } else { self.frame(at, rest) };
            match taken {
                Ok(Some(length)) => used += length,
                Ok(None) => return used,
                Err(frame::Broken) => {
                    self.gone(at, "what the server sent breaks the protocol");
                    return bytes.len();
                }
            }
            if self.clients.get(at).is_none_or(|client| client.life != life) {
                return bytes.len();
            }
        }
    }

    fn answer(
        &mut self,
        at: usize,
        side: Side,
        bytes: &[u8],
    ) -> Result<Option<usize>, frame::Broken> {
        let Some(answer) = http::decode(bytes)? else { return Ok(None) };
        match side {
            Side::Main => self.answered(at, answer.status, &answer.body),
            Side::Post => self.posted(at, answer.status, &answer.body),
        }
        Ok(Some(answer.length))
    }

    fn frame(&mut self, at: usize, bytes: &[u8]) -> Result<Option<usize>, frame::Broken> {
        let Some(frame) = frame::decode(bytes)? else { return Ok(None) };
        match (frame.kind, frame.last) {
            (Kind::Text, true) => self.packet(at, frame.payload),
            (Kind::Binary, true) => self.attachment(at),
            (Kind::Close, _) => self.gone(at, "closed by the server"),
            (Kind::Ping, _) => {
                let mut pong = Vec::new();
                frame::encode(Kind::Pong, frame.payload, &mut pong);
                self.write(at, Side::Main, &pong);
            }
            (Kind::Pong, _) => {}
            (Kind::Text | Kind::Binary, false) => {
                let Some(client) = self.clients.get_mut(at) else { return Err(frame::Broken) };
                // The first byte remembers which kind it is.
                client.fragments = vec![u8::from(frame.kind == Kind::Text)];
                client.fragments.extend_from_slice(frame.payload);
            }
            (Kind::More, last) => {
                let client = self.clients.get_mut(at).ok_or(frame::Broken)?;
                if client.fragments.len() + frame.payload.len() > frame::LONGEST {
                    return Err(frame::Broken);
                }
                client.fragments.extend_from_slice(frame.payload);
                if last {
                    let whole = std::mem::take(&mut client.fragments);
                    match whole.split_first().ok_or(frame::Broken)? {
                        (1, text) => self.packet(at, text),
                        (_, _) => self.attachment(at),
                    }
                }
            }
        }
        Ok(Some(frame.length))
    }

    /// One packet of a polling answer.
    pub(super) fn payload(&mut self, at: usize, text: &[u8]) {
        if let Some(binary) = text.strip_prefix(b"b") {
            if STANDARD.decode(binary).is_ok() {
                self.attachment(at);
            } else {
                self.gone(at, "what the server sent breaks the protocol");
            }
        } else if !text.is_empty() {
            self.packet(at, text);
        }
    }

    /// Asks for more packets.
    pub(super) fn poll_again(&mut self, at: usize) {
        let Some((programs, group)) = self.program(at) else { return };
        let (Some(program), Some(client)) = (programs.get(group), self.clients.get(at)) else {
            return;
        };
        let Some(address) = self.plan.address(client.number, program.via) else { return };
        let mut request = Vec::new();
        http::get(&address.host, &self.engine("polling", client.sid.as_deref()), &mut request);
        self.write(at, Side::Main, &request);
    }

    /// One packet.
    fn packet(&mut self, at: usize, text: &[u8]) {
        let Some(stage) = self.clients.get(at).map(|client| client.stage) else { return };
        match packet::parse(text) {
            Packet::Ping => self.say(at, b"3"),
            Packet::Open(_) if stage == Stage::Opening => self.join(at),
            Packet::Pong if stage == Stage::Probing => {
                self.say(at, b"5");
                self.join(at);
            }
            Packet::Connected if stage == Stage::Joining => self.connected(at),
            Packet::Refused(why) => {
                let why = packet::field(why, "message").unwrap_or("refused").to_owned();
                self.gone(at, &why);
            }
            Packet::Close | Packet::Left => self.gone(at, "ended by the server"),
            Packet::Event(attachments, body) => self.event(at, attachments, body),
            Packet::Ack(id, body) => self.ack(at, id, body),
            Packet::Open(_) | Packet::Pong | Packet::Connected | Packet::Noop | Packet::Other => {}
        }
    }

    /// An event: one that carries a mark is counted, others may be what a step waits for, or a refusal.
    fn event(&mut self, at: usize, attachments: u32, body: &[u8]) {
        let mark = Mark::find(body).filter(|mark| mark.run == self.plan.run);
        if let Some(mark) = mark {
            if attachments == 0 {
                self.heard(at, mark);
            } else if let Some(client) = self.clients.get_mut(at) {
                client.attached = Some(Box::new((attachments, Some(mark))));
            }
            return;
        }
        if let Some(client) = self.clients.get_mut(at).filter(|_| attachments > 0) {
            client.attached = Some(Box::new((attachments, None)));
        }
        let name = packet::name(body).unwrap_or_default();
        if self.answers_step(at, name, body) {
            return;
        }
        if self.plan.scenario.refusal_events.iter().any(|refusal| refusal.as_bytes() == name) {
            self.tally.counts.refused += 1;
            let code = packet::field(body, "code").unwrap_or("refused");
            self.tally.refuse(code);
        } else {
            self.tally.counts.other_events += 1;
        }
    }

    /// A binary packet: the last of an event makes it whole.
    fn attachment(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let Some(attached) = &mut client.attached else { return };
        attached.0 -= 1;
        if attached.0 == 0 {
            let mark = attached.1;
            client.attached = None;
            if let Some(mark) = mark {
                self.heard(at, mark);
            }
        }
    }

    /// A message was heard.
    fn heard(&mut self, at: usize, mark: Mark) {
        let now = self.clock.now();
        let Some(client) = self.clients.get_mut(at) else { return };
        let stream = Stream { sender: mark.sender, send: mark.send };
        let number = client.number;
        if self.programs.get(usize::from(client.group)).is_some_and(|program| !program.reads) {
            self.tally.counts.other_events += 1;
            return;
        }
        let heard = if let Some(track) = client.track(stream) {
            track.hear(mark.seq)
        } else if self.hears_from_now_on(at, stream, mark.seq) {
            Heard::InOrder
        } else {
            Heard::Early
        };
        let counts = &mut self.tally.counts;
        match heard {
            Heard::InOrder => counts.delivered += 1,
            Heard::Late => {
                counts.delivered += 1;
                counts.out_of_order += 1;
            }
            Heard::Again => {
                counts.duplicated += 1;
                return;
            }
            Heard::Early => {
                counts.stray += 1;
                return;
            }
        }
        let took = now.saturating_sub(mark.due);
        if mark.due >= self.measured {
            self.tally.deliveries.add(took);
            if self.plan.pod(mark.sender) != self.plan.pod(number) {
                self.tally.across.add(took);
            }
        }
        self.tally.delivered_measured += u64::from((self.measured..self.end).contains(&now));
        self.turn_second(now);
        self.second.1.add(took);
        let second = self.second.0;
        if let Some(slot) = self.tally.slot(second) {
            slot.delivered += 1;
        }
    }

    /// The first message of another worker's sender, to one who came while that one was sending: it counts from here.
    fn hears_from_now_on(&mut self, at: usize, stream: Stream, seq: u32) -> bool {
        let Some(client) = self.clients.get(at).filter(|client| client.present) else {
            return false;
        };
        let Some(group) = self.plan.scenario.groups.get(usize::from(client.group)) else {
            return false;
        };
        let must = !self.plan.is_mine(stream.sender)
            && group.reads
            && self.streams.heard_by(client.number, group).binary_search(&stream).is_ok();
        let Some(client) = self.clients.get_mut(at).filter(|_| must) else { return false };
        let mut track = Track::new(seq);
        track.hear(seq);
        let place = client.tracks.partition_point(|(known, _)| *known < stream);
        client.tracks.insert(place, (stream, track));
        true
    }

    /// An ack came.
    fn ack(&mut self, at: usize, id: u32, body: &[u8]) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let Some(awaited) = client.acknowledged(id) else {
            self.tally.counts.acks_duplicated += 1;
            return;
        };
        if memchr::memmem::find(body, REFUSED).is_some() {
            self.tally.counts.refused += 1;
            let code = packet::field(body, "code").unwrap_or("refused");
            self.tally.refuse(code);
        }
        if awaited.step {
            self.step_done(at, body);
        } else {
            self.acked(&awaited);
        }
    }

    /// A send was acknowledged.
    fn acked(&mut self, awaited: &Awaited) {
        let now = self.clock.now();
        let took = now.saturating_sub(awaited.due);
        self.tally.counts.acked += 1;
        if awaited.due >= self.measured {
            self.tally.acks.add(took);
        }
        self.tally.acked_measured += u64::from((self.measured..self.end).contains(&now));
        self.turn_second(now);
        // Where messages are heard, it is they that are plotted.
        if self.tally.counts.delivered == 0 {
            self.second.1.add(took);
        }
        let second = self.second.0;
        if let Some(slot) = self.tally.slot(second) {
            slot.acked += 1;
        }
    }

    /// A request of a courier's was answered.
    fn posted(&mut self, at: usize, status: u16, body: &[u8]) {
        let Some((programs, group)) = self.program(at) else { return };
        let Some(client) = self.clients.get_mut(at) else { return };
        let is_api = programs.get(group).is_some_and(|program: &Program| program.via == Via::Api);
        if let Some(courier) = &mut client.courier {
            courier.busy = false;
        }
        if is_api {
            if let Some(awaited) = client.awaited.pop_front() {
                if status == 200 {
                    self.acked(&awaited);
                } else {
                    self.tally.counts.refused += 1;
                    let code = packet::field(body, "code").map(str::to_owned);
                    self.tally.refuse(&code.unwrap_or_else(|| format!("HTTP {status}")));
                }
            }
        } else if status != 200 {
            self.gone(at, &format!("HTTP {status}"));
            return;
        }
        self.post(at);
    }

    /// A step was answered by an event.
    fn answers_step(&mut self, at: usize, name: &[u8], body: &[u8]) -> bool {
        let Some((programs, group)) = self.program(at) else { return false };
        let (Some(program), Some(client)) = (programs.get(group), self.clients.get(at)) else {
            return false;
        };
        let Stage::Stepping(script, step) = client.stage else { return false };
        let waits = program
            .script(script)
            .get(usize::from(step))
            .is_some_and(|asked| asked.until.as_deref() == Some(name));
        if waits {
            self.step_done(at, body);
        }
        waits
    }

    /// A step is done: what is asked for is taken from its answer, and the next begins.
    fn step_done(&mut self, at: usize, answer: &[u8]) {
        let now = self.clock.now();
        let Some((programs, group)) = self.program(at) else { return };
        let (Some(program), Some(client)) = (programs.get(group), self.clients.get_mut(at)) else {
            return;
        };
        let Stage::Stepping(script, step) = client.stage else { return };
        self.tally.counts.steps += 1;
        self.tally.steps_measured += u64::from((self.measured..self.end).contains(&now));
        self.tally.steps.add(now.saturating_sub(client.step_since));
        if let Some(asked) = program.script(script).get(usize::from(step)) {
            for (name, field) in &asked.capture {
                if let Some(value) = packet::field(answer, field) {
                    client.captured.retain(|(known, _)| known != name);
                    client.captured.push((name.clone(), value.into()));
                }
            }
        }
        if now >= self.start {
            self.turn_second(now);
            let second = self.second.0;
            if let Some(slot) = self.tally.slot(second) {
                slot.steps += 1;
            }
        }
        self.run_script(at, script, step + 1);
    }
}

impl Program {
    /// The steps of a script.
    pub(super) fn script(&self, script: Script) -> &[super::program::Asked] {
        let turns = self.cycle.as_ref();
        match script {
            Script::First => &self.steps,
            Script::Leave => turns.map(|turns| &turns.leave[..]).unwrap_or_default(),
            Script::Join => turns.map(|turns| &turns.join[..]).unwrap_or_default(),
        }
    }
}
