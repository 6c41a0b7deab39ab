//! Payloads: the bodies of polling requests and answers, which carry several packets.
//!
//! Engine.IO 4 puts a record separator between packets. Engine.IO 3 puts a length before each: in
//! characters as JavaScript counts them where the body is text, in bytes where it is binary.

use bytes::Bytes;
use engineioxide_core::ProtocolVersion;

use crate::{
    packet::{NoPacket, Packet, Received},
    queue::Queue,
};

/// Between the packets of Engine.IO 4.
const SEPARATOR: char = '\u{1e}';

/// Before the length of a packet in a binary body of Engine.IO 3, and behind it.
const TEXT: u8 = 0;
const BINARY: u8 = 1;
const END_OF_LENGTH: u8 = 0xff;

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) body: Bytes,
    /// It is no text.
    pub(crate) binary: bool,
    pub(crate) packets: u64,
}

impl Payload {
    /// Of one packet that is no bytes.
    pub(crate) fn one(packet: &Packet, protocol: ProtocolVersion) -> Self {
        Self::text(std::slice::from_ref(packet), protocol)
    }

    /// Of what waits, up to a number of bytes, and of one packet at least.
    pub(crate) fn of(
        queue: &mut Queue,
        protocol: ProtocolVersion,
        text_only: bool,
        most: usize,
    ) -> Self {
        let mut packets = Vec::new();
        let mut bytes = 0_usize;
        while let Some(next) = queue.front() {
            bytes = bytes.saturating_add(body_size(next));
            if bytes > most && !packets.is_empty() {
                break;
            }
            packets.extend(queue.pop());
        }
        let has_bytes = packets.iter().any(|packet| matches!(packet, Packet::Binary(_)));
        if protocol == ProtocolVersion::V3 && has_bytes && !text_only {
            Self::binary(&packets)
        } else {
            Self::text(&packets, protocol)
        }
    }

    fn text(packets: &[Packet], protocol: ProtocolVersion) -> Self {
        let mut body = String::with_capacity(packets.iter().map(body_size).sum());
        for (index, packet) in packets.iter().enumerate() {
            match protocol {
                ProtocolVersion::V4 => {
                    if index > 0 {
                        body.push(SEPARATOR);
                    }
                    packet.write_text(protocol, &mut body);
                }
                ProtocolVersion::V3 => {
                    let mut text = String::with_capacity(body_size(packet));
                    packet.write_text(protocol, &mut text);
                    body.push_str(&text.encode_utf16().count().to_string());
                    body.push(':');
                    body.push_str(&text);
                }
            }
        }
        Self { body: body.into(), binary: false, packets: packets.len() as u64 }
    }

    fn binary(packets: &[Packet]) -> Self {
        let mut body = Vec::with_capacity(packets.iter().map(body_size).sum());
        let mut put = |kind: u8, first: Option<u8>, rest: &[u8]| {
            body.push(kind);
            let length = rest.len() + usize::from(first.is_some());
            body.extend(length.to_string().bytes().map(|digit| digit - b'0'));
            body.push(END_OF_LENGTH);
            body.extend(first);
            body.extend_from_slice(rest);
        };
        for packet in packets {
            if let Packet::Binary(bytes) = packet {
                put(BINARY, Some(4), bytes);
            } else {
                let mut text = String::new();
                packet.write_text(ProtocolVersion::V3, &mut text);
                put(TEXT, None, text.as_bytes());
            }
        }
        Self { body: body.into(), binary: true, packets: packets.len() as u64 }
    }
}

/// At most so many bytes of a body, but for the length in front.
fn body_size(packet: &Packet) -> usize {
    match packet {
        Packet::Binary(bytes) => 8 + bytes.len().div_ceil(3) * 4,
        _ => 8 + packet.size(),
    }
}

/// Reads the packets of a request, one after the other.
#[derive(Debug)]
pub(crate) struct Packets<'a> {
    rest: Option<Body<'a>>,
    protocol: ProtocolVersion,
}

