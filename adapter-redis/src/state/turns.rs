//! Turns: one at a time for a key, over all pods.
//!
//! In comes a key, out comes a ticket, then a turn. In this pod those who wait stand in a line; only its
//! head asks Redis, where the heads of all pods stand in another line, so that pods take turns too. Who
//! has the turn renews its lease until the turn is dropped; a pod that dies loses it when the lease ends.
//!
//! A turn does not end by itself while Redis is away for longer than the lease: its holder goes on, and
//! another pod may begin once Redis is back.

use std::{sync::Arc, time::Duration};

use adapter::{
    StateError, Ticket, Turn,
    memory::{Lines, Spot, TurnGuard},
};
use async_trait::async_trait;
use tokio::{runtime::Handle, sync::oneshot, time::Instant};
use tracing::warn;

use super::ttl_millis;
use crate::{connection::Link, names::Names, scripts::TurnScripts};

/// Who has not asked for this long has left the line. Far above the time between two questions, far
/// below the lease.
const PATIENCE: Duration = Duration::from_secs(2);
/// The head of the line asks this often at first, and half as often each time, down to the other.
const ASK_FIRST: Duration = Duration::from_millis(4);
const ASK_LAST: Duration = Duration::from_millis(64);

/// Turns in Redis.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    names: Names,
    scripts: TurnScripts,
    lines: Lines,
    lease: Duration,
    /// Where a turn is given back after its holder is gone.
    runtime: Handle,
}

impl Turns {
    pub(crate) fn new(link: Arc<Link>, names: Names, lease: Duration, runtime: Handle) -> Self {
        let scripts = TurnScripts::new();
        Self(Arc::new(Inner { link, names, scripts, lines: Lines::default(), lease, runtime }))
    }

    pub(crate) fn line_up(&self, key: &str) -> Box<dyn Ticket> {
        Box::new(Waiting {
            turns: self.clone(),
            keys: self.0.names.turn(key),
            spot: self.0.lines.line_up(key),
        })
    }
}

/// A place in this pod's line.
struct Waiting {
    turns: Turns,
    keys: [String; 3],
    spot: Spot,
}

#[async_trait]
impl Ticket for Waiting {
    async fn turn(self: Box<Self>) -> Result<Turn, StateError> {
        let Self { turns, keys, spot } = *self;
        let line = spot.wait().await?;
        let mut claim = Claim::new(turns, keys, line);
        claim.take().await?;
        Ok(Turn::new(claim.keep()))
    }
}

/// The head of this pod's line on its way to the turn. Dropping it gives back whatever it got, its place
/// in the cluster's line or the turn itself, and only then lets the next of this pod ask.
struct Claim {
    turns: Turns,
    keys: [String; 3],
    token: String,
    line: Option<TurnGuard>,
}

impl Claim {
    fn new(turns: Turns, keys: [String; 3], line: TurnGuard) -> Self {
        Self { turns, keys, token: format!("{:032x}", rand::random::<u128>()), line: Some(line) }
    }

    /// Asks until it has the turn.
    async fn take(&mut self) -> Result<(), StateError> {
        let inner = &self.turns.0;
        let mut pause = ASK_FIRST;
        loop {
            let [turn, line, seen] = &self.keys;
            let mut call = inner.scripts.turn.key(turn);
            call.key(line).key(seen);
            call.arg(&self.token).arg(ttl_millis(inner.lease)).arg(ttl_millis(PATIENCE));
            let before: i64 = inner.link.script(turn, &call).await?;
            if before < 0 {
                return Ok(());
            }
            // Jitter keeps pods from asking in step.
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = if before == 0 { (pause * 2).min(ASK_LAST) } else { ASK_LAST };
        }
    }

    /// Keeps the turn until the guard is dropped.
    fn keep(self) -> Kept {
        let (end, ended) = oneshot::channel();
        let runtime = self.turns.0.runtime.clone();
        runtime.spawn(self.renew(ended));
        Kept { _end: end }
    }

    /// Renews the lease until the turn ends, then gives it back by its drop.
    async fn renew(self, mut ended: oneshot::Receiver<()>) {
        let inner = &self.turns.0;
        let every = inner.lease / 4;
        let mut at = Instant::now() + every;
        loop {
            if tokio::time::timeout_at(at, &mut ended).await.is_ok() {
                break;
            }
            let mut call = inner.scripts.renew.key(&self.keys[0]);
            call.arg(&self.token).arg(ttl_millis(inner.lease));
            match inner.link.script::<i64>(&self.keys[0], &call).await {
                Ok(0) => warn!("a turn was lost: its lease ended before it was renewed"),
                Ok(_) => {}
                Err(error) => warn!(%error, "a turn could not be renewed"),
            }
            at = Instant::now() + every;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (turns, keys, token) =
            (self.turns.clone(), std::mem::take(&mut self.keys), std::mem::take(&mut self.token));
        let line = self.line.take();
        let runtime = self.turns.0.runtime.clone();
        runtime.spawn(async move {
            let [turn, waiting, seen] = &keys;
            let mut call = turns.0.scripts.leave.key(turn);
            call.key(waiting).key(seen).arg(&token);
            // Where this fails the lease ends it.
            if let Err(error) = turns.0.link.script::<()>(turn, &call).await {
                warn!(%error, "a turn could not be given back; its lease will end it");
            }
            drop(line);
        });
    }
}

/// A turn that is had.
struct Kept {
    _end: oneshot::Sender<()>,
}
