//! All clients of one worker, in one thread and one event loop.
//!
//! In come a [`Plan`] and the coordinator's commands; out go updates and at last a [`Tally`]. Messages leave when they
//! are due, whatever the server does, and what they took is counted from the moment they were due: a server that stalls
//! is charged for all who would have waited. Nothing blocks but the poll.
//!
//! ```text
//!  connect on schedule ─▶ steps ─▶ Ready ─▶ Go ─▶ send on schedule, hear ─▶ Sent ─▶ Settle ─▶ Done
//! ```

mod alarm;
mod client;
mod dial;
mod hear;
mod link;
mod program;
mod say;
mod settle;
mod track;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    rc::Rc,
    sync::mpsc::{Receiver, SyncSender, TryRecvError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use mio::{Events, Poll, Registry, Token};
use rustc_hash::FxHashMap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::{
    alarm::Alarm,
    client::{Client, Side},
    program::{Program, after},
};
use crate::{
    clock::Clock,
    control::{Command, Progress, Update},
    number::{float, index, micros, per, small},
    plan::{Plan, Stream, Streams},
    tally::{Tally, Times},
};

/// What the alarm's events are called.
const ALARM: Token = Token(usize::MAX);

/// Bytes read at once. One buffer serves all clients.
const BUFFER: usize = 256 << 10;

/// How long the loop sleeps at most, so that commands are soon heard.
const NAP: u64 = 20_000;

/// How often the coordinator hears how things stand.
const PROGRESS: u64 = 500_000;

/// Descriptors that are not clients': the poll, the alarm, pipes, files.
const SPARE_DESCRIPTORS: u64 = 40;

/// Something that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A client connects.
    Dial,
    /// A client of this life has not become ready in time.
    Overdue(u16),
    /// A client's send, and how many came before it.
    Send(u8, u32),
    /// A client leaves, and how many times it did before.
    Leave(u32),
    /// A client of this life joins again.
    Join(u16),
    /// A client is cut off.
    Cut,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Clients connect.
    Connecting,
    /// All are connected; the word to begin is awaited.
    Waiting,
    /// Messages are sent.
    Sending,
    /// All is sent; what the others have sent is awaited.
    Sent,
    /// What is on its way is awaited, at most until then.
    Settling(u64, FxHashMap<Stream, u32>),
}

/// The clients of one worker.
struct Swarm {
    plan: Plan,
    streams: Streams,
    programs: Rc<[Program]>,
    clock: Clock,
    poll: Poll,
    registry: Registry,
    alarm: Alarm,
    clients: Vec<Client>,
    timers: BinaryHeap<Reverse<(u64, u32, Due)>>,
    phase: Phase,
    tally: Tally,
    /// What was sent so far, of the streams of this worker.
    sent: FxHashMap<Stream, u32>,
    /// Clients that are ready.
    ready: u64,
    /// When connecting began, when it must be over.
    deadline: u64,
    /// When sending begins, when it is measured, when it ends.
    start: u64,
    measured: u64,
    end: u64,
    /// The second that is under way and what was timed in it.
    second: (u64, Times),
    /// The last second's median and 99th percentile.
    last: (u64, u64),
    /// Microseconds of the measured part in which the loop slept.
    slept: u64,
    next_progress: u64,
    /// When it is looked at next whether all was heard.
    next_look: u64,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    text: String,
    random: u64,
}

/// Runs a plan to its end.
pub(crate) fn run(
    plan: Plan,
    commands: &Receiver<Command>,
    updates: &SyncSender<Update>,
) -> Result<()> {
    if let Some(core) = plan.core {
        bind(core)?;
    }
    let mut swarm = Swarm::new(plan)?;
    swarm.check_descriptors()?;
    swarm.live(commands, updates)
}

/// Binds this thread to a core.
fn bind(core: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    ensure!(core < rustix::thread::CpuSet::MAX_CPU, "core {core}: there is none");
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("binding to core {core}"))
}

