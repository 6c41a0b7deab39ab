//! WebSocket frames (RFC 6455), as a client reads and writes them.
//!
//! In come the bytes of a stream; out goes one frame, borrowed from them, and how many bytes it took. No extension is
//! ever asked for, so a frame with reserved bits breaks the protocol, and so does a masked one.

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// More of the message before.
    More,
    /// The start of a text.
    Text,
    /// The start of a binary message.
    Binary,
    /// The end of the connection.
    Close,
    /// A sign of life is asked for.
    Ping,
    /// A sign of life.
    Pong,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::More => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::More),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }
}

/// One frame of a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'b> {
    /// What it is.
    pub kind: Kind,
    /// The message ends with it.
    pub last: bool,
    /// What it carries.
    pub payload: &'b [u8],
    /// How many bytes of the stream it took.
    pub length: usize,
}

/// Bytes that are no frame, or one that is longer than anybody sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Longest frame that is taken, and longest message of several.
pub(crate) const LONGEST: usize = 64 << 20;

/// The mask of every frame that is sent. Masks keep scripts in browsers from speaking to proxies; this client has
/// neither, and with zeros the payload goes out as it is. A server must unmask it all the same.
const MASK: [u8; 4] = [0; 4];

/// In place of a length: 16 bits of it follow, or 64.
const SHORT: u8 = 126;
const LONG: u8 = 127;

/// The bit that says that a mask follows.
const MASKED: u8 = 0x80;

/// The first frame of a stream's bytes; `None` where it is not here whole.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Frame<'_>>, Broken> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(Broken);
    }
    let kind = Kind::of(first & 0x0f).ok_or(Broken)?;
    let (length, head) = match second {
        SHORT => match rest.first_chunk::<2>() {
            Some(&length) => (usize::from(u16::from_be_bytes(length)), 4),
            None => return Ok(None),
        },
        LONG => match rest.first_chunk::<8>() {
            Some(&length) => (usize::try_from(u64::from_be_bytes(length)).map_err(|_| Broken)?, 10),
            None => return Ok(None),
        },
        short => (usize::from(short), 2),
    };
    if length > LONGEST {
        return Err(Broken);
    }
    let last = first & 0x80 != 0;
    let payload = bytes.get(head..head + length);
    Ok(payload.map(|payload| Frame { kind, last, payload, length: head + length }))
}

/// Writes one whole message as a frame.
pub(crate) fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + 14);
    out.push(0x80 | kind.code());
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => out.push(MASKED | length),
        (_, Ok(length)) => {
            out.push(MASKED | SHORT);
            out.extend_from_slice(&length.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(MASKED | LONG);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a server writes it: without a mask.
    fn served(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            n @ 0..126 => out.push(u8::try_from(n).unwrap()),
            n @ 126..0x1_0000 => {
                out.push(126);
                out.extend(u16::try_from(n).unwrap().to_be_bytes());
            }
            n => {
                out.push(127);
                out.extend((n as u64).to_be_bytes());
            }
        }
        out.extend(payload);
        out
    }

    #[test]
    fn frames_of_every_length_come_whole_or_not_at_all() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload = vec![7; length];
            let bytes = served(0x82, &payload);
            let frame = decode(&bytes).unwrap().unwrap();
            assert_eq!((frame.kind, frame.last), (Kind::Binary, true), "{length}");
            assert_eq!((frame.payload, frame.length), (&payload[..], bytes.len()), "{length}");
            for cut in [1, 2, 3, 5, bytes.len() - 1].into_iter().filter(|cut| *cut < bytes.len()) {
                assert_eq!(decode(&bytes[..cut]), Ok(None), "{length} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let cases: [(&str, &[u8]); 4] = [
            ("masked", &[0x81, 0x81, 0, 0, 0, 0, 1]),
            ("reserved bit", &[0xc1, 0]),
            ("unknown kind", &[0x83, 0]),
            ("endless", &[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (name, bytes) in cases {
            assert_eq!(decode(bytes), Err(Broken), "{name}");
        }
    }

    #[test]
    fn what_is_written_is_masked_and_has_its_length() {
        for (length, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut out = Vec::new();
            encode(Kind::Text, &vec![b'x'; length], &mut out);
            assert_eq!(out.len(), head + 4 + length, "{length}");
            assert_eq!((out[0], out[1] & 0x80), (0x81, 0x80), "{length}");
        }
    }
}
