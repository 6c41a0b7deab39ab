//! The library at work: namespaces, connects, events, endings.
//!
//! Events are handed over in the task that read them, in order; the library's own way would start a
//! task for each and lose their order. The handler is in place before a connection is told that it is
//! in, so that nothing sent right after is lost.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use adapter_redis::socketio::Profile;
use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use engineioxide::{Cause, Connection, Tuning};
use serde_json::Value;
use socketioxide::{
    ParserConfig, SocketIo,
    extract::{AckSender, SocketRef, TryData},
    handler::{ConnectHandler, FromConnectParts, FromMessageParts, MessageHandler},
    service::SocketIoService,
    socket::{DisconnectReason, Socket},
};
use tower::ServiceExt;

use super::{
    Application, Arrival, Frame, Handshake, Inbound, Target,
    fabric::{Fabric, Fabrics, Missed},
};
use crate::{accept::Engine, metrics::WireMetrics, session::Session};

/// How the library is set up.
#[derive(Clone, Debug)]
pub struct WireConfig {
    /// What this pod is called: session ids begin with it.
    pub pod: String,
    /// How often a connection is asked for a sign of life.
    pub ping_interval: Duration,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
    /// How long an upgrade may take.
    pub upgrade_timeout: Duration,
    /// How long a connection may stay without a namespace.
    pub connect_timeout: Duration,
    /// Bytes of one packet, on either transport.
    pub payload_bytes: usize,
    /// Packets that may wait for one connection.
    pub outbox_packets: usize,
    /// Bytes that may wait for a connection that does not read.
    pub outbox_bytes: usize,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// How long a polling client may be without a poll.
    pub poll_timeout: Duration,
}

/// Sends frames and keeps rooms. Cheap to clone.
#[derive(Clone)]
pub struct Wire {
    pub(super) io: SocketIo<Fabric>,
    pub(super) fabrics: Fabrics,
    metrics: WireMetrics,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

/// The HTTP service that speaks Socket.IO.
#[derive(Clone)]
pub struct Service(SocketIoService<Nowhere, Fabric>);

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl Service {
    /// Answers a request to [`SERVICE_PATH`] that carries an [`Arrival`].
    pub async fn answer(&self, request: Request) -> Response {
        match self.0.clone().oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }
}

/// Where requests go that are not Socket.IO's: the edge lets none through.
#[derive(Clone, Copy, Debug)]
struct Nowhere;

impl<B> tower::Service<http::Request<B>> for Nowhere {
    type Response = Response;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<B>) -> Self::Future {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        std::future::ready(Ok(response))
    }
}

/// The path that the service answers; the edge maps the configured ones to it.
pub const SERVICE_PATH: &str = "/socket.io";

/// One connection, to be disconnected.
#[derive(Clone)]
pub struct Peer {
    socket: Weak<Socket<Fabric>>,
    engine: Arc<Engine>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peer")
    }
}

impl Peer {
    /// The peer of a session that has no connection, for tests of what needs none.
    #[cfg(test)]
    pub(crate) fn detached(engine: Arc<Engine>) -> Self {
        Self { socket: Weak::new(), engine }
    }

    /// Ends the connection in its namespace: the client does not come back by itself.
    pub fn leave(&self) {
        if let Some(socket) = self.socket.upgrade() {
            tokio::spawn(async move {
                // A full queue cannot take the packet; the transport is cut instead by whoever
                // watches the queue.
                if socket.disconnect().is_err() {
                    tracing::debug!("no room for a disconnect packet");
                }
            });
        }
    }

    /// Cuts the transport: the client reconnects, perhaps to another pod.
    pub fn cut(&self) {
        self.engine.cut();
    }

    /// The means to acknowledge the event of this number; `None` where the connection is over.
    pub fn ack(&self, id: i64) -> Option<Ack> {
        self.socket.upgrade().map(|socket| Ack { socket, id })
    }

    /// The transport's name.
    pub fn transport(&self) -> &'static str {
        if self.engine.has_stream() { "websocket" } else { "polling" }
    }

    /// The Engine.IO session below, shared by the namespaces of a connection.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// Acknowledges one event, once.
