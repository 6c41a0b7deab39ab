//! What is due at a time: tokens that end, and connections that never began.
//!
//! One ordered set for the whole pod, looked at by one service; an entry that is out of date does
//! nothing when it is due.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// The identity's proof ends soon.
    Warning,
    /// It has ended.
    End,
    /// The connection should have begun by now.
    Begun,
}

/// When what is due, for which session.
#[derive(Debug, Default)]
pub struct Expiries(Mutex<BTreeSet<(SystemTime, Due, String, String)>>);

/// Entries taken at a time, so that nobody else waits.
const AT_ONCE: usize = 10_000;

impl Expiries {
    /// Notes that something is due.
    pub fn at(&self, time: SystemTime, due: Due, namespace: &str, sid: &str) {
        self.0.lock().insert((time, due, namespace.to_owned(), sid.to_owned()));
    }

    /// Notes the warning and the end of a proof.
    pub fn proof(
        &self,
        ends: SystemTime,
        warning: Duration,
        leeway: Duration,
        namespace: &str,
        sid: &str,
    ) {
        let warn = ends.checked_sub(warning).unwrap_or(ends);
        self.at(warn, Due::Warning, namespace, sid);
        // A time that cannot be shown cannot come.
        if let Some(end) = ends.checked_add(leeway) {
            self.at(end, Due::End, namespace, sid);
        }
    }

    /// Takes what is due: what, in which namespace, for which id.
    pub fn take(&self, now: SystemTime) -> Vec<(Due, String, String)> {
        let mut set = self.0.lock();
        let mut due = Vec::new();
        while due.len() < AT_ONCE && set.first().is_some_and(|(time, ..)| *time <= now) {
            if let Some((_, what, namespace, sid)) = set.pop_first() {
                due.push((what, namespace, sid));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_once() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let expiries = Expiries::default();
        expiries.proof(now, Duration::from_mins(1), Duration::from_secs(5), "/", "a");
        let of = |due| vec![(due, "/".to_owned(), "a".to_owned())];
        assert_eq!(expiries.take(now - Duration::from_secs(61)), Vec::new());
        assert_eq!(expiries.take(now), of(Due::Warning));
        assert_eq!(expiries.take(now), Vec::new(), "once");
        assert_eq!(expiries.take(now + Duration::from_secs(5)), of(Due::End));
    }
}
