//! The wire as a client sees it: HTTP, WebSocket frames, Engine.IO and Socket.IO packets.
//!
//! In come bytes that arrived; out go what they say, borrowed from them, and bytes to be sent. It does no I/O and keeps
//! no state, so that each part is a function that a test calls.

pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod mark;
pub(crate) mod packet;
