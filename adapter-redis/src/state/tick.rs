//! The tick: this pod says that it lives, and clears up after those that do not.
//!
//! In comes a call about once a second; out come holds that lapsed and connections whose pod is dead,
//! each to one caller in the cluster only, because the script that finds it removes it. Every namespace
//! has leases of its own, so that one script can judge a lease and act on it with nothing between.
//!
//! After Redis was lost, or this pod was given up for dead, what the mirror remembers is written down
//! again in batches, for a part of the lease at most; the next tick goes on.

use std::time::Instant;

use adapter::{Departed, Hold, Lapsed, Place, Released, StateError};
use futures_util::{FutureExt, StreamExt};
use redis::ScriptInvocation;
use serde::Deserialize;

use super::{
    holds::{Holds, departed},
    stored::{Stored, kind, released},
    ttl_millis,
};
use crate::mirror::{Departure, Holdings, Remembered, Settled, There};

/// Shares that one script ends: some milliseconds of Redis's time.
const BATCH: usize = 256;
/// Shares that one script writes down again.
const REGISTERED: usize = 128;
/// Namespaces that are ticked at once.
const AT_ONCE: usize = 64;
/// How often notices may come between before a batch is left to the next tick.
const NOTICED: usize = 64;

/// What a tick's script answers.
type Answer = (bool, bool, bool, Vec<String>, Vec<String>, Vec<Vec<String>>);

/// Another pod ended a share of a connection of this one.
#[derive(Deserialize)]
struct Notice(String, String, String, String);

impl Holds {
    pub(crate) async fn tick(&self) -> Result<Lapsed, StateError> {
        let ticked = self.tick_all().await;
        // What was found is handed out whatever failed after it: nobody else will find it.
        let lapsed = std::mem::take(&mut *self.collected.lock());
        match ticked {
            Err(error) if lapsed.expired.is_empty() && lapsed.departed.is_empty() => Err(error),
            Ok(()) | Err(_) => Ok(lapsed),
        }
    }

    async fn tick_all(&self) -> Result<(), StateError> {
        // Asked for before the first call: an outage during the tick is one that the next tick mends.
        let outages = self.link.outages();
        let mut call = self.scripts.namespaces.key(self.names.namespaces());
        for namespace in self.mirror.namespaces() {
            call.arg(namespace);
        }
        // Those of the last tick are renewed in the round trip in which it is asked whether there are more.
        let known = if self.link.is_up() { self.known.lock().clone() } else { Vec::new() };
        let key = self.names.namespaces();
        let (all, renewed) =
            tokio::join!(self.link.probe(&key, &call), self.tick_each(&known, outages));
        let (all, asked): (Vec<String>, _) = match all {
            Ok(all) => (all, Ok(())),
            Err(error) => (self.mirror.namespaces(), Err(error)),
        };
        let more: Vec<String> =
            all.iter().filter(|namespace| !known.contains(namespace)).cloned().collect();
        let begun = self.tick_each(&more, outages).await;
        *self.known.lock() = all;
        asked.and(renewed).and(begun)
    }

    /// In a cluster one server may be away while the others go on: its namespaces wait, no other does.
    async fn tick_each(&self, namespaces: &[String], outages: u64) -> Result<(), StateError> {
        let until = Instant::now() + self.lease / 6;
        let mut ticks = Vec::with_capacity(namespaces.len());
        for namespace in namespaces {
            ticks.push(self.tick_one(namespace, outages, until).boxed());
        }
        let mut ticked = futures_util::stream::iter(ticks).buffer_unordered(AT_ONCE);
        let mut all = Ok(());
        while let Some(one) = ticked.next().await {
            all = all.and(one);
        }
        all
    }

