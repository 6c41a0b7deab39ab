//! Reading msgpack.
//!
//! In come the bytes of a message, out come its steps, one after the other, or all of them as JSON. It
//! never reads beyond the message and never takes more stack than its depth allows.

use std::ops::Range;

use bytes::Bytes;

use super::{Json, Malformed};

/// As deep as JSON texts may nest here; deeper ones are no use to anybody and cost stack.
const DEPTH: usize = 127;

/// One step of a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool(bool),
    Uint(u64),
    Int(i64),
    Float(f64),
    Text(&'a [u8]),
    Binary(Range<usize>),
    Array(usize),
    Map(usize),
    Extension(i8, Range<usize>),
}

/// Reads a message from front to back.
pub(crate) struct Reader<'a> {
    source: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a Bytes) -> Self {
        Self { source, at: 0 }
    }

    /// Another reader of the same message, from `at` on.
    pub(crate) fn from(source: &'a Bytes, at: usize) -> Self {
        Self { source, at }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Whether everything was read.
    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        if self.at == self.source.len() { Ok(()) } else { Err(Malformed::Trailing) }
    }

    fn range(&mut self, length: usize) -> Result<Range<usize>, Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed::Truncated)?;
        if end > self.source.len() {
            return Err(Malformed::Truncated);
        }
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let range = self.range(length)?;
        self.source.get(range).ok_or(Malformed::Truncated)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed::Truncated)
    }

    /// A length of as many bytes.
    fn length(&mut self, width: u8) -> Result<usize, Malformed> {
        Ok(match width {
            1 => usize::from(u8::from_be_bytes(self.array()?)),
            2 => usize::from(u16::from_be_bytes(self.array()?)),
            _ => usize::try_from(u32::from_be_bytes(self.array()?))
                .map_err(|_| Malformed::Truncated)?,
        })
    }

    fn extension(&mut self, length: usize) -> Result<Token<'a>, Malformed> {
        let kind = i8::from_be_bytes(self.array()?);
        Ok(Token::Extension(kind, self.range(length)?))
    }

    /// The next step. Of arrays and maps it is only their length; their content follows.
    pub(crate) fn token(&mut self) -> Result<Token<'a>, Malformed> {
        let [code] = self.array()?;
        Ok(match code {
            0x00..=0x7f => Token::Uint(u64::from(code)),
            0x80..=0x8f => Token::Map(usize::from(code & 0x0f)),
            0x90..=0x9f => Token::Array(usize::from(code & 0x0f)),
            0xa0..=0xbf => Token::Text(self.bytes(usize::from(code & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => return Err(Malformed::Unreadable),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(1 << (code - 0xc4))?;
                Token::Binary(self.range(length)?)
            }
            0xc7..=0xc9 => {
                let length = self.length(1 << (code - 0xc7))?;
                self.extension(length)?
            }
            0xca => Token::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Uint(u64::from(u8::from_be_bytes(self.array()?))),
            0xcd => Token::Uint(u64::from(u16::from_be_bytes(self.array()?))),
            0xce => Token::Uint(u64::from(u32::from_be_bytes(self.array()?))),
            0xcf => Token::Uint(u64::from_be_bytes(self.array()?)),
            0xd0 => Token::Int(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => Token::Int(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Token::Int(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Token::Int(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.extension(1 << (code - 0xd4))?,
            0xd9..=0xdb => {
                let length = self.length(1 << (code - 0xd9))?;
                Token::Text(self.bytes(length)?)
            }
            0xdc | 0xdd => Token::Array(self.length(if code == 0xdc { 2 } else { 4 })?),
            0xde | 0xdf => Token::Map(self.length(if code == 0xde { 2 } else { 4 })?),
            0xe0..=0xff => Token::Int(i64::from(i8::from_be_bytes([code]))),
        })
    }

    /// Passes over one value, however deep: every step takes at least a byte, so it ends.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        let mut pending: u64 = 1;
        while pending > 0 {
            pending = pending.saturating_sub(1).saturating_add(match self.token()? {
                Token::Array(length) => length as u64,
                Token::Map(length) => (length as u64).saturating_mul(2),
                _ => 0,
            });
        }
        Ok(())
    }

    /// Passes over what belongs to a token that was read.
    pub(crate) fn skip_rest(&mut self, token: &Token<'_>) -> Result<(), Malformed> {
        let values = match token {
            Token::Array(length) => *length,
            Token::Map(length) => length.saturating_mul(2),
            _ => 0,
        };
        for _ in 0..values {
            self.skip()?;
        }
        Ok(())
    }

    /// One value as JSON.
    pub(crate) fn json(&mut self) -> Result<Json, Malformed> {
        let mut json = Json::default();
        self.value(&mut json, 0)?;
        Ok(json)
    }

    fn value(&mut self, json: &mut Json, depth: usize) -> Result<(), Malformed> {
        let token = self.token()?;
        match token {
            Token::Array(length) => {
                nested(depth)?;
                json.text.push('[');
                for n in 0..length {
                    json.comma(n);
                    self.value(json, depth + 1)?;
                }
                json.text.push(']');
            }
            Token::Map(length) => {
                nested(depth)?;
                json.text.push('{');
                for n in 0..length {
                    json.comma(n);
                    let key = self.token()?;
                    json.key(&key)?;
                    json.text.push(':');
                    self.value(json, depth + 1)?;
                }
                json.text.push('}');
            }
            Token::Binary(range) => json.attach(self.source.slice(range))?,
            Token::Extension(kind, range) => json.extension(kind, self.source.slice(range))?,
            scalar => json.scalar(&scalar),
        }
        Ok(())
    }
}

fn nested(depth: usize) -> Result<(), Malformed> {
    if depth < DEPTH { Ok(()) } else { Err(Malformed::Excessive) }
}
