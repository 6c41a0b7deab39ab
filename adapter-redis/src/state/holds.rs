//! Holds: who has what, over all pods.
//!
//! In come wishes, releases and departures of this pod's connections, and releases of anybody's; out
//! come answers that every pod agrees on, since one script gives each. What this pod's connections hold
//! is kept in the mirror besides, so that a Redis that comes back empty can be told again.
//!
//! While Redis is away, a shared hold without an end of its own (a connection of a user, a place in a
//! roster, a status) is refused with `Unavailable` like any other, but remembered, and written down when
//! Redis is back: the caller may let its client in meanwhile. A caller who turns its client away
//! releases the hold, which forgets it. Locks and typing marks are never remembered so.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use adapter::{Denied, Departed, Held, Hold, Kind, Lapsed, Place, Released, StateError, Wish};
use parking_lot::Mutex;
use redis::{FromRedisValue, Script, ScriptInvocation};

use super::{
    stored::{Stored, corrupt, kind, living, released},
    ttl_millis,
};
use crate::{
    connection::Link,
    mirror::{Departure, Mirror, There},
    names::Names,
    scripts::HoldScripts,
};

/// Holds in Redis, as one pod works with them.
pub(crate) struct Holds {
    pub(super) link: Arc<Link>,
    pub(super) names: Names,
    pub(super) scripts: HoldScripts,
    pub(super) mirror: Mirror,
    /// This process: the pod's name and a random number after `#`. A pod that comes back under its old
    /// name is another process, and does not keep the old one's connections alive.
    pub(super) incarnation: String,
    pub(super) lease: Duration,
    /// The namespaces of the last tick.
    pub(super) known: Mutex<Vec<String>>,
    /// What ticks found and nobody was handed yet.
    pub(super) collected: Mutex<Lapsed>,
}

impl Holds {
    pub(crate) fn new(link: Arc<Link>, names: Names, pod: &str, lease: Duration) -> Self {
        Self {
            link,
            names,
            scripts: HoldScripts::new(),
            mirror: Mirror::default(),
            incarnation: format!("{pod}#{:016x}", rand::random::<u64>()),
            lease,
            known: Mutex::default(),
            collected: Mutex::default(),
        }
    }

