//! What a packet of the server's says: Engine.IO 4 around Socket.IO 5.
//!
//! In comes one packet, as WebSocket and polling carry it; out goes what it is, borrowed from it. It reads only what a
//! load generator needs and never fails: what it does not know is [`Packet::Other`].

/// A packet of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet<'t> {
    /// The Engine.IO session begins: its JSON object.
    Open(&'t [u8]),
    /// The server ends the Engine.IO session.
    Close,
    /// The server asks for a sign of life.
    Ping,
    /// The answer to a probe.
    Pong,
    /// Nothing: it lets a poll return.
    Noop,
    /// The namespace was joined.
    Connected,
    /// The namespace was not joined: the JSON object that says why.
    Refused(&'t [u8]),
    /// The server ends the namespace.
    Left,
    /// An event, as a JSON array, and how many binary packets follow it.
    Event(u32, &'t [u8]),
    /// An event was acknowledged: its number, and the JSON array of the ack's arguments.
    Ack(u32, &'t [u8]),
    /// Anything else.
    Other,
}

/// Reads a packet.
pub(crate) fn parse(text: &[u8]) -> Packet<'_> {
    let &[kind, ref rest @ ..] = text else { return Packet::Other };
    match kind {
        b'0' => Packet::Open(rest),
        b'1' => Packet::Close,
        b'2' => Packet::Ping,
        b'3' => Packet::Pong,
        b'4' => message(rest),
        b'6' => Packet::Noop,
        _ => Packet::Other,
    }
}

fn message(text: &[u8]) -> Packet<'_> {
    let &[kind, ref rest @ ..] = text else { return Packet::Other };
    match kind {
        b'0' => Packet::Connected,
        b'1' => Packet::Left,
        b'2' => Packet::Event(0, numbered(below(rest)).1),
        b'3' => acknowledged(below(rest)),
        b'4' => Packet::Refused(below(rest)),
        b'5' => match attachments(rest) {
            Some((count, rest)) => Packet::Event(count, numbered(below(rest)).1),
            None => Packet::Other,
        },
        b'6' => attachments(rest).map_or(Packet::Other, |(_, rest)| acknowledged(below(rest))),
        _ => Packet::Other,
    }
}

fn acknowledged(body: &[u8]) -> Packet<'_> {
    match numbered(body) {
        (Some(id), args) => Packet::Ack(id, args),
        (None, _) => Packet::Other,
    }
}

/// What follows the namespace, where one other than `/` is named.
fn below(text: &[u8]) -> &[u8] {
    if text.first() != Some(&b'/') {
        return text;
    }
    let comma = text.iter().position(|byte| *byte == b',');
    comma.and_then(|at| text.get(at + 1..)).unwrap_or_default()
}

/// The number of binary packets before the dash, and what follows it.
fn attachments(text: &[u8]) -> Option<(u32, &[u8])> {
    let (count, rest) = numbered(text);
    Some((count?, rest.strip_prefix(b"-")?))
}

/// The number before a body, if there is one.
fn numbered(body: &[u8]) -> (Option<u32>, &[u8]) {
    let digits = body.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = body.split_at_checked(digits).unwrap_or((&[], body));
    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
    (number, rest)
}

/// The name of an event, from its JSON array; names with escapes are not read.
pub(crate) fn name(event: &[u8]) -> Option<&[u8]> {
    let rest = event.strip_prefix(b"[\"")?;
    rest.get(..memchr::memchr(b'"', rest)?)
}

/// The string value of a field, wherever in a JSON text it first stands.
pub(crate) fn field<'t>(json: &'t [u8], name: &str) -> Option<&'t str> {
    let wanted = format!("\"{name}\"");
    let at = memchr::memmem::find(json, wanted.as_bytes())?;
    let rest = json.get(at + wanted.len()..)?.trim_ascii_start().strip_prefix(b":")?;
    let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
    std::str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        let cases = [
            ("open", r#"0{"sid":"a"}"#, Packet::Open(br#"{"sid":"a"}"#)),
            ("ping", "2", Packet::Ping),
            ("probe", "3probe", Packet::Pong),
            ("noop", "6", Packet::Noop),
            ("close", "1", Packet::Close),
            ("connected", r#"40{"sid":"a"}"#, Packet::Connected),
            ("connected below", r#"40/ns,{"sid":"a"}"#, Packet::Connected),
            ("refused", r#"44/ns,{"message":"no"}"#, Packet::Refused(br#"{"message":"no"}"#)),
            ("disconnected", "41/ns,", Packet::Left),
            ("ack", r#"4312[{"ok":true}]"#, Packet::Ack(12, br#"[{"ok":true}]"#)),
            ("ack below", "43/ns,7[]", Packet::Ack(7, b"[]")),
            ("binary ack", "461-/ns,7[]", Packet::Ack(7, b"[]")),
            ("ack without a number", "43[]", Packet::Other),
            ("ack with too long a number", "4399999999999999999999[]", Packet::Other),
            ("event", r#"42["a",1]"#, Packet::Event(0, br#"["a",1]"#)),
            ("event that wants an ack", r#"42/n,3["a"]"#, Packet::Event(0, br#"["a"]"#)),
            ("binary", r#"452-["a",{}]"#, Packet::Event(2, br#"["a",{}]"#)),
            ("binary without a count", r#"45["a",{}]"#, Packet::Other),
            ("empty", "", Packet::Other),
            ("bare message", "4", Packet::Other),
            ("not ascii", "4é", Packet::Other),
        ];
        for (name, text, want) in cases {
            assert_eq!(parse(text.as_bytes()), want, "{name}");
        }
    }

    #[test]
    fn names_and_fields() {
        assert_eq!(name(br#"["a b",{}]"#), Some(&b"a b"[..]));
        assert_eq!(name(b"[1]"), None);
        let json = br#"[{"ok":true,"session" : {"session_id": "s-1"},"n":2}]"#;
        assert_eq!(field(json, "session_id"), Some("s-1"));
        assert_eq!(field(json, "n"), None);
        assert_eq!(field(json, "absent"), None);
    }
}
