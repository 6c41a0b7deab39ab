//! WebSocket frames (RFC 6455), without any input or output of its own.
//!
//! In come bytes, cut anywhere; out come whole messages and control frames, unmasked and checked. The
//! other way a frame is a [`Head`] of a few bytes before a payload that is shared. Nothing is held
//! between messages, and no more than twice what was received is held for a message that is on its
//! way, whatever length its head claims.

use bytes::Bytes;

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A payload of a control frame has so many bytes at most.
pub(crate) const CONTROL: usize = 125;

/// The longest head of a client's frame: two bytes, a length of eight, a mask of four.
const LONGEST_HEAD: usize = 14;

/// The head of a frame that goes to a client, with the type of the Engine.IO packet in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    bytes: [u8; 11],
    length: u8,
}

impl Head {
    /// Before a payload of `length` bytes, which `kind` precedes if there is one.
    pub(crate) fn new(opcode: Opcode, kind: Option<u8>, length: usize) -> Self {
        let mut head = Self { bytes: [0; 11], length: 0 };
        let length = length + usize::from(kind.is_some());
        head.put(&[0x80 | opcode as u8]);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => head.put(&[short]),
            (_, Ok(medium)) => {
                head.put(&[126]);
                head.put(&medium.to_be_bytes());
            }
            (_, Err(_)) => {
                head.put(&[127]);
                head.put(&(length as u64).to_be_bytes());
            }
        }
        if let Some(kind) = kind {
            head.put(&[kind]);
        }
        head
    }

    fn put(&mut self, bytes: &[u8]) {
        let start = usize::from(self.length);
        if let Some(room) = self.bytes.get_mut(start..start + bytes.len()) {
            room.copy_from_slice(bytes);
            self.length += u8::try_from(bytes.len()).unwrap_or_default();
        }
    }

    /// Its bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A message of text.
    Text(String),
    /// A message of bytes.
    Binary(Vec<u8>),
    /// To be answered with a pong of the same payload.
    Ping(Bytes),
    /// An answer to nothing: this side sends no WebSocket pings.
    Pong,
    /// The peer closes.
    Close,
}

/// Why a peer is closed: it broke the WebSocket protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// A frame that may not be.
    #[error("a frame that breaks the protocol")]
    Protocol,
    /// Text that is no UTF-8.
    #[error("text that is no UTF-8")]
    Text,
    /// A message beyond the limit.
    #[error("a message over the limit")]
    TooBig,
}

impl Violation {
    /// The code of the close frame that says so.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Text => 1007,
            Self::TooBig => 1009,
        }
    }
}

/// A frame whose head was read.
#[derive(Clone, Copy, Debug)]
struct Open {
    opcode: Opcode,
    last: bool,
    mask: [u8; 4],
    remaining: usize,
    /// Where in the mask the next byte is.
    phase: usize,
}

/// Follows the frames of one client.
#[derive(Debug)]
pub(crate) struct Decoder {
    head: [u8; LONGEST_HEAD],
    head_length: u8,
    open: Option<Open>,
    /// The kind of the message whose fragments are coming.
    message_kind: Option<Opcode>,
    message: Vec<u8>,
    control: Vec<u8>,
    /// Frames that began since they were asked for.
    frames: u64,
    largest_message: usize,
    largest_frame: usize,
}

impl Decoder {
    /// For messages and frames of these sizes at most.
    pub(crate) const fn new(largest_message: usize, largest_frame: usize) -> Self {
        Self {
            head: [0; LONGEST_HEAD],
            head_length: 0,
            open: None,
            message_kind: None,
            message: Vec::new(),
            control: Vec::new(),
            frames: 0,
            largest_message,
            largest_frame,
        }
    }