pub struct Ack {
    socket: Arc<Socket<Fabric>>,
    id: i64,
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Ack {
    /// Sends an acknowledgement of one argument, written as it is.
    pub fn send(self, wire: &Wire, argument: &impl serde::Serialize) {
        let mut nothing = socketioxide_core::Value::Bytes(Bytes::new());
        let sender =
            AckSender::<Fabric>::from_message_parts(&self.socket, &mut nothing, &Some(self.id));
        let sent = match sender {
            Ok(sender) => sender.send(argument).is_ok(),
            Err(never) => match never {},
        };
        wire.metrics.sent(1);
        if !sent {
            wire.metrics.dropped(1);
        }
    }

    /// Sends an acknowledgement of any number of arguments, with the attachments that they refer to.
    pub fn send_all(self, wire: &Wire, args: &[Value], binaries: &[Bytes]) {
        if let Some(fabric) = wire.fabric(self.socket.ns()) {
            let missed = fabric.acknowledge(self.socket.id, self.id, Frame::ack(args, binaries));
            wire.count(missed);
        }
    }
}

/// The library's socket itself, which its own extractor keeps to itself.
struct Shared(Arc<Socket<Fabric>>);

impl FromConnectParts<Fabric> for Shared {
    type Error = Infallible;

    fn from_connect_parts(
        socket: &Arc<Socket<Fabric>>,
        _: &Option<socketioxide_core::Value>,
    ) -> Result<Self, Infallible> {
        Ok(Self(socket.clone()))
    }
}

struct Dispatch {
    session: Arc<Session>,
    application: Arc<dyn Application>,
}

struct Raw;

impl MessageHandler<Fabric, Raw> for Dispatch {
    fn call(&self, socket: Arc<Socket<Fabric>>, value: socketioxide_core::Value, ack: Option<i64>) {
        let inbound = decode(value).map(|(event, args, binaries)| Inbound {
            event,
            args,
            binaries,
            ack: ack.map(|id| Ack { socket, id }),
        });
        self.application.event(&self.session, inbound);
    }
}

/// The event's name, which may be a number, and its arguments.
fn decode(value: socketioxide_core::Value) -> Option<(String, Vec<Value>, Vec<Bytes>)> {
    let socketioxide_core::Value::Str(text, attachments) = value else { return None };
    let mut args: Vec<Value> = serde_json::from_str(text.as_str()).ok()?;
    if args.is_empty() {
        return None;
    }
    let event = match args.remove(0) {
        Value::String(name) => name,
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Some((event, args, attachments.map(Vec::from).unwrap_or_default()))
}

/// Why a connection was not let in, in the words that its `connect_error` carries.
pub(super) struct Rejected(pub(super) String);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Wire {
    /// Sets the library up; nothing is served until [`Wire::serve`] names the namespaces.
    pub fn new(config: &WireConfig, metrics: WireMetrics) -> (Self, Service) {
        Self::over(config, Fabrics::default(), metrics)
    }

    pub(super) fn over(
        config: &WireConfig,
        fabrics: Fabrics,
        metrics: WireMetrics,
    ) -> (Self, Service) {
        // One packet of the largest kind must fit, and another behind it.
        let outbox_bytes = config.outbox_bytes.max(2 * config.payload_bytes);
        let parser = ParserConfig::common()
            .max_incoming_binary_buf_size(config.payload_bytes)
            .max_incoming_binaries(1000);
        let builder = tuning(config, outbox_bytes).apply(SocketIo::builder);
        let (service, io) = builder
            .req_path(SERVICE_PATH)
            .ping_interval(config.ping_interval)
            .ping_timeout(config.ping_timeout)
            .upgrade_timeout(config.upgrade_timeout)
            .connect_timeout(config.connect_timeout)
            .max_buffer_size(config.outbox_packets)
            .max_payload(u64::try_from(config.payload_bytes).unwrap_or(u64::MAX))
            .ws_max_message_size(config.payload_bytes)
            .ws_max_frame_size(config.payload_bytes)
            .with_parser(parser)
            .with_adapter::<Fabric>(fabrics.clone())
            .build_with_inner_svc(Nowhere);
        (Self { io, fabrics, metrics }, Service(service))
    }

    /// Serves a namespace.
    pub fn serve(&self, namespace: &str, application: &Arc<dyn Application>) {
        let (connect, admit, path) =
            (application.clone(), application.clone(), namespace.to_owned());
        let connected = move |socket: SocketRef<Fabric>| {
            let application = connect.clone();
            async move {
                if let Some(session) = socket.extensions.get::<Arc<Session>>() {
                    application.connected(&session);
                }
            }
        };
        let middleware = move |Shared(socket): Shared, TryData(auth): TryData<Value>| {
            let (application, namespace) = (admit.clone(), path.clone());
            async move { let_in(&application, &namespace, &socket, auth.ok()).await }
        };
        self.io.ns(namespace.to_owned(), connected.with(middleware));
    }

    pub(super) fn fabric(&self, namespace: &str) -> Option<Arc<Fabric>> {
        self.fabrics.get(namespace)
    }

    fn count(&self, missed: Missed) {
        self.metrics.sent(1);
        self.metrics.dropped(missed.full);
    }

    /// Sends a frame to the target's members, those of this pod first.
    pub fn send(&self, namespace: &str, target: &Target, frame: Frame, volatile: bool) {
        if target.is_nobody() {
            return;
        }
        let Some(fabric) = self.fabric(namespace) else { return };
        let only = match target.rooms.as_slice() {
            [room] if !target.all && !volatile && target.except.is_empty() => room.parse().ok(),
            _ => None,
        };
        let missed = match only {
            Some(sid) if self.is_connection(namespace, &target.rooms[0]) => {
                fabric.send_one(sid, frame)
            }
            Some(_) | None => {
                let begun = Instant::now();
                let missed = fabric.send(target, frame, volatile);
                self.metrics.delivered(begun.elapsed());
                missed
            }
        };
        self.count(missed);
    }

    /// Sends a frame to this pod's members of the target only.
    pub fn send_here(&self, namespace: &str, target: &Target, frame: Frame, volatile: bool) {
        let Some(fabric) = self.fabric(namespace) else { return };
        let missed = fabric.send_here(target, frame, volatile);
        self.count(missed);
    }

    /// Whether this pod has a connection of this id in the namespace.
    fn is_connection(&self, namespace: &str, sid: &str) -> bool {
        let Ok(id) = sid.parse() else { return false };
        self.io.of(namespace).is_some_and(|space| space.get_socket(id).is_some())
    }

    /// Introduces a connection of this pod to the cluster. It is reached by its id from anywhere when
    /// what is given is over.
    #[must_use = "other pods reach it later"]
    pub fn attach(
        &self,
        namespace: &str,
        sid: &str,
        profile: Profile,
    ) -> impl Future<Output = ()> + Send + use<> {
        let attaching = match (self.fabric(namespace), sid.parse()) {
            (Some(fabric), Ok(id)) => Some(fabric.attach(id, profile)),
            _ => None,
        };
        async move {
            if let Some(attaching) = attaching {
                attaching.await;
            }
        }
    }

    /// Puts a connection of this pod into a room, at once. Whatever any pod sends to that room arrives
    /// from the moment on when what is given is over.
    #[must_use = "what other pods send to the room may not arrive yet"]
    pub fn join(
        &self,
        namespace: &str,
        sid: &str,
        room: &str,
    ) -> impl Future<Output = ()> + Send + use<> {
        let joining = match (self.fabric(namespace), sid.parse()) {
            (Some(fabric), Ok(id)) => Some(fabric.join(id, room)),
            _ => None,
        };
        async move {
            if let Some(joining) = joining {
                joining.await;
            }
        }
    }

    /// Takes a connection of this pod out of a room.
    pub fn leave(&self, namespace: &str, sid: &str, room: &str) {
        if let (Some(fabric), Ok(id)) = (self.fabric(namespace), sid.parse()) {
            fabric.leave(id, room);
        }
    }

    /// Takes a connection of this pod out of all of its rooms, its own included.
    pub fn leave_all(&self, namespace: &str, sid: &str) {
        if let (Some(fabric), Ok(id)) = (self.fabric(namespace), sid.parse()) {
            fabric.leave_all(id);
        }
    }

    /// The connections of this pod that a target means.
    pub fn members(&self, namespace: &str, target: &Target) -> Vec<String> {
        if target.is_nobody() {
            return Vec::new();
        }
        self.fabric(namespace).map_or_else(Vec::new, |fabric| fabric.members(target))
    }
}

async fn let_in(
    application: &Arc<dyn Application>,
    namespace: &str,
    socket: &Arc<Socket<Fabric>>,
    auth: Option<Value>,
) -> Result<(), Rejected> {
    let parts = socket.req_parts();
    let Some(arrival) = parts.extensions.get::<Arrival>().cloned() else {
        return Err(Rejected("Not allowed".to_owned()));
    };
    let authorization = parts
        .headers
        .get(http::header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let handshake = Handshake {
        sid: socket.id.to_string(),
        auth,
        authorization,
        ip: arrival.ip,
        traceparent: arrival.traceparent,
        peer: Peer { socket: Arc::downgrade(socket), engine: arrival.engine },
    };
    let session = application.admit(namespace, handshake).await.map_err(Rejected)?;
    let lost = Arc::downgrade(socket);
    session.peer.engine.when_lost(move || {
        if let Some(socket) = lost.upgrade() {
            tokio::spawn(async move { socket.disconnect().ok() });
        }
    });
    socket.extensions.insert(session.clone());
    socket.on_fallback(Dispatch { session: session.clone(), application: application.clone() });
    let application = application.clone();
    let below = parts.extensions.get::<Connection>().cloned();
    socket.on_disconnect(move |reason: DisconnectReason| {
        let (application, session) = (application.clone(), session.clone());
        let cause = below.as_ref().and_then(Connection::ended);
        async move { application.disconnected(&session, label(reason, cause)).await }
    });
    Ok(())
}

/// How much may wait for a client in the engine, and for how long.
fn tuning(config: &WireConfig, outbox_bytes: usize) -> Tuning {
    Tuning {
        pod: config.pod.clone().into(),
        queue_bytes: outbox_bytes,
        volatile_bytes: outbox_bytes / 8,
        write_timeout: config.write_timeout,
        queue_timeout: 2 * config.write_timeout,
        poll_timeout: config.poll_timeout,
        trim,
        ..Tuning::default()
    }
}

/// Of a request's extensions a session keeps who arrived, and not what holds the request's buffers.
fn trim(extensions: &mut http::Extensions) {
    let arrival = extensions.remove::<Arrival>();
    extensions.clear();
    if let Some(arrival) = arrival {
        extensions.insert(arrival);
    }
}

/// Why a connection ended: what the engine says, where the library has no word for it.
const fn label(reason: DisconnectReason, cause: Option<Cause>) -> &'static str {
    match cause {
        Some(Cause::SlowConsumer | Cause::WriteTimeout | Cause::PollTimeout) => {
            return "slow_consumer";
        }
        Some(Cause::Flood) => return "flood",
        Some(_) | None => {}
    }
    match reason {
        DisconnectReason::TransportClose => "transport_close",
        DisconnectReason::MultipleHttpPollingError => "multiple_polls",
        DisconnectReason::PacketParsingError => "bad_packet",
        DisconnectReason::TransportError => "transport_error",
        DisconnectReason::HeartbeatTimeout => "ping_timeout",
        DisconnectReason::ClientNSDisconnect => "client",
        DisconnectReason::ServerNSDisconnect => "server",
        DisconnectReason::ClosingServer => "shutdown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> socketioxide_core::Value {
        socketioxide_core::Value::Str(text.to_owned().into(), None)
    }

    #[test]
    fn reads_names_and_arguments() {
        let cases = [
            ("plain", r#"["e",1,{"a":2}]"#, Some(("e", 2))),
            ("no arguments", r#"["e"]"#, Some(("e", 0))),
            ("a number", "[5,1]", Some(("5", 1))),
            ("empty", "[]", None),
            ("no name", "[null]", None),
            ("no array", r#"{"e":1}"#, None),
            ("cut", r#"["e",1"#, None),
        ];
        for (name, json, want) in cases {
            let got = decode(text(json)).map(|(event, args, _)| (event, args.len()));
            assert_eq!(got, want.map(|(event, args)| (event.to_owned(), args)), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_not(json in "\\PC{0,200}") {
            let _ = decode(text(&json));
        }
    }
}
