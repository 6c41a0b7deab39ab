//! What a server's text frame says: Engine.IO 4 around Socket.IO 5.
//!
//! In comes one WebSocket text; out goes what it is, borrowed from it. It reads only what a load
//! generator needs and never fails: what it does not know is [`Packet::Other`].

/// A packet of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet<'t> {
    /// The Engine.IO session begins.
    Open,
    /// The server asks for a sign of life.
    Ping,
    /// The namespace was joined.
    Connected,
    /// The namespace was not joined, and why.
    Refused(&'t str),
    /// The server ends the connection.
    Ended,
    /// An event was acknowledged: its number, and the JSON array of the ack's arguments.
    Ack(u64, &'t str),
    /// An event, as a JSON array.
    Event(&'t str),
    /// Anything else.
    Other,
}

/// Reads a packet.
pub(crate) fn parse(text: &str) -> Packet<'_> {
    if let Some(message) = text.strip_prefix('4') {
        return message_of(message);
    }
    match text.as_bytes().first() {
        Some(b'0') => Packet::Open,
        Some(b'1') => Packet::Ended,
        Some(b'2') => Packet::Ping,
        Some(_) | None => Packet::Other,
    }
}

fn message_of(text: &str) -> Packet<'_> {
    let kind = text.as_bytes().first();
    let rest = text.get(1..).unwrap_or_default();
    let body = match rest.strip_prefix('/') {
        Some(path) => path.split_once(',').map_or("", |(_, body)| body),
        None => rest,
    };
    match kind {
        Some(b'0') => Packet::Connected,
        Some(b'1') => Packet::Ended,
        Some(b'2') => Packet::Event(numbered(body).1),
        Some(b'3') => match numbered(body) {
            (Some(id), args) => Packet::Ack(id, args),
            (None, _) => Packet::Other,
        },
        Some(b'4') => Packet::Refused(body),
        Some(_) | None => Packet::Other,
    }
}

/// The number before a body, if there is one.
fn numbered(body: &str) -> (Option<u64>, &str) {
    let end = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
    let (number, rest) = body.split_at(end);
    (number.parse().ok(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        let cases = [
            ("open", r#"0{"sid":"a"}"#, Packet::Open),
            ("ping", "2", Packet::Ping),
            ("close", "1", Packet::Ended),
            ("connected", r#"40{"sid":"a"}"#, Packet::Connected),
            ("connected below", r#"40/ns,{"sid":"a"}"#, Packet::Connected),
            ("refused", r#"44/ns,{"message":"no"}"#, Packet::Refused(r#"{"message":"no"}"#)),
            ("disconnected", "41/ns,", Packet::Ended),
            ("ack", r#"4312[{"ok":true}]"#, Packet::Ack(12, r#"[{"ok":true}]"#)),
            ("ack below", "43/ns,7[]", Packet::Ack(7, "[]")),
            ("ack without a number", "43[]", Packet::Other),
            ("ack with too long a number", "4399999999999999999999[]", Packet::Other),
            ("event", r#"42["a",1]"#, Packet::Event(r#"["a",1]"#)),
            ("event that wants an ack", r#"42/n,3["a"]"#, Packet::Event(r#"["a"]"#)),
            ("binary", r#"451-["a",{}]"#, Packet::Other),
            ("empty", "", Packet::Other),
            ("bare message", "4", Packet::Other),
            ("not ascii", "4é", Packet::Other),
        ];
        for (name, text, want) in cases {
            assert_eq!(parse(text), want, "{name}");
        }
    }
}