impl Swarm {
    fn new(plan: Plan) -> Result<Self> {
        let clock = Clock::new(plan.ahead);
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let alarm = Alarm::new(&registry, ALARM)?;
        let streams = Streams::of(&plan);
        let programs: Rc<[Program]> = Program::all(&plan.scenario)?.into();
        let now = clock.now();
        let mut timers = BinaryHeap::new();
        let mut clients = Vec::new();
        let pause = 1e6 / plan.scenario.connects_per_second;
        for (number, group) in plan.clients().filter(|(number, _)| plan.is_mine(*number)) {
            let due = after(now, f64::from(number), pause);
            timers.push(Reverse((due, small(clients.len()), Due::Dial)));
            clients
                .push(Client::new(number, u16::try_from(group).context("65535 groups at most")?));
        }
        let last_connect = after(now, float(plan.scenario.clients()), pause);
        let deadline = last_connect.saturating_add(micros(plan.scenario.connect_within));
        let random = (u64::from(plan.run) << 20) | u64::from(plan.worker) | 1;
        Ok(Self {
            plan,
            streams,
            programs,
            clock,
            poll,
            registry,
            alarm,
            clients,
            timers,
            phase: Phase::Connecting,
            tally: Tally::default(),
            sent: FxHashMap::default(),
            ready: 0,
            deadline,
            start: u64::MAX,
            measured: u64::MAX,
            end: u64::MAX,
            second: (0, Times::coarse()),
            last: (0, 0),
            slept: 0,
            next_progress: 0,
            next_look: 0,
            buffer: vec![0; BUFFER],
            scratch: Vec::new(),
            text: String::new(),
            random,
        })
    }

    /// Makes sure that every connection may have its descriptors.
    fn check_descriptors(&self) -> Result<()> {
        let each = |client: &Client| match self.programs.get(usize::from(client.group)) {
            Some(program) if program.transport == crate::scenario::Transport::Polling => 2,
            Some(_) | None => 1,
        };
        let needed = self.clients.iter().map(each).sum::<u64>() + SPARE_DESCRIPTORS;
        let limit = getrlimit(Resource::Nofile);
        if limit.current.is_some_and(|current| current < needed) {
            if limit.maximum.is_some_and(|maximum| maximum < needed) {
                bail!(
                    "{needed} files are needed and `ulimit -n` is {}: raise it, or spread the clients over several \
                     processes with --workers",
                    limit.maximum.unwrap_or_default()
                );
            }
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        }
        Ok(())
    }

    /// The loop.
    fn live(&mut self, commands: &Receiver<Command>, updates: &SyncSender<Update>) -> Result<()> {
        let mut events = Events::with_capacity(512);
        loop {
            let mut now = self.clock.now();
            loop {
                match commands.try_recv() {
                    Ok(Command::Go(at)) => self.begin(at, now),
                    Ok(Command::Settle(sent)) => {
                        let until = now.saturating_add(micros(self.plan.scenario.settle));
                        self.phase = Phase::Settling(until, sent.into_iter().collect());
                        self.wake();
                    }
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
                    Ok(Command::Begin(_) | Command::Clock) => {}
                    Err(TryRecvError::Empty) => break,
                }
            }
            now = self.timers_due(now)?;
            let update = self.step_phase(now);
            self.next_look = if now >= self.next_look { now + NAP } else { self.next_look };
            if let Some(update) = update {
                let done = matches!(update, Update::Done(_));
                updates.send(update).context("the coordinator is gone")?;
                if done {
                    return Ok(());
                }
            }
            if now >= self.next_progress {
                self.next_progress = now + PROGRESS;
                // Whoever watches may miss one; the next says more.
                updates.try_send(Update::Progress(self.progress())).ok();
            }
            self.nap(now, &mut events)?;
            for event in &events {
                if event.token() != ALARM {
                    self.readiness(event);
                }
            }
        }
    }

    /// Sleeps until something comes or is due.
    fn nap(&mut self, now: u64, events: &mut Events) -> Result<()> {
        let due = self.timers.peek().map_or(u64::MAX, |Reverse((due, ..))| *due);
        if due <= now {
            self.poll.poll(events, Some(Duration::ZERO)).or_else(interrupted)?;
            return Ok(());
        }
        self.alarm.set(due.min(now + NAP), now)?;
        self.poll.poll(events, None).or_else(interrupted)?;
        let woken = self.clock.now();
        let (from, to) = (now.max(self.measured), woken.min(self.end));
        self.slept += to.saturating_sub(from);
        Ok(())
    }

    /// Does all that is due, and says what time it is then.
    fn timers_due(&mut self, mut now: u64) -> Result<u64> {
        // What arrives is looked at in between, however much is due.
        for _ in 0..256 {
            let Some(Reverse((due, at, what))) =
                self.timers.peek().copied().filter(|Reverse((due, ..))| *due <= now)
            else {
                break;
            };
            self.timers.pop();
            self.happen(due, index(at), what, now)?;
            now = self.clock.now();
        }
        Ok(now)
    }

