//! A realtime gateway for applications that speak Socket.IO.
//!
//! ```text
//! accept → wire → door → session → gate → action ─┬→ fanout → (every pod)
//!                                                 └→ upstream → the application behind
//! ```
//!
//! Modules in reading order: first the way of an event, then the side doors, then the house.

// the way of an event
pub mod accept;
pub mod wire;
pub mod door;
pub mod identity;
pub mod session;
pub mod gate;
pub mod action;
pub mod debug;
pub mod upstream;
pub mod demo;
pub mod fanout;
pub mod cluster;

// side doors
pub mod public;
pub mod api;
pub mod admin;
pub mod watch;

// the house
pub mod gateway;
pub mod core;
pub mod mount;
mod reload;
pub mod contract;
pub mod config;
pub mod refusal;
pub mod drain;
pub mod clock;
pub mod metrics;
pub mod exposition;
pub mod telemetry;
pub mod trace;
