//! What the adapter counts.
//!
//! In come single steps, out come numbers for whoever shows them. There is no registry: the application
//! reads a [`Snapshot`] when it is asked for one. Counting never waits.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// The counters of one bus. All but `subscriptions` only grow.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub(crate) $name: Count,)+
        }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Counters {
            /// Reads them all. They are read one after the other while others count on.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Messages that Redis took.
    published,
    /// Messages refused because the outgoing buffer was full.
    refused,
    /// Messages dropped because Redis was away for longer than they were worth.
    stale,
    /// Messages that were sent, but Redis did not say that it took them.
    unconfirmed,
    /// Messages that could not be written in the wire format.
    unwritable,
    /// Messages that came from Redis, of any kind.
    received,
    /// Of these: our own, which come back from the channels that we listen to.
    echoes,
    /// Of these: those that say nothing in the wire format. They are ignored.
    malformed,
    /// Of these: well-formed, but for another namespace or nobody here.
    foreign,
    /// Requests of other pods and of emitters that were carried out or answered.
    requests,
    /// Requests of our own.
    asked,
    /// Of these: those that not everybody answered in time.
    partial,
    /// Answers and acknowledgements that nobody waited for any more, or that came too fast.
    late,
    /// Joins that returned before the subscription stood, because Redis was away or slow.
    unconfirmed_joins,
    /// Connections that were gone and still in rooms.
    orphans,
    /// Channels that are subscribed to right now.
    subscriptions,
    /// How often the subscribing connection was lost.
    gaps,
    /// How often a connection could not be made.
    failed_dials,
    /// Members of local rooms whose queue was full or closed when a message was for them.
    missed,
}

/// One number.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn one(&self) {
        self.many(1);
    }

    pub(crate) fn many(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// A part of it that was `from` is `to` now.
    pub(crate) fn shift(&self, from: usize, to: usize) {
        // What wraps here wraps back: the sum of all parts is never negative.
        self.0.fetch_add((to as u64).wrapping_sub(from as u64), Ordering::Relaxed);
    }
}
