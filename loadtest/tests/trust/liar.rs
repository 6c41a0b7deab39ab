//! A Socket.IO server that does wrong on purpose and keeps count of it.
//!
//! In come faults: of every so many deliveries (or acks) one is dropped, doubled, swapped with the next. Out go the counts
//! of what it did. Faults are placed by counting each sender's messages to each receiver, so that none hides another.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// What it does wrong; 0 and nothing are never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Of so many deliveries of one sender to one receiver, one is dropped.
    pub drop: u64,
    /// One is made twice.
    pub double: u64,
    /// One is made after the next.
    pub swap: u64,
    /// Of so many messages of one sender, one is not acknowledged.
    pub no_ack: u64,
    /// One is acknowledged twice.
    pub two_acks: u64,
    /// One is refused, and delivered all the same.
    pub refuse: u64,
    /// So many connects are refused.
    pub refuse_connects: u64,
    /// A receiver is cut off after so many deliveries …
    pub cut_after: u64,
    /// … at most so often in all.
    pub cuts: u64,
    /// Everything is delivered this much later.
    pub delay: Duration,
    /// After so many messages, everything stands still for this long.
    pub stall: Option<(u64, Duration)>,
    /// Messages are read and nothing is done with them.
    pub deaf: bool,
}

/// What it has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub delivered: u64,
    pub dropped: u64,
    pub doubled: u64,
    pub swapped: u64,
    pub unacked: u64,
    pub acked_twice: u64,
    pub refused: u64,
    pub connects_refused: u64,
    pub cut: u64,
    messages: u64,
}

/// Texts that wait for a connection; nothing ends it.
type Outbox = mpsc::Sender<Option<(Instant, String)>>;

/// Far more than a test sends: a full outbox is a broken test.
const OUTBOX: usize = 100_000;

struct Member {
    id: u64,
    outbox: Outbox,
    /// Of each sender: how many messages came, and the one that is held back.
    from: HashMap<u64, (u64, Option<String>)>,
    heard: u64,
}

#[derive(Default)]
struct State {
    rooms: HashMap<String, Vec<Member>>,
    counted: Counted,
    /// Of each sender: how many messages it sent.
    sent: HashMap<u64, u64>,
    connections: u64,
    stalled_until: Option<Instant>,
}

/// The server; it ends with its guard.
pub(crate) struct Liar {
    /// Where it listens.
    pub url: String,
    state: Arc<Mutex<State>>,
    _runtime: Runtime,
}

/// Of every so many, this is the one. Kinds of faults have different places, so that they do not meet.
fn is_one(number: u64, of: u64, place: u64) -> bool {
    of > 0 && number % of == place % of
}

impl Liar {
    /// Starts it.
    pub(crate) fn start(faults: Faults) -> Self {
        let runtime = Runtime::new().expect("a runtime starts");
        let state = Arc::new(Mutex::new(State::default()));
        let (ready, listens) = oneshot::channel::<SocketAddr>();
        let shared = Arc::clone(&state);
        runtime.spawn(async move {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
            ready.send(listener.local_addr().expect("it has an address")).expect("the test waits");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, faults, Arc::clone(&shared)));
            }
        });
        let addr = runtime.block_on(listens).expect("it listens");
        Self { url: format!("http://{addr}"), state, _runtime: runtime }
    }

    /// What it has done so far. What it still holds back was never delivered.
    pub(crate) fn counted(&self) -> Counted {
        let state = self.state.lock();
        let members = state.rooms.values().flatten();
        let held: u64 = members
            .flat_map(|member| member.from.values())
            .map(|(_, held)| u64::from(held.is_some()))
            .sum();
        let mut counted = state.counted;
        counted.dropped += held;
        counted.swapped -= held;
        counted
    }
}