#[derive(Clone, Copy, Debug)]
enum Body<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl<'a> Packets<'a> {
    /// Of a body, which is not text where its type said so.
    pub(crate) fn of(
        body: &'a [u8],
        binary: bool,
        protocol: ProtocolVersion,
    ) -> Result<Self, NoPacket> {
        let rest = match (binary, protocol) {
            // Engine.IO 4 knows text only.
            (true, ProtocolVersion::V4) => return Err(NoPacket),
            (true, ProtocolVersion::V3) => (!body.is_empty()).then_some(Body::Binary(body)),
            (false, ProtocolVersion::V3) if body.is_empty() => None,
            (false, _) => Some(Body::Text(std::str::from_utf8(body).map_err(|_| NoPacket)?)),
        };
        Ok(Self { rest, protocol })
    }

    fn separated(&mut self, text: &'a str) -> Result<Received, NoPacket> {
        let packet = match text.split_once(SEPARATOR) {
            Some((packet, rest)) => {
                self.rest = Some(Body::Text(rest));
                packet
            }
            None => text,
        };
        Received::read(packet.to_owned(), self.protocol)
    }

    fn counted(&mut self, text: &'a str) -> Result<Received, NoPacket> {
        let (length, rest) = text.split_once(':').ok_or(NoPacket)?;
        let length = number(length.as_bytes(), b'0')?;
        let end = byte_index(rest, length).ok_or(NoPacket)?;
        let (packet, rest) = rest.split_at_checked(end).ok_or(NoPacket)?;
        self.rest = (!rest.is_empty()).then_some(Body::Text(rest));
        Received::read(packet.to_owned(), self.protocol)
    }

    fn binary(&mut self, bytes: &'a [u8]) -> Result<Received, NoPacket> {
        let (kind, rest) = bytes.split_first().ok_or(NoPacket)?;
        let end = rest.iter().position(|byte| *byte == END_OF_LENGTH).ok_or(NoPacket)?;
        let (digits, rest) = rest.split_at(end);
        let length = number(digits, 0)?;
        let rest = rest.get(1..).unwrap_or_default();
        let (packet, rest) = rest.split_at_checked(length).ok_or(NoPacket)?;
        self.rest = (!rest.is_empty()).then_some(Body::Binary(rest));
        match *kind {
            TEXT => {
                let text = std::str::from_utf8(packet).map_err(|_| NoPacket)?;
                Received::read(text.to_owned(), self.protocol)
            }
            BINARY => Received::read_binary(packet.to_vec(), self.protocol),
            _ => Err(NoPacket),
        }
    }
}

impl Iterator for Packets<'_> {
    type Item = Result<Received, NoPacket>;

    fn next(&mut self) -> Option<Self::Item> {
        let body = self.rest.take()?;
        let packet = match (body, self.protocol) {
            (Body::Text(text), ProtocolVersion::V4) => self.separated(text),
            (Body::Text(text), ProtocolVersion::V3) => self.counted(text),
            (Body::Binary(bytes), _) => self.binary(bytes),
        };
        if packet.is_err() {
            self.rest = None;
        }
        Some(packet)
    }
}

/// A number of digits that count from `zero`; it has few, since no body is that long.
fn number(digits: &[u8], zero: u8) -> Result<usize, NoPacket> {
    if digits.is_empty() || digits.len() > 12 {
        return Err(NoPacket);
    }
    digits.iter().try_fold(0_usize, |sum, digit| {
        let digit = digit.checked_sub(zero).filter(|digit| *digit <= 9).ok_or(NoPacket)?;
        sum.checked_mul(10).and_then(|sum| sum.checked_add(digit.into())).ok_or(NoPacket)
    })
}

