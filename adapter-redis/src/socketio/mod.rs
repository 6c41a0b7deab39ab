//! The Socket.IO adapter: one namespace over many pods, ours and Node's.
//!
//! In come packets of this pod and messages of Redis; out go frames to local members and messages to
//! Redis, in the wire format of Node's classic `@socket.io/redis-adapter`. What is local never waits for
//! Redis. Where Redis is away, the others are not reached, and that is counted; on its return everything is
//! subscribed to again.
//!
//! ```text
//!            ┌ local members, first                     ┌ Hooks, if somebody else changed something
//! send ──────┤                                          │
//!            └ wire ── Outbox ── PUBLISH ─┐   ┌─ requests, python ── local members
//!                                        Redis
//! join ── Members ── Table ── SUBSCRIBE ─┘   └─ wire ── local members
//! ```
//!
//! A pod is subscribed to the channels of its namespaces and of the rooms that it hosts, and to no other.
//! The Socket.IO layer does not tell its adapter who joins: joins and leaves go through
//! [`RedisAdapter::join`], [`RedisAdapter::leave`] and [`RedisAdapter::leave_all`], and every connection is
//! introduced by [`RedisAdapter::attach`].

mod config;
mod counters;
pub(crate) mod channels;
mod time;
mod msgpack;
mod wire;
pub(crate) mod witness;
mod dialer;
mod publish;
mod table;
mod subscribe;
mod feed;
mod census;
mod members;
mod ask;
mod hooks;
mod requests;
mod orders;
mod python;
mod adapter;
mod bus;

pub use adapter::{AckStream, AskError, Reach, RedisAdapter};
pub use ask::Gathered;
pub use bus::Bus;
pub use config::{AdapterConfig, PubSub};
pub use counters::{Counters, Snapshot};
pub use hooks::{Hooks, NoHooks, Reply};
pub use members::Profile;
pub use requests::RemoteSocket;
