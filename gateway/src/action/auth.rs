//! `login`, `whoami`, `refresh`, `logout`: who a connection is, and how that changes while it lasts.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use adapter::{Denied, Kind, Place, Wish};
use serde_json::{Value, json};

use super::{
    Done, Flow, Reply, Stopped,
    announce::{announce, tell_event},
    flow::Names,
    presence, rooms,
};
use crate::{
    clock, cluster,
    contract::{Announcement, Scope, Template},
    core::Core,
    identity::User,
    refusal::{Code, Refusal},
    session::{Credential, Identity, Session},
    wire::{Target, user_room},
};

/// Where login sessions are stored.
pub const SESSIONS: &str = "sessions";

/// The event by which a fresh token is sent, in every namespace that knows tokens.
pub(super) const REFRESH: &str = "auth:refresh";

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(Code::Unauthorized, message)
}

fn place(session: &Session, user: &str) -> Place {
    let namespace = session.mount.namespace.clone();
    Place { namespace, kind: Kind::User, key: user.to_owned() }
}

/// Counts a connection as its user's, and puts it where what is for the user arrives.
///
/// # Errors
/// `LIMIT_EXCEEDED` where the user has as many connections as it may.
pub async fn welcome(core: &Arc<Core>, session: &Arc<Session>) -> Result<(), Refusal> {
    let Some(user) = session.identity().user.clone() else { return Ok(()) };
    let wish = Wish {
        place: place(session, &user.id),
        sid: session.sid.to_string(),
        holder: format!("user:{}", user.id),
        exclusive: false,
        data: json!({"actor": session.actor().to_value(), "since": clock::rfc3339(session.since)}),
        ttl: None,
        at_most: Some(core.limits.load().connections_per_user).filter(|most| *most > 0),
    };
    match core.state.hold(wish).await {
        Ok(Err(Denied::Full)) => {
            return Err(Refusal::new(
                Code::LimitExceeded,
                "as many connections as a user may have",
            ));
        }
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, "a user's connection is counted later");
            core.metrics.state_error();
        }
    }
    core.watch_expiry(session);
    Ok(())
}

/// The session is of this identity from now on.
async fn become_user(
    core: &Arc<Core>,
    session: &Arc<Session>,
    identity: Identity,
) -> Result<(), Refusal> {
    let before = session.identity();
    let same = match (&before.user, &identity.user) {
        (Some(before), Some(after)) => before.id == after.id,
        _ => false,
    };
    if !same && before.user.is_some() {
        become_anonymous(core, session).await;
    }
    let user = identity.user.clone();
    session.become_identity(identity);
    if same {
        core.watch_expiry(session);
        return Ok(());
    }
    session.unmark_present();
    if let Err(refusal) = welcome(core, session).await {
        session.become_identity(Identity::default());
        return Err(refusal);
    }
    if let Some(user) = user {
        let namespace = &session.mount.namespace;
        core.fanout.wire().join(namespace, &session.sid, &user_room(&user.id)).await;
    }
    presence::mark(core, session).await;
    Ok(())
}

/// The session is nobody's from now on: it leaves what it had joined as its user.
pub async fn become_anonymous(core: &Arc<Core>, session: &Arc<Session>) {
    leave_as_user(core, session).await;
    session.become_identity(Identity::default());
    session.unmark_present();
}

