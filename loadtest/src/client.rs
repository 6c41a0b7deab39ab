//! One Socket.IO connection over WebSocket, as lean as it can be: the driver must not be what is slow.
//!
//! In comes where to connect; out go the server's texts. Heartbeats are answered here. Frames are
//! written when [`Client::flush`] is called, so that several may leave together. It never reconnects:
//! a connection that ends ends the run.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{FutureExt, SinkExt, StreamExt};
use http::Uri;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, Utf8Bytes},
};

use crate::packet::{Packet, parse};

/// Longest that connecting and joining may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    addr: SocketAddr,
    url: String,
}

impl Target {
    /// Finds the address of `http://host:port`, or of `http://host:port/path/` where the path is not
    /// the usual `/socket.io/`.
    pub(crate) async fn find(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("--target {url}"))?;
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            Some(_) | None => bail!("--target {url}: written as http://host:port"),
        }
        let host = uri.host().ok_or_else(|| anyhow!("--target {url}: no host"))?;
        let port = uri.port_u16().unwrap_or(80);
        let mut found = lookup_host((host.trim_matches(['[', ']']), port)).await?;
        let addr = found.next().ok_or_else(|| anyhow!("--target {url}: no address"))?;
        let path = if uri.path() == "/" { "/socket.io/" } else { uri.path() };
        let url = format!("ws://{host}:{port}{path}?EIO=4&transport=websocket");
        Ok(Self { addr, url })
    }
}

/// A connection that has joined its namespace.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// Connects and joins; `auth` is the JSON text of the CONNECT packet's payload, or empty.
    pub(crate) async fn connect(target: &Target, namespace: &str, auth: &str) -> Result<Self> {
        timeout(CONNECT, Self::join(target, namespace, auth))
            .await
            .map_err(|_| anyhow!("connecting took longer than {CONNECT:?}"))?
    }

    async fn join(target: &Target, namespace: &str, auth: &str) -> Result<Self> {
        let stream = TcpStream::connect(target.addr).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = client_async(target.url.as_str(), stream).await?;
        let mut client = Self { socket };
        let first = client.next().await?;
        if parse(&first) != Packet::Open {
            bail!("not an Engine.IO server: it began with {first}");
        }
        client.feed(format!("40{}{auth}", prefix(namespace))).await?;
        client.flush().await?;
        loop {
            let text = client.next().await?;
            match parse(&text) {
                Packet::Connected => return Ok(client),
                Packet::Refused(why) => bail!("not let into {namespace}: {why}"),
                Packet::Ended => bail!("the server ended the connection"),
                Packet::Open
                | Packet::Ping
                | Packet::Ack(..)
                | Packet::Event(_)
                | Packet::Other => {}
            }
        }
    }

    /// Queues a frame.
    pub(crate) async fn feed(&mut self, text: String) -> Result<()> {
        Ok(self.socket.feed(Message::text(text)).await?)
    }

    /// Writes what is queued.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        Ok(self.socket.flush().await?)
    }

    /// The next text of the server's.
    pub(crate) async fn next(&mut self) -> Result<Utf8Bytes> {
        loop {
            let message = self.socket.next().await;
            if let Some(text) = self.take(message).await? {
                return Ok(text);
            }
        }
    }

    /// The next text that is here already.
    pub(crate) async fn ready(&mut self) -> Result<Option<Utf8Bytes>> {
        while let Some(message) = self.socket.next().now_or_never() {
            if let Some(text) = self.take(message).await? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// The text of a message; signs of life are given here.
    async fn take(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<Option<Utf8Bytes>> {
        let Some(message) = message else { bail!("the server closed the connection") };
        match message? {
            Message::Text(text) if parse(&text) == Packet::Ping => {
                self.socket.send(Message::text("3")).await?;
                Ok(None)
            }
            Message::Text(text) => Ok(Some(text)),
            Message::Close(_) => bail!("the server closed the connection"),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                Ok(None)
            }
        }
    }
}

/// A namespace as it stands in a packet.
pub(crate) fn prefix(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}
