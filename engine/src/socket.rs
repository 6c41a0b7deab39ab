//! A session as the Socket.IO layer sees it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;
pub use engineioxide_core::Sid;
use engineioxide_core::{ProtocolVersion, Str, TransportType};
use http::request::Parts;
use tokio::sync::mpsc::error::TrySendError;

use crate::{
    heartbeat::Timed,
    packet::Packet,
    session::{Due, NotSent, Session},
    sessions::{Linked, Secret},
    stats::Cause,
};

/// Why a session ended, in the words that the Socket.IO layer has for it. [`Cause`] says more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The client ended it.
    TransportClose,
    /// The client polled twice at a time.
    MultipleHttpPollingError,
    /// The client sent what cannot be read.
    PacketParsingError,
    /// The transport failed, or the client did not read.
    TransportError,
    /// The client gave no sign of life.
    HeartbeatTimeout,
    /// This side ended it.
    ClosingServer,
}

impl From<Cause> for DisconnectReason {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Client => Self::TransportClose,
            Cause::Server => Self::ClosingServer,
            Cause::Heartbeat => Self::HeartbeatTimeout,
            Cause::Broken
            | Cause::SlowConsumer
            | Cause::WriteTimeout
            | Cause::PollTimeout
            | Cause::Flood => Self::TransportError,
            Cause::BadPacket => Self::PacketParsingError,
            Cause::Overlap => Self::MultipleHttpPollingError,
        }
    }
}

/// What a session needs of its engine.
pub(crate) trait Keeper<D: Default + Send + Sync + 'static>: Send + Sync {
    /// It has ended; told once.
    fn ended(&self, socket: Arc<Socket<D>>, reason: DisconnectReason);

    /// It is not found any more.
    fn forget(&self, secret: Secret);
}

/// A session.
pub struct Socket<D: Default + Send + Sync + 'static> {
    /// The connection's public id. It is not the id by which the client polls.
    pub id: Sid,
    /// The version of the protocol that the client speaks.
    pub protocol: ProtocolVersion,
    /// The request that began the session, without what only its transport needed.
    pub req_parts: Parts,
    /// What the layer above keeps with it.
    pub data: D,
    secret: Secret,
    session: Session,
    keeper: Weak<dyn Keeper<D>>,
    me: Weak<Self>,
}

impl<D: Default + Send + Sync + 'static> fmt::Debug for Socket<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.id)
            .field("protocol", &self.protocol)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// A place for one message. It is the queue's promise as of now: where others fill the queue before
/// the message is sent, the session is closed as one that reads too slowly.
#[must_use = "a place that is not used is no message"]
pub struct Permit<'a> {
    session: &'a dyn Places,
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// Where a [`Permit`] puts its message.
trait Places {
    fn put(&self, first: Packet, attachments: VecDeque<Bytes>);
}

impl<D: Default + Send + Sync + 'static> Places for Socket<D> {
    fn put(&self, first: Packet, attachments: VecDeque<Bytes>) {
        let attached = attachments.into_iter().map(Packet::Binary);
        self.give(std::iter::once(first).chain(attached)).ok();
    }
}

impl Permit<'_> {
    /// Sends text.
    pub fn emit(self, message: Str) {
        self.session.put(Packet::Message(message), VecDeque::new());
    }

    /// Sends bytes.
    pub fn emit_binary(self, data: Bytes) {
        self.session.put(Packet::Binary(data), VecDeque::new());
    }

    /// Sends text and the attachments that belong to it, one behind the other.
    pub fn emit_many(self, message: Str, attachments: VecDeque<Bytes>) {
        self.session.put(Packet::Message(message), attachments);
    }

    /// Sends bytes and the attachments that belong to them, one behind the other.
    pub fn emit_many_binary(self, data: Bytes, attachments: Vec<Bytes>) {
        self.session.put(Packet::Binary(data), attachments.into());
    }
}

