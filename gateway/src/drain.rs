//! Tasks that somebody waits for, and the signal to stop.
//!
//! Every task of the gateway starts here, so that leaving can wait for it.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A handle to start tasks, and to know when they are done. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    work: TaskTracker,
    services: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts work that a leaving pod finishes.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.work.spawn(work);
    }

    /// For rooms that start work of their own.
    pub const fn tracker(&self) -> &TaskTracker {
        &self.work
    }

    /// Starts a service that ends when the pod stops.
    pub fn serve(&self, service: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.services.spawn(async move { stop.run_until_cancelled_owned(service).await });
    }

    /// Waits until no work is left. More may begin meanwhile and is waited for too.
    pub async fn idle(&self) {
        self.work.close();
        self.work.wait().await;
    }

    /// How much work is in flight.
    pub fn in_flight(&self) -> usize {
        self.work.len()
    }

    /// Ends the services, and waits for them.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.services.close();
        self.services.wait().await;
    }
}
