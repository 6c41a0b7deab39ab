//! Calls that do something: emit, batch, join, leave, disconnect, release.

use std::sync::Arc;

use axum::extract::State;

use super::{
    Api, ApiError, Json,
    answers::{Done, Outcome, Results},
    bodies::{Batch, Command, Disconnect, Emit, Release, Rooms},
};
use crate::{
    action::{self, Chooser},
    mount::Mounted,
    session::Session,
    wire::{Target, lift_binary},
};

/// Commands of a batch at most.
const COMMANDS: usize = 1000;

type Answer = Result<axum::Json<Done>, ApiError>;

impl Api {
    /// The mounting of a namespace, or 404.
    pub(super) fn mount(&self, namespace: &str) -> Result<&Arc<Mounted>, ApiError> {
        self.core
            .mount(namespace)
            .ok_or_else(|| ApiError::not_found(format!("namespace {namespace} is not served here")))
    }

    /// This pod's sessions that a target means.
    pub(super) fn sessions(&self, mount: &Mounted, target: &Target) -> Vec<Arc<Session>> {
        let sids = self.core.fanout.members(&mount.namespace, target);
        sids.iter().filter_map(|sid| mount.sessions.find(sid)).collect()
    }

    fn do_emit(&self, mut body: Emit) -> Result<Done, ApiError> {
        let mount = self.mount(&body.namespace)?;
        let mut binaries = Vec::new();
        let args = body.arguments()?;
        let args = args
            .into_iter()
            .map(|arg| lift_binary(arg, &mut binaries))
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::bad(error.to_string()))?;
        let target = body.to.target();
        self.core
            .fanout
            .send_out(mount, &target, &body.event, args, &binaries, body.volatile)
            .map_err(|broken| {
                tracing::warn!(%broken, "an emit was refused");
                ApiError::bad(broken.to_string())
            })?;
        Ok(Done::OK)
    }

    async fn do_join(&self, body: Rooms) -> Result<Done, ApiError> {
        let mount = self.mount(&body.namespace)?;
        for room in &body.rooms {
            action::check_room(room, Chooser::Application)?;
        }
        let target = body.to.target();
        self.core.fanout.wire().join_elsewhere(&mount.namespace, &target, &body.rooms);
        for session in self.sessions(mount, &target) {
            for room in &body.rooms {
                action::join(&self.core, &session, room, Chooser::Application).await?;
            }
        }
        Ok(Done::OK)
    }

    async fn do_leave(&self, body: Rooms) -> Result<Done, ApiError> {
        let mount = self.mount(&body.namespace)?;
        let target = body.to.target();
        self.core.fanout.wire().leave_elsewhere(&mount.namespace, &target, &body.rooms);
        for session in self.sessions(mount, &target) {
            for room in &body.rooms {
                if **room != *session.sid {
                    action::leave(&self.core, &session, room).await;
                }
            }
        }
        Ok(Done::OK)
    }

    fn do_disconnect(&self, body: &Disconnect) -> Result<Done, ApiError> {
        let mount = self.mount(&body.namespace)?;
        let target = body.to.target();
        self.core.fanout.wire().disconnect_elsewhere(&mount.namespace, &target, body.close);
        for session in self.sessions(mount, &target) {
            if body.close {
                session.peer.cut();
            } else {
                session.peer.leave();
            }
        }
        Ok(Done::OK)
    }

    async fn command(&self, command: Command) -> Result<Done, ApiError> {
        match command {
            Command::Emit(body) => self.do_emit(body),
            Command::Join(body) => self.do_join(body).await,
            Command::Leave(body) => self.do_leave(body).await,
            Command::Disconnect(body) => self.do_disconnect(&body),
        }
    }
}

pub(super) async fn emit(State(api): State<Api>, Json(body): Json<Emit>) -> Answer {
    api.do_emit(body).map(axum::Json)
}

pub(super) async fn join(State(api): State<Api>, Json(body): Json<Rooms>) -> Answer {
    api.do_join(body).await.map(axum::Json)
}

pub(super) async fn leave(State(api): State<Api>, Json(body): Json<Rooms>) -> Answer {
    api.do_leave(body).await.map(axum::Json)
}

pub(super) async fn disconnect(State(api): State<Api>, Json(body): Json<Disconnect>) -> Answer {
    api.do_disconnect(&body).map(axum::Json)
}

pub(super) async fn batch(
    State(api): State<Api>,
    Json(body): Json<Batch>,
) -> Result<axum::Json<Results>, ApiError> {
    if body.commands.len() > COMMANDS {
        let text = format!("commands: at most {COMMANDS}");
        return Err(ApiError::new(http::StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", text));
    }
    let mut results = Vec::with_capacity(body.commands.len());
    for command in body.commands {
        results.push(match api.command(command).await {
            Ok(done) => Outcome::Done(done),
            Err(error) => Outcome::Refused(error.to_answer()),
        });
    }
    Ok(axum::Json(Results { ok: true, results }))
}

pub(super) async fn release(State(api): State<Api>, Json(body): Json<Release>) -> Answer {
    let mount = api.mount(&body.namespace)?;
    if action::free(&api.core, mount, &body.name).await? {
        return Ok(axum::Json(Done::OK));
    }
    Err(ApiError::not_found("there is no such lock"))
}
