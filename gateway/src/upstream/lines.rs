//! Lines of a streamed answer: chunks come in, whole lines go out.
//!
//! It never holds more than one line's allowance and the chunk it was last given.

use bytes::BytesMut;

/// What has come of a stream and was not handed out yet.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line's end.
    scanned: usize,
    limit: usize,
}

/// A line is longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, limit }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole line that is not blank.
    pub(super) fn next(&mut self) -> Result<Option<BytesMut>, TooLong> {
        loop {
            let new = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(end) = new.iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.buffer.len();
                return if self.scanned > self.limit { Err(TooLong) } else { Ok(None) };
            };
            let line = self.buffer.split_to(self.scanned + end + 1);
            self.scanned = 0;
            if line.len() > self.limit + 1 {
                return Err(TooLong);
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// What stands after the last line's end, once nothing more comes.
    pub(super) fn rest(&mut self) -> Option<BytesMut> {
        self.scanned = 0;
        let rest = self.buffer.split();
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A name, the chunks, the lines.
    type Case = (&'static str, &'static [&'static [u8]], Result<Vec<&'static str>, TooLong>);

    fn all(chunks: &[&[u8]], limit: usize) -> Result<Vec<String>, TooLong> {
        let mut lines = Lines::new(limit);
        let mut got = Vec::new();
        for chunk in chunks {
            lines.push(chunk);
            while let Some(line) = lines.next()? {
                got.push(line);
            }
        }
        got.extend(lines.rest());
        Ok(got.iter().map(|line| String::from_utf8_lossy(line.trim_ascii()).into_owned()).collect())
    }

    #[test]
    fn lines_are_split_and_bounded() {
        let cases: [Case; 7] = [
            ("two in one", &[b"a\nb\n"], Ok(vec!["a", "b"])),
            ("one in two", &[b"a", b"b\nc"], Ok(vec!["ab", "c"])),
            ("blank ones", &[b"\n\r\n a \r\n\n"], Ok(vec!["a"])),
            ("nothing", &[b""], Ok(vec![])),
            ("at the limit", &[b"12345678\n"], Ok(vec!["12345678"])),
            ("whole and too long", &[b"123456789\n"], Err(TooLong)),
            ("growing too long", &[b"1234", b"56789"], Err(TooLong)),
        ];
        for (name, chunks, want) in cases {
            let want = want.map(|lines| lines.into_iter().map(String::from).collect::<Vec<_>>());
            assert_eq!(all(chunks, 8), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(text in "[ab\n]{0,60}", cut in 0usize..60) {
            let bytes = text.as_bytes();
            let (one, two) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(all(&[one, two], 100), all(&[bytes], 100));
        }
    }
}
