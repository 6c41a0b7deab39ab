//! Polling: a GET waits for what is sent to the client, a POST brings what the client sends.
//!
//! There is one of each at a time. A poll that the client takes back ends the session, since what it
//! would have carried could be lost.

use std::{future::poll_fn, sync::Arc};

use bytes::Buf;
use engineioxide_core::ProtocolVersion;
use http::{HeaderMap, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;

use crate::{
    body::Answer,
    engine::Engine,
    handler::EngineIoHandler,
    handshake::Refusal,
    payload::{Packets, Payload},
    session::NotServed,
    socket::Socket,
    stats::{Cause, Traffic},
};

/// A poll in flight.
struct InFlight<'a, D: Default + Send + Sync + 'static> {
    socket: &'a Socket<D>,
    answered: bool,
}

impl<D: Default + Send + Sync + 'static> Drop for InFlight<'_, D> {
    fn drop(&mut self) {
        let last = self.socket.session().end_poll();
        if last {
            self.socket.forget();
        } else if !self.answered && self.socket.session().is_polled() {
            self.socket.end(Cause::Broken);
        }
    }
}

/// A request that is being read.
struct Reading<'a, D: Default + Send + Sync + 'static>(&'a Socket<D>);

impl<D: Default + Send + Sync + 'static> Drop for Reading<'_, D> {
    fn drop(&mut self) {
        self.0.session().end_post();
    }
}

/// What the engine does with polling requests.
impl<H: EngineIoHandler> Engine<H> {
    /// Answers a poll, once there is something to answer.
    pub(crate) async fn poll(&self, socket: Arc<Socket<H::Data>>) -> Answer {
        if let Err(refused) = socket.session().begin_poll() {
            return self.not_served(&socket, refused);
        }
        let mut poll = InFlight { socket: &socket, answered: false };
        let payload = poll_fn(|context| socket.session().answer_poll(context)).await;
        poll.answered = true;
        let sent = Traffic { packets: payload.packets, bytes: payload.body.len() as u64 };
        self.shared().config.tuning.stats.sent(sent);
        Answer::payload(payload)
    }

    /// Reads what a client sends, and hands it on.
    pub(crate) async fn post<B>(
        &self,
        socket: Arc<Socket<H::Data>>,
        headers: &HeaderMap,
        body: B,
    ) -> Answer
    where
        B: Body + Unpin,
    {
        if let Err(refused) = socket.session().begin_post() {
            return self.not_served(&socket, refused);
        }
        let _reading = Reading(&socket);
        let config = &self.shared().config;
        let most = usize::try_from(config.max_payload).unwrap_or(usize::MAX);
        let binary = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/octet-stream"));
        let body = match tokio::time::timeout(config.ping_timeout, collect(body, most)).await {
            Ok(Ok(body)) => body,
            Ok(Err(Unread::TooBig)) => return Answer::empty(StatusCode::PAYLOAD_TOO_LARGE),
            Ok(Err(Unread::Broken)) | Err(_) => {
                socket.end(Cause::Broken);
                return Answer::refusal(Refusal::BadRequest);
            }
        };
        match self.hand_on_all(&socket, &body, binary) {
            Ok(()) => Answer::ok(),
            // The client asked for it, so that is no error.
            Err(Cause::Client) => {
                socket.end(Cause::Client);
                Answer::ok()
            }
            Err(cause) => {
                socket.end(cause);
                Answer::refusal(Refusal::BadRequest)
            }
        }
    }

    /// Hands on the packets of a body; why the session ends, if it does.
    fn hand_on_all(
        &self,
        socket: &Arc<Socket<H::Data>>,
        body: &[u8],
        binary: bool,
    ) -> Result<(), Cause> {
        let mut received = Traffic { packets: 0, bytes: body.len() as u64 };
        let packets = Packets::of(body, binary, socket.protocol).map_err(|_| Cause::BadPacket)?;
        let mut end = Ok(());
        for packet in packets {
            received.packets += 1;
            end = match packet {
                Ok(packet) => self.hand_on(socket, packet),
                Err(_) => Err(Cause::BadPacket),
            };
            if end.is_err() || socket.is_closed() {
                break;
            }
        }
        self.shared().config.tuning.stats.received(received);
        end?;
        if socket.session().charge(received.packets, received.bytes) {
            return Err(Cause::Flood);
        }
        Ok(())
    }

    fn not_served(&self, socket: &Socket<H::Data>, refused: NotServed) -> Answer {
        match refused {
            NotServed::Transport => {}
            NotServed::Overlap => socket.end(Cause::Overlap),
            NotServed::Ended => return self.refuse(Refusal::UnknownSession),
        }
        self.refuse(Refusal::BadRequest)
    }

    /// Counts and answers a request that is refused.
    pub(crate) fn refuse(&self, refusal: Refusal) -> Answer {
        self.shared().config.tuning.stats.refused(refusal.code());
        Answer::refusal(refusal)
    }

    /// The answer to a handshake over polling.
    pub(crate) fn opened(open: engineioxide_core::Str, protocol: ProtocolVersion) -> Answer {
        Answer::payload(Payload::one(&crate::packet::Packet::Open(open), protocol))
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    TooBig,
    Broken,
}

/// Reads a whole body that is no longer than `most`.
async fn collect<B: Body + Unpin>(mut body: B, most: usize) -> Result<Vec<u8>, Unread> {
    if body.size_hint().lower() > most as u64 {
        return Err(Unread::TooBig);
    }
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        if all.len() + data.remaining() > most {
            return Err(Unread::TooBig);
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            all.extend_from_slice(chunk);
            let read = chunk.len();
            data.advance(read);
        }
    }
    Ok(all)
}
