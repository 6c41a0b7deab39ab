//! The names of channels.
//!
//! In come a prefix, a namespace and a room; out come the names under which Node's classic adapter
//! publishes and listens. With the prefix `socket.io` and the namespace `/`:
//!
//! | channel | what |
//! |---|---|
//! | `socket.io#/#` | to everybody, to several rooms |
//! | `socket.io#/#room#` | to exactly one room; a connection's id is a room |
//! | `socket.io#/#room` | the same, as written by emitters that forget the end |
//! | `socket.io-request#/#` | requests; its subscribers are the pods of the namespace |
//! | `socket.io-response#/#` | answers to all |
//! | `socket.io-response#/#uid#` | answers to one |
//! | `socket.io-sharded{7}#/#room#` | as `socket.io#/#room#`, between our own pods only |
//!
//! Sharded channels lie in sixteen slots that are spread evenly over a Redis Cluster: one connection to
//! each of their masters serves any number of rooms. Node's sharded adapter has others, so that neither
//! reads what the other wrote.

use crate::slot::{self, SLOTS};

/// Slots that sharded channels lie in. All pods of a cluster must agree on it.
pub(crate) const LANES: u16 = 16;

/// The hash tag of the channels of a lane: the smallest number whose slot is in its part of the slots.
pub(crate) fn tag(lane: u16) -> String {
    let width = SLOTS / LANES;
    let mut numbers = (0_u32..).map(|number| number.to_string());
    // A part is hit by every sixteenth number, so there is one.
    numbers.find(|number| slot::of(number.as_bytes()) / width == lane).unwrap_or_default()
}

/// Which lane a text belongs to.
fn lane(text: &str) -> u16 {
    slot::crc16(text.as_bytes()) % LANES
}

/// A sharded channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sharded {
    pub(crate) lane: u16,
    pub(crate) name: String,
}

/// The channels of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Channels {
    /// To everybody.
    pub(crate) broadcast: String,
    pub(crate) request: String,
    pub(crate) response: String,
    /// What sharded channels begin with, by lane.
    sharded: Vec<String>,
    /// The lane of what is for everybody.
    lane: u16,
}

impl Channels {
    pub(crate) fn new(prefix: &str, namespace: &str) -> Self {
        Self {
            broadcast: format!("{prefix}#{namespace}#"),
            request: format!("{prefix}-request#{namespace}#"),
            response: format!("{prefix}-response#{namespace}#"),
            sharded: (0..LANES)
                .map(|lane| format!("{prefix}-sharded{{{}}}#{namespace}#", tag(lane)))
                .collect(),
            lane: lane(namespace),
        }
    }

    /// Of one room.
    pub(crate) fn room(&self, room: &str) -> String {
        format!("{}{room}#", self.broadcast)
    }

    /// Of one room, without its end.
    pub(crate) fn unterminated_room(&self, room: &str) -> String {
        format!("{}{room}", self.broadcast)
    }

    /// Where a message to these rooms is published.
    pub(crate) fn of<R: AsRef<str>>(&self, rooms: &[R]) -> String {
        match rooms {
            [room] => self.room(room.as_ref()),
            _ => self.broadcast.clone(),
        }
    }

    /// To everybody, sharded.
    pub(crate) fn sharded_broadcast(&self) -> Sharded {
        self.in_lane(self.lane, "", "")
    }

    /// Of one room, sharded.
    pub(crate) fn sharded_room(&self, room: &str) -> Sharded {
        self.in_lane(lane(room), room, "#")
    }

    /// Where a message to these rooms is published, sharded.
    pub(crate) fn sharded_of<R: AsRef<str>>(&self, rooms: &[R]) -> Sharded {
        match rooms {
            [room] => self.sharded_room(room.as_ref()),
            _ => self.sharded_broadcast(),
        }
    }

    fn in_lane(&self, lane: u16, room: &str, end: &str) -> Sharded {
        let head = self.sharded.get(usize::from(lane)).map_or("", String::as_str);
        Sharded { lane, name: format!("{head}{room}{end}") }
    }

    /// Where the answer to a request goes: to whoever asked, where the request says who that is.
    pub(crate) fn answer(&self, uid: Option<&str>) -> String {
        match uid {
            Some(uid) => format!("{}{uid}#", self.response),
            None => self.response.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_node() {
        let root = Channels::new("socket.io", "/");
        let admin = Channels::new("socket.io", "/admin");
        let cases = [
            (root.broadcast.clone(), "socket.io#/#"),
            (root.room("room1"), "socket.io#/#room1#"),
            (root.unterminated_room("room1"), "socket.io#/#room1"),
            (admin.broadcast.clone(), "socket.io#/admin#"),
            (root.request.clone(), "socket.io-request#/#"),
            (root.answer(None), "socket.io-response#/#"),
            (root.answer(Some("2px9-z")), "socket.io-response#/#2px9-z#"),
            (root.of(&["a"]), "socket.io#/#a#"),
            (root.of(&["a", "b"]), "socket.io#/#"),
            (root.of::<&str>(&[]), "socket.io#/#"),
        ];
        for (name, want) in cases {
            assert_eq!(name, want);
        }
    }

    #[test]
    fn sharded_channels_are_spread_evenly_and_stay_in_their_slot() {
        let root = Channels::new("socket.io", "/");
        assert_eq!(root.sharded_broadcast().name, "socket.io-sharded{0}#/#");
        let mut lanes = std::collections::HashMap::new();
        for room in ["", "r1", "a{b}c", "}{", "#", "\u{1F980}"] {
            let channel = root.sharded_room(room);
            assert!(channel.name.ends_with(&format!("#/#{room}#")), "{channel:?}");
            let slot = slot::of(channel.name.as_bytes());
            assert_eq!(slot / (SLOTS / LANES), channel.lane, "{channel:?}");
            assert_eq!(*lanes.entry(channel.lane).or_insert(slot), slot, "{channel:?}");
        }
        let tags: Vec<String> = (0..LANES).map(tag).collect();
        assert_eq!(tags.join(" "), "10 3 61 43 11 2 60 42 12 1 63 41 13 0 62 40");
    }
}
