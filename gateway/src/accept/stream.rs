//! A TCP stream that can be cut from outside, and that gives up on a peer that reads no more.
//!
//! Whoever answers a request waits for as long as the peer likes; here a write that stalls for too long
//! becomes an error. A WebSocket is given up by the engine, which knows what waits for its client.

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
    time::{Duration, Instant},
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::Sleep,
};

use super::frames::Heads;
use crate::{
    config::LimitsConfig,
    metrics::EdgeMetrics,
    session::{Bucket, Flood},
};

/// A peer has this long to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// After an accept that failed for want of resources.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// The means to cut a stream.
#[derive(Debug, Default)]
pub struct Control {
    cut: AtomicBool,
    begun: AtomicBool,
    upgraded: AtomicBool,
    stalled: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Control {
    /// The stream ends now, for whoever reads or writes it.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    /// A first request came.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// What comes from now on are frames.
    pub fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

/// What a request knows of the stream that it came on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The peer.
    pub addr: SocketAddr,
    /// To cut it.
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
    pace: Pace,
    metrics: EdgeMetrics,
}

/// How many frames a connection may send.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// In the long run; 0: any number.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
    /// A connection is cut after this many too many within 10 seconds; 0: never.
    pub disconnect_after: u32,
}

/// Frames for each event that a connection may send: an event may have attachments, and is acked.
const FRAMES: u32 = 4;

impl Pace {
    /// What goes with these limits on events.
    pub const fn of(limits: &LimitsConfig) -> Self {
        Self {
            per_second: limits.connection.events_per_second.saturating_mul(FRAMES),
            burst: limits.connection.burst.saturating_mul(FRAMES),
            disconnect_after: limits.disconnect_after,
        }
    }
}

/// The frames of one WebSocket.
#[derive(Debug)]
struct Frames {
    heads: Heads,
    bucket: Bucket,
    flood: Flood,
}

impl Tcp {
    /// Listens; a write may stall for `stall`.
    pub const fn new(
        listener: TcpListener,
        stall: Duration,
        pace: Pace,
        metrics: EdgeMetrics,
    ) -> Self {
        Self { listener, stall, pace, metrics }
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
                    return (
                        Stream::new(stream, self.stall, self.pace, self.metrics.clone()),
                        addr,
                    );
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
    pace: Pace,
    frames: Option<Box<Frames>>,
    metrics: EdgeMetrics,
}

impl Stream {
    fn new(inner: TcpStream, stall: Duration, pace: Pace, metrics: EdgeMetrics) -> Self {
        let first = Some(Box::pin(tokio::time::sleep(FIRST_REQUEST)));
        let control = Arc::default();
        Self { inner, control, stall, stalled: None, first, pace, frames: None, metrics }
    }

    /// Counts the frames of a WebSocket; one that floods is cut.
    fn pace(&mut self, bytes: &[u8]) {
        let Pace { per_second, burst, disconnect_after } = self.pace;
        if per_second == 0 || bytes.is_empty() || !self.control.upgraded.load(Ordering::Acquire) {
            return;
        }
        let now = Instant::now();
        let frames = self.frames.get_or_insert_with(|| {
            let bucket = Bucket::new(per_second, burst, now);
            Box::new(Frames { heads: Heads::default(), bucket, flood: Flood::default() })
        });
        let count = frames.heads.count(bytes);
        let flooding = (0..count).any(|_| {
            frames.bucket.take(1, now).is_err() && frames.flood.count(disconnect_after, now)
        });
        if flooding {
            self.metrics.flood();
            self.control.cut();
        }
    }

    /// What a write's result means for the stall: progress ends it, waiting begins or continues it.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.caught_up();
            return result;
        }
        if !self.control.stalled.swap(true, Ordering::AcqRel) {
            self.metrics.stalled(1);
        }
        if self.control.upgraded.load(Ordering::Acquire) {
            // The engine gives up on the client of a WebSocket, and counts it.
            return Poll::Pending;
        }
        let stall = self.stall;
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.metrics.slow_consumer();
        self.control.cut();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads no more")))
    }

    /// The peer reads again, or the stream is over.
    fn caught_up(&mut self) {
        self.stalled = None;
        if self.control.stalled.swap(false, Ordering::AcqRel) {
            self.metrics.stalled(-1);
        }
    }

    fn writable(&self, context: &Context<'_>) -> io::Result<()> {
        self.control.writer.register(context.waker());
        if self.control.is_cut() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.caught_up();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.control.reader.register(context.waker());
        if self.control.is_cut() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.pace(&buffer.filled()[before..]);
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
        self.writable(context)?;
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writable(context)?;
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
