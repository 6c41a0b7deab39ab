//! One TCP stream: what arrived of it but is not whole yet, and what it would not take yet.
//!
//! In come an address and bytes; out go bytes. A link at rest holds no buffers: what is read goes through the swarm's
//! one buffer, and only a rest that is not whole is kept.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
};

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

/// Most bytes that wait for a server that does not read. One that is behind by more has failed.
const MOST_WAITING: usize = 64 << 20;

/// A buffer that is smaller is kept for the next time.
const KEPT: usize = 512;

/// A stream to a server.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Link {
    /// Begins to connect, from an address if one is named; `first` is written as soon as the server is there.
    pub(crate) fn dial(
        to: SocketAddr,
        from: Option<IpAddr>,
        first: Vec<u8>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, inbox: Vec::new(), outbox: first })
    }

    /// Reads into a buffer; `None` where nothing is there now, 0 at the end.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(into) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes now what the server takes, and keeps the rest.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.outbox.is_empty() {
            if self.outbox.len() + bytes.len() > MOST_WAITING {
                return Err(io::Error::other("the server does not read"));
            }
            self.outbox.extend_from_slice(bytes);
            return Ok(());
        }
        let taken = self.push(bytes)?;
        self.outbox.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        Ok(())
    }

    /// Writes what waits, now that the server takes more.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        if self.outbox.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.outbox);
        let taken = self.push(&waiting)?;
        if taken < waiting.len() {
            self.outbox = waiting.get(taken..).unwrap_or_default().to_vec();
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A stream that is not connected yet takes nothing, whatever the system calls it.
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Takes what was kept of what arrived before, with what arrived now behind it; `None` where nothing was kept.
    pub(crate) fn join(&mut self, fresh: &[u8]) -> Option<Vec<u8>> {
        if self.inbox.is_empty() {
            return None;
        }
        let mut all = std::mem::take(&mut self.inbox);
        all.extend_from_slice(fresh);
        Some(all)
    }

    /// Keeps what is not whole yet.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.inbox.clear();
        self.inbox.extend_from_slice(rest);
        if rest.is_empty() && self.inbox.capacity() > KEPT {
            self.inbox = Vec::new();
        }
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
