//! Who is in which room here.
//!
//! In come joins and leaves of this pod's connections, out come the wishes for channels that follow from
//! them. The Socket.IO layer's own rooms are changed in the same step, so that both always agree. It never
//! waits for Redis; what it returns says what there is to wait for.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::Value;
use socketioxide_core::Sid;

/// What other pods are told about a connection when they fetch it. It holds no credentials: neither
/// headers nor the handshake's authentication cross Redis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// The address of the peer.
    pub address: String,
    /// Whether it came over TLS.
    pub secure: bool,
    /// When it connected, in milliseconds since 1970.
    pub issued: u64,
    /// What the application wants others to know.
    pub data: Value,
}

impl Default for Profile {
    /// Nothing is known.
    fn default() -> Self {
        let data = Value::Object(serde_json::Map::new());
        Self { address: String::new(), secure: false, issued: 0, data }
    }
}

#[derive(Default)]
pub(crate) struct Member {
    pub(crate) rooms: HashSet<Box<str>>,
    pub(crate) profile: Option<Profile>,
}

/// The connections of one namespace that are in any room, or have a profile.
#[derive(Default)]
pub(crate) struct Members {
    by_sid: HashMap<Sid, Member>,
    /// Those that were not there when it was last looked.
    suspects: HashSet<Sid>,
}

impl Members {
    pub(crate) fn get(&self, sid: Sid) -> Option<&Member> {
        self.by_sid.get(&sid)
    }

    pub(crate) fn introduce(&mut self, sid: Sid, profile: Profile) {
        self.by_sid.entry(sid).or_default().profile = Some(profile);
    }

    /// Whether it was not in there.
    pub(crate) fn join(&mut self, sid: Sid, room: &str) -> bool {
        self.by_sid.entry(sid).or_default().rooms.insert(room.into())
    }

    /// Whether it was in there.
    pub(crate) fn leave(&mut self, sid: Sid, room: &str) -> bool {
        let Some(member) = self.by_sid.get_mut(&sid) else { return false };
        let was = member.rooms.remove(room);
        if member.rooms.is_empty() && member.profile.is_none() {
            self.by_sid.remove(&sid);
        }
        was
    }

    /// The rooms that it was in.
    pub(crate) fn leave_all(&mut self, sid: Sid) -> HashSet<Box<str>> {
        self.by_sid.remove(&sid).map(|member| member.rooms).unwrap_or_default()
    }

    /// Those that are not among the connections that are there, for the second time.
    pub(crate) fn orphans(&mut self, there: &HashSet<Sid>) -> Vec<Sid> {
        let missing: HashSet<Sid> =
            self.by_sid.keys().filter(|sid| !there.contains(sid)).copied().collect();
        let orphans = missing.intersection(&self.suspects).copied().collect();
        self.suspects = missing;
        orphans
    }

    /// Everybody is gone.
    pub(crate) fn clear(&mut self) -> Vec<(Sid, HashSet<Box<str>>)> {
        self.by_sid.drain().map(|(sid, member)| (sid, member.rooms)).collect()
    }
}
