//! The engine against raw requests and frames, statement by statement of the protocol.
//!
//! Each test starts a server of its own on a free port and speaks to it over TCP, as a client does.
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod bounds;
mod handshake;
mod harness;
mod heartbeat;
mod polling;
mod upgrade;
mod version3;
mod websocket;
