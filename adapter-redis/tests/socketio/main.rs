//! The adapter in a cluster with the stock packages of npm and PyPI, on a real Redis.

mod harness;
mod broadcasts;
mod requests;
mod emitters;
mod outages;
mod subscriptions;

#[expect(dead_code, reason = "the tests of the state need more of it than these")]
#[path = "../state/harness.rs"]
mod redis_server;