async fn serve(stream: TcpStream, faults: Faults, state: Arc<Mutex<State>>) {
    stream.set_nodelay(true).expect("a fresh stream takes options");
    let Ok(socket) = accept_async(stream).await else { return };
    let (mut sink, mut source) = socket.split();
    let (outbox, mut waiting) = mpsc::channel::<Option<(Instant, String)>>(OUTBOX);
    let id = {
        let mut state = state.lock();
        state.connections += 1;
        state.connections
    };
    tokio::spawn(async move {
        while let Some(Some((due, text))) = waiting.recv().await {
            sleep_until(due).await;
            if sink.send(Message::text(text)).await.is_err() {
                return;
            }
        }
        sink.close().await.ok();
    });
    let say = |text: String| {
        outbox.try_send(Some((Instant::now(), text))).expect("the outbox is large enough");
    };
    say(r#"0{"sid":"s","upgrades":[],"pingInterval":1000,"pingTimeout":1000,"maxPayload":100000}"#
        .into());
    while let Some(Ok(message)) = source.next().await {
        let Message::Text(text) = message else { continue };
        match text.as_str() {
            "3" => {}
            text if text.starts_with("40") => {
                let refuse = {
                    let counted = &mut state.lock().counted;
                    let refuse = counted.connects_refused < faults.refuse_connects;
                    counted.connects_refused += u64::from(refuse);
                    refuse
                };
                say(if refuse {
                    r#"44{"message":"full"}"#.into()
                } else {
                    format!(r#"40{{"sid":"{id}"}}"#)
                });
                // In the middle of all, a sign of life is asked for.
                say("2".into());
            }
            text if text.starts_with("42") && !faults.deaf => {
                event(id, text, faults, &mut state.lock(), &outbox);
            }
            text if text.starts_with("42") && text.contains("subscribe") => {
                event(id, text, faults, &mut state.lock(), &outbox);
            }
            _ => {}
        }
    }
    for members in state.lock().rooms.values_mut() {
        members.retain(|member| member.id != id);
    }
}

fn event(id: u64, text: &str, faults: Faults, state: &mut State, outbox: &Outbox) {
    let body = text.strip_prefix("42").expect("an event");
    let start = body.find('[').expect("an event is a list");
    let ack = body[..start].to_owned();
    let event: Value = serde_json::from_str(&body[start..]).expect("an event is JSON");
    let channel = event[1]["channel"].as_str().unwrap_or_default().to_owned();
    let send = |due: Instant, text: String| {
        outbox.try_send(Some((due, text))).expect("the outbox is large enough");
    };
    match event[0].as_str() {
        Some("subscribe") => {
            let member = Member { id, outbox: outbox.clone(), from: HashMap::new(), heard: 0 };
            state.rooms.entry(channel).or_default().push(member);
            send(Instant::now(), format!(r#"43{ack}[{{"ok":true}}]"#));
        }
        Some("message") => {
            let due = due(state, faults);
            relay(id, &channel, &format!("42{event}"), faults, state, due);
            if !ack.is_empty() {
                acknowledge(id, &ack, faults, state, &|text| send(due, text));
            }
        }
        other => panic!("an event {other:?} that no test sends"),
    }
}

/// When what is said now is delivered.
fn due(state: &mut State, faults: Faults) -> Instant {
    let now = Instant::now() + faults.delay;
    state.counted.messages += 1;
    if let Some((after, time)) = faults.stall
        && state.counted.messages == after
    {
        state.stalled_until = Some(now + time);
    }
    state.stalled_until.map_or(now, |until| until.max(now))
}

fn relay(sender: u64, channel: &str, text: &str, faults: Faults, state: &mut State, due: Instant) {
    let State { rooms, counted, .. } = state;
    for member in
        rooms.entry(channel.to_owned()).or_default().iter_mut().filter(|member| member.id != sender)
    {
        let say = |text: &str| {
            // One that was cut off does not hear any more.
            member.outbox.try_send(Some((due, text.to_owned()))).ok();
        };
        let (number, held) = member.from.entry(sender).or_default();
        *number += 1;
        if is_one(*number, faults.drop, 7) {
            counted.dropped += 1;
        } else if held.is_none() && is_one(*number, faults.swap, 11) {
            counted.swapped += 1;
            *held = Some(text.to_owned());
            continue;
        } else {
            counted.delivered += 1;
            say(text);
            if let Some(held) = held.take() {
                counted.delivered += 1;
                say(&held);
            }
            if is_one(*number, faults.double, 3) {
                counted.doubled += 1;
                say(text);
            }
        }
        member.heard += 1;
        if faults.cut_after > 0 && member.heard == faults.cut_after && counted.cut < faults.cuts {
            counted.cut += 1;
            member.outbox.try_send(None).ok();
        }
    }
}

fn acknowledge(sender: u64, ack: &str, faults: Faults, state: &mut State, say: &dyn Fn(String)) {
    let number = state.sent.entry(sender).or_default();
    *number += 1;
    let number = *number;
    let counted = &mut state.counted;
    if is_one(number, faults.no_ack, 7) {
        counted.unacked += 1;
    } else if is_one(number, faults.refuse, 3) {
        counted.refused += 1;
        say(format!(r#"43{ack}[{{"ok":false,"error":{{"code":"NOT_TODAY"}}}}]"#));
    } else {
        let text = format!(r#"43{ack}[{{"ok":true}}]"#);
        say(text.clone());
        if is_one(number, faults.two_acks, 11) {
            counted.acked_twice += 1;
            say(text);
        }
    }
}
