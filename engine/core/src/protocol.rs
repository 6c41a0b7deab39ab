//! Versions of the protocol, and the transports that carry it.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportType {
    /// HTTP requests.
    Polling = 1,
    /// A WebSocket.
    Websocket = 2,
}

/// No transport has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTransport;

impl fmt::Display for UnknownTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such transport")
    }
}

impl std::error::Error for UnknownTransport {}

impl TransportType {
    /// Its name in a query.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Websocket => "websocket",
        }
    }
}

impl FromStr for TransportType {
    type Err = UnknownTransport;

    fn from_str(name: &str) -> Result<Self, UnknownTransport> {
        match name {
            "polling" => Ok(Self::Polling),
            "websocket" => Ok(Self::Websocket),
            _ => Err(UnknownTransport),
        }
    }
}

impl From<TransportType> for &'static str {
    fn from(transport: TransportType) -> Self {
        transport.as_str()
    }
}

impl Serialize for TransportType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The version of Engine.IO that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolVersion {
    /// Of Socket.IO 2 and before.
    V3 = 3,
    /// Of Socket.IO 3 and later.
    V4 = 4,
}

/// Another version than those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownVersion;

impl fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such protocol version")
    }
}

impl std::error::Error for UnknownVersion {}

impl FromStr for ProtocolVersion {
    type Err = UnknownVersion;

    fn from_str(number: &str) -> Result<Self, UnknownVersion> {
        match number {
            "3" if cfg!(feature = "v3") => Ok(Self::V3),
            "4" => Ok(Self::V4),
            _ => Err(UnknownVersion),
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3 => "3",
            Self::V4 => "4",
        })
    }
}
