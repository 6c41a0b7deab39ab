//! Redis in every shape: over TLS, behind Sentinel, as a cluster, and what happens when one of those moves.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod installation;
mod two;
mod tls;
mod users;
mod sentinel;
mod cluster;
mod sharded;
mod doctor;

#[expect(dead_code, reason = "the tests of messages need more of it than these")]
#[path = "../socketio/harness.rs"]
mod harness;
#[expect(dead_code, reason = "the tests of the state need more of it than these")]
#[path = "../state/harness.rs"]
mod redis_server;
