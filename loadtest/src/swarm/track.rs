//! What one receiver has heard of one sender's stream: what is missing, doubled, out of order.
//!
//! In come the numbers of messages as they arrive; out goes what each of them was. A message is *out of order* when a
//! later one of its stream came before it, *doubled* when it came before already, and *lost* when it has not come by
//! the end. What a receiver may not have been meant to hear, since it joined later, is none of these.

/// Gaps that are remembered of one stream. Beyond it, the oldest is given up as lost: a receiver that misses this much
/// has long failed its test.
const MOST_GAPS: usize = 4096;

/// One stream as one receiver heard it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    /// Messages before this one are not counted: the receiver was not there yet.
    from: u32,
    /// The number after the greatest that was heard.
    next: u32,
    /// What is missing below `next`: ranges from, up to but without.
    gaps: Vec<(u32, u32)>,
    given_up: u64,
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Heard for the first time, after all that were heard before.
    InOrder,
    /// Heard for the first time, after a later one.
    Late,
    /// Heard before.
    Again,
    /// Sent before the receiver was there.
    Early,
}

impl Track {
    /// A stream of which the receiver is to hear everything from this number on.
    pub(crate) const fn new(from: u32) -> Self {
        Self { from, next: from, gaps: Vec::new(), given_up: 0 }
    }

    /// Takes note of a message.
    pub(crate) fn hear(&mut self, seq: u32) -> Heard {
        if seq < self.from {
            return Heard::Early;
        }
        if seq >= self.next {
            if seq > self.next {
                self.miss(self.next, seq);
            }
            self.next = seq.saturating_add(1);
            return Heard::InOrder;
        }
        let Some(at) = self.gaps.iter().position(|&(from, to)| (from..to).contains(&seq)) else {
            return Heard::Again;
        };
        let (from, to) = self.gaps.swap_remove(at);
        for rest in [(from, seq), (seq + 1, to)] {
            if rest.0 < rest.1 {
                self.gaps.push(rest);
            }
        }
        Heard::Late
    }

    fn miss(&mut self, from: u32, to: u32) {
        if self.gaps.len() >= MOST_GAPS {
            let oldest = self.gaps.iter().enumerate().min_by_key(|(_, gap)| gap.0);
            if let Some(at) = oldest.map(|(at, _)| at) {
                let (from, to) = self.gaps.swap_remove(at);
                self.given_up += u64::from(to - from);
            }
        }
        self.gaps.push((from, to));
    }

    /// Messages that a later one has overtaken and that have not come.
    pub(crate) fn holes(&self) -> u64 {
        self.given_up + self.gaps.iter().map(|(from, to)| u64::from(to - from)).sum::<u64>()
    }

    /// Messages after the last that was heard, where so many were sent.
    pub(crate) fn behind(&self, sent: u32) -> u64 {
        u64::from(sent.saturating_sub(self.next))
    }

    /// Nothing is missing where so many were sent.
    pub(crate) fn complete(&self, sent: u32) -> bool {
        self.holes() == 0 && self.behind(sent) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams() {
        // heard, sent: in order, late, doubled, early; lost
        type Case = (&'static str, u32, &'static [u32], u32, [u64; 4], u64);
        let cases: [Case; 9] = [
            ("all", 0, &[0, 1, 2], 3, [3, 0, 0, 0], 0),
            ("none", 0, &[], 3, [0, 0, 0, 0], 3),
            ("a hole", 0, &[0, 2], 3, [2, 0, 0, 0], 1),
            ("the end", 0, &[0, 1], 4, [2, 0, 0, 0], 2),
            ("the beginning", 0, &[2, 3], 4, [2, 0, 0, 0], 2),
            ("swapped", 0, &[1, 0, 2], 3, [2, 1, 0, 0], 0),
            ("doubled", 0, &[0, 0, 1, 0, 1], 2, [2, 0, 3, 0], 0),
            ("late and doubled", 0, &[3, 1, 1, 0, 2, 2], 4, [1, 3, 2, 0], 0),
            ("came later", 5, &[3, 4, 5, 7], 8, [2, 0, 0, 2], 1),
        ];
        for (name, from, heard, sent, want, lost) in cases {
            let mut track = Track::new(from);
            let mut got = [0; 4];
            for seq in heard {
                let at = match track.hear(*seq) {
                    Heard::InOrder => 0,
                    Heard::Late => 1,
                    Heard::Again => 2,
                    Heard::Early => 3,
                };
                got[at] += 1;
            }
            assert_eq!(got, want, "{name}");
            assert_eq!(track.holes() + track.behind(sent), lost, "{name}");
            assert_eq!(track.complete(sent), lost == 0, "{name}");
        }
    }

    #[test]
    fn gaps_are_bounded_and_still_counted() {
        let mut track = Track::new(0);
        let last = u32::try_from(MOST_GAPS).unwrap() * 4;
        for seq in (1..=last).step_by(2) {
            track.hear(seq);
        }
        assert!(track.gaps.len() <= MOST_GAPS);
        assert_eq!(track.holes(), u64::from(last / 2));
    }
}