    async fn tick_one(
        &self,
        namespace: &str,
        outages: u64,
        until: Instant,
    ) -> Result<(), StateError> {
        loop {
            let mut call = self.in_namespace(&self.scripts.tick, namespace);
            call.arg(&self.incarnation).arg(ttl_millis(self.lease)).arg(BATCH);
            let answer: Answer = self.run(namespace, &call).await?;
            let (unknown, given_up, more, notices, expired, gone) = answer;
            for notice in notices {
                self.read_notice(namespace, &notice);
            }
            self.collect_expired(namespace, expired)?;
            self.collect_departed(namespace, gone)?;
            if given_up {
                // Whoever gave this pod up has told of every connection that it had.
                self.mirror.told(namespace);
            }
            self.mirror.lose(namespace, unknown, outages);
            if !more || Instant::now() >= until {
                break;
            }
        }
        // Who is still there comes first, so that a departure knows whether it is its holder's last.
        let all_registered = self.register(namespace, until).await?;
        if all_registered {
            self.tell_departures(namespace, until).await?;
        }
        Ok(())
    }

    /// Forgets what another pod ended, and says what it was.
    fn read_notice(&self, namespace: &str, notice: &str) -> Option<(String, There, u64)> {
        let Notice(name, key, sid, since) = serde_json::from_str(notice).ok()?;
        let (there, since) = ((kind(&name).ok()?, key), since.parse().ok()?);
        self.mirror.forget(namespace, &sid, &there, Some(since));
        Some((sid, there, since))
    }

