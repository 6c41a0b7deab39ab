//! What the pods of a cluster ask and tell each other, and what others order of this one.
//!
//! In come questions of this pod's own API and orders of other pods; out go answers for the whole
//! cluster, each with the pods that are missing in it. A question is answered from memory, by every pod
//! for its own connections. It never fails because a pod is slow, and never waits longer than [`PATIENCE`].

mod answers;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::sync::Semaphore;

pub use answers::{Connection, Known, Member, Numbers, RoomCount, User, Weight};

use crate::{
    action::{self, Chooser},
    core::Core,
    session::Session,
    wire::{Order, Orders},
};

/// How long the other pods may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Questions of others that are answered at once; the rest goes without, and is missed there.
const ANSWERING: usize = 64;

/// What may be asked of a pod, or told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Question {
    /// Who is there: answered with the pod's name.
    Pods,
    /// [`Numbers`].
    Numbers,
    /// [`Weight`].
    Weight,
    /// [`RoomCount`]s, in the order of their names.
    Rooms {
        /// The namespace.
        namespace: String,
        /// What their names begin with.
        prefix: String,
        /// Only those after this name.
        after: String,
        /// At most so many.
        limit: usize,
    },
    /// [`Member`]s.
    Members {
        /// The namespace.
        namespace: String,
        /// Of this room.
        room: String,
    },
    /// The actors of a room, each as often as it has connections there.
    Actors {
        /// The namespace.
        namespace: String,
        /// The room.
        room: String,
    },
    /// [`Connection`]s.
    User {
        /// Of the user of this id.
        id: String,
    },
    /// [`Known`], or null.
    Connection {
        /// The connection's public id.
        sid: String,
    },
    /// Told: a user has logged out everywhere.
    LoggedOut {
        /// The namespace.
        namespace: String,
        /// The user's id.
        user: String,
    },
}

/// The answers of the cluster, this pod's own first.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered<T> {
    /// One of each pod that answered in time.
    pub all: Vec<T>,
    /// The pods that did not.
    pub missing: Vec<String>,
}

/// Asks every pod, this one too.
pub async fn ask<T: DeserializeOwned>(core: &Core, question: &Question) -> Answered<T> {
    let own = answers::answer(core, question);
    let others = core.fanout.wire().ask(json!(question), PATIENCE).await;
    let mut answered = Answered { all: Vec::new(), missing: others.missing };
    for said in std::iter::once(own).chain(others.said) {
        match serde_json::from_value(said) {
            Ok(answer) => answered.all.push(answer),
            Err(error) => {
                tracing::warn!(%error, "a pod of another version answers something else");
                answered.missing.push("unknown".to_owned());
            }
        }
    }
    answered
}

/// A user has logged out: what its connections had as that user ends, on every pod.
pub async fn log_out(core: &Arc<Core>, namespace: &str, user: &str) {
    let (namespace, user) = (namespace.to_owned(), user.to_owned());
    let told = Question::LoggedOut { namespace: namespace.clone(), user: user.clone() };
    core.fanout.wire().tell(json!(told));
    log_out_here(core, &namespace, &user).await;
}

async fn log_out_here(core: &Arc<Core>, namespace: &str, user: &str) {
    let Some(mount) = core.mount(namespace).cloned() else { return };
    for session in core.sessions_of(&mount, user) {
        action::become_anonymous(core, &session).await;
    }
}

/// Carries out what other pods order, one after the other. A question does not hold up the next order.
pub async fn obey(core: Arc<Core>, mut orders: Orders) {
    let answering = Arc::new(Semaphore::new(ANSWERING));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Join { namespace, sid, room } => {
                if let Some(session) = find(&core, &namespace, &sid) {
                    join(&core, &session, &room).await;
                }
            }
            Order::Leave { namespace, sid, room } => {
                if let Some(session) = find(&core, &namespace, &sid) {
                    action::leave(&core, &session, &room).await;
                }
            }
            Order::Close { namespace, sid } => {
                if let Some(session) = find(&core, &namespace, &sid) {
                    session.peer.cut();
                }
            }
            Order::Asked { question, reply } => {
                let question: Question = match serde_json::from_value(question) {
                    Ok(question) => question,
                    Err(error) => {
                        tracing::debug!(%error, "a question of another version");
                        continue;
                    }
                };
                let Ok(permit) = answering.clone().try_acquire_owned() else { continue };
                let core = core.clone();
                core.tasks.clone().spawn(async move {
                    match (question, reply) {
                        (Question::LoggedOut { namespace, user }, _) => {
                            log_out_here(&core, &namespace, &user).await;
                        }
                        (question, Some(reply)) => {
                            reply.send(answers::answer(&core, &question));
                        }
                        (_, None) => {}
                    }
                    drop(permit);
                });
            }
        }
    }
}

fn find(core: &Core, namespace: &str, sid: &str) -> Option<Arc<Session>> {
    core.mount(namespace)?.sessions.find(sid)
}

/// Writes down a room that a connection was put into, or takes it out again where it may not be in it.
async fn join(core: &Arc<Core>, session: &Arc<Session>, room: &str) {
    if let Err(refusal) = action::join(core, session, room, Chooser::Application).await {
        tracing::debug!(sid = %session.sid, code = refusal.code.as_str(), "a join from elsewhere");
        core.fanout.wire().leave(&session.mount.namespace, &session.sid, room);
    }
}
