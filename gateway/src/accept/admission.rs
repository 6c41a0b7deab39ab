//! Who may begin a session: so many of one address, so fast, so many in all.
//!
//! In comes the address of a handshake; out goes a [`Place`], which frees what it took when its session
//! is over, or a refusal. It is counted here only; what a session then does is the engine's.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{config::Limits, metrics::EdgeMetrics, session::Bucket};

/// Addresses whose pace is watched at most; beyond, new ones are refused until others are quiet.
const ADDRESSES: usize = 100_000;

/// Why no further session is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The address connects too fast, or has too many connections.
    Address(Duration),
    /// The pod has as many as it may.
    Pod,
}

/// Lets sessions begin. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    open: Mutex<Open>,
    pace: Mutex<HashMap<IpAddr, Bucket>>,
    limits: Limits,
    metrics: EdgeMetrics,
}

#[derive(Debug, Default)]
struct Open {
    all: u32,
    by_ip: HashMap<IpAddr, u32>,
}

/// The place of one session, free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    ip: IpAddr,
    all: Arc<Shared>,
}

impl Admission {
    /// Nobody is there yet.
    pub fn new(limits: &Limits, metrics: EdgeMetrics) -> Self {
        Self(Arc::new(Shared {
            open: Mutex::default(),
            pace: Mutex::default(),
            limits: limits.clone(),
            metrics,
        }))
    }

    /// Lets a handshake begin a session.
    ///
    /// # Errors
    /// [`Full`], with nothing counted but the attempt.
    pub fn admit(&self, ip: IpAddr, now: Instant) -> Result<Place, Full> {
        self.pace(ip, now)?;
        let limits = self.0.limits.load();
        let over = |most: u32, count: u32| most > 0 && count >= most;
        let mut open = self.0.open.lock();
        if over(limits.connections_per_ip, open.by_ip.get(&ip).copied().unwrap_or_default()) {
            return Err(Full::Address(Duration::from_secs(10)));
        }
        if over(limits.connections_per_pod, open.all) {
            return Err(Full::Pod);
        }
        open.all += 1;
        *open.by_ip.entry(ip).or_default() += 1;
        drop(open);
        self.0.metrics.connections(1);
        Ok(Place { ip, all: self.0.clone() })
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
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.metrics.connections(-1);
        let mut open = self.all.open.lock();
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::{config::LimitsConfig, metrics::Metrics};

    #[test]
    fn places_are_counted_and_freed() {
        let config = LimitsConfig {
            connections_per_pod: 3,
            connections_per_ip: 2,
            ..LimitsConfig::default()
        };
        let limits: Limits = Arc::new(ArcSwap::from_pointee(config));
        let admission = Admission::new(&limits, Metrics::new().expect("metrics").edge);
        let now = Instant::now();
        let [one, other] = [1, 2].map(|last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last)));
        let admit = |ip| admission.admit(ip, now);
        let (first, _second) = (admit(one).expect("room"), admit(one).expect("room"));
        assert!(matches!(admit(one), Err(Full::Address(_))), "as many as of one address may be");
        let _third = admit(other).expect("room");
        assert!(matches!(admit(other), Err(Full::Pod)), "as many as may be");
        drop(first);
        let _fourth = admit(one).expect("a place was freed");
    }
}
