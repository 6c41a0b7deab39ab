//! Engine.IO sessions, as the edge counts them, finds them and cuts them.
//!
//! A session's [`Engine`] lives as long as the library keeps the request that began it; its end frees
//! its place in the counts.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::stream::Control;
use crate::{config::Limits, metrics::EdgeMetrics, session::Bucket};

/// Addresses whose pace is watched at most; beyond, new ones are refused until others are quiet.
const ADDRESSES: usize = 100_000;

/// One Engine.IO session.
#[derive(Debug)]
pub struct Engine {
    ip: IpAddr,
    sid: OnceLock<String>,
    stream: Mutex<Option<Arc<Control>>>,
    cut: AtomicBool,
    cutting: Notify,
    losses: Mutex<Vec<Loss>>,
    all: Arc<Shared>,
}

/// What is done when a polling client is lost.
struct Loss(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loss")
    }
}

impl Engine {
    /// The WebSocket that carries the session from now on.
    pub fn carried_by(&self, control: Arc<Control>) {
        if self.is_cut() {
            control.cut();
        }
        control.upgrade();
        *self.stream.lock() = Some(control);
    }

    /// Whether a WebSocket carries it.
    pub fn has_stream(&self) -> bool {
        self.stream.lock().is_some()
    }

    /// Ends the transport. A poll in flight ends, and no further one is answered.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        if let Some(control) = self.stream.lock().as_ref() {
            control.cut();
        }
        self.cutting.notify_waiters();
        if !self.has_stream() {
            // The library would wait for the client's next sign of life.
            let losses = std::mem::take(&mut *self.losses.lock());
            losses.into_iter().for_each(|Loss(lost)| lost());
        }
    }

    /// What is to be done when the client is lost while it polls: a WebSocket tells by itself.
    pub fn when_lost(&self, lost: impl FnOnce() + Send + 'static) {
        self.losses.lock().push(Loss(Box::new(lost)));
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Waits until it is cut.
    pub async fn until_cut(&self) {
        let notified = self.cutting.notified();
        if !self.is_cut() {
            notified.await;
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Ordering::AcqRel);
        self.all.metrics.connections(-1);
        let mut by_ip = self.all.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
        drop(by_ip);
        if let Some(sid) = self.sid.get() {
            self.all.by_sid.lock().remove(sid);
        }
    }
}

#[derive(Debug)]
struct Shared {
    open: AtomicU32,
    by_ip: Mutex<HashMap<IpAddr, u32>>,
    by_sid: Mutex<HashMap<String, Weak<Engine>>>,
    pace: Mutex<HashMap<IpAddr, Bucket>>,
    limits: Limits,
    metrics: EdgeMetrics,
}

/// Why no further session is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The address connects too fast, or has too many connections.
    Address(Duration),
    /// The pod has as many as it may.
    Pod,
}

/// Every Engine.IO session of this pod. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engines(Arc<Shared>);

impl Engines {
    /// None yet.
    pub fn new(limits: &Limits, metrics: EdgeMetrics) -> Self {
        Self(Arc::new(Shared {
            open: AtomicU32::new(0),
            by_ip: Mutex::default(),
            by_sid: Mutex::default(),
            pace: Mutex::default(),
            limits: limits.clone(),
            metrics,
        }))
    }

    /// Lets a handshake begin a session.
    ///
    /// # Errors
    /// [`Full`], with nothing counted but the attempt.
    pub fn admit(&self, ip: IpAddr, now: Instant) -> Result<Arc<Engine>, Full> {
        let limits = self.0.limits.load();
        self.pace(ip, now)?;
        let mut by_ip = self.0.by_ip.lock();
        let count = by_ip.entry(ip).or_default();
        if limits.connections_per_ip > 0 && *count >= limits.connections_per_ip {
            return Err(Full::Address(Duration::from_secs(10)));
        }
        let open = self.0.open.load(Ordering::Acquire);
        if limits.connections_per_pod > 0 && open >= limits.connections_per_pod {
            if *count == 0 {
                by_ip.remove(&ip);
            }
            return Err(Full::Pod);
        }
        *count += 1;
        drop(by_ip);
        self.0.open.fetch_add(1, Ordering::AcqRel);
        self.0.metrics.connections(1);
        Ok(Arc::new(Engine {
            ip,
            sid: OnceLock::new(),
            stream: Mutex::new(None),
            cut: AtomicBool::new(false),
            cutting: Notify::new(),
            losses: Mutex::default(),
            all: self.0.clone(),
        }))
    }

    fn pace(&self, ip: IpAddr, now: Instant) -> Result<(), Full> {
        let limit = self.0.limits.load().ip;
        if limit.connects_per_second == 0 {
            return Ok(());
        }
        let mut pace = self.0.pace.lock();
        if pace.len() >= ADDRESSES && !pace.contains_key(&ip) {
            pace.retain(|_, bucket| !bucket.is_full(now));
            if pace.len() >= ADDRESSES {
                return Err(Full::Address(Duration::from_secs(1)));
            }
        }
        pace.entry(ip)
            .or_insert_with(|| Bucket::new(limit.connects_per_second, limit.burst, now))
            .take(1, now)
            .map_err(Full::Address)
    }

    /// A polling session got this id.
    pub fn name(&self, engine: &Arc<Engine>, sid: &str) {
        if engine.sid.set(sid.to_owned()).is_ok() {
            self.0.by_sid.lock().insert(sid.to_owned(), Arc::downgrade(engine));
        }
    }

    /// The polling session of this id.
    pub fn find(&self, sid: &str) -> Option<Arc<Engine>> {
        self.0.by_sid.lock().get(sid).and_then(Weak::upgrade)
    }

    /// How many are open.
    pub fn open(&self) -> u32 {
        self.0.open.load(Ordering::Acquire)
    }
}
