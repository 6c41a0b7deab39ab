//! The application behind the wire: connections are let in, their events handled, their ends noticed.
//!
//! ```text
//! admit: token → identity → counts → session          disconnected: what it held ends
//! event: its bucket → its line → gate → steps → ack
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::{
    action::{self, Incoming, Reply},
    clock,
    contract::AuthMode,
    core::Core,
    gate,
    mount::Mounted,
    refusal::{Code, Refusal},
    session::{Bucket, Credential, Due, Identity, Session},
    trace,
    wire::{Ack, Application, Handshake, Inbound, Profile, Target, user_room},
};

/// A connection with the id of one that is just ending waits for it this long.
const FORMER: Duration = Duration::from_secs(5);

/// A connection that was let in has this long to begin.
const BEGIN: Duration = Duration::from_secs(30);

/// Lets connections in and handles what they send.
#[derive(Clone, Debug)]
pub struct Door(pub Arc<Core>);

/// What a token is to a handshake.
enum Token<'t> {
    Absent,
    Bad,
    Given(&'t str),
}

/// The token of `auth.token`, else of the `Authorization` header.
fn token(handshake: &Handshake) -> Token<'_> {
    match handshake.auth.as_ref().and_then(|auth| auth.get("token")) {
        Some(Value::String(token)) if !token.is_empty() => return Token::Given(token),
        Some(Value::Null) | None => {}
        Some(_) => return Token::Bad,
    }
    let header = handshake.authorization.as_deref().unwrap_or_default();
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Token::Given(token.trim())
        }
        Some(_) | None => Token::Absent,
    }
}

impl Door {
    async fn identify(&self, mount: &Mounted, handshake: &Handshake) -> Result<Identity, String> {
        let token = match token(handshake) {
            Token::Given(token) => token,
            Token::Bad => return Err("Invalid or expired token".to_owned()),
            Token::Absent if mount.served().auth == AuthMode::Required => {
                let named = handshake.auth.as_ref().is_some_and(|auth| auth.get("token").is_some());
                let text =
                    if named { "Invalid or expired token" } else { "Authentication required" };
                return Err(text.to_owned());
            }
            Token::Absent => return Ok(Identity::default()),
        };
        let claims = self.0.verifier.verify(token).await.map_err(|error| {
            tracing::debug!(%error, "a token is refused");
            error.to_string()
        })?;
        Ok(Identity {
            user: Some(claims.user),
            roles: claims.roles,
            credential: Credential::Token,
            expires_at: claims.expires_at,
        })
    }

