//! The words that the engine and the Socket.IO layer above it share: the public id of a connection,
//! text that is shared by its receivers, protocol versions, transports.
//!
//! Nothing here reads a socket, waits, or keeps state.

mod protocol;
mod sid;
mod text;

pub use protocol::{ProtocolVersion, TransportType, UnknownTransport, UnknownVersion};
pub use sid::{Sid, SidDecodeError};
pub use text::Str;
