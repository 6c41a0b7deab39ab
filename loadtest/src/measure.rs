//! What a process cost: its CPU time, as the kernel accounts it.
//!
//! In comes a process id; out goes the time that all of its threads spent, in user and in kernel mode.

use std::{fs, time::Duration};

use anyhow::{Context, Result, anyhow};

/// The unit of `/proc/PID/stat`: `USER_HZ` is 100 on every Linux that Rust's standard library runs on.
const TICK: Duration = Duration::from_millis(10);

/// The CPU time of a process so far.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    ticks(&stat)
        .and_then(|ticks| u32::try_from(ticks).ok())
        .map(|ticks| TICK * ticks)
        .ok_or_else(|| anyhow!("{path} cannot be read"))
}

/// `utime + stime`, the 14th and 15th field. The second, the name, may itself hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Microseconds, as a number to divide.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The middle of a list, its least and its greatest; `None` where it is empty.
pub(crate) fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (*sorted.first()?, *sorted.last()?);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((f64::midpoint(lower, upper), low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat() {
        let line = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20";
        assert_eq!(ticks(line), Some(150));
        assert_eq!(ticks("7 (a) S 1 2"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn own_time_grows() {
        let before = cpu(std::process::id()).expect("this process has a stat");
        let mut sum = 0_u64;
        while cpu(std::process::id()).expect("this process has a stat") < before + TICK * 3 {
            sum = (0..100_000_u64).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        assert!(cpu(std::process::id()).expect("this process has a stat") > before);
    }

    #[test]
    fn spreads() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((2.5, 1.0, 4.0)));
        assert_eq!(spread(&[]), None);
    }
}
