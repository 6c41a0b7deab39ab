//! Wakes the event loop at a moment, to the microsecond: a poll's own time-out is told in whole milliseconds, which is
//! longer than a good server takes to answer.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timer of the kernel's.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: OwnedFd,
    set: u64,
}

impl Alarm {
    /// A timer that wakes whoever polls this registry.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer, set: 0 })
    }

    /// Wakes at a moment of the caller's clock, in microseconds. Setting it anew takes back what it was set to.
    pub(crate) fn set(&mut self, at: u64, now: u64) -> io::Result<()> {
        // What it is set to and has not come yet needs no call.
        if self.set == at && at > now {
            return Ok(());
        }
        let micros = i64::try_from(at.saturating_sub(now).max(1)).unwrap_or(i64::MAX);
        let it_value =
            Timespec { tv_sec: micros / 1_000_000, tv_nsec: (micros % 1_000_000) * 1000 };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval, it_value },
        )?;
        self.set = at;
        Ok(())
    }
}
