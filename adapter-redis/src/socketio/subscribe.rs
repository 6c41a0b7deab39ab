//! Channels that are listened to.
//!
//! In come the changes of the table of wishes; out go SUBSCRIBE and UNSUBSCRIBE, whatever came together in
//! one command, and the messages of each channel to the table. One task owns the one connection. When it is
//! lost, everything wished for is subscribed to on the next one, and the gap is told.
//!
//! There is no queue on the way in: a message is handed over on the task that read it, so a pod that is
//! too slow is slowed down by Redis, which in the end closes the connection; that is a gap as any other.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{PushInfo, PushKind, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::{
    dialer::{Dialed, Dialer, too_late},
    hooks::Hooks,
    table::{BATCH, Table},
};

/// The waits between attempts to connect: the first, and the one that it grows to.
const DIAL_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What the connection hands over to the table, and whether it does at all.
#[derive(Clone)]
pub(crate) struct Heard {
    table: Arc<Table>,
    pushes: Arc<AtomicU64>,
    gone: Arc<Notify>,
    moved: Arc<Notify>,
}

impl Heard {
    fn new(table: &Arc<Table>) -> Self {
        Self {
            table: table.clone(),
            pushes: Arc::default(),
            gone: Arc::default(),
            moved: Arc::default(),
        }
    }

    pub(crate) fn push(&self, push: PushInfo) {
        self.pushes.fetch_add(1, Ordering::Relaxed);
        match push.kind {
            PushKind::Message | PushKind::SMessage => self.table.deliver(push.data),
            // A slot that moves takes its channels along: they are to be found where it is now.
            PushKind::SUnsubscribe if self.table.misses(&push.data) => self.moved.notify_one(),
            PushKind::Disconnection => self.gone.notify_one(),
            _ => {}
        }
    }
}

/// Why a connection is no longer listened to.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// What it is for is at another server now.
    #[error("another server has its channels now")]
    Elsewhere,
    #[error("it was closed")]
    Gone,
    #[error(transparent)]
    Failed(#[from] RedisError),
}

/// The task that keeps what is wished for subscribed to.
pub(crate) struct Subscriber {
    pub(crate) table: Arc<Table>,
    pub(crate) dialer: Dialer,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) ping_interval: Duration,
    pub(crate) hang_timeout: Duration,
}

impl Subscriber {
    pub(crate) async fn run(self) {
        let mut wait = DIAL_AGAIN.0;
        loop {
            let heard = Heard::new(&self.table);
            match self.dialer.dial(Some(&heard)).await {
                Ok(dialed) => {
                    let Err(lost) = self.listen(&dialed, &heard).await;
                    let server = dialed.node.name();
                    warn!(server, error = %lost, "the subscribing connection is lost");
                    let stood = self.table.is_up();
                    self.dialer.failed(&dialed.node);
                    self.table.fall();
                    if stood {
                        // Where not even that was allowed, there is no hurry.
                        wait = DIAL_AGAIN.0;
                    }
                    if stood && matches!(lost, Lost::Elsewhere) {
                        self.dialer.nodes.look_again().await;
                        continue;
                    }
                }
                Err(error) => {
                    self.table.counters.failed_dials.one();
                    debug!(%error, "redis cannot be subscribed to");
                }
            }
            // Pods that lost Redis together do not return together.
            let jitter = rand::random_range(0.5..1.0);
            tokio::time::sleep(wait.mul_f64(jitter)).await;
            wait = (wait * 2).min(DIAL_AGAIN.1);
        }
    }

    /// Subscribes to everything, then to what changes, until the connection fails.
    async fn listen(&self, dialed: &Dialed, heard: &Heard) -> Result<Infallible, Lost> {
        let mut connection = dialed.connection.clone();
        for channels in self.table.begin().chunks(BATCH) {
            self.subscribe(&mut connection, heard, channels).await?;
        }
        if let Some(lost) = self.table.rise() {
            info!(?lost, "everything is subscribed to again");
            self.hooks.on_gap(lost);
        }
        let mut ping = tokio::time::interval(self.ping_interval);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut rounds = self.dialer.nodes.rounds();
        loop {
            tokio::select! {
                () = heard.gone.notified() => return Err(Lost::Gone),
                () = heard.moved.notified() => return Err(Lost::Elsewhere),
                Ok(()) = rounds.changed() => if !self.dialer.is_right(&dialed.node) {
                    return Err(Lost::Elsewhere);
                },
                () = self.table.wake.notified() => self.follow(&mut connection, heard).await?,
                _ = ping.tick() => {
                    let mut asking = connection.clone();
                    self.patient(heard, redis::cmd("PING").exec_async(&mut asking)).await?;
                }
            }
        }
    }

    async fn follow(
        &self,
        connection: &mut MultiplexedConnection,
        heard: &Heard,
    ) -> RedisResult<()> {
        loop {
            let (leave, subscribe) = self.table.changes();
            if leave.is_empty() && subscribe.is_empty() {
                return Ok(());
            }
            if !leave.is_empty() {
                let names: Vec<&str> = leave.iter().map(AsRef::as_ref).collect();
                if self.dialer.is_sharded() {
                    let leaving = each("SUNSUBSCRIBE", &names);
                    self.patient(heard, leaving.exec_async(connection)).await?;
                } else {
                    self.patient(heard, connection.unsubscribe(names)).await?;
                }
            }
            self.subscribe(connection, heard, &subscribe).await?;
        }
    }

    async fn subscribe(
        &self,
        connection: &mut MultiplexedConnection,
        heard: &Heard,
        channels: &[Arc<str>],
    ) -> RedisResult<()> {
        if channels.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = channels.iter().map(AsRef::as_ref).collect();
        if self.dialer.is_sharded() {
            let subscribing = each("SSUBSCRIBE", &names);
            self.patient(heard, subscribing.exec_async(connection)).await?;
        } else {
            self.patient(heard, connection.subscribe(names)).await?;
        }
        self.table.stand(channels);
        Ok(())
    }

    /// Waits for an answer as long as Redis says anything at all: behind many messages it comes late.
    async fn patient<T>(
        &self,
        heard: &Heard,
        call: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        tokio::pin!(call);
        loop {
            let before = heard.pushes.load(Ordering::Relaxed);
            match tokio::time::timeout(self.hang_timeout, &mut call).await {
                Ok(answer) => return answer,
                Err(_) if heard.pushes.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(too_late()),
            }
        }
    }
}

/// A command for each channel: the library waits for one answer to a command, and there is one for each
/// channel.
fn each(command: &str, channels: &[&str]) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    for channel in channels {
        pipeline.cmd(command).arg(channel).ignore();
    }
    pipeline
}
