//! The workers of a run: a thread, processes of this machine, or processes of others that join.
//!
//! In come commands for each; out go their updates, in one queue. However a worker is reached, it does the same: it
//! runs one plan after another until it is told to stop. Between processes both sides are lines of JSON over TCP.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command as Process, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    clock::Clock,
    control::{Command, Update},
    number::small,
    swarm,
};

/// Updates that wait for the coordinator. A worker whose updates do not fit waits.
const QUEUE: usize = 64;

/// Longest line between a coordinator and a worker: a tally of hours.
const LONGEST_LINE: u64 = 256 << 20;

/// How long workers may take to join.
const JOIN: Duration = Duration::from_mins(2);

/// How often a worker's clock is asked: the quickest answer is the best.
const CLOCK_ROUNDS: usize = 8;

/// The workers.
#[derive(Debug)]
pub(crate) struct Crew {
    commands: Vec<SyncSender<Command>>,
    updates: Receiver<(usize, Update)>,
    /// How far each worker's clock is ahead of ours, in microseconds.
    pub ahead: Vec<i64>,
    children: Vec<Child>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        for commands in &self.commands {
            commands.try_send(Command::Stop).ok();
        }
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Crew {
    /// One worker, in a thread of this process.
    pub(crate) fn alone() -> Self {
        let (tell, told) = sync_channel(QUEUE);
        let (say, heard) = sync_channel(QUEUE);
        let (tagged, updates) = sync_channel(QUEUE);
        thread::spawn(move || work(&told, &say));
        thread::spawn(move || heard.iter().try_for_each(|update| tagged.send((0, update))));
        Self { commands: vec![tell], updates, ahead: vec![0], children: Vec::new() }
    }

    /// So many processes: started here, or, where an address is named, waited for there.
    pub(crate) fn gather(count: usize, listen: Option<SocketAddr>) -> Result<Self> {
        let at = listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        let listener = TcpListener::bind(at).with_context(|| format!("listening at {at}"))?;
        let at = listener.local_addr()?;
        let mut children = Vec::new();
        if listen.is_none() {
            let program = std::env::current_exe()?;
            for _ in 0..count {
                let mut process = Process::new(&program);
                process.args(["worker", "--join", &at.to_string()]).stdin(Stdio::null());
                children.push(process.spawn().context("starting a worker")?);
            }
        } else {
            eprintln!("waiting for {count} workers: loadtest worker --join {at}");
        }
        let (tagged, updates) = sync_channel(QUEUE);
        let mut crew = Self { commands: Vec::new(), updates, ahead: Vec::new(), children };
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + JOIN;
        while crew.commands.len() < count {
            match listener.accept() {
                Ok((stream, _)) => {
                    let worker = crew.commands.len();
                    crew.commands.push(bridge(stream, worker, tagged.clone())?);
                    let ahead = crew.ask_clock(worker)?;
                    crew.ahead.push(ahead);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    ensure!(
                        Instant::now() < deadline,
                        "{} of {count} workers joined",
                        crew.commands.len()
                    );
                    // Nothing tells when the next joins; whoever starts many by hand waits for this anyway.
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(crew)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        small(self.commands.len())
    }

    /// Tells one worker.
    pub(crate) fn tell(&self, worker: usize, command: Command) -> Result<()> {
        let commands = self.commands.get(worker).context("no such worker")?;
        commands.send(command).context("a worker is gone")
    }

    /// Tells all workers.
    pub(crate) fn tell_all(&self, command: &Command) -> Result<()> {
        (0..self.commands.len()).try_for_each(|worker| self.tell(worker, command.clone()))
    }

    /// The next update, if one comes in time.
    pub(crate) fn hear(&self, within: Duration) -> Result<Option<(usize, Update)>> {
        match self.updates.recv_timeout(within) {
            Ok((worker, Update::Failed(why))) => bail!("worker {worker}: {why}"),
            Ok(update) => Ok(Some(update)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all workers are gone"),
        }
    }

    /// How far a worker's clock is ahead of ours.
    fn ask_clock(&self, worker: usize) -> Result<i64> {
        let clock = Clock::new(0);
        let mut best: Option<(u64, i64)> = None;
        for _ in 0..CLOCK_ROUNDS {
            let asked = clock.now();
            self.tell(worker, Command::Clock)?;
            let Some((_, Update::Clock(theirs))) = self.hear(JOIN)? else {
                bail!("worker {worker} does not tell its time");
            };
            let answered = clock.now();
            let took = answered.saturating_sub(asked);
            let ahead = theirs.cast_signed() - (asked + took / 2).cast_signed();
            if best.is_none_or(|(least, _)| took < least) {
                best = Some((took, ahead));
            }
        }
        // What is less than the way there and back is no difference.
        Ok(best.map_or(0, |(took, ahead)| if ahead.unsigned_abs() <= took { 0 } else { ahead }))
    }
}

/// Moves lines between a worker's stream and queues.
fn bridge(
    stream: TcpStream,
    worker: usize,
    updates: SyncSender<(usize, Update)>,
) -> Result<SyncSender<Command>> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let (tell, told) = sync_channel::<Command>(QUEUE);
    let mut writer = stream.try_clone()?;
    thread::spawn(move || {
        for command in told {
            if write_line(&mut writer, &command).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            let update = match read_line(&mut reader) {
                Ok(Some(update)) => update,
                Ok(None) => Update::Failed("it is gone".into()),
                Err(error) => Update::Failed(format!("{error:#}")),
            };
            let failed = matches!(update, Update::Failed(_));
            if updates.send((worker, update)).is_err() || failed {
                return;
            }
        }
    });
    Ok(tell)
}

/// Joins a coordinator and does what it says until it ends.
pub(crate) fn join(coordinator: &str) -> Result<()> {
    let stream =
        TcpStream::connect(coordinator).with_context(|| format!("joining {coordinator}"))?;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let (tell, told) = sync_channel(QUEUE);
    let (say, heard) = sync_channel::<Update>(QUEUE);
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        while let Ok(Some(command)) = read_line(&mut reader) {
            if tell.send(command).is_err() {
                return;
            }
        }
    });
    let writing = thread::spawn(move || {
        for update in heard {
            if write_line(&mut writer, &update).is_err() {
                return;
            }
        }
    });
    work(&told, &say);
    drop(say);
    writing.join().ok();
    Ok(())
}

/// Runs one plan after another until the coordinator is gone.
fn work(commands: &Receiver<Command>, updates: &SyncSender<Update>) {
    let clock = Clock::new(0);
    while let Ok(command) = commands.recv() {
        let said = match command {
            Command::Begin(plan) => match swarm::run(*plan, commands, updates) {
                Ok(()) => Ok(()),
                Err(error) => updates.send(Update::Failed(format!("{error:#}"))),
            },
            Command::Clock => updates.send(Update::Clock(clock.now())),
            Command::Stop => return,
            // What is left over from a run that has failed.
            Command::Go(_) | Command::Settle(_) => Ok(()),
        };
        if said.is_err() {
            return;
        }
    }
}

fn write_line(to: &mut TcpStream, what: &impl serde::Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    Ok(to.write_all(&line)?)
}

fn read_line<T: serde::de::DeserializeOwned>(from: &mut BufReader<TcpStream>) -> Result<Option<T>> {
    let mut line = Vec::new();
    let count = from.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}
