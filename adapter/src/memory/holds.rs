//! Who holds what, in maps.
//!
//! In come wishes, releases and departures; out go the shares as they are. A share past its `ttl` is
//! listed nowhere and stands against nobody, but stays until [`Holds::expire`] hands it out, so that it
//! is handed out exactly once; held again by its own connection before that, it simply goes on.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{Denied, Departed, Held, Hold, Kind, Place, Released, Wish};

/// Lapsed shares handed out by one tick; what is more comes with the next one.
const EXPIRED_PER_TICK: usize = 4096;

/// One share of a place. A place's shares are kept oldest first.
struct Share {
    hold: Hold,
    until: Option<Instant>,
}

impl Share {
    fn lives(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// Everything that is held.
pub(super) struct Holds {
    pod: String,
    places: HashMap<Place, Vec<Share>>,
    connections: HashMap<(String, String), BTreeSet<(Kind, String)>>,
    expiring: BTreeSet<(Instant, Place, String)>,
}

impl Holds {
    pub(super) fn new(pod: String) -> Self {
        Self { pod, places: HashMap::new(), connections: HashMap::new(), expiring: BTreeSet::new() }
    }

    pub(super) fn hold(&mut self, wish: Wish) -> Result<Held, Denied> {
        let now = Instant::now();
        let shares = self.places.get(&wish.place).map_or(&[][..], Vec::as_slice);
        refuse(shares, &wish, now)?;
        let first = !shares.iter().any(|share| share.hold.holder == wish.holder);

        let until = wish.ttl.and_then(|ttl| now.checked_add(ttl));
        let place = wish.place.clone();
        self.connections
            .entry((place.namespace.clone(), wish.sid.clone()))
            .or_default()
            .insert((place.kind, place.key.clone()));
        if let Some(until) = until {
            self.expiring.insert((until, place.clone(), wish.sid.clone()));
        }
        let shares = self.places.entry(place.clone()).or_default();
        match shares.iter_mut().find(|share| share.hold.sid == wish.sid) {
            Some(share) => {
                if let Some(before) = share.until.filter(|before| Some(*before) != until) {
                    self.expiring.remove(&(before, place, wish.sid));
                }
                share.until = until;
                share.hold.holder = wish.holder;
                share.hold.exclusive = wish.exclusive;
                share.hold.data = wish.data;
            }
            None => shares.push(Share {
                until,
                hold: Hold {
                    sid: wish.sid,
                    holder: wish.holder,
                    pod: self.pod.clone(),
                    exclusive: wish.exclusive,
                    data: wish.data,
                    since: epoch_millis(),
                },
            }),
        }
        Ok(Held { first, holds: living(shares, now) })
    }

    pub(super) fn release(
        &mut self,
        place: &Place,
        sid: Option<&str>,
        holder: Option<&str>,
    ) -> Vec<Released> {
        let Some(shares) = self.places.get(place) else { return Vec::new() };
        let ending: Vec<String> = shares
            .iter()
            .filter(|share| sid.is_none_or(|sid| share.hold.sid == sid))
            .filter(|share| holder.is_none_or(|holder| share.hold.holder == holder))
            .map(|share| share.hold.sid.clone())
            .collect();
        ending.iter().filter_map(|sid| self.end(place, sid)).collect()
    }

    pub(super) fn holds(&self, place: &Place) -> Vec<Hold> {
        self.places.get(place).map_or_else(Vec::new, |shares| living(shares, Instant::now()))
    }

    pub(super) fn held_by(&self, namespace: &str, sid: &str) -> Vec<Place> {
        let now = Instant::now();
        let Some(held) = self.connections.get(&(namespace.to_owned(), sid.to_owned())) else {
            return Vec::new();
        };
        held.iter()
            .map(|(kind, key)| place_of(namespace, *kind, key))
            .filter(|place| {
                self.places.get(place).is_some_and(|shares| {
                    shares.iter().any(|share| share.hold.sid == sid && share.lives(now))
                })
            })
            .collect()
    }

    pub(super) fn depart(&mut self, namespace: &str, sid: &str) -> Departed {
        let held =
            self.connections.remove(&(namespace.to_owned(), sid.to_owned())).unwrap_or_default();
        let released = held
            .into_iter()
            .filter_map(|(kind, key)| self.end(&place_of(namespace, kind, &key), sid))
            .collect();
        Departed { namespace: namespace.to_owned(), sid: sid.to_owned(), released }
    }

    /// Hands out what lapsed, earliest first.
    pub(super) fn expire(&mut self) -> Vec<Released> {
        let now = Instant::now();
        let mut expired = Vec::new();
        while expired.len() < EXPIRED_PER_TICK
            && self.expiring.first().is_some_and(|(until, ..)| *until <= now)
        {
            let Some((_, place, sid)) = self.expiring.pop_first() else { break };
            expired.extend(self.end(&place, &sid));
        }
        expired
    }

    /// Ends one share everywhere it is written down.
    fn end(&mut self, place: &Place, sid: &str) -> Option<Released> {
        let shares = self.places.get_mut(place)?;
        let at = shares.iter().position(|share| share.hold.sid == sid)?;
        let Share { hold, until } = shares.remove(at);
        let last = !shares.iter().any(|share| share.hold.holder == hold.holder);
        if shares.is_empty() {
            self.places.remove(place);
        }
        if let Some(until) = until {
            self.expiring.remove(&(until, place.clone(), hold.sid.clone()));
        }
        let connection = (place.namespace.clone(), hold.sid.clone());
        if let Some(held) = self.connections.get_mut(&connection) {
            held.remove(&(place.kind, place.key.clone()));
            if held.is_empty() {
                self.connections.remove(&connection);
            }
        }
        Some(Released { place: place.clone(), hold, last })
    }
}

/// Whether the living shares of a place stand against a wish.
fn refuse(shares: &[Share], wish: &Wish, now: Instant) -> Result<(), Denied> {
    let mut others = 0_u32;
    for share in shares.iter().filter(|share| share.lives(now)) {
        if share.hold.holder != wish.holder && (wish.exclusive || share.hold.exclusive) {
            return Err(Denied::Conflict(share.hold.clone()));
        }
        if share.hold.sid != wish.sid {
            others = others.saturating_add(1);
        }
    }
    let has_one = shares.iter().any(|share| share.hold.sid == wish.sid && share.lives(now));
    if !has_one && wish.at_most.is_some_and(|at_most| others >= at_most) {
        return Err(Denied::Full);
    }
    Ok(())
}

fn living(shares: &[Share], now: Instant) -> Vec<Hold> {
    shares.iter().filter(|share| share.lives(now)).map(|share| share.hold.clone()).collect()
}

fn place_of(namespace: &str, kind: Kind, key: &str) -> Place {
    Place { namespace: namespace.to_owned(), kind, key: key.to_owned() }
}

fn epoch_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
