//! Connections come in here: sockets, hosts, origins, counts, and the ids that are credentials.
//!
//! In come TCP streams and HTTP requests; out go the requests that may reach Socket.IO, each with an
//! [`Arrival`](crate::wire::Arrival) that says whose it is. What is refused is refused here, before
//! anything is kept for it: 400, 403, 429 or 503. It never reads an event.

mod edge;
mod engine;
mod frames;
mod query;
mod stream;

pub use edge::{Edge, EdgeConfig};
pub use engine::{Engine, Engines, Full};
pub use stream::{Connection, Control, Pace, Tcp};