/// Leaves the rooms and ends the marks that a session has as its user.
pub async fn leave_as_user(core: &Arc<Core>, session: &Arc<Session>) {
    let Some(user) = session.identity().user.clone() else { return };
    let rooms = session.rooms();
    for room in session.take_personal() {
        rooms::leave(core, session, &room).await;
    }
    let namespace = &session.mount.namespace;
    core.fanout.wire().leave(namespace, &session.sid, &user_room(&user.id));
    for kind in [Kind::User, Kind::Status] {
        let place = Place { namespace: namespace.clone(), kind, key: user.id.clone() };
        match core.state.release(&place, Some(&session.sid), None).await {
            Ok(released) => {
                for one in &released {
                    announce(core, &session.mount, one, "logout", &rooms).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a user's marks end later");
                core.metrics.state_error();
            }
        }
    }
}

/// A stored login session, as it is looked up.
struct Stored {
    identity: Identity,
    value: Value,
    ttl: Duration,
}

async fn stored(core: &Core, id: &str) -> Result<Option<Stored>, Refusal> {
    let Some(document) = core.state.read(SESSIONS, id).await? else { return Ok(None) };
    let user = document.get("user").cloned().unwrap_or_default();
    let text = |key: &str| user.get(key).and_then(Value::as_str).map(str::to_owned);
    let Some(user_id) = text("id") else { return Ok(None) };
    let roles = user.get("roles").and_then(Value::as_array).cloned().unwrap_or_default();
    let roles: Vec<String> =
        roles.iter().filter_map(|role| role.as_str().map(str::to_owned)).collect();
    let expires_at = document
        .get("expires_at")
        .and_then(Value::as_str)
        .and_then(|text| humantime::parse_rfc3339(text).ok());
    let ttl = Duration::from_secs(document.get("ttl_s").and_then(Value::as_u64).unwrap_or(3600));
    let user = User { id: user_id, name: text("name") };
    let identity = Identity {
        user: Some(user),
        roles,
        credential: Credential::Session(id.to_owned()),
        expires_at,
    };
    let value = session_value(&identity);
    Ok(Some(Stored { identity, value, ttl }))
}

/// A login as its user is shown it.
fn session_value(identity: &Identity) -> Value {
    let mut value = json!({
        "user": identity.user.as_ref().map(user_value),
        "roles": identity.roles,
    });
    if let Value::Object(map) = &mut value {
        if let Credential::Session(id) = &identity.credential {
            map.insert("id".to_owned(), Value::from(id.as_str()));
        }
        if let Some(at) = identity.expires_at {
            map.insert("expires_at".to_owned(), Value::from(clock::rfc3339(at)));
        }
    }
    value
}

fn user_value(user: &User) -> Value {
    match &user.name {
        Some(name) => json!({"id": user.id, "name": name}),
        None => json!({"id": user.id}),
    }
}

pub(super) async fn login(flow: &mut Flow, id: &Template) -> Result<(), Stopped> {
    let bad = || unauthorized("unknown or expired session");
    let id = id.fill_text(flow).filter(|id| !id.is_empty()).ok_or_else(bad)?;
    let stored = stored(&flow.core, &id).await?.ok_or_else(bad)?;
    become_user(&flow.core.clone(), &flow.session.clone(), stored.identity).await?;
    flow.bind("session", stored.value);
    Ok(())
}

pub(super) async fn whoami(flow: &mut Flow) -> Result<(), Stopped> {
    let identity = flow.session.identity();
    if identity.user.is_none() {
        return Err(unauthorized("not logged in").into());
    }
    if let Credential::Session(id) = &identity.credential
        && stored(&flow.core, id).await?.is_none()
    {
        become_anonymous(&flow.core.clone(), &flow.session.clone()).await;
        return Err(unauthorized("the session has ended").into());
    }
    flow.bind("session", session_value(&identity));
    Ok(())
}

pub(super) async fn refresh(flow: &mut Flow, token: &Template) -> Result<(), Stopped> {
    let token = token.fill_whole(flow);
    let session = renew(&flow.core.clone(), &flow.session.clone(), token).await?;
    flow.bind("session", session);
    Ok(())
}

/// `auth:refresh` in a contract that does not name it.
pub(super) async fn refresh_anywhere(
    core: &Arc<Core>,
    session: &Arc<Session>,
    args: &[Value],
) -> Result<Done, Refusal> {
    let token = args.first().and_then(|payload| payload.get("token")).cloned();
    if token.as_ref().is_some_and(|token| !token.is_string()) {
        return Err(Refusal::new(Code::BadPayload, "token must be of type string"));
    }
    let value = renew(core, session, token).await?;
    let ack = json!({
        "ok": true, "event": REFRESH, "ts": clock::timestamp(), "session": value,
    });
    Ok(Done { ack: Reply::Args(vec![ack]), binaries: Vec::new(), disconnect: false })
}

/// Takes a fresh token of the same user over, or renews the stored session.
async fn renew(
    core: &Arc<Core>,
    session: &Arc<Session>,
    token: Option<Value>,
) -> Result<Value, Refusal> {
    let before = session.identity();
    if let Some(Value::String(token)) = token {
        let claims =
            core.verifier.verify(&token).await.map_err(|error| unauthorized(&error.to_string()))?;
        if before.user.as_ref().is_some_and(|user| user.id != claims.user.id) {
            return Err(Refusal::new(Code::Forbidden, "the token is another user's"));
        }
        let identity = Identity {
            user: Some(claims.user),
            roles: claims.roles,
            credential: Credential::Token,
            expires_at: claims.expires_at,
        };
        let value = session_value(&identity);
        become_user(core, session, identity).await?;
        return Ok(value);
    }
    match &before.credential {
        Credential::Token => Err(Refusal::new(Code::BadPayload, "token required")),
        Credential::None => Err(unauthorized("not logged in")),
        Credential::Session(id) => {
            let ended = || unauthorized("the session has ended");
            let mut known = stored(core, id).await?.ok_or_else(ended)?;
            let expires_at = SystemTime::now() + known.ttl;
            let patch = json!({"expires_at": clock::rfc3339(expires_at)});
            core.state.patch(SESSIONS, id, patch, known.ttl).await?.ok_or_else(ended)?;
            known.identity.expires_at = Some(expires_at);
            let value = session_value(&known.identity);
            session.become_identity(known.identity);
            core.watch_expiry(session);
            Ok(value)
        }
    }
}

pub(super) async fn logout(flow: &mut Flow, announcement: &Announcement) -> Result<(), Stopped> {
    let identity = flow.session.identity();
    let Some(user) = identity.user.clone() else {
        return Err(unauthorized("not logged in").into());
    };
    if let Credential::Session(id) = &identity.credential {
        flow.core.state.remove(SESSIONS, id).await?;
    }
    let data = announcement.data.fill(flow);
    let names = Names::new()
        .with("user", flow.root("user").map(std::borrow::Cow::into_owned).unwrap_or_default());
    let (core, mount) = (flow.core.clone(), flow.session.mount.clone());
    let target = Target::room(user_room(&user.id));
    tell_event(&core, &mount, &target, &announcement.event, data, &names, false);
    cluster::log_out(&core, &mount.namespace, &user.id).await;
    Ok(())
}
