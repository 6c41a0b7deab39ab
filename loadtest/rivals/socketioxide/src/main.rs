//! The plain server that the gateway is measured against: the library below it, used as its own
//! documentation shows, with one async handler for each event.
//!
//! In come the events of the load; out go acks of the gateway's size, with the time written as the
//! gateway writes it. There is no check, no limit and no state but the library's rooms.

use std::{convert::Infallible, time::SystemTime};

use anyhow::Result;
use axum::{Router, serve::ListenerExt};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
    handler::ConnectHandler as _,
};
use tokio::net::TcpListener;

/// The ack of an event.
#[derive(Debug, Serialize)]
struct Done {
    ok: bool,
    event: &'static str,
    ts: String,
}

impl Done {
    fn of(event: &'static str) -> Self {
        let ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Self { ok: true, event, ts }
    }
}

/// A payload that names a channel.
#[derive(Debug, Deserialize)]
struct Named {
    channel: String,
}

/// What is said in a channel.
#[derive(Debug, Deserialize, Serialize)]
struct Note {
    #[serde(rename = "type")]
    kind: Option<String>,
    channel: Option<String>,
    text: String,
    // The library takes no binary argument that may be absent; an empty one is.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    file: Bytes,
}

fn acknowledge(ack: AckSender, event: &'static str) {
    // It fails only where the connection has ended.
    ack.send(&Done::of(event)).ok();
}

async fn ping(ack: AckSender) {
    acknowledge(ack, "ping");
}

async fn subscribe(socket: SocketRef, Data(Named { channel }): Data<Named>, ack: AckSender) {
    socket.join(channel);
    acknowledge(ack, "subscribe");
}

async fn unsubscribe(socket: SocketRef, Data(Named { channel }): Data<Named>, ack: AckSender) {
    socket.leave(channel);
    acknowledge(ack, "unsubscribe");
}

async fn message(socket: SocketRef, Data(note): Data<Note>, ack: AckSender) {
    if let Some(channel) = note.channel.clone() {
        socket.to(channel).emit("message", &note).await.ok();
    }
    acknowledge(ack, "message");
}

/// Registers the handlers before the client hears that it is connected: the library starts a task for what follows a
/// connect, and drops events that come before that task has run.
async fn register(socket: SocketRef) -> Result<(), Infallible> {
    socket.on("ping", ping);
    socket.on("subscribe", subscribe);
    socket.on("unsubscribe", unsubscribe);
    socket.on("message", message);
    Ok(())
}

async fn connected(_: SocketRef) {}

#[tokio::main]
async fn main() -> Result<()> {
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", connected.with(register));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("ready public={}", listener.local_addr()?);
    // Small frames leave at once, as the gateway's do: what is compared is not the kernel's waiting.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("no TCP_NODELAY: {error}");
        }
    });
    axum::serve(listener, Router::new().layer(layer)).await?;
    Ok(())
}
