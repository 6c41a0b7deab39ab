//! What this pod's connections hold, as the pod itself remembers it.
//!
//! In come grants and ends; out come holds to be written down again after Redis lost them, and
//! connections that departed while nobody could be told. It lives as long as the connections do: each
//! is taken out when it departs, so it is bounded by what they may hold.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use adapter::{Kind, Place, Wish};
use parking_lot::Mutex;
use tracing::error;

/// Departures that are remembered while Redis is down. What is beyond stays in Redis until this pod's
/// own lease ends.
const DEPARTURES: usize = 100_000;

/// One remembered hold.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) holder: String,
    pub(crate) exclusive: bool,
    /// The data as JSON text, as it is stored.
    pub(crate) data: String,
    /// Microseconds since the epoch.
    pub(crate) since: u64,
    pub(crate) until: Option<Instant>,
    /// Redis has it just so; else what is here is newer.
    pub(crate) confirmed: bool,
    /// Changes with every change of the hold.
    pub(crate) version: u64,
}

impl Remembered {
    /// How long it still lasts; zero where it lapsed.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }
}

/// A place within its namespace.
pub(crate) type There = (Kind, String);

/// What one connection holds.
pub(crate) type Holdings = BTreeMap<There, Remembered>;

/// A connection that departed while Redis was down.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) sid: String,
    pub(crate) holdings: Holdings,
}

#[derive(Default)]
struct Namespace {
    connections: HashMap<String, Holdings>,
    departures: VecDeque<Departure>,
    /// Connections whose holds are still to be written down again.
    lost: VecDeque<String>,
    /// The outage after which everything was written down again, or is being.
    settled: u64,
}

#[derive(Default)]
struct Memory {
    namespaces: HashMap<String, Namespace>,
    departures: usize,
    versions: u64,
}

/// What this pod's connections hold, in every namespace.
#[derive(Default)]
pub(crate) struct Mirror(Mutex<Memory>);

