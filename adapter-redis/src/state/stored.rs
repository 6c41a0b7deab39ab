//! Shares and places as they are stored, read back.
//!
//! In come texts that a script answered; out come the contract's types, or `Corrupt` where another
//! version wrote something else.

use adapter::{Hold, Kind, Place, Released, StateError};
use serde::{
    Deserialize,
    de::{IntoDeserializer, value::StrDeserializer},
};

/// A share that was read, with what only this crate uses of it.
pub(crate) struct Stored {
    pub(crate) hold: Hold,
    /// Microseconds since the epoch.
    pub(crate) since: u64,
    /// Milliseconds since the epoch after which it is lapsed; 0 for never.
    deadline: u64,
    /// The incarnation of the pod.
    pub(crate) incarnation: String,
}

impl Stored {
    /// Reads a share: one line of header, then its data.
    pub(crate) fn parse(sid: String, text: &str) -> Result<Self, StateError> {
        let (header, data) = text.split_once('\n').ok_or_else(|| corrupt("a share"))?;
        let header: (String, String, bool, String, String) =
            serde_json::from_str(header).map_err(|_| corrupt("a share's header"))?;
        let (holder, incarnation, exclusive, since, deadline) = header;
        let since: u64 = since.parse().map_err(|_| corrupt("a share's time"))?;
        let pod = incarnation.rsplit_once('#').map_or(&*incarnation, |(pod, _)| pod).to_owned();
        let data = serde_json::from_str(data).map_err(|_| corrupt("a share's data"))?;
        Ok(Self {
            hold: Hold { sid, holder, pod, exclusive, data, since: since / 1000 },
            since,
            deadline: deadline.parse().map_err(|_| corrupt("a share's deadline"))?,
            incarnation,
        })
    }

    pub(crate) fn lives(&self, now: u64) -> bool {
        self.deadline == 0 || self.deadline > now
    }
}

/// Reads the living shares of a place, oldest first.
pub(crate) fn living(now: &str, shares: Vec<String>) -> Result<Vec<Stored>, StateError> {
    let now: u64 = now.parse().map_err(|_| corrupt("the time"))?;
    let mut living = Vec::with_capacity(shares.len() / 2);
    let mut parts = shares.into_iter();
    while let (Some(sid), Some(text)) = (parts.next(), parts.next()) {
        let stored = Stored::parse(sid, &text)?;
        if stored.lives(now) {
            living.push(stored);
        }
    }
    living.sort_by(|a, b| (a.since, &a.hold.sid).cmp(&(b.since, &b.hold.sid)));
    Ok(living)
}

/// Reads a kind from its name.
pub(crate) fn kind(name: &str) -> Result<Kind, StateError> {
    let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
    Kind::deserialize(name).map_err(|_| corrupt("a kind of hold"))
}

/// Reads a share that ended.
pub(crate) fn released(
    namespace: &str,
    kind_name: &str,
    key: String,
    stored: Stored,
    last: &str,
) -> Result<Released, StateError> {
    let place = Place { namespace: namespace.to_owned(), kind: kind(kind_name)?, key };
    Ok(Released { place, hold: stored.hold, last: last == "1" })
}

pub(crate) fn corrupt(what: &str) -> StateError {
    StateError::Corrupt(format!("{what} is not as this version writes it"))
}
