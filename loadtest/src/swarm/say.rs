//! Saying: sends on schedule, steps one after another, requests through a courier.
//!
//! In come moments that are due; out go packets. A send leaves when it is due even if the one before it was not answered,
//! and one that leaves late keeps the moment at which it was due.

use std::cmp::Reverse;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Due, Phase, Swarm,
    client::{Awaited, Script, Side, Stage},
    dial::MOST_QUEUED,
    program::{Sent, after},
};
use crate::{
    number::{micros, small},
    plan::Stream,
    scenario::{Arrival, Via},
    template::{Filling, Template},
    wire::{
        frame::{self, Kind},
        http,
        mark::Mark,
    },
};

/// Acks that one client may wait for. A server that owes more has failed.
const MOST_AWAITED: usize = 1 << 16;

impl Swarm {
    /// The word to begin: everything that will be sent gets its first moment.
    pub(super) fn begin(&mut self, at: u64, now: u64) {
        let at = at.max(now);
        let scenario = &self.plan.scenario;
        self.start = at;
        self.measured = at.saturating_add(micros(scenario.warm_up));
        self.end = self.measured.saturating_add(micros(scenario.duration));
        self.phase = Phase::Sending;
        let programs = std::rc::Rc::clone(&self.programs);
        for client in 0..self.clients.len() {
            let Some(group) = self.clients.get(client).map(|client| usize::from(client.group))
            else {
                continue;
            };
            let Some(program) = programs.get(group) else { continue };
            // The place in the group puts its clients evenly between two sends of one of them.
            let share = self
                .clients
                .get(client)
                .map_or(0.0, |client| place(client.number, program.clients));
            for (send, what) in (0..).zip(&program.sends) {
                let first = match what.arrival {
                    Arrival::Even => after(at, share, what.period),
                    Arrival::Poisson => after(at, self.pause(), what.period),
                };
                self.timers.push(Reverse((first, small(client), Due::Send(send, 0))));
            }
            if let Some(turns) = &program.cycle {
                self.timers.push(Reverse((
                    after(at, share, turns.period),
                    small(client),
                    Due::Leave(0),
                )));
            }
            if let Some((first, every, _)) = program.cut.filter(|(.., of)| share < *of) {
                let mut due = at.saturating_add(first);
                while due < self.end {
                    self.timers.push(Reverse((due, small(client), Due::Cut)));
                    let Some(every) = every.filter(|every| *every > 0) else { break };
                    due = due.saturating_add(every);
                }
            }
        }
    }

    /// A pause between two events that do not know of each other, in periods.
    fn pause(&mut self) -> f64 {
        -(1.0 - self.chance()).ln()
    }

    /// A send is due.
    pub(super) fn send(&mut self, at: usize, send: u8, count: u32, due: u64, now: u64) {
        if due >= self.end {
            return;
        }
        let Some((programs, group)) = self.program(at) else { return };
        let Some(what) =
            programs.get(group).and_then(|program| program.sends.get(usize::from(send)))
        else {
            return;
        };
        let next = match what.arrival {
            Arrival::Even => {
                let clients = programs.get(group).map_or(1, |program| program.clients);
                let number = self.clients.get(at).map_or(0, |client| client.number);
                after(self.start, place(number, clients) + f64::from(count + 1), what.period)
            }
            Arrival::Poisson => after(due, self.pause(), what.period),
        };
        self.timers.push(Reverse((next, small(at), Due::Send(send, count + 1))));
        if !self
            .clients
            .get(at)
            .is_some_and(|client| client.stage == Stage::Ready && client.was_ready)
        {
            self.tally.counts.unsent += 1;
            return;
        }
        if due >= self.measured {
            self.tally.lag.add(now.saturating_sub(due));
            self.tally.sent_measured += 1;
        }
        self.tally.counts.sent += 1;
        self.turn_second(now);
        let second = self.second.0;
        if let Some(slot) = self.tally.slot(second) {
            slot.sent += 1;
        }
        match programs.get(group).map(|program| program.via) {
            Some(Via::Socket) => self.emit(at, send, what, due),
            Some(Via::Api) => self.call(at, send, what, due),
            None => {}
        }
    }

    /// The next number of a stream.
    fn seq(&mut self, at: usize, send: u8) -> u32 {
        let sender = self.clients.get(at).map_or(0, |client| client.number);
        let count = self.sent.entry(Stream { sender, send }).or_default();
        *count += 1;
        *count - 1
    }

    /// Fills a text with what the client knows.
    fn fill(
        &mut self,
        at: usize,
        template: &Template,
        mark: Option<Mark>,
        pad: usize,
        out: &mut String,
    ) {
        let Some(client) = self.clients.get(at) else { return };
        let filling = Filling {
            number: client.number,
            room: self.streams.room(client.number),
            run: self.plan.run,
            mark,
            token: "",
            key: &self.plan.key,
            pad,
            captured: &client.captured,
        };
        template.fill(&filling, out);
    }

    fn mark(&mut self, at: usize, send: u8, due: u64) -> Mark {
        let seq = self.seq(at, send);
        let sender = self.clients.get(at).map_or(0, |client| client.number);
        Mark { run: self.plan.run, sender, send, seq, due }
    }

    /// Sends an event.
    fn emit(&mut self, at: usize, send: u8, what: &Sent, due: u64) {
        let mark = self.mark(at, send, due);
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.push_str(if what.bytes.is_some() { "451-" } else { "42" });
        text.push_str(&self.prefix());
        if what.ack {
            self.await_ack(at, due, false, &mut text);
        }
        self.fill(at, &what.body, Some(mark), what.pad, &mut text);
        match &what.bytes {
            None => self.say(at, text.as_bytes()),
            Some(bytes) => self.say_with(at, text.as_bytes(), bytes),
        }
        self.text = text;
    }

