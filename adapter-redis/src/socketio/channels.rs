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

/// The channels of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Channels {
    /// To everybody.
    pub(crate) broadcast: String,
    pub(crate) request: String,
    pub(crate) response: String,
}

impl Channels {
    pub(crate) fn new(prefix: &str, namespace: &str) -> Self {
        Self {
            broadcast: format!("{prefix}#{namespace}#"),
            request: format!("{prefix}-request#{namespace}#"),
            response: format!("{prefix}-response#{namespace}#"),
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
}
