//! One connection's own pace: a token bucket, and the count of what it was refused. No I/O.

use std::time::{Duration, Instant};

/// Refusals are counted over this long.
const FLOOD_WINDOW: Duration = Duration::from_secs(10);

/// A token bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket; with a rate of 0 it never refuses.
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second), burst, tokens: burst, filled: now }
    }

    /// Takes tokens.
    ///
    /// # Errors
    /// How long until there are enough; as long as a full refill where there never will be.
    pub fn take(&mut self, cost: u32, now: Instant) -> Result<(), Duration> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        self.filled = now;
        let cost = f64::from(cost);
        if self.tokens >= cost {
            self.tokens -= cost;
            return Ok(());
        }
        let missing = cost.min(self.burst) - self.tokens;
        Err(Duration::from_secs_f64((missing / self.per_second).max(0.001)))
    }

    /// Whether nothing was taken lately.
    pub fn is_full(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens + elapsed * self.per_second >= self.burst
    }
}

/// How often a connection was refused lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flood {
    since: Option<Instant>,
    refused: u32,
}

impl Flood {
    /// Counts one more; `true` where there are `most` within the window. 0 is never too many.
    pub fn count(&mut self, most: u32, now: Instant) -> bool {
        let fresh = self.since.is_none_or(|since| now.duration_since(since) > FLOOD_WINDOW);
        if fresh {
            *self = Self { since: Some(now), refused: 0 };
        }
        self.refused += 1;
        most > 0 && self.refused >= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 2, start);
        assert_eq!(bucket.take(1, start), Ok(()));
        assert_eq!(bucket.take(1, start), Ok(()));
        assert_eq!(bucket.take(1, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(1, start + Duration::from_millis(100)), Ok(()));
        assert!(!bucket.is_full(start + Duration::from_millis(100)));
        assert!(bucket.is_full(start + Duration::from_secs(1)));
        let mut off = Bucket::new(0, 0, start);
        assert!((0..1000).all(|_| off.take(1, start).is_ok()), "0 switches it off");
    }

    #[test]
    fn flood() {
        let start = Instant::now();
        let mut flood = Flood::default();
        assert!(!flood.count(3, start));
        assert!(!flood.count(3, start));
        assert!(flood.count(3, start));
        assert!(!flood.count(3, start + Duration::from_secs(11)), "a new window");
        assert!(!flood.count(0, start), "0 switches it off");
    }
}
