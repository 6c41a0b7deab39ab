//! The library at work: namespaces, connects, events, endings.
//!
//! Events are handed over in the task that read them, in order; the library's own way would start a
//! task for each and lose their order. The handler is in place before a connection is told that it is
//! in, so that nothing sent right after is lost.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use adapter_redis::socketio::Profile;
use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use engineioxide::{Cause, Connection, Pace, Stats, TransportType, Tuning};
use serde_json::Value;
use socketioxide::{
    ParserConfig, SocketIo,
    extract::{SocketRef, TryData},
    handler::{ConnectHandler, FromConnectParts, MessageHandler},
    service::SocketIoService,
    socket::{DisconnectReason, Socket},
};
use tower::ServiceExt;

use super::{
    Ack, Application, Arrival, Frame, Handshake, Inbound, Peer, Target,
    fabric::{Fabric, Fabrics, Missed},
};
use crate::{
    metrics::{Transports, WireMetrics},
    session::Session,
};

/// A polling client polls again at once; one that has not for this long is gone, and what it held must
/// be free within 10 seconds.
const POLL_AGAIN: Duration = Duration::from_secs(7);

/// How the library is set up.
#[derive(Clone, Debug)]
pub struct WireConfig {
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
    /// Bytes that may wait for one connection.
    pub outbox_bytes: usize,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// How long a packet may wait for a connection.
    pub queue_timeout: Duration,
    /// Packets that a connection may send, in the long run; 0 is any number.
    pub packets_per_second: u32,
    /// And at once.
    pub packets_burst: u32,
    /// A connection is cut after this many too many within 10 seconds; 0: never.
    pub excesses: u32,
    /// The pod's name, with which its session ids begin.
    pub pod: String,
}

/// Sends frames and keeps rooms. Cheap to clone.
#[derive(Clone)]
pub struct Wire {
    pub(super) io: SocketIo<Fabric>,
    pub(super) fabrics: Fabrics,
    pub(super) metrics: WireMetrics,
    stats: Arc<Stats>,
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
        let parser = ParserConfig::common()
            .max_incoming_binary_buf_size(config.payload_bytes)
            .max_incoming_binaries(1000);
        let stats = Arc::default();
        let builder = tuning(config, &stats).apply(SocketIo::builder);
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
        (Self { io, fabrics, metrics, stats }, Service(service))
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

    /// What the engine below counts.
    pub fn transports(&self) -> Transports {
        let stats = &self.stats;
        let (polling, websocket) = (TransportType::Polling, TransportType::Websocket);
        Transports {
            open: [("polling", stats.open(polling)), ("websocket", stats.open(websocket))],
            bytes: [("in", stats.bytes_in()), ("out", stats.bytes_out())],
            packets: [("in", stats.packets_in()), ("out", stats.packets_out())],
            dropped: [("volatile", stats.volatile_dropped()), ("reliable", stats.dropped())],
            upgrades: [("done", stats.upgrades()), ("failed", stats.upgrades_failed())],
            ended: Cause::ALL.iter().map(|cause| (cause.code(), stats.ended(*cause))).collect(),
            high_water: stats.high_water(),
        }
    }

    pub(super) fn count(&self, missed: Missed) {
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
        self.count(fabric.send_here(target, frame, volatile));
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
    let below = parts.extensions.get::<Connection>().cloned();
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
        peer: Peer { socket: Arc::downgrade(socket), below: below.clone() },
    };
    let session = application.admit(namespace, handshake).await.map_err(Rejected)?;
    socket.extensions.insert(session.clone());
    socket.on_fallback(Dispatch { session: session.clone(), application: application.clone() });
    let application = application.clone();
    socket.on_disconnect(move |reason: DisconnectReason| {
        let (application, session) = (application.clone(), session.clone());
        let cause = below.as_ref().and_then(Connection::ended);
        async move { application.disconnected(&session, label(reason, cause)).await }
    });
    Ok(())
}

/// What the engine bounds.
fn tuning(config: &WireConfig, stats: &Arc<Stats>) -> Tuning {
    // One packet of the largest kind must fit, and another behind it.
    let queue_bytes = config.outbox_bytes.max(2 * config.payload_bytes);
    let packets = NonZeroU32::new(config.packets_per_second).filter(|_| config.excesses > 0);
    Tuning {
        pod: config.pod.clone().into(),
        queue_bytes,
        volatile_bytes: queue_bytes / 8,
        write_timeout: config.write_timeout,
        queue_timeout: config.queue_timeout,
        poll_timeout: config.write_timeout.min(POLL_AGAIN),
        packets: packets.map(|per_second| Pace { per_second, burst: config.packets_burst }),
        excesses: config.excesses,
        trim,
        stats: stats.clone(),
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
