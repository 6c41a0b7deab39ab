//! Packets, as they wait for a client, and as each transport writes them.
//!
//! A packet's payload is shared by all who receive it. On a WebSocket it is written behind a head of
//! a few bytes, so a broadcast copies nothing for each receiver.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use engineioxide_core::{ProtocolVersion, Str};

use crate::frame::{Head, Opcode};

/// What is sent to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// The handshake's answer, type digit included.
    Open(Str),
    /// The session ends.
    Close,
    /// A sign of life is asked for (Engine.IO 4).
    Ping,
    /// The client's ping is answered (Engine.IO 3).
    Pong,
    /// The answer to the probe of an upgrade.
    Probed,
    /// A poll is ended that has nothing to wait for.
    Noop,
    /// Text.
    Message(Str),
    /// Bytes.
    Binary(Bytes),
}

impl Packet {
    /// What it is counted with while it waits.
    pub(crate) fn size(&self) -> usize {
        1 + match self {
            Self::Open(text) | Self::Message(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Close | Self::Ping | Self::Pong | Self::Probed | Self::Noop => 0,
        }
    }

    /// The frame that it makes on a WebSocket: a head, and the payload behind it.
    pub(crate) fn frame(&self, protocol: ProtocolVersion) -> (Head, &[u8]) {
        match self {
            Self::Open(text) => (Head::new(Opcode::Text, None, text.len()), text.as_bytes()),
            Self::Close => (Head::new(Opcode::Text, Some(b'1'), 0), b""),
            Self::Ping => (Head::new(Opcode::Text, Some(b'2'), 0), b""),
            Self::Pong => (Head::new(Opcode::Text, Some(b'3'), 0), b""),
            Self::Probed => (Head::new(Opcode::Text, Some(b'3'), 5), b"probe"),
            Self::Noop => (Head::new(Opcode::Text, Some(b'6'), 0), b""),
            Self::Message(text) => {
                (Head::new(Opcode::Text, Some(b'4'), text.len()), text.as_bytes())
            }
            Self::Binary(bytes) => {
                // Engine.IO 3 puts the packet's type before the bytes.
                let kind = (protocol == ProtocolVersion::V3).then_some(4);
                (Head::new(Opcode::Binary, kind, bytes.len()), bytes)
            }
        }
    }

    /// Appends it as text, as a poll carries it.
    pub(crate) fn write_text(&self, protocol: ProtocolVersion, text: &mut String) {
        match self {
            Self::Open(open) => text.push_str(open),
            Self::Close => text.push('1'),
            Self::Ping => text.push('2'),
            Self::Pong => text.push('3'),
            Self::Probed => text.push_str("3probe"),
            Self::Noop => text.push('6'),
            Self::Message(message) => {
                text.push('4');
                text.push_str(message);
            }
            Self::Binary(bytes) => {
                text.push_str(match protocol {
                    ProtocolVersion::V3 => "b4",
                    ProtocolVersion::V4 => "b",
                });
                BASE64_STANDARD.encode_string(bytes, text);
            }
        }
    }
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It ends the session.
    Close,
    /// It asks for a sign of life (Engine.IO 3).
    Ping,
    /// It gives a sign of life (Engine.IO 4).
    Pong,
    /// It tries a transport.
    Probe,
    /// It goes over to the transport that it tried.
    Upgrade,
    /// Nothing.
    Noop,
    /// Text.
    Message(String),
    /// Bytes.
    Binary(Bytes),
}

/// No packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no packet of Engine.IO")]
pub(crate) struct NoPacket;

impl Received {
    /// Reads a packet that came as text.
    pub(crate) fn read(mut text: String, protocol: ProtocolVersion) -> Result<Self, NoPacket> {
        let kind = *text.as_bytes().first().ok_or(NoPacket)?;
        match kind {
            b'1' => Ok(Self::Close),
            b'2' if text == "2probe" => Ok(Self::Probe),
            b'2' => Ok(Self::Ping),
            b'3' => Ok(Self::Pong),
            b'4' => {
                text.remove(0);
                Ok(Self::Message(text))
            }
            b'5' => Ok(Self::Upgrade),
            b'6' => Ok(Self::Noop),
            b'b' => {
                let mark = match protocol {
                    ProtocolVersion::V3 => "b4",
                    ProtocolVersion::V4 => "b",
                };
                let text = text.strip_prefix(mark).ok_or(NoPacket)?;
                let bytes = BASE64_STANDARD.decode(text).map_err(|_| NoPacket)?;
                Ok(Self::Binary(bytes.into()))
            }
            _ => Err(NoPacket),
        }
    }