impl<D: Default + Send + Sync + 'static> Socket<D> {
    pub(crate) fn new(
        session: Session,
        req_parts: impl FnOnce(Weak<dyn Linked>) -> Parts,
        keeper: Weak<dyn Keeper<D>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            id: Sid::new(),
            protocol: session.protocol,
            req_parts: req_parts(me.clone()),
            data: D::default(),
            secret: Secret::new(),
            session,
            keeper,
            me: me.clone(),
        })
    }

    pub(crate) const fn secret(&self) -> Secret {
        self.secret
    }

    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    /// What carries it now.
    pub fn transport_type(&self) -> TransportType {
        self.session.transport()
    }

    /// A place for one message.
    ///
    /// # Errors
    /// The session has ended, or ends now since its client reads too slowly.
    pub fn reserve(&self) -> Result<Permit<'_>, TrySendError<()>> {
        match self.session.reserve() {
            Ok(()) => Ok(Permit { session: self }),
            Err(NotSent::Ended) => Err(TrySendError::Closed(())),
            Err(NotSent::Full) => {
                self.end(Cause::SlowConsumer);
                Err(TrySendError::Full(()))
            }
        }
    }

    fn give(&self, packets: impl IntoIterator<Item = Packet>) -> Result<(), NotSent> {
        let sent = self.session.send(packets);
        if sent == Err(NotSent::Full) {
            self.session.shared().config.tuning.stats.gave_up(1);
            self.end(Cause::SlowConsumer);
        }
        sent
    }

    /// Sends text.
    ///
    /// # Errors
    /// As [`Socket::reserve`], with the text.
    pub fn emit(&self, message: impl Into<Str>) -> Result<(), TrySendError<Str>> {
        let message = message.into();
        match self.give([Packet::Message(message.clone())]) {
            Ok(()) => Ok(()),
            Err(NotSent::Full) => Err(TrySendError::Full(message)),
            Err(NotSent::Ended) => Err(TrySendError::Closed(message)),
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// As [`Socket::reserve`], with the bytes.
    pub fn emit_binary(&self, data: impl Into<Bytes>) -> Result<(), TrySendError<Bytes>> {
        let data = data.into();
        match self.give([Packet::Binary(data.clone())]) {
            Ok(()) => Ok(()),
            Err(NotSent::Full) => Err(TrySendError::Full(data)),
            Err(NotSent::Ended) => Err(TrySendError::Closed(data)),
        }
    }

    /// Sends text that may be dropped where more waits for the client; whether it was taken.
    pub fn emit_volatile(&self, message: impl Into<Str>) -> bool {
        self.session.send_volatile([Packet::Message(message.into())])
    }

    /// Sends bytes that may be dropped where more waits for the client; whether they were taken.
    pub fn emit_binary_volatile(&self, data: impl Into<Bytes>) -> bool {
        self.session.send_volatile([Packet::Binary(data.into())])
    }

    /// Sends text and its attachments, which may be dropped together; whether they were taken.
    pub fn emit_many_volatile(&self, message: Str, attachments: VecDeque<Bytes>) -> bool {
        let attached = attachments.into_iter().map(Packet::Binary);
        self.session.send_volatile(std::iter::once(Packet::Message(message)).chain(attached))
    }

    /// Ends the session. What waits leaves first where this side ends it.
    pub fn close(&self, reason: DisconnectReason) {
        let cause = match reason {
            DisconnectReason::TransportClose | DisconnectReason::ClosingServer => Cause::Server,
            DisconnectReason::MultipleHttpPollingError => Cause::Overlap,
            DisconnectReason::PacketParsingError => Cause::BadPacket,
            DisconnectReason::TransportError => Cause::Broken,
            DisconnectReason::HeartbeatTimeout => Cause::Heartbeat,
        };
        self.end_as(cause, reason);
    }

    /// Ends the session, once.
    pub(crate) fn end(&self, cause: Cause) {
        self.end_as(cause, cause.into());
    }

    fn end_as(&self, cause: Cause, reason: DisconnectReason) {
        let Some(forget) = self.session.end(cause) else { return };
        #[cfg(feature = "tracing")]
        tracing::debug!(session.id = %self.id, cause = cause.code(), "session ended");
        let (Some(keeper), Some(me)) = (self.keeper.upgrade(), self.me.upgrade()) else { return };
        if forget {
            keeper.forget(self.secret);
        }
        keeper.ended(me, reason);
    }

    /// It is found no more.
    pub(crate) fn forget(&self) {
        if let Some(keeper) = self.keeper.upgrade() {
            keeper.forget(self.secret);
        }
    }

    /// Whether it has ended, so that nothing more is taken.
    pub fn is_closed(&self) -> bool {
        self.session.ended().is_some()
    }

    /// Waits until it has ended and nothing carries it any more.
    pub async fn closed(&self) {
        self.session.until_gone().await;
    }
}

impl<D: Default + Send + Sync + 'static> Timed for Socket<D> {
    fn due(self: Arc<Self>, now: u64) -> Option<u64> {
        match self.session.due(now) {
            Due::Again(at) => return Some(at),
            Due::End(cause) => self.end(cause),
            Due::Forget => self.forget(),
        }
        None
    }
}

impl<D: Default + Send + Sync + 'static> Linked for Socket<D> {
    fn end(&self, cause: Cause) {
        Self::end(self, cause);
    }

    fn ended(&self) -> Option<Cause> {
        self.session.ended()
    }

    fn queued(&self) -> usize {
        self.session.queued()
    }

    fn transport(&self) -> TransportType {
        self.session.transport()
    }
}
