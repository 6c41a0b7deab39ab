//! Numbers that are divided: counts, bytes and times as floating-point numbers, and whole ones that fit.

use std::time::Duration;

/// A count as a number to divide. Counts of a load test are far below the 2⁵³ at which this would round.
#[expect(clippy::cast_precision_loss, reason = "counts are far below the point where this rounds")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

/// A number that was divided, as a whole one; nothing where it is negative or no number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
pub(crate) const fn whole(value: f64) -> u64 {
    value as u64
}

/// A quotient; 0 where nothing is divided by.
pub(crate) fn per(what: f64, by: f64) -> f64 {
    if by > 0.0 { what / by } else { 0.0 }
}

/// A duration in whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A length that is bounded far below this type's end.
pub(crate) fn small(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// An index.
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
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
    fn spreads() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((2.5, 1.0, 4.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn divides() {
        assert!(per(6.0, 3.0) > 1.99 && per(6.0, 0.0) < 0.01);
        assert_eq!((whole(2.9), whole(-1.0), whole(f64::NAN)), (2, 0, 0));
    }
}