    pub(crate) async fn hold(&self, wish: Wish) -> Result<Result<Held, Denied>, StateError> {
        let data = wish.data.to_string();
        match self.ask(&wish, &data).await {
            Ok(Ok((held, since))) => {
                self.mirror.hold(&wish, data, since, true);
                Ok(Ok(held))
            }
            Ok(Err(denied)) => Ok(Err(denied)),
            Err(StateError::Unavailable(why)) => {
                if outlasts_an_outage(&wish) {
                    self.mirror.hold(&wish, data, epoch_micros(), false);
                }
                Err(StateError::Unavailable(why))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks Redis for a hold; also gives its time, in microseconds.
    async fn ask(
        &self,
        wish: &Wish,
        data: &str,
    ) -> Result<Result<(Held, u64), Denied>, StateError> {
        self.enter(&wish.place.namespace).await?;
        let mut call = self.in_namespace(&self.scripts.hold, &wish.place.namespace);
        call.arg(&self.incarnation).arg(ttl_millis(self.lease));
        call.arg(wish.place.kind.as_str()).arg(&wish.place.key);
        call.arg(&wish.sid).arg(&wish.holder).arg(i32::from(wish.exclusive)).arg(data);
        call.arg(wish.ttl.map_or(0, ttl_millis)).arg(wish.at_most.map_or(-1, i64::from));
        let (verdict, first, second, shares): (String, String, String, Vec<String>) =
            self.run(&wish.place.namespace, &call).await?;
        match verdict.as_str() {
            "held" => {
                let shares = living(&second, shares)?;
                let own = shares.iter().find(|share| share.hold.sid == wish.sid);
                let since = own.ok_or_else(|| corrupt("a granted hold"))?.since;
                let holds = shares.into_iter().map(|share| share.hold).collect();
                Ok(Ok((Held { first: first == "1", holds }, since)))
            }
            "conflict" => Ok(Err(Denied::Conflict(Stored::parse(first, &second)?.hold))),
            "full" => Ok(Err(Denied::Full)),
            _ => Err(corrupt("the answer to a hold")),
        }
    }

    pub(crate) async fn release(
        &self,
        place: &Place,
        sid: Option<&str>,
        holder: Option<&str>,
    ) -> Result<Vec<Released>, StateError> {
        let released = self.release_all(place, sid, holder).await;
        if let Some(sid) = sid {
            // Gone is gone, also where Redis knew of none: it is not to be written down again. Where
            // Redis did not answer, only what it never knew is forgotten.
            let unanswered = matches!(released, Err(StateError::Unavailable(_)));
            self.mirror.forget_if(&place.namespace, sid, &there(place), |held| {
                let meant = holder.is_none_or(|holder| held.holder == holder);
                meant && !(unanswered && held.confirmed)
            });
        }
        released
    }

    async fn release_all(
        &self,
        place: &Place,
        sid: Option<&str>,
        holder: Option<&str>,
    ) -> Result<Vec<Released>, StateError> {
        let mut ended = Vec::new();
        if self.recovering(&place.namespace) {
            // What Redis lost must be there to be ended, or nobody is told of its end.
            let mut own = self.mirror.shares(place, sid, holder);
            ended = self.write_down(&place.namespace, &mut own).await?;
            for refused in &ended {
                let namespace = &place.namespace;
                self.mirror.forget(namespace, &refused.hold.sid, &there(place), None);
            }
        }
        let mut call = self.in_namespace(&self.scripts.release, &place.namespace);
        call.arg(&self.incarnation).arg(place.kind.as_str()).arg(&place.key);
        call.arg(i32::from(sid.is_some())).arg(sid.unwrap_or(""));
        call.arg(i32::from(holder.is_some())).arg(holder.unwrap_or(""));
        let answer: Vec<String> = self.run(&place.namespace, &call).await?;
        let mut parts = answer.into_iter();
        while let (Some(sid), Some(text), Some(last)) = (parts.next(), parts.next(), parts.next()) {
            let stored = Stored::parse(sid, &text)?;
            self.forget(place, &stored);
            let kind = place.kind.as_str();
            ended.push(released(&place.namespace, kind, place.key.clone(), stored, &last)?);
        }
        Ok(ended)
    }

    /// Whether Redis may lack some of what this pod's connections hold.
    fn recovering(&self, namespace: &str) -> bool {
        self.mirror.recovering(namespace, self.link.outages())
    }

    pub(crate) async fn holds(&self, place: &Place) -> Result<Vec<Hold>, StateError> {
        let mut call = self.in_namespace(&self.scripts.holds, &place.namespace);
        call.arg(place.kind.as_str()).arg(&place.key);
        let (now, shares): (String, Vec<String>) = self.run(&place.namespace, &call).await?;
        Ok(living(&now, shares)?.into_iter().map(|share| share.hold).collect())
    }

    pub(crate) async fn held_by(
        &self,
        namespace: &str,
        sid: &str,
    ) -> Result<Vec<Place>, StateError> {
        let mut call = self.in_namespace(&self.scripts.held_by, namespace);
        call.arg(sid);
        let answer: Vec<String> = self.run(namespace, &call).await?;
        let mut places = Vec::with_capacity(answer.len() / 2);
        let mut parts = answer.into_iter();
        while let (Some(name), Some(key)) = (parts.next(), parts.next()) {
            places.push(Place { namespace: namespace.to_owned(), kind: kind(&name)?, key });
        }
        places.sort();
        Ok(places)
    }

    pub(crate) async fn depart(&self, namespace: &str, sid: &str) -> Result<Departed, StateError> {
        // Out of the mirror first: nobody shall write it down again from now on.
        let holdings = self.mirror.depart(namespace, sid);
        let departure = Departure { sid: sid.to_owned(), holdings };
        let departed = if self.recovering(namespace) {
            self.tell(namespace, &departure).await
        } else {
            self.end(namespace, sid).await
        };
        if let Err(StateError::Unavailable(_)) = departed {
            self.mirror.postpone(namespace, departure);
        }
        departed
    }

    /// Ends everything that a connection holds in Redis.
    pub(super) async fn end(&self, namespace: &str, sid: &str) -> Result<Departed, StateError> {
        let mut call = self.in_namespace(&self.scripts.depart, namespace);
        call.arg(&self.incarnation).arg(sid);
        let answer: Vec<String> = self.run(namespace, &call).await?;
        departed(namespace, sid.to_owned(), answer.into_iter())
    }

    /// Forgets a share that ended, if it was of this pod.
    pub(super) fn forget(&self, place: &Place, stored: &Stored) {
        if stored.incarnation == self.incarnation {
            let (namespace, sid) = (&place.namespace, &stored.hold.sid);
            self.mirror.forget(namespace, sid, &there(place), Some(stored.since));
        }
    }

    /// Makes a namespace known to all pods before anything is held in it, so that any of them can clear
    /// up after this one.
    async fn enter(&self, namespace: &str) -> Result<(), StateError> {
        if self.mirror.enter(namespace, self.link.outages()) {
            let mut call = self.scripts.namespaces.key(self.names.namespaces());
            call.arg(namespace);
            self.link.script::<Vec<String>>(&self.names.namespaces(), &call).await?;
        }
        Ok(())
    }

    /// A script about one namespace. It names two keys, neither of which exists: while a cluster moves
    /// their slot key by key, it then refuses the script, which could find one half only of what it
    /// looks for.
    pub(super) fn in_namespace<'a>(
        &self,
        script: &'a Script,
        namespace: &str,
    ) -> ScriptInvocation<'a> {
        let base = self.names.holds(namespace);
        let mut call = script.key(&base);
        call.key(format!("{base}:-"));
        call
    }

    pub(super) async fn run<T: FromRedisValue>(
        &self,
        namespace: &str,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StateError> {
        self.link.script(&self.names.holds(namespace), call).await
    }
}

fn there(place: &Place) -> There {
    (place.kind, place.key.clone())
}

/// Reads a departed connection, its holds in the order of the contract.
pub(super) fn departed(
    namespace: &str,
    sid: String,
    mut parts: impl Iterator<Item = String>,
) -> Result<Departed, StateError> {
    let mut ended = Vec::new();
    while let (Some(kind), Some(key), Some(text), Some(last)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    {
        let stored = Stored::parse(sid.clone(), &text)?;
        ended.push(released(namespace, &kind, key, stored, &last)?);
    }
    ended.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(Departed { namespace: namespace.to_owned(), sid, released: ended })
}

/// A hold that nobody else's can stand against, and that nothing but its connection ends.
fn outlasts_an_outage(wish: &Wish) -> bool {
    let plain = !wish.exclusive && wish.ttl.is_none();
    plain && matches!(wish.place.kind, Kind::User | Kind::Roster | Kind::Status)
}

fn epoch_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