    /// Reads a packet that came as bytes.
    pub(crate) fn read_binary(
        mut bytes: Vec<u8>,
        protocol: ProtocolVersion,
    ) -> Result<Self, NoPacket> {
        match protocol {
            ProtocolVersion::V4 => Ok(Self::Binary(bytes.into())),
            ProtocolVersion::V3 => {
                if bytes.first() != Some(&4) {
                    return Err(NoPacket);
                }
                bytes.remove(0);
                Ok(Self::Binary(bytes.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ProtocolVersion::{V3, V4};

    use super::*;

    fn text(packet: &Packet, protocol: ProtocolVersion) -> String {
        let mut text = String::new();
        packet.write_text(protocol, &mut text);
        text
    }

    #[test]
    fn written_as_the_protocol_says() {
        let bytes = Packet::Binary(Bytes::from_static(&[1, 2, 3, 4]));
        let cases = [
            ("close", Packet::Close, V4, "1"),
            ("ping", Packet::Ping, V4, "2"),
            ("pong", Packet::Pong, V3, "3"),
            ("probed", Packet::Probed, V4, "3probe"),
            ("noop", Packet::Noop, V4, "6"),
            ("message", Packet::Message("hello".into()), V4, "4hello"),
            ("binary", bytes.clone(), V4, "bAQIDBA=="),
            ("binary of version 3", bytes, V3, "b4AQIDBA=="),
        ];
        for (name, packet, protocol, want) in cases {
            assert_eq!(text(&packet, protocol), want, "{name}");
        }
    }

    #[test]
    fn read_as_the_protocol_says() {
        let message = |text: &str| Received::Message(text.to_owned());
        let cases = [
            ("1", V4, Ok(Received::Close)),
            ("2", V3, Ok(Received::Ping)),
            ("2probe", V4, Ok(Received::Probe)),
            ("3", V4, Ok(Received::Pong)),
            ("4", V4, Ok(message(""))),
            ("4é", V4, Ok(message("é"))),
            ("42[\"a\"]", V4, Ok(message("2[\"a\"]"))),
            ("5", V4, Ok(Received::Upgrade)),
            ("6", V4, Ok(Received::Noop)),
            ("bAQIDBA==", V4, Ok(Received::Binary(Bytes::from_static(&[1, 2, 3, 4])))),
            ("b4AQIDBA==", V3, Ok(Received::Binary(Bytes::from_static(&[1, 2, 3, 4])))),
            ("b", V4, Ok(Received::Binary(Bytes::new()))),
            ("b", V3, Err(NoPacket)),
            ("bé", V4, Err(NoPacket)),
            ("", V4, Err(NoPacket)),
            ("0{}", V4, Err(NoPacket)),
            ("7", V4, Err(NoPacket)),
            ("éabcd", V4, Err(NoPacket)),
        ];
        for (text, protocol, want) in cases {
            assert_eq!(Received::read(text.to_owned(), protocol), want, "{text:?}");
        }
        assert_eq!(
            Received::read_binary(vec![4, 9], V3),
            Ok(Received::Binary(Bytes::from_static(&[9])))
        );
        assert_eq!(Received::read_binary(vec![5, 9], V3), Err(NoPacket));
        assert_eq!(Received::read_binary(Vec::new(), V3), Err(NoPacket));
        assert_eq!(Received::read_binary(Vec::new(), V4), Ok(Received::Binary(Bytes::new())));
    }
}
