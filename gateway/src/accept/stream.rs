//! TCP streams, and what HTTP itself does not bound: a peer that says nothing, and one that takes no
//! answer.
//!
//! A stream that was upgraded is the engine's, which bounds it by its own means.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::Sleep,
};

/// A peer has this long to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// After an accept that failed for want of resources.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What the edge tells the stream that its requests come on.
#[derive(Debug, Default)]
pub struct Control {
    begun: AtomicBool,
    upgraded: AtomicBool,
}

impl Control {
    /// A first request came.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// It carries a WebSocket from now on.
    pub fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
    }
}

/// What a request knows of the stream that it came on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The peer.
    pub addr: SocketAddr,
    /// To tell the stream.
    pub control: Arc<Control>,
}

impl Connected<IncomingStream<'_, Tcp>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Tcp>) -> Self {
        Self { addr: *stream.remote_addr(), control: stream.io().control.clone() }
    }
}

/// The public listener.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
    stall: Duration,
}

impl Tcp {
    /// Listens; the write of an answer may stall for `stall`.
    pub const fn new(listener: TcpListener, stall: Duration) -> Self {
        Self { listener, stall }
    }
}

impl axum::serve::Listener for Tcp {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, addr)) => {
                    // Small frames are the rule here; waiting to fill a segment only delays them.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    return (Stream::new(stream, self.stall), addr);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// An accepted stream.
#[derive(Debug)]
pub struct Stream {
    inner: TcpStream,
    control: Arc<Control>,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    first: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    fn new(inner: TcpStream, stall: Duration) -> Self {
        let first = Some(Box::pin(tokio::time::sleep(FIRST_REQUEST)));
        Self { inner, control: Arc::default(), stall, stalled: None, first }
    }

    /// What a write's result means for the stall: progress ends it, waiting begins or continues it.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() || self.control.upgraded.load(Ordering::Acquire) {
            self.stalled = None;
            return result;
        }
        let stall = self.stall;
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no answer")))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        let begun = self.control.begun.load(Ordering::Acquire);
        if let Some(first) = &mut self.first {
            if begun {
                self.first = None;
            } else if result.is_pending() && first.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.watch(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