impl Mirror {
    /// The namespaces in which this pod ever held anything.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.0.lock().namespaces.keys().cloned().collect()
    }

    /// Makes the namespace known; whether it was new.
    pub(crate) fn enter(&self, namespace: &str, outages: u64) -> bool {
        let mut memory = self.0.lock();
        if memory.namespaces.contains_key(namespace) {
            return false;
        }
        let fresh = Namespace { settled: outages, ..Namespace::default() };
        memory.namespaces.insert(namespace.to_owned(), fresh);
        true
    }

    /// Remembers a hold: one that Redis granted, or (not `confirmed`) one that it is to be told of.
    pub(crate) fn hold(&self, wish: &Wish, data: String, since: u64, confirmed: bool) {
        let mut memory = self.0.lock();
        memory.versions = memory.versions.wrapping_add(1);
        let mut remembered = Remembered {
            holder: wish.holder.clone(),
            exclusive: wish.exclusive,
            data,
            since,
            until: wish.ttl.and_then(|ttl| Instant::now().checked_add(ttl)),
            confirmed,
            version: memory.versions,
        };
        let namespace = memory.namespaces.entry(wish.place.namespace.clone()).or_default();
        let holdings = namespace.connections.entry(wish.sid.clone()).or_default();
        let place = (wish.place.kind, wish.place.key.clone());
        let before = holdings.get(&place);
        if !confirmed {
            remembered.since = before.map_or(since, |before| before.since);
            // Once is enough: the connection is among the lost until it is written down.
            if before.is_none_or(|before| before.confirmed) {
                namespace.lost.push_back(wish.sid.clone());
            }
        }
        holdings.insert(place, remembered);
    }

    /// Forgets a hold. With `since`, only if it is that one and not a later one of the same place.
    pub(crate) fn forget(&self, namespace: &str, sid: &str, place: &There, since: Option<u64>) {
        self.forget_if(namespace, sid, place, |held| since.is_none_or(|since| held.since == since));
    }

    /// Forgets a hold of which the condition is true.
    pub(crate) fn forget_if(
        &self,
        namespace: &str,
        sid: &str,
        place: &There,
        condition: impl Fn(&Remembered) -> bool,
    ) {
        let mut memory = self.0.lock();
        let Some(namespace) = memory.namespaces.get_mut(namespace) else { return };
        let Some(holdings) = namespace.connections.get_mut(sid) else { return };
        if holdings.get(place).is_some_and(condition) {
            holdings.remove(place);
        }
        if holdings.is_empty() {
            namespace.connections.remove(sid);
        }
    }

    /// The shares of a place that connections of this pod have.
    pub(crate) fn shares(
        &self,
        place: &Place,
        sid: Option<&str>,
        holder: Option<&str>,
    ) -> Vec<(String, Holdings)> {
        let there = (place.kind, place.key.clone());
        let memory = self.0.lock();
        let Some(namespace) = memory.namespaces.get(&place.namespace) else { return Vec::new() };
        let share = |(sid, holdings): (&String, &Holdings)| {
            let held = holdings.get(&there)?;
            let meant = holder.is_none_or(|holder| held.holder == holder);
            meant.then(|| (sid.clone(), Holdings::from([(there.clone(), held.clone())])))
        };
        match sid {
            Some(sid) => {
                namespace.connections.get_key_value(sid).and_then(share).into_iter().collect()
            }
            None => namespace.connections.iter().filter_map(share).collect(),
        }
    }

    /// Takes a connection out, with what it held.
    pub(crate) fn depart(&self, namespace: &str, sid: &str) -> Holdings {
        let mut memory = self.0.lock();
        let Some(namespace) = memory.namespaces.get_mut(namespace) else {
            return Holdings::new();
        };
        namespace.connections.remove(sid).unwrap_or_default()
    }

    /// Remembers a departure that could not be told.
    pub(crate) fn postpone(&self, namespace: &str, departure: Departure) {
        let mut memory = self.0.lock();
        if memory.departures >= DEPARTURES {
            error!("too many departures while redis is down; their holds stay until the pod ends");
            return;
        }
        memory.departures += 1;
        let namespace = memory.namespaces.entry(namespace.to_owned()).or_default();
        namespace.departures.push_back(departure);
    }

    /// The next departure to be told.
    pub(crate) fn postponed(&self, namespace: &str) -> Option<Departure> {
        let mut memory = self.0.lock();
        let departure = memory.namespaces.get_mut(namespace)?.departures.pop_front()?;
        memory.departures = memory.departures.saturating_sub(1);
        Some(departure)
    }

    /// Forgets the departures: somebody else told of them.
    pub(crate) fn told(&self, namespace: &str) {
        while self.postponed(namespace).is_some() {}
    }

    /// Marks every connection as lost, if Redis forgot them or was away since the last time.
    pub(crate) fn lose(&self, namespace: &str, forgotten: bool, outages: u64) {
        let mut memory = self.0.lock();
        let Some(namespace) = memory.namespaces.get_mut(namespace) else { return };
        if forgotten || namespace.settled != outages {
            namespace.settled = outages;
            namespace.lost = namespace.connections.keys().cloned().collect();
        }
    }

    /// Whether Redis was lost since everything was written down, or not everything is yet.
    pub(crate) fn recovering(&self, namespace: &str, outages: u64) -> bool {
        let memory = self.0.lock();
        let namespace = memory.namespaces.get(namespace);
        namespace.is_some_and(|known| known.settled != outages || !known.lost.is_empty())
    }

    /// The next lost connections, with what they hold, up to about `holds` holds.
    pub(crate) fn lost(&self, namespace: &str, holds: usize) -> Vec<(String, Holdings)> {
        let mut memory = self.0.lock();
        let Some(namespace) = memory.namespaces.get_mut(namespace) else { return Vec::new() };
        let (mut batch, mut size) = (Vec::new(), 0);
        while size < holds {
            let Some(sid) = namespace.lost.pop_front() else { break };
            let Some(holdings) = namespace.connections.get(&sid) else { continue };
            size += holdings.len().max(1);
            batch.push((sid, holdings.clone()));
        }
        batch
    }

    /// Puts a connection back among the lost.
    pub(crate) fn lose_again(&self, namespace: &str, sid: &str) {
        let mut memory = self.0.lock();
        if let Some(namespace) = memory.namespaces.get_mut(namespace) {
            namespace.lost.push_back(sid.to_owned());
        }
    }

    /// Settles one hold that was written down again as it was at `version`.
    pub(crate) fn settle(
        &self,
        namespace: &str,
        sid: &str,
        place: &There,
        version: u64,
    ) -> Settled {
        let mut memory = self.0.lock();
        let held = memory
            .namespaces
            .get_mut(namespace)
            .and_then(|namespace| namespace.connections.get_mut(sid))
            .and_then(|holdings| holdings.get_mut(place));
        let Some(held) = held else { return Settled::Ended };
        if held.version != version {
            held.confirmed = false;
            return Settled::Changed;
        }
        held.confirmed = true;
        Settled::AsWritten
    }
}

