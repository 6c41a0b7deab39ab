//! A connection's line: its events are handled one at a time, in the order they came.
//!
//! An event whose work needs no waiting is done on the spot, in the task that read it. One that waits
//! goes on in a task of its own and the events behind it wait, unless it says that it will be answered
//! later ([`Released::release`]): then the line goes on and it finishes by itself. The line is bounded;
//! what does not fit is handed back.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use crate::drain::Tasks;

/// The work of one event.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lets an event's work leave the line before it is finished.
#[derive(Clone, Debug, Default)]
pub struct Released(Arc<AtomicBool>);

impl Released {
    /// The events behind need not wait any longer.
    pub fn release(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_released(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The line has as many waiting events as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overfull;

/// The line of one connection.
#[derive(Debug)]
pub struct Line {
    inner: Arc<Mutex<Inner>>,
    most: usize,
}

struct Inner {
    waiting: VecDeque<(Work, Released)>,
    busy: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("waiting", &self.waiting.len())
            .field("busy", &self.busy)
            .finish()
    }
}

enum Progress {
    Done,
    Later(Work),
    Waiting(Work, Released),
}

impl Line {
    /// A line that is held until [`Line::open`], for at most this many waiting events.
    pub fn new(most: usize) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { waiting: VecDeque::new(), busy: true })), most }
    }

    /// Does the first work and then lets events in.
    pub fn open(&self, tasks: &Tasks, first: impl Future<Output = ()> + Send + 'static) {
        self.advance(tasks, Box::pin(first), Released::default());
    }

    /// Adds an event's work; on the spot where nothing is before it.
    ///
    /// # Errors
    /// [`Overfull`], with nothing done.
    pub fn add<F, W>(&self, tasks: &Tasks, work: W) -> Result<(), Overfull>
    where
        F: Future<Output = ()> + Send + 'static,
        W: FnOnce(Released) -> F,
    {
        {
            let mut inner = self.inner.lock();
            if inner.busy {
                if inner.waiting.len() >= self.most {
                    return Err(Overfull);
                }
                let released = Released::default();
                inner.waiting.push_back((Box::pin(work(released.clone())), released));
                return Ok(());
            }
            inner.busy = true;
        }
        let released = Released::default();
        self.advance(tasks, Box::pin(work(released.clone())), released);
        Ok(())
    }

    /// Adds the last work, which has room however long the line is.
    pub fn last(&self, tasks: &Tasks, work: impl Future<Output = ()> + Send + 'static) {
        {
            let mut inner = self.inner.lock();
            if inner.busy {
                inner.waiting.push_back((Box::pin(work), Released::default()));
                return;
            }
            inner.busy = true;
        }
        self.advance(tasks, Box::pin(work), Released::default());
    }

    /// Polls the work once here; what is not finished goes on in a task, with all that waits.
    fn advance(&self, tasks: &Tasks, work: Work, released: Released) {
        let mut next = Some((work, released));
        while let Some((work, released)) = next {
            match begin(work, released) {
                Progress::Done => {}
                Progress::Later(work) => tasks.spawn(work),
                Progress::Waiting(work, released) => {
                    tasks.spawn(go_on(self.inner.clone(), work, released, tasks.clone()));
                    return;
                }
            }
            next = take(&self.inner);
        }
    }
}

fn begin(mut work: Work, released: Released) -> Progress {
    // The waker is not kept: whoever polls next registers its own.
    let mut context = Context::from_waker(Waker::noop());
    match work.as_mut().poll(&mut context) {
        Poll::Ready(()) => Progress::Done,
        Poll::Pending if released.is_released() => Progress::Later(work),
        Poll::Pending => Progress::Waiting(work, released),
    }
}

/// The next in line, or the end of business.
fn take(inner: &Mutex<Inner>) -> Option<(Work, Released)> {
    let mut inner = inner.lock();
    let next = inner.waiting.pop_front();
    inner.busy = next.is_some();
    if next.is_none() {
        inner.waiting.shrink_to(0);
    }
    next
}

async fn go_on(inner: Arc<Mutex<Inner>>, work: Work, released: Released, tasks: Tasks) {
    let mut next = Some((work, released));
    while let Some((mut work, released)) = next {
        let left = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending if released.is_released() => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        })
        .await;
        if left {
            tasks.spawn(work);
        }
        next = take(&inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn in_order_on_the_spot_and_later() {
        let tasks = Tasks::default();
        let line = Line::new(2);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |n: u32| {
            let seen = seen.clone();
            move |_released: Released| async move { seen.lock().push(n) }
        };
        line.add(&tasks, note(1)).expect("held");
        assert!(seen.lock().is_empty(), "nothing before the line is open");
        line.open(&tasks, async {});
        assert_eq!(*seen.lock(), [1], "on the spot");

        let (go, gone) = oneshot::channel::<()>();
        let slow = seen.clone();
        line.add(&tasks, move |_released| async move {
            gone.await.ok();
            slow.lock().push(2);
        })
        .expect("fits");
        line.add(&tasks, note(3)).expect("fits");
        line.add(&tasks, note(4)).expect("fits");
        assert_eq!(line.add(&tasks, note(5)), Err(Overfull));
        assert_eq!(*seen.lock(), [1], "what came later waits");
        let (done, all) = oneshot::channel::<()>();
        go.send(()).expect("waits");
        tokio::spawn(async move { done.send(()).ok() });
        all.await.expect("ran");
        tasks.idle().await;
        assert_eq!(*seen.lock(), [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn released_work_lets_others_pass() {
        let tasks = Tasks::default();
        let line = Line::new(2);
        line.open(&tasks, async {});
        let (go, gone) = oneshot::channel::<()>();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let later = seen.clone();
        line.add(&tasks, move |released| async move {
            released.release();
            gone.await.ok();
            later.lock().push("later");
        })
        .expect("fits");
        let now = seen.clone();
        line.add(&tasks, move |_| async move { now.lock().push("now") }).expect("fits");
        assert_eq!(*seen.lock(), ["now"]);
        go.send(()).expect("waits");
        tasks.idle().await;
        assert_eq!(*seen.lock(), ["now", "later"]);
    }
}
