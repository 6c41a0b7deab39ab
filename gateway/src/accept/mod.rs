//! Connections come in here: sockets, hosts, origins, addresses and counts.
//!
//! In come TCP streams and HTTP requests; out go the requests that may reach Socket.IO, each with an
//! [`Arrival`](crate::wire::Arrival) that says whose it is. What is refused is refused here, before
//! anything is kept for it: 400, 403, 429 or 503. It never reads an event.

mod admission;
mod edge;
mod stream;

pub use admission::{Admission, Full, Place};
pub use edge::{Edge, EdgeConfig};
pub use stream::{Connection, Control, Tcp};
