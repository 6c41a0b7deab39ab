//! Between JSON text with attachments and msgpack.
//!
//! In comes what the Socket.IO layer holds, the text of a JSON array and its binary attachments, and out
//! comes the msgpack that Node's parser would write, attachments in their places; and back. Either
//! way it is one pass without a tree in between; attachments that are read share the message's memory.
//!
//! Reading never panics, whatever the bytes, and its depth and its attachments are bounded.

mod json;
mod read;
mod write;

pub(crate) use json::{Json, escape};
pub(crate) use read::{Reader, Token};
pub(crate) use write::Writer;

/// Why a message is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Malformed {
    /// It ends too early.
    #[error("the message ends too early")]
    Truncated,
    /// Something follows it.
    #[error("bytes follow the message")]
    Trailing,
    /// It nests deeper, or holds more attachments, than is allowed.
    #[error("the message nests too deeply or holds too many attachments")]
    Excessive,
    /// It is msgpack or JSON, but not what a message consists of.
    #[error("the message has no usable {0}")]
    Shape(&'static str),
    /// It is neither msgpack nor JSON.
    #[error("the message is neither MessagePack nor JSON")]
    Unreadable,
}

#[cfg(test)]
mod tests;