    /// Who it is, whether there is room, and its place among the sessions.
    async fn let_in(&self, namespace: &str, handshake: Handshake) -> Result<Arc<Session>, String> {
        let core = &self.0;
        let mount = core.mount(namespace).ok_or_else(|| "Invalid namespace".to_owned())?;
        let refused = |outcome: &'static str, text: String| {
            core.metrics.connect(outcome);
            text
        };
        let identity = self.identify(mount, &handshake).await;
        let identity = identity.map_err(|text| refused("token", text))?;
        let former = self.former(mount, &handshake.sid).await;
        former.map_err(|text| refused("former", text))?;
        let limits = core.limits.load();
        let bucket = Bucket::new(
            limits.connection.events_per_second,
            limits.connection.burst,
            Instant::now(),
        );
        let session = Arc::new(Session::new(
            &handshake.sid,
            mount.clone(),
            handshake.ip,
            handshake.peer,
            identity,
            bucket,
            limits.waiting_events,
        ));
        if action::welcome(core, &session).await.is_err() {
            return Err(refused("too_many", "Too many connections".to_owned()));
        }
        core.metrics.connect("accepted");
        core.metrics.sessions(1);
        mount.sessions.insert(session.clone());
        // Whoever is told of the connection may send to it, from the moment that it is told itself.
        let wire = core.fanout.wire();
        let attached = wire.attach(namespace, &session.sid, profile(core, &session));
        let user = session.identity().user.as_ref().map(|user| user_room(&user.id));
        let joined = user.map(|room| wire.join(namespace, &session.sid, &room));
        attached.await;
        if let Some(joined) = joined {
            joined.await;
        }
        core.expiries.at(SystemTime::now() + BEGIN, Due::Begun, namespace, &session.sid);
        tracing::debug!(parent: &session.span, namespace, "connected");
        Ok(session)
    }

    /// Waits for a former connection of the same id, which is about to end.
    async fn former(&self, mount: &Mounted, sid: &str) -> Result<(), String> {
        let Some(former) = mount.sessions.find(sid) else { return Ok(()) };
        tokio::time::timeout(FORMER, former.until_gone()).await.map_err(|_| "Try again".to_owned())
    }

    /// Charges the connection's bucket; what is over it is refused, and too much of that ends it.
    fn charge(&self, session: &Arc<Session>) -> Result<(), Refusal> {
        let now = Instant::now();
        let Err(retry_after) = session.charge(1, now) else { return Ok(()) };
        if session.flooding(self.0.limits.load().disconnect_after, now) && session.flood_out() {
            tracing::info!(sid = %session.sid, "disconnecting a flooding client");
            self.0.metrics.flooded();
            session.peer.cut_flood();
        }
        Err(Refusal::rate_limited(retry_after))
    }

    fn refuse(&self, session: &Arc<Session>, event: &str, ack: Option<Ack>, refusal: Refusal) {
        self.0.metrics.refused(refusal.code);
        let asked = ack.is_some();
        if let Some(ack) = ack {
            ack.send(self.0.fanout.wire(), &action::negative_ack(event, &refusal));
        }
        action::send_refused(&self.0, session, event, None, &refusal.into(), asked);
    }

    async fn handle(
        self,
        session: Arc<Session>,
        inbound: Inbound,
        released: crate::session::Released,
    ) {
        let Inbound { event, args, binaries, ack } = inbound;
        let name = event.clone();
        let asked = ack.is_some();
        let incoming = Incoming { name: event, args, binaries, asked, released };
        let done = action::perform(&self.0, &session, incoming).await;
        let wire = self.0.fanout.wire();
        match done {
            Ok(done) => {
                match (ack, done.ack) {
                    (None, _) => {}
                    (Some(ack), Reply::Args(args))
                        if args.len() != 1 || !done.binaries.is_empty() =>
                    {
                        ack.send_all(wire, &args, &done.binaries);
                    }
                    (Some(ack), reply) => ack.send(wire, &reply),
                }
                if done.disconnect {
                    session.peer.leave();
                }
            }
            Err(refusal) => {
                if let Some(ack) = ack {
                    ack.send(wire, &action::negative_ack(&name, &refusal));
                }
            }
        }
    }
}

/// What servers of the cluster are told when they list connections.
fn profile(core: &Core, session: &Session) -> Profile {
    let issued = session.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Profile {
        address: session.ip.to_string(),
        secure: false,
        issued: u64::try_from(issued.as_millis()).unwrap_or(u64::MAX),
        data: json!({"user": session.user_value(), "pod": core.state.pod()}),
    }
}

#[async_trait]
impl Application for Door {
    async fn admit(&self, namespace: &str, handshake: Handshake) -> Result<Arc<Session>, String> {
        let span = trace::handshake(namespace, &handshake.sid, handshake.traceparent.as_deref());
        let admitted = self.let_in(namespace, handshake).instrument(span.clone()).await;
        span.record("outcome", admitted.as_ref().err().map_or("accepted", String::as_str));
        admitted
    }

    fn connected(&self, session: &Arc<Session>) {
        if !session.open() {
            return;
        }
        let (core, begun) = (self.0.clone(), session.clone());
        let first = async move { action::on_connect(&core, &begun).await };
        session.line.open(&self.0.tasks, first.instrument(session.span.clone()));
    }