    /// Says an event with a binary argument: one frame each, or one body of both.
    fn say_with(&mut self, at: usize, packet: &[u8], bytes: &[u8]) {
        let polls = self.clients.get(at).is_some_and(|client| client.courier.is_some());
        let mut both = Vec::with_capacity(packet.len() + bytes.len() + 32);
        if polls {
            both.extend_from_slice(packet);
            both.extend_from_slice(b"\x1eb");
            both.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            self.say(at, &both);
        } else {
            frame::encode(Kind::Text, packet, &mut both);
            frame::encode(Kind::Binary, bytes, &mut both);
            self.write(at, Side::Main, &both);
        }
    }

    /// Writes the number of an ack that is wanted, and remembers it.
    fn await_ack(&mut self, at: usize, due: u64, step: bool, text: &mut String) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let id = client.next_id;
        client.next_id = client.next_id.wrapping_add(1);
        if client.awaited.len() >= MOST_AWAITED && client.awaited.pop_front().is_some() {
            self.tally.counts.unacked += 1;
        }
        client.awaited.push_back(Awaited { id, due, step });
        text.push_str(&id.to_string());
    }

    /// Calls the server API.
    fn call(&mut self, at: usize, send: u8, what: &Sent, due: u64) {
        let mark = self.mark(at, send, due);
        let mut body = String::new();
        self.fill(at, &what.body, Some(mark), what.pad, &mut body);
        let Some(client) = self.clients.get_mut(at) else { return };
        let Some(address) = self.plan.address(client.number, Via::Api) else { return };
        let headers = format!(
            "content-type: application/json\r\nauthorization: Bearer {}\r\n",
            self.plan.key
        );
        let mut request = Vec::new();
        http::post(&address.host, &what.path, &headers, body.as_bytes(), &mut request);
        let Some(courier) = &mut client.courier else { return };
        if courier.queue.len() >= MOST_QUEUED {
            self.gone(at, "the server does not answer");
            return;
        }
        courier.queue.push_back(request);
        client.awaited.push_back(Awaited { id: 0, due, step: false });
        self.post(at);
    }

    /// Sends the next request of a courier, where none is under way.
    pub(super) fn post(&mut self, at: usize) {
        let Some((programs, group)) = self.program(at) else { return };
        let (Some(program), Some(client)) = (programs.get(group), self.clients.get_mut(at)) else {
            return;
        };
        let number = client.number;
        let Some(courier) = &mut client.courier else { return };
        if courier.busy || courier.link.is_none() {
            return;
        }
        let Some(first) = courier.queue.pop_front() else { return };
        courier.busy = true;
        let request = if program.via == Via::Api {
            first
        } else {
            // Packets that had to wait leave together.
            let mut body = first;
            for packet in courier.queue.drain(..) {
                body.push(0x1e);
                body.extend_from_slice(&packet);
            }
            let Some(address) = self.plan.address(number, program.via) else { return };
            let sid = self.clients.get(at).and_then(|client| client.sid.as_deref());
            let mut request = Vec::new();
            let headers = "content-type: text/plain;charset=UTF-8\r\n";
            http::post(&address.host, &self.engine("polling", sid), headers, &body, &mut request);
            request
        };
        self.write(at, Side::Post, &request);
    }

    /// Begins a step of a script, or ends it where there is none.
    pub(super) fn run_script(&mut self, at: usize, script: Script, step: u16) {
        let now = self.clock.now();
        let Some((programs, group)) = self.program(at) else { return };
        let (Some(program), Some(client)) = (programs.get(group), self.clients.get_mut(at)) else {
            return;
        };
        let Some(asked) = program.script(script).get(usize::from(step)) else {
            match script {
                Script::First => self.be_ready(at),
                Script::Leave => {
                    client.stage = Stage::Ready;
                    let life = client.life;
                    let away = program.cycle.as_ref().map_or(0, |turns| turns.away);
                    self.timers.push(Reverse((now + away, small(at), Due::Join(life))));
                }
                Script::Join => {
                    client.stage = Stage::Ready;
                    self.be_present(at);
                }
            }
            return;
        };
        client.stage = Stage::Stepping(script, step);
        client.step_since = now;
        let mut text = String::from("42");
        text.push_str(&self.prefix());
        if asked.until.is_none() {
            self.await_ack(at, now, true, &mut text);
        }
        self.fill(at, &asked.body, None, 0, &mut text);
        self.say(at, text.as_bytes());
    }

    /// A client leaves its room, to join again.
    pub(super) fn leave(&mut self, at: usize, count: u32) {
        let Some((programs, group)) = self.program(at) else { return };
        let Some(turns) = programs.get(group).and_then(|program| program.cycle.as_ref()) else {
            return;
        };
        let Some(program) = programs.get(group) else { return };
        let Some(client) = self.clients.get(at) else { return };
        let place = place(client.number, program.clients);
        let next = after(self.start, place + f64::from(count + 1), turns.period);
        if next < self.end {
            self.timers.push(Reverse((next, small(at), Due::Leave(count + 1))));
        }
        let Some(client) = self
            .clients
            .get_mut(at)
            .filter(|client| client.stage == Stage::Ready && client.present)
        else {
            return;
        };
        client.present = false;
        // What is on its way may come or not: the server decides when the leave takes hold. What others overtook is lost.
        for (_, track) in std::mem::take(&mut client.tracks) {
            self.tally.counts.lost += track.holes();
        }
        self.run_script(at, Script::Leave, 0);
    }
}

/// Where a client stands among the clients of its group, from 0 up to but without 1.
fn place(number: u32, clients: u32) -> f64 {
    f64::from(number % clients.max(1)) / f64::from(clients.max(1))
}