    /// Takes bytes from the front of `input` until something is whole; `None` when all are taken.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        loop {
            let open = match self.open {
                Some(open) => open,
                None => match self.read_head(input)? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            if !self.read_payload(open, input) {
                return Ok(None);
            }
            if let Some(whole) = self.finish(open)? {
                return Ok(Some(whole));
            }
        }
    }

    /// How many frames began since the last time.
    pub(crate) const fn take_frames(&mut self) -> u64 {
        std::mem::replace(&mut self.frames, 0)
    }

    /// Takes what there is of a head.
    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Open>, Violation> {
        while let Some((byte, rest)) = input.split_first() {
            let at = usize::from(self.head_length);
            if let Some(place) = self.head.get_mut(at) {
                *place = *byte;
            }
            *input = rest;
            self.head_length += 1;
            let head = self.head.get(..=at).unwrap_or_default();
            let Some(whole) = parse_head(head)? else { continue };
            self.head_length = 0;
            self.frames += 1;
            self.allow(&whole)?;
            self.open = Some(whole);
            return Ok(Some(whole));
        }
        Ok(None)
    }

    /// Whether a frame may come now.
    fn allow(&self, open: &Open) -> Result<(), Violation> {
        if open.opcode.is_control() {
            let good = open.last && open.remaining <= CONTROL;
            return if good { Ok(()) } else { Err(Violation::Protocol) };
        }
        let continues = open.opcode == Opcode::Continuation;
        if continues != self.message_kind.is_some() {
            return Err(Violation::Protocol);
        }
        let whole = self.message.len().saturating_add(open.remaining);
        if open.remaining > self.largest_frame || whole > self.largest_message {
            return Err(Violation::TooBig);
        }
        Ok(())
    }

    /// Takes what there is of a payload; whether that was all of it.
    fn read_payload(&mut self, mut open: Open, input: &mut &[u8]) -> bool {
        let (part, rest) = input.split_at(open.remaining.min(input.len()));
        *input = rest;
        let into = if open.opcode.is_control() { &mut self.control } else { &mut self.message };
        let start = into.len();
        if start == 0 {
            into.reserve_exact(part.len());
        }
        into.extend_from_slice(part);
        unmask(into.get_mut(start..).unwrap_or_default(), open.mask, open.phase);
        open.remaining -= part.len();
        open.phase = (open.phase + part.len()) % 4;
        self.open = (open.remaining > 0).then_some(open);
        open.remaining == 0
    }

    /// A frame came whole: what that makes.
    fn finish(&mut self, open: Open) -> Result<Option<Incoming>, Violation> {
        match open.opcode {
            Opcode::Ping => Ok(Some(Incoming::Ping(std::mem::take(&mut self.control).into()))),
            Opcode::Pong => {
                self.control = Vec::new();
                Ok(Some(Incoming::Pong))
            }
            Opcode::Close => {
                check_close(&std::mem::take(&mut self.control))?;
                Ok(Some(Incoming::Close))
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                let kind = self.message_kind.unwrap_or(open.opcode);
                if !open.last {
                    self.message_kind = Some(kind);
                    return Ok(None);
                }
                self.message_kind = None;
                let message = std::mem::take(&mut self.message);
                if kind == Opcode::Binary {
                    return Ok(Some(Incoming::Binary(message)));
                }
                let text = String::from_utf8(message).map_err(|_| Violation::Text)?;
                Ok(Some(Incoming::Text(text)))
            }
        }
    }
}

/// The head of a client's frame; `None` while bytes are missing.
fn parse_head(head: &[u8]) -> Result<Option<Open>, Violation> {
    let [first, second, rest @ ..] = head else { return Ok(None) };
    let reserved = first & 0x70 != 0;
    let masked = second & 0x80 != 0;
    let opcode = Opcode::of(first & 0x0f).ok_or(Violation::Protocol)?;
    // A client masks its frames, and no extension was agreed on.
    if reserved || !masked {
        return Err(Violation::Protocol);
    }
    let (length, rest) = match (second & 0x7f, rest) {
        (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
        (127, rest) => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        (126, _) => return Ok(None),
        (short, rest) => (u64::from(short), rest),
    };
    let [a, b, c, d, ..] = rest else { return Ok(None) };
    let too_short = matches!((second & 0x7f, length), (126, ..126) | (127, ..65536));
    if too_short || length > i64::MAX.unsigned_abs() {
        return Err(Violation::Protocol);
    }
    let remaining = usize::try_from(length).map_err(|_| Violation::TooBig)?;
    let last = first & 0x80 != 0;
    Ok(Some(Open { opcode, last, mask: [*a, *b, *c, *d], remaining, phase: 0 }))
}

/// Undoes a mask, eight bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4], phase: usize) {
    let mut mask = mask;
    mask.rotate_left(phase % 4);
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Whether a close frame says what it may.
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    let [a, b, reason @ ..] = payload else {
        return if payload.is_empty() { Ok(()) } else { Err(Violation::Protocol) };
    };
    let code = u16::from_be_bytes([*a, *b]);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::Protocol);
    }
    std::str::from_utf8(reason).map(|_| ()).map_err(|_| Violation::Text)
}