/// What became of a hold while it was being written down again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing.
    AsWritten,
    /// Its connection holds it otherwise now: it is to be written once more.
    Changed,
    /// Its connection holds it no more: it is to be ended once more.
    Ended,
}

#[cfg(test)]
mod tests {
    use adapter::Place;

    use super::*;

    fn wish(key: &str, sid: &str) -> Wish {
        Wish {
            place: Place { namespace: "/".to_owned(), kind: Kind::Roster, key: key.to_owned() },
            sid: sid.to_owned(),
            holder: sid.to_owned(),
            exclusive: false,
            data: serde_json::Value::Null,
            ttl: None,
            at_most: None,
        }
    }

    #[test]
    fn what_changes_while_it_is_written_down_is_noticed() {
        let mirror = Mirror::default();
        for key in ["stays", "changes", "ends"] {
            mirror.hold(&wish(key, "s1"), "null".to_owned(), 1, true);
        }
        mirror.lose("/", true, 0);
        assert!(mirror.recovering("/", 0));
        let batch = mirror.lost("/", 10);
        assert!(!mirror.recovering("/", 0), "all is being written down");

        mirror.hold(&wish("changes", "s1"), "1".to_owned(), 1, true);
        mirror.forget("/", "s1", &(Kind::Roster, "ends".to_owned()), None);
        let settled: Vec<_> = batch[0]
            .1
            .iter()
            .map(|(there, held)| (&*there.1, mirror.settle("/", "s1", there, held.version)))
            .collect();
        let want = [
            ("changes", Settled::Changed),
            ("ends", Settled::Ended),
            ("stays", Settled::AsWritten),
        ];
        assert_eq!(settled, want);
        mirror.lose_again("/", "s1");
        let again = mirror.lost("/", 10);
        let confirmed: Vec<_> =
            again[0].1.iter().map(|(there, held)| (&*there.1, held.confirmed)).collect();
        assert_eq!(confirmed, [("changes", false), ("stays", true)], "the change is written over");
    }

    #[test]
    fn departures_are_bounded() {
        let mirror = Mirror::default();
        for n in 0..DEPARTURES + 2 {
            let departure = Departure { sid: n.to_string(), holdings: Holdings::new() };
            mirror.postpone("/", departure);
        }
        let mut told = 0;
        while mirror.postponed("/").is_some() {
            told += 1;
        }
        assert_eq!(told, DEPARTURES);
        mirror.postpone("/", Departure { sid: "s".to_owned(), holdings: Holdings::new() });
        assert!(mirror.postponed("/").is_some(), "there is room again");
    }
}