    fn event(&self, session: &Arc<Session>, inbound: Option<Inbound>) {
        let charged = self.charge(session);
        let Some(inbound) = inbound else {
            let refusal = Refusal::new(
                Code::BadPayload,
                "not an event: a JSON array that begins with a name",
            );
            self.refuse(session, "", None, charged.err().unwrap_or(refusal));
            return;
        };
        // Refusals keep their place in line as well: acks leave in the order of their events.
        let (door, of) = (self.clone(), session.clone());
        let mut waiting = Some(inbound);
        let added = session.line.add(&self.0.tasks, |released| {
            let inbound = waiting.take();
            async move {
                match (inbound, charged) {
                    (Some(inbound), Ok(())) => {
                        let span = of.span.clone();
                        door.handle(of, inbound, released).instrument(span).await;
                    }
                    (Some(inbound), Err(refusal)) => {
                        door.refuse(&of, &inbound.event, inbound.ack, refusal);
                    }
                    (None, _) => {}
                }
            }
        });
        if added.is_err()
            && let Some(inbound) = waiting
        {
            let refusal = Refusal::rate_limited(Duration::from_secs(1));
            self.refuse(session, &gate::shown(&inbound.event), inbound.ack, refusal);
        }
    }

    async fn disconnected(&self, session: &Arc<Session>, reason: &'static str) {
        if !session.end() {
            return;
        }
        let tasks = &self.0.tasks;
        if session.open() {
            session.line.open(tasks, async {});
        }
        let (gone, over) = oneshot::channel::<()>();
        let (core, ended) = (self.0.clone(), session.clone());
        session.line.last(tasks, async move {
            core.fanout.wire().leave_all(&ended.mount.namespace, &ended.sid);
            action::depart(&core, &ended).await;
            ended.mount.sessions.remove(&ended.sid);
            ended.gone();
            gone.send(()).ok();
        });
        over.await.ok();
        self.0.metrics.sessions(-1);
        self.0.metrics.disconnected(reason);
        tracing::debug!(parent: &session.span, reason, "disconnected");
    }
}

/// What is due now: proofs that end, connections that never began.
pub async fn due(door: &Door) {
    let core = &door.0;
    let now = SystemTime::now();
    for (due, namespace, sid) in core.expiries.take(now) {
        let Some(session) = core.mount(&namespace).and_then(|mount| mount.sessions.find(&sid))
        else {
            continue;
        };
        match due {
            Due::Begun if !session.is_open() => door.disconnected(&session, "never_began").await,
            Due::Begun => {}
            Due::Warning => warn(core, &session, now),
            Due::End => end(core, &session, now).await,
        }
    }
}

fn warn(core: &Core, session: &Session, now: SystemTime) {
    let identity = session.identity();
    let Some(ends) = identity.expires_at.filter(|_| identity.credential == Credential::Token)
    else {
        return;
    };
    let due = ends.checked_sub(core.expiry_warning).is_none_or(|warning| warning <= now);
    if due {
        let data = json!({"expires_at": clock::rfc3339(ends)});
        let target = Target::one(&session.sid);
        core.fanout.send(&session.mount.namespace, &target, "auth:expiring", &[data], &[], false);
    }
}

async fn end(core: &Arc<Core>, session: &Arc<Session>, now: SystemTime) {
    let identity = session.identity();
    let over = identity.expires_at.is_some_and(|ends| ends + core.leeway <= now);
    if !over {
        return;
    }
    match &identity.credential {
        Credential::Token => {
            tracing::debug!(sid = %session.sid, "the token has ended");
            session.peer.leave();
        }
        Credential::Session(id) => match core.state.read(action::SESSIONS, id).await {
            // Renewed by another of the user's connections.
            Ok(Some(_)) => {
                let again = now + Duration::from_mins(1);
                core.expiries.at(again, Due::End, &session.mount.namespace, &session.sid);
            }
            Ok(None) => action::become_anonymous(core, session).await,
            Err(error) => tracing::debug!(%error, "a session cannot be looked up"),
        },
        Credential::None => {}
    }
}
