//! How many WebSocket frames a peer sends, without reading what is in them.
//!
//! The library hands on events only; what else a peer sends (acks of nothing, connects to nowhere) is
//! seen here by its frames' heads alone, so that a flood of it ends as a flood of events does.

/// Follows the heads of frames through a stream of bytes, however it is cut.
#[derive(Debug, Default)]
pub(super) struct Heads {
    head: Vec<u8>,
    skip: u64,
}

/// The longest head: two bytes, a length of eight, a mask of four.
const LONGEST: usize = 14;

impl Heads {
    /// How many frames begin in these bytes.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut frames = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some(payload) = payload(&self.head) {
                frames += 1;
                self.skip = payload;
                self.head.clear();
            }
        }
        frames
    }
}

/// The length of the payload behind a head that is whole.
fn payload(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (extended, short) = match second & 0x7f {
        126 => (2, None),
        127 => (8, None),
        short => (0, Some(u64::from(short))),
    };
    if head.len() < 2 + extended + mask {
        return None;
    }
    debug_assert!(head.len() <= LONGEST, "a head ends");
    let long = || head[2..2 + extended].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    Some(short.unwrap_or_else(long))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let mut frame = vec![0x81];
        match length {
            0..126 => frame.push(0x80 | u8::try_from(length).expect("short")),
            126..65536 => {
                frame.push(0xfe);
                frame.extend(u16::try_from(length).expect("medium").to_be_bytes());
            }
            _ => {
                frame.push(0xff);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.resize(frame.len() + length, 0xff);
        frame
    }

    #[test]
    fn counts_however_the_stream_is_cut() {
        let lengths = [0, 1, 125, 126, 65535, 65536, 3];
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| frame(*length)).collect();
        for cut in [1, 2, 7, 1000, bytes.len()] {
            let mut heads = Heads::default();
            let counted: u32 = bytes.chunks(cut).map(|chunk| heads.count(chunk)).sum();
            assert_eq!(counted, 7, "cut by {cut}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_followed(bytes: Vec<u8>) {
            let frames = Heads::default().count(&bytes);
            proptest::prop_assert!(frames as usize <= bytes.len());
        }
    }
}
