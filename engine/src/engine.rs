//! The engine: begins sessions, finds them, and tells the layer above when they end.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use engineioxide_core::{ProtocolVersion, Str, TransportType};
use http::request::Parts;
use tokio::runtime::Handle;

use crate::{
    config::EngineIoConfig,
    event_name::readable,
    handler::EngineIoHandler,
    handshake::keep,
    heartbeat::{Timed, Wheel},
    packet::{Packet, Received},
    session::{Session, Shared},
    sessions::{AllSessions, Connection, Secret, Table},
    socket::{DisconnectReason, Keeper, Socket},
    stats::Cause,
};

/// An engine of one handler.
pub(crate) struct Engine<H: EngineIoHandler> {
    handler: Arc<H>,
    shared: Arc<Shared>,
    pod: String,
    sessions: Table<H::Data>,
    runtime: OnceLock<Handle>,
    me: Weak<Self>,
}

impl<H: EngineIoHandler> fmt::Debug for Engine<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl<H: EngineIoHandler> Engine<H> {
    pub(crate) fn new(handler: Arc<H>, config: EngineIoConfig) -> Arc<Self> {
        let tuning = &config.tuning;
        let shortest = [
            config.ping_interval,
            config.ping_timeout,
            tuning.write_timeout,
            tuning.queue_timeout,
            tuning.poll_timeout,
        ];
        let shortest = shortest.into_iter().min().unwrap_or_default();
        let (sessions, pod) = (tuning.sessions.clone(), tuning.pod_name());
        let engine = Arc::new_cyclic(|me: &Weak<Self>| Self {
            handler,
            pod,
            shared: Arc::new(Shared { wheel: Arc::new(Wheel::new(shortest)), config }),
            sessions: Table::new(),
            runtime: OnceLock::new(),
            me: me.clone(),
        });
        let weak: Weak<dyn AllSessions> = engine.me.clone();
        sessions.of(weak);
        engine
    }

    pub(crate) const fn handler(&self) -> &Arc<H> {
        &self.handler
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The session of this id.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Socket<H::Data>>> {
        self.sessions.find(Secret::read(id, &self.pod)?)
    }

    /// The id by which the client of a session polls and upgrades.
    pub(crate) fn id(&self, socket: &Socket<H::Data>) -> String {
        socket.secret().id(&self.pod)
    }

    /// Begins a session, of which the layer above is not told yet.
    pub(crate) fn begin(
        &self,
        parts: Parts,
        protocol: ProtocolVersion,
        transport: TransportType,
        text_only: bool,
    ) -> Arc<Socket<H::Data>> {
        if let Ok(runtime) = Handle::try_current() {
            self.shared.wheel.start(self.runtime.get_or_init(|| runtime));
        }
        let session = Session::new(self.shared.clone(), protocol, transport, text_only);
        let tuning = &self.shared.config.tuning;
        let parts = |me| {
            let mut parts = keep(parts, tuning.kept_headers.as_deref());
            (tuning.trim)(&mut parts.extensions);
            parts.extensions.insert(Connection(me));
            parts
        };
        let keeper: Weak<dyn Keeper<H::Data>> = self.me.clone();
        let socket = Socket::new(session, parts, keeper);
        self.sessions.insert(socket.clone());
        self.shared.config.tuning.stats.opened(transport);
        let timed: Arc<dyn Timed> = socket.clone();
        let now = self.shared.wheel.now();
        if let Some(at) = socket.clone().due(now) {
            self.shared.wheel.insert(at, Arc::downgrade(&timed));
        }
        socket
    }

    /// Hands on what a client sent; why its session ends, if it does.
    pub(crate) fn hand_on(
        &self,
        socket: &Arc<Socket<H::Data>>,
        received: Received,
    ) -> Result<(), Cause> {
        match (received, socket.protocol) {
            (Received::Message(text), _) => {
                self.handler().on_message(Str::from(readable(text)), socket.clone());
            }
            (Received::Binary(bytes), _) => self.handler().on_binary(bytes, socket.clone()),
            (Received::Pong, ProtocolVersion::V4) => socket.session().alive(),
            (Received::Ping, ProtocolVersion::V3) => {
                socket.session().alive();
                socket.session().send([Packet::Pong]).ok();
            }
            (Received::Close, _) => return Err(Cause::Client),
            (Received::Noop | Received::Upgrade, _) => {}
            // A heartbeat in the wrong direction, and a probe of what carries the session already.
            (Received::Ping, ProtocolVersion::V4)
            | (Received::Pong, ProtocolVersion::V3)
            | (Received::Probe, _) => return Err(Cause::BadPacket),
        }
        Ok(())
    }
}

impl<H: EngineIoHandler> Keeper<H::Data> for Engine<H> {
    fn ended(&self, socket: Arc<Socket<H::Data>>, reason: DisconnectReason) {
        // Whoever ends a session may hold locks that the layer above takes to be told of it.
        let handler = self.handler.clone();
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(async move { handler.on_disconnect(socket, reason) });
        }
    }

    fn forget(&self, secret: Secret) {
        self.sessions.remove(secret);
    }
}

impl<H: EngineIoHandler> AllSessions for Engine<H> {
    fn count(&self) -> usize {
        self.sessions.len()
    }

    fn end_all(&self, cause: Cause) {
        for socket in self.sessions.all() {
            socket.end(cause);
        }
    }
}

impl<H: EngineIoHandler> Drop for Engine<H> {
    fn drop(&mut self) {
        self.shared.wheel.stop();
    }
}