    fn collect_expired(&self, namespace: &str, expired: Vec<String>) -> Result<(), StateError> {
        let mut parts = expired.into_iter();
        while let (Some(kind), Some(key), Some(sid), Some(text), Some(last)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        {
            let stored = Stored::parse(sid, &text)?;
            let since = stored.since;
            let own = stored.incarnation == self.incarnation;
            let ended = released(namespace, &kind, key, stored, &last)?;
            if own {
                let there = (ended.place.kind, ended.place.key.clone());
                self.mirror.forget(namespace, &ended.hold.sid, &there, Some(since));
            }
            self.collected.lock().expired.push(ended);
        }
        Ok(())
    }

    fn collect_departed(&self, namespace: &str, gone: Vec<Vec<String>>) -> Result<(), StateError> {
        for connection in gone {
            let mut parts = connection.into_iter();
            let Some(sid) = parts.next() else { continue };
            let departed = departed(namespace, sid, parts)?;
            self.collected.lock().departed.push(departed);
        }
        Ok(())
    }

    /// Tells of the connections that departed while Redis was away.
    async fn tell_departures(&self, namespace: &str, until: Instant) -> Result<(), StateError> {
        while let Some(departure) = self.mirror.postponed(namespace) {
            match self.tell(namespace, &departure).await {
                Ok(departed) if departed.released.is_empty() => {}
                Ok(departed) => self.collected.lock().departed.push(departed),
                Err(error) => {
                    self.mirror.postpone(namespace, departure);
                    return Err(error);
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }

    /// Ends a connection's holds as they were, even where Redis has lost them since: only then is it
    /// known which of them were the last of their holders.
    pub(super) async fn tell(
        &self,
        namespace: &str,
        departure: &Departure,
    ) -> Result<Departed, StateError> {
        let mut lost = [(departure.sid.clone(), departure.holdings.clone())];
        let refused = self.write_down(namespace, &mut lost).await?;
        let mut departed = self.end(namespace, &departure.sid).await?;
        departed.released.extend(refused);
        departed.released.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(departed)
    }

    /// Writes down again what was lost; whether that is all of it.
    async fn register(&self, namespace: &str, until: Instant) -> Result<bool, StateError> {
        loop {
            let mut batch = self.mirror.lost(namespace, REGISTERED);
            if batch.is_empty() {
                return Ok(true);
            }
            let refused = match self.write_down(namespace, &mut batch).await {
                Ok(refused) => refused,
                Err(error) => {
                    for (sid, _) in &batch {
                        self.mirror.lose_again(namespace, sid);
                    }
                    return Err(error);
                }
            };
            for ended in refused {
                let there = (ended.place.kind, ended.place.key.clone());
                self.mirror.forget(namespace, &ended.hold.sid, &there, None);
                self.collected.lock().expired.push(ended);
            }
            self.settle(namespace, &batch).await?;
            if Instant::now() >= until {
                return Ok(false);
            }
        }
    }

    /// Sees what became of the holds while they were written down.
    async fn settle(
        &self,
        namespace: &str,
        batch: &[(String, Holdings)],
    ) -> Result<(), StateError> {
        for (sid, holdings) in batch {
            for (there, held) in holdings {
                match self.mirror.settle(namespace, sid, there, held.version) {
                    Settled::AsWritten => {}
                    Settled::Changed => self.mirror.lose_again(namespace, sid),
                    Settled::Ended => {
                        let (kind, key) = there.clone();
                        let place = Place { namespace: namespace.to_owned(), kind, key };
                        // Its end was handed out when it ended.
                        self.release(&place, Some(sid), None).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes holds down, and gives those that somebody else's stand against. What other pods ended in
    /// the meantime is taken out of the batch first.
    pub(super) async fn write_down(
        &self,
        namespace: &str,
        batch: &mut [(String, Holdings)],
    ) -> Result<Vec<Released>, StateError> {
        for _ in 0..NOTICED {
            let written = written(batch);
            if written.is_empty() {
                return Ok(Vec::new());
            }
            let call = self.registration(namespace, &written);
            let (notices, refused): (Vec<String>, Vec<String>) = self.run(namespace, &call).await?;
            if notices.is_empty() {
                return Ok(self.refused(namespace, &written, &refused));
            }
            for notice in notices {
                if let Some((sid, there, since)) = self.read_notice(namespace, &notice) {
                    let holdings = batch.iter_mut().filter(|(other, _)| *other == sid);
                    for (_, holdings) in holdings {
                        if holdings.get(&there).is_some_and(|held| held.since == since) {
                            holdings.remove(&there);
                        }
                    }
                }
            }
        }
        Err(StateError::Unavailable("other pods end more than can be written down".to_owned()))
    }

    fn registration(&self, namespace: &str, written: &[Written<'_>]) -> ScriptInvocation<'_> {
        let now = Instant::now();
        let mut call = self.in_namespace(&self.scripts.register, namespace);
        call.arg(&self.incarnation).arg(ttl_millis(self.lease));
        for (sid, (kind, key), held) in written {
            call.arg(kind.as_str()).arg(key).arg(sid).arg(&held.holder);
            call.arg(i32::from(held.exclusive)).arg(held.since);
            // What lapsed meanwhile lapses at once, as it would have: somebody must be told.
            call.arg(held.left(now).map_or(0, ttl_millis));
            call.arg(i32::from(!held.confirmed)).arg(&held.data);
        }
        call
    }

    /// Reads which holds were refused: pairs of a position and whether it was its holder's last.
    fn refused(
        &self,
        namespace: &str,
        written: &[Written<'_>],
        answer: &[String],
    ) -> Vec<Released> {
        let mut refused = Vec::new();
        for pair in answer.chunks_exact(2) {
            let [index, last] = pair else { continue };
            let Some((sid, (kind, key), held)) =
                index.parse::<usize>().ok().and_then(|index| written.get(index))
            else {
                continue;
            };
            let place = Place { namespace: namespace.to_owned(), kind: *kind, key: key.clone() };
            refused.push(Released { place, hold: self.recall(sid, held), last: last == "1" });
        }
        refused
    }

    /// A hold of this pod, out of memory.
    fn recall(&self, sid: &str, held: &Remembered) -> Hold {
        let pod = self.incarnation.rsplit_once('#').map_or("", |(pod, _)| pod);
        Hold {
            sid: sid.to_owned(),
            holder: held.holder.clone(),
            pod: pod.to_owned(),
            exclusive: held.exclusive,
            data: serde_json::from_str(&held.data).unwrap_or_default(),
            since: held.since / 1000,
        }
    }
}

/// One hold of a batch.
type Written<'a> = (&'a str, &'a There, &'a Remembered);

fn written(batch: &[(String, Holdings)]) -> Vec<Written<'_>> {
    batch
        .iter()
        .flat_map(|(sid, holdings)| {
            holdings.iter().map(move |(there, held)| (sid.as_str(), there, held))
        })
        .collect()
}