    fn happen(&mut self, due: u64, at: usize, what: Due, now: u64) -> Result<()> {
        let life = self.clients.get(at).map_or(0, |client| client.life);
        match what {
            Due::Dial => self.dial(at, due)?,
            Due::Overdue(of) if of == life => self.overdue(at),
            Due::Send(send, count) => self.send(at, send, count, due, now),
            Due::Leave(count) => self.leave(at, count),
            Due::Join(of) if of == life => self.run_script(at, client::Script::Join, 0),
            Due::Cut => self.cut(at, due),
            Due::Overdue(_) | Due::Join(_) => {}
        }
        Ok(())
    }

    /// Goes on to the next phase where this one is over.
    fn step_phase(&mut self, now: u64) -> Option<Update> {
        match &self.phase {
            Phase::Connecting
                if self.ready == self.clients.len() as u64 || now >= self.deadline =>
            {
                self.phase = Phase::Waiting;
                Some(Update::Ready)
            }
            Phase::Sending if now >= self.end && !self.any_due_before(self.end) => {
                self.phase = Phase::Sent;
                Some(Update::Sent(
                    self.sent.iter().map(|(stream, count)| (*stream, *count)).collect(),
                ))
            }
            Phase::Settling(until, sent)
                if now >= *until || (now >= self.next_look && self.is_settled(sent)) =>
            {
                let sent = sent.clone();
                self.phase = Phase::Sent;
                Some(Update::Done(Box::new(self.finish(&sent))))
            }
            Phase::Connecting
            | Phase::Waiting
            | Phase::Sending
            | Phase::Sent
            | Phase::Settling(..) => None,
        }
    }

    fn any_due_before(&self, moment: u64) -> bool {
        self.timers.peek().is_some_and(|Reverse((due, ..))| *due < moment)
    }

    fn progress(&self) -> Progress {
        let counts = &self.tally.counts;
        Progress {
            ready: self.ready,
            clients: self.clients.len() as u64,
            sent: counts.sent,
            delivered: counts.delivered,
            acked: counts.acked,
            steps: counts.steps,
            refused: counts.refused + counts.connects_refused,
            disconnected: counts.disconnected,
            disorder: counts.out_of_order + counts.duplicated,
            p50: self.last.0,
            p99: self.last.1,
        }
    }

    /// A stream can be read or written.
    fn readiness(&mut self, event: &mio::event::Event) {
        let Token(token) = event.token();
        let (at, side) = (token / 2, if token % 2 == 0 { Side::Main } else { Side::Post });
        if event.is_writable() {
            let Some(link) = self.clients.get_mut(at).and_then(|client| client.side(side)) else {
                return;
            };
            if let Err(error) = link.flush() {
                self.gone(at, &error.to_string());
                return;
            }
            self.writable(at);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(at, side, event.is_read_closed() || event.is_error());
        }
    }

    fn program(&self, at: usize) -> Option<(Rc<[Program]>, usize)> {
        let group = self.clients.get(at).map(|client| usize::from(client.group))?;
        (group < self.programs.len()).then(|| (Rc::clone(&self.programs), group))
    }

    /// The next of a row of numbers that look random; the same run has the same.
    fn chance(&mut self) -> f64 {
        // Marsaglia's xorshift: plenty for pauses between messages.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        float(self.random >> 11) / float(1 << 53)
    }

    /// Closes the second that is over.
    fn turn_second(&mut self, now: u64) {
        let second = now.saturating_sub(self.start) / 1_000_000;
        if now < self.start || second == self.second.0 {
            return;
        }
        let (over, times) = (self.second.0, &self.second.1);
        let buckets: Vec<(u64, u64)> = times.buckets().collect();
        self.last = (times.percentile(50.0), times.percentile(99.0));
        if let Some(slot) = self.tally.slot(over) {
            slot.times = buckets;
        }
        self.second.0 = second;
        self.second.1.clear();
    }

    /// The share of the measured part in which this worker was at work.
    fn busy(&self) -> f64 {
        let measured = float(self.end.saturating_sub(self.measured));
        if measured > 0.0 { (1.0 - per(float(self.slept), measured)).clamp(0.0, 1.0) } else { 0.0 }
    }
}

fn interrupted(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}