/// Where in bytes so many UTF-16 units end; `None` beyond the text, or within a character.
fn byte_index(text: &str, units: usize) -> Option<usize> {
    let mut counted = 0;
    for (index, character) in text.char_indices() {
        if counted >= units {
            return (counted == units).then_some(index);
        }
        counted += character.len_utf16();
    }
    (counted == units).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use ProtocolVersion::{V3, V4};
    use proptest::prelude::*;

    use super::*;
    use crate::queue::Delivery;

    fn encode(packets: &[Packet], protocol: ProtocolVersion, text_only: bool) -> Payload {
        let mut queue = Queue::default();
        for packet in packets {
            queue.push(packet.clone(), Delivery::Reliable, 0);
        }
        Payload::of(&mut queue, protocol, text_only, usize::MAX)
    }

    fn decode(
        body: &[u8],
        binary: bool,
        protocol: ProtocolVersion,
    ) -> Result<Vec<Received>, NoPacket> {
        Packets::of(body, binary, protocol)?.collect()
    }

    fn message(text: &str) -> Packet {
        Packet::Message(text.to_owned().into())
    }

    #[test]
    fn written_as_the_protocol_says() {
        let bytes = Packet::Binary(Bytes::from_static(&[1, 2, 3, 4]));
        let both = [message("€é"), bytes];
        let cases: [(&str, Payload, &[u8], bool); 4] = [
            ("version 4", encode(&both, V4, false), "4€é\u{1e}bAQIDBA==".as_bytes(), false),
            ("version 3, text", encode(&both, V3, true), "3:4€é10:b4AQIDBA==".as_bytes(), false),
            (
                "version 3, bytes",
                encode(&both, V3, false),
                &[0, 6, 0xff, b'4', 0xe2, 0x82, 0xac, 0xc3, 0xa9, 1, 5, 0xff, 4, 1, 2, 3, 4],
                true,
            ),
            ("a pair of units", encode(&[message("🚀")], V3, false), "3:4🚀".as_bytes(), false),
        ];
        for (name, payload, want, binary) in cases {
            assert_eq!((&payload.body[..], payload.binary), (want, binary), "{name}");
        }
    }

    #[test]
    fn read_as_the_protocol_says() {
        let text = |text: &str| Received::Message(text.to_owned());
        let bytes = Received::Binary(Bytes::from_static(&[1, 2]));
        let cases: [(&str, &[u8], bool, ProtocolVersion, _); 16] = [
            ("one", b"4a", false, V4, Ok(vec![text("a")])),
            ("two", b"4a\x1e4b", false, V4, Ok(vec![text("a"), text("b")])),
            ("bytes", b"bAQI=", false, V4, Ok(vec![bytes.clone()])),
            ("nothing", b"", false, V4, Err(NoPacket)),
            ("separator at the end", b"4a\x1e", false, V4, Err(NoPacket)),
            ("no text", b"4\xff", false, V4, Err(NoPacket)),
            ("no base64", b"b%", false, V4, Err(NoPacket)),
            ("a binary body", b"4a", true, V4, Err(NoPacket)),
            ("counted", "3:4€é2:4b".as_bytes(), false, V3, Ok(vec![text("€é"), text("b")])),
            ("a pair of units", "3:4🚀".as_bytes(), false, V3, Ok(vec![text("🚀")])),
            ("half a pair", "2:4🚀".as_bytes(), false, V3, Err(NoPacket)),
            ("too long", b"9:4a", false, V3, Err(NoPacket)),
            ("no length", b":4a", false, V3, Err(NoPacket)),
            ("zero length", b"0:", false, V3, Err(NoPacket)),
            (
                "binary",
                &[0, 2, 0xff, b'4', b'a', 1, 3, 0xff, 4, 1, 2],
                true,
                V3,
                Ok(vec![text("a"), bytes]),
            ),
            ("binary without end", &[1, 9, 9], true, V3, Err(NoPacket)),
        ];
        for (name, body, binary, protocol, want) in cases {
            assert_eq!(decode(body, binary, protocol), want, "{name}");
        }
    }

    #[test]
    fn one_packet_at_least_and_no_more_than_fit() {
        let mut queue = Queue::default();
        for length in [100, 10, 10] {
            queue.push(message(&"x".repeat(length)), Delivery::Reliable, 0);
        }
        assert_eq!(Payload::of(&mut queue, V4, false, 40).packets, 1);
        assert_eq!(Payload::of(&mut queue, V4, false, 40).packets, 2);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>, binary: bool, old: bool) {
            let _ = decode(&body, binary, if old { V3 } else { V4 });
        }

        #[test]
        fn what_is_written_is_read(texts in prop::collection::vec("[^\u{1e}]{0,20}", 1..5), bytes: Vec<u8>, kind in 0_u8..3) {
            let (protocol, text_only) = [(V4, false), (V3, false), (V3, true)][usize::from(kind)];
            let mut packets: Vec<Packet> = texts.iter().map(|text| message(text)).collect();
            packets.push(Packet::Binary(bytes.clone().into()));
            let mut want: Vec<Received> = texts.into_iter().map(Received::Message).collect();
            want.push(Received::Binary(bytes.into()));
            let payload = encode(&packets, protocol, text_only);
            prop_assert_eq!(decode(&payload.body, payload.binary, protocol), Ok(want));
        }
    }
}
