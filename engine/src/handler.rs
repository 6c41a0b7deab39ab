//! What stands above the engine: the Socket.IO layer.

use std::{fmt::Debug, sync::Arc};

use bytes::Bytes;
use engineioxide_core::Str;

use crate::socket::{DisconnectReason, Socket};

/// Is told what happens to sessions. What comes from one client is told in order, in the task that
/// read it; an implementation does not wait.
pub trait EngineIoHandler: Debug + Send + Sync + 'static {
    /// What it keeps with each session.
    type Data: Default + Send + Sync + 'static;

    /// A session began.
    fn on_connect(self: Arc<Self>, socket: Arc<Socket<Self::Data>>);

    /// A session ended: told once, in a task of its own.
    fn on_disconnect(&self, socket: Arc<Socket<Self::Data>>, reason: DisconnectReason);

    /// Text came.
    fn on_message(self: &Arc<Self>, message: Str, socket: Arc<Socket<Self::Data>>);

    /// Bytes came.
    fn on_binary(self: &Arc<Self>, data: Bytes, socket: Arc<Socket<Self::Data>>);
}
