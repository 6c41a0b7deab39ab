//! The mark that every measured message carries: who sent it, as which, and when it was due.
//!
//! In comes a message's number; out goes a short text that stands somewhere in its payload, and from a received payload
//! the numbers again. A server need not know of it: it passes on whatever string it was given.

use std::fmt::{self, Display};

/// What begins and ends a mark. It needs no escape in JSON and occurs nowhere else in what is sent.
const FENCE: u8 = b'~';

/// One message of one sender's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The run, so that what is left of another run is told apart.
    pub run: u32,
    /// The sender's number.
    pub sender: u32,
    /// Which of the sender's sends.
    pub send: u8,
    /// Its place in that stream, from 0.
    pub seq: u32,
    /// When it was due, in microseconds of the Unix epoch.
    pub due: u64,
}

impl Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, sender, send, seq, due } = self;
        write!(f, "~{run}.{sender}.{send}.{seq}.{due}~")
    }
}

impl Mark {
    /// The first mark in a payload.
    pub(crate) fn find(mut payload: &[u8]) -> Option<Self> {
        while let Some(at) = memchr::memchr(FENCE, payload) {
            payload = payload.get(at + 1..)?;
            if let Some(mark) = Self::read(payload) {
                return Some(mark);
            }
        }
        None
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (run, bytes) = number(bytes, b'.')?;
        let (sender, bytes) = number(bytes, b'.')?;
        let (send, bytes) = number(bytes, b'.')?;
        let (seq, bytes) = number(bytes, b'.')?;
        let (due, _) = number(bytes, FENCE)?;
        Some(Self {
            run: run.try_into().ok()?,
            sender: sender.try_into().ok()?,
            send: send.try_into().ok()?,
            seq: seq.try_into().ok()?,
            due,
        })
    }
}

/// The number that ends with `end`, and what follows it.
fn number(bytes: &[u8], end: u8) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
            }
            byte if *byte == end && at > 0 => return Some((value, bytes.get(at + 1..)?)),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_it_stands() {
        let mark =
            Mark { run: 7, sender: 19_999, send: 3, seq: u32::MAX, due: 1_763_000_000_000_001 };
        let cases = [
            format!("{mark}"),
            format!(r#"["message",{{"text":"{mark}","from":"~"}}]"#),
            format!("~~ ~1.2~ ~a.b.c.d.e~ {mark} ~1.1.1.1.1~"),
        ];
        for text in cases {
            assert_eq!(Mark::find(text.as_bytes()), Some(mark), "{text}");
        }
    }

    #[test]
    fn what_is_no_mark_is_none() {
        for text in
            ["", "~", "~~", "~1.2.3.4~", "~1.2.3.4.5", "~1..3.4.5~", "~99999999999.1.1.1.1~"]
        {
            assert_eq!(Mark::find(text.as_bytes()), None, "{text}");
        }
    }
}