/// The payload of a close frame, its reason cut to what a control frame may carry.
pub(crate) fn close_payload(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    payload.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | u8::try_from(short).expect("short")),
            medium @ 126..=65535 => {
                frame.push(0xfe);
                frame.extend(u16::try_from(medium).expect("medium").to_be_bytes());
            }
            long => {
                frame.push(0xff);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    fn decode(bytes: &[u8], cut: usize) -> Result<Vec<Incoming>, Violation> {
        let mut decoder = Decoder::new(200_000, 200_000);
        let mut all = Vec::new();
        for mut chunk in bytes.chunks(cut.max(1)) {
            while let Some(whole) = decoder.next(&mut chunk)? {
                all.push(whole);
            }
            assert!(chunk.is_empty(), "all is taken");
        }
        Ok(all)
    }

    fn text(text: &str) -> Incoming {
        Incoming::Text(text.to_owned())
    }

    #[test]
    fn messages_however_the_stream_is_cut() {
        let long = "é".repeat(35_000);
        let lengths = [0, 1, 7, 8, 9, 125, 126, 65_535, 65_536];
        let mut bytes: Vec<u8> =
            lengths.iter().flat_map(|&length| frame(0x82, &vec![7; length])).collect();
        bytes.extend(frame(0x81, long.as_bytes()));
        let mut want: Vec<Incoming> =
            lengths.iter().map(|&length| Incoming::Binary(vec![7; length])).collect();
        want.push(text(&long));
        for cut in [1, 2, 3, 13, 1000, 65_536, bytes.len()] {
            assert_eq!(decode(&bytes, cut), Ok(want.clone()), "cut by {cut}");
        }
    }

    #[test]
    fn fragments_with_control_frames_between() {
        let bytes = [
            frame(0x01, b"a\xc3"),
            frame(0x89, b"ping"),
            frame(0x00, b"\xa9"),
            frame(0x8a, b""),
            frame(0x80, b"z"),
            frame(0x88, &[0x03, 0xe8]),
        ]
        .concat();
        let want = vec![
            Incoming::Ping(Bytes::from_static(b"ping")),
            Incoming::Pong,
            text("aéz"),
            Incoming::Close,
        ];
        for cut in [1, 5, bytes.len()] {
            assert_eq!(decode(&bytes, cut), Ok(want.clone()), "cut by {cut}");
        }
    }

    #[test]
    fn what_breaks_the_protocol() {
        let unmasked = vec![0x81, 0x01, b'a'];
        let long_ping = frame(0x89, &[0; 126]);
        let cases = [
            ("unmasked", unmasked, Violation::Protocol),
            ("reserved bit", frame(0xc1, b"a"), Violation::Protocol),
            ("reserved opcode", frame(0x83, b"a"), Violation::Protocol),
            ("reserved control", frame(0x8b, b""), Violation::Protocol),
            ("long ping", long_ping, Violation::Protocol),
            ("ping in fragments", frame(0x09, b"a"), Violation::Protocol),
            ("continues nothing", frame(0x80, b"a"), Violation::Protocol),
            ("interrupted", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), Violation::Protocol),
            ("close of one byte", frame(0x88, &[3]), Violation::Protocol),
            ("close code 1005", frame(0x88, &1005_u16.to_be_bytes()), Violation::Protocol),
            ("close code 999", frame(0x88, &999_u16.to_be_bytes()), Violation::Protocol),
            ("close reason", frame(0x88, &[0x03, 0xe8, 0xff]), Violation::Text),
            ("no text", frame(0x81, b"\xff"), Violation::Text),
            ("cut text", frame(0x81, b"\xc3"), Violation::Text),
            ("too big", vec![0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4], Violation::TooBig),
            (
                "negative",
                vec![0x82, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4],
                Violation::Protocol,
            ),
            ("length in too many bytes", vec![0x82, 0xfe, 0, 5, 1, 2, 3, 4], Violation::Protocol),
            (
                "too big in parts",
                [frame(0x02, &vec![0; 150_000]), frame(0x80, &vec![0; 60_000])].concat(),
                Violation::TooBig,
            ),
        ];
        for (name, bytes, want) in cases {
            for cut in [1, bytes.len()] {
                assert_eq!(decode(&bytes, cut), Err(want), "{name}, cut by {cut}");
            }
        }
    }

    #[test]
    fn heads_of_all_lengths() {
        let cases: [(usize, Option<u8>, &[u8]); 7] = [
            (0, None, &[0x81, 0]),
            (0, Some(b'2'), &[0x81, 1, b'2']),
            (125, None, &[0x81, 125]),
            (125, Some(b'4'), &[0x81, 126, 0, 126, b'4']),
            (65_535, None, &[0x81, 126, 0xff, 0xff]),
            (65_535, Some(b'4'), &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0, b'4']),
            (65_536, None, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (length, kind, want) in cases {
            assert_eq!(Head::new(Opcode::Text, kind, length).as_bytes(), want, "{length} {kind:?}");
        }
    }

    #[test]
    fn close_reasons_are_cut_between_characters() {
        let payload = close_payload(1008, &"é".repeat(100));
        assert!(payload.len() <= CONTROL);
        assert_eq!(check_close(&payload), Ok(()));
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let mut decoder = Decoder::new(1 << 30, 1 << 30);
        let mut head: &[u8] = &[0x82, 0xff, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5];
        assert_eq!(decoder.next(&mut head), Ok(None));
        assert!(decoder.message.capacity() < 64);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, cut in 1_usize..50) {
            let _ = decode(&bytes, cut);
        }

        #[test]
        fn any_message_comes_back(message: Vec<u8>, cut in 1_usize..50, split in 0_usize..100) {
            let split = split.min(message.len());
            let bytes = [frame(0x02, &message[..split]), frame(0x80, &message[split..])].concat();
            prop_assert_eq!(decode(&bytes, cut), Ok(vec![Incoming::Binary(message)]));
        }
    }
}
