//! An Engine.IO engine under the Socket.IO layer: sessions over polling and WebSocket.
//!
//! Requests come in through [`service`]; what clients send goes out to an
//! [`EngineIoHandler`](handler::EngineIoHandler), in the order that it was sent, and what is sent to
//! them goes out in one task for each WebSocket, or with the polls. The engine knows nothing of
//! events, namespaces or rooms, but that it makes event names readable for the layer above.
//!
//! ```text
//! request ─▶ service ─▶ handshake ─┬─▶ polling ──┐
//!                                  └─▶ websocket ┴─▶ handler (the Socket.IO layer)
//!                                         ▲   ▲          │
//!                 heartbeat ─▶ session ───┘   └─ queue ◀─┘ socket
//! ```

pub mod config;
pub mod handler;
pub mod layer;
pub mod service;
pub mod socket;

mod body;
mod engine;
mod event_name;
mod frame;
mod handshake;
mod heartbeat;
mod pace;
mod packet;
mod payload;
mod polling;
mod queue;
mod session;
mod sessions;
mod stats;
mod websocket;

pub use config::Tuning;
pub use engineioxide_core::{ProtocolVersion, Str, TransportType};
pub use pace::Pace;
pub use sessions::{Connection, Sessions};
pub use socket::{DisconnectReason, Socket};
pub use stats::{Cause, Stats};
