//! Between JSON text with attachments and MessagePack.
//!
//! In comes what the Socket.IO layer holds, the text of a JSON array and its binary attachments, and out
//! comes the MessagePack that Node's parser would write, attachments in their places; and back. Either
//! way it is one pass without a tree in between; attachments that are read share the message's memory.
//!
//! Reading never panics, whatever the bytes, and its depth and its attachments are bounded.

use std::{collections::VecDeque, fmt, fmt::Write as _, ops::Range};

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// As deep as JSON texts may nest here; deeper ones are no use to anybody and cost stack.
const DEPTH: usize = 127;

/// More attachments than any client would take.
const ATTACHMENTS: usize = 10_000;

/// Why a message is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// It ends too early.
    #[error("the message ends too early")]
    Truncated,
    /// Something follows it.
    #[error("bytes follow the message")]
    Trailing,
    /// It nests deeper, or holds more attachments, than is allowed.
    #[error("the message nests too deeply or holds too many attachments")]
    Excessive,
    /// It is MessagePack or JSON, but not what a message consists of.
    #[error("the message has no usable {0}")]
    Shape(&'static str),
    /// It is neither MessagePack nor JSON.
    #[error("the message is neither MessagePack nor JSON")]
    Unreadable,
}

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

/// JSON text and its attachments, in the order of their placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Json {
    pub(crate) text: String,
    pub(crate) attachments: VecDeque<Bytes>,
}

impl Json {
    fn comma(&mut self, n: usize) {
        if n > 0 {
            self.text.push(',');
        }
    }

    /// Keys are text in JSON, whatever they are in MessagePack.
    fn key(&mut self, key: &Token<'_>) -> Result<(), Malformed> {
        match key {
            Token::Text(_) => self.scalar(key),
            Token::Nil | Token::Bool(_) | Token::Uint(_) | Token::Int(_) | Token::Float(_) => {
                self.text.push('"');
                self.scalar(key);
                self.text.push('"');
            }
            _ => return Err(Malformed::Shape("key of a map")),
        }
        Ok(())
    }

    fn scalar(&mut self, token: &Token<'_>) {
        match token {
            Token::Bool(true) => self.text.push_str("true"),
            Token::Bool(false) => self.text.push_str("false"),
            Token::Uint(n) => self.display(n),
            Token::Int(n) => self.display(n),
            Token::Float(n) => self.float(*n),
            Token::Text(text) => escape(&String::from_utf8_lossy(text), &mut self.text),
            _ => self.text.push_str("null"),
        }
    }

    fn display(&mut self, value: impl fmt::Display) {
        // Writing into a string cannot fail.
        let _ = write!(self.text, "{value}");
    }

    /// Whole numbers have no point and what is no number is null, as JavaScript writes them.
    fn float(&mut self, value: f64) {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match serde_json::Number::from_f64(value) {
            None => self.text.push_str("null"),
            Some(_) if value.fract() == 0.0 && value.abs() < EXACT => {
                #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
                self.display(value as i64);
            }
            Some(number) => self.display(number),
        }
    }

    fn attach(&mut self, bytes: Bytes) -> Result<(), Malformed> {
        if self.attachments.len() >= ATTACHMENTS {
            return Err(Malformed::Excessive);
        }
        let number = self.attachments.len();
        self.display(format_args!("{{\"_placeholder\":true,\"num\":{number}}}"));
        self.attachments.push_back(bytes);
        Ok(())
    }

    /// Type -1 is a time; 0 was, before there was a type for it, undefined or binary; the others are
    /// shown as Node's parser shows them.
    fn extension(&mut self, kind: i8, bytes: Bytes) -> Result<(), Malformed> {
        match (kind, &bytes[..]) {
            (-1, _) => match super::time::read(&bytes) {
                Some(iso) => self.display(format_args!("\"{iso}\"")),
                None => self.text.push_str("null"),
            },
            (0, [0]) => self.text.push_str("null"),
            (0, _) => self.attach(bytes)?,
            (kind, _) => {
                self.display(format_args!("[{kind},"));
                self.attach(bytes)?;
                self.text.push(']');
            }
        }
        Ok(())
    }
}

/// Writes text as a JSON string.
pub(crate) fn escape(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(text.get(plain..at).unwrap_or_default());
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                let _ = write!(out, "\\u{control:04x}");
            }
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}

/// Writes MessagePack as Node's parser does: everything in its shortest form.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.out.into()
    }

    pub(crate) fn nil(&mut self) {
        self.out.push(0xc0);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(if value { 0xc3 } else { 0xc2 });
    }

    pub(crate) fn array(&mut self, length: usize) {
        self.head(length, 0x90, 16, [None, Some(0xdc), Some(0xdd)]);
    }

    pub(crate) fn map(&mut self, length: usize) {
        self.head(length, 0x80, 16, [None, Some(0xde), Some(0xdf)]);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.head(text.len(), 0xa0, 32, [Some(0xd9), Some(0xda), Some(0xdb)]);
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn binary(&mut self, bytes: &[u8]) {
        self.head(bytes.len(), 0xc4, 0, [Some(0xc4), Some(0xc5), Some(0xc6)]);
        self.out.extend_from_slice(bytes);
    }

    /// What is MessagePack already.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A length in its shortest form: within the code, or in one, two or four bytes.
    #[expect(clippy::cast_possible_truncation, reason = "each arm checks that it fits")]
    fn head(&mut self, length: usize, base: u8, fix: usize, codes: [Option<u8>; 3]) {
        let [one, two, four] = codes;
        match (one, two, four) {
            _ if length < fix => self.out.push(base | length as u8),
            (Some(code), ..) if length < 1 << 8 => self.out.extend([code, length as u8]),
            (_, Some(code), _) if length < 1 << 16 => {
                self.out.push(code);
                self.out.extend((length as u16).to_be_bytes());
            }
            // Nothing here is as long as four gigabytes: texts come from connections with a limit.
            (_, _, code) => {
                self.out.push(code.unwrap_or(base));
                self.out.extend((length as u32).to_be_bytes());
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "each arm checks that it fits")]
    pub(crate) fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.out.push(value as u8),
            0x80..=0xff => self.out.extend([0xcc, value as u8]),
            0x100..=0xffff => {
                self.out.push(0xcd);
                self.out.extend((value as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(0xce);
                self.out.extend((value as u32).to_be_bytes());
            }
            _ => {
                self.out.push(0xcf);
                self.out.extend(value.to_be_bytes());
            }
        }
    }

    fn int(&mut self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            return self.uint(value);
        }
        if let Ok(small) = i8::try_from(value) {
            if small < -32 {
                self.out.push(0xd0);
            }
            self.out.extend(small.to_be_bytes());
        } else if let Ok(value) = i16::try_from(value) {
            self.out.push(0xd1);
            self.out.extend(value.to_be_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.out.push(0xd2);
            self.out.extend(value.to_be_bytes());
        } else {
            self.out.push(0xd3);
            self.out.extend(value.to_be_bytes());
        }
    }

    /// JavaScript has one kind of number: what is whole is written as whole.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, and within the limits that are compared with"
    )]
    fn float(&mut self, value: f64) {
        const UINT_END: f64 = 18_446_744_073_709_551_616.0;
        const INT_BEGIN: f64 = -9_223_372_036_854_775_808.0;
        let whole = value.fract() == 0.0;
        if whole && (0.0..UINT_END).contains(&value) {
            self.uint(value as u64);
        } else if whole && (INT_BEGIN..0.0).contains(&value) {
            self.int(value as i64);
        } else {
            self.out.push(0xcb);
            self.out.extend(value.to_be_bytes());
        }
    }

    /// JSON text, its placeholders filled with the attachments.
    pub(crate) fn json(&mut self, text: &str, attachments: &VecDeque<Bytes>) -> Result<(), Malformed> {
        let mut json = serde_json::Deserializer::from_str(text);
        let fill = Fill { writer: self, attachments };
        fill.deserialize(&mut json).map_err(|_| Malformed::Unreadable)?;
        json.end().map_err(|_| Malformed::Trailing)
    }

    /// Writes the length of what was written since `at`, where one byte was left for it.
    #[expect(clippy::cast_possible_truncation, reason = "each arm checks that it fits")]
    fn close(&mut self, at: usize, length: usize, base: u8, code: u8) {
        let head = at..at.saturating_add(1);
        match length {
            0..16 => drop(self.out.splice(head, [base | length as u8])),
            16..0x1_0000 => {
                let [a, b] = (length as u16).to_be_bytes();
                drop(self.out.splice(head, [code, a, b]));
            }
            _ => {
                let [a, b, c, d] = (length as u32).to_be_bytes();
                drop(self.out.splice(head, [code + 1, a, b, c, d]));
            }
        }
    }
}

/// Writes one JSON value as it is read.
struct Fill<'w, 'a> {
    writer: &'w mut Writer,
    attachments: &'a VecDeque<Bytes>,
}

impl<'de> DeserializeSeed<'de> for Fill<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.writer.nil();
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.writer.bool(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.writer.uint(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.writer.int(value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.writer.float(value);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.writer.text(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { writer, attachments } = self;
        let at = writer.out.len();
        writer.out.push(0);
        let mut length = 0;
        while items.next_element_seed(Fill { writer: &mut *writer, attachments })?.is_some() {
            length += 1;
        }
        writer.close(at, length, 0x90, 0xdc);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { writer, attachments } = self;
        let at = writer.out.len();
        writer.out.push(0);
        let mut length = 0;
        let (mut marked, mut number) = (false, None);
        while let Some(key) = entries.next_key_seed(Key(&mut *writer))? {
            let value_at = writer.out.len();
            entries.next_value_seed(Fill { writer: &mut *writer, attachments })?;
            length += 1;
            let value = writer.out.get(value_at..).unwrap_or_default();
            match key {
                Known::Placeholder => marked = value == [0xc3],
                Known::Number => number = small(value),
                Known::Other => {}
            }
        }
        let placeholder = (marked && length == 2).then_some(number).flatten();
        match placeholder.and_then(|number| attachments.get(number)) {
            Some(attachment) => {
                writer.out.truncate(at);
                writer.binary(attachment);
            }
            None if marked && length == 2 && !attachments.is_empty() => {
                return Err(A::Error::custom("a placeholder without an attachment"));
            }
            None => writer.close(at, length, 0x80, 0xde),
        }
        Ok(())
    }
}

/// The number of an attachment, as it was written.
fn small(written: &[u8]) -> Option<usize> {
    match *written {
        [n @ 0..=0x7f] | [0xcc, n] => Some(usize::from(n)),
        [0xcd, a, b] => Some(usize::from(u16::from_be_bytes([a, b]))),
        _ => None,
    }
}

/// Writes a key and says whether it is one of a placeholder's.
struct Key<'w>(&'w mut Writer);

enum Known {
    Placeholder,
    Number,
    Other,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Known;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Known, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Known, E> {
        self.0.text(key);
        Ok(match key {
            "_placeholder" => Known::Placeholder,
            "num" => Known::Number,
            _ => Known::Other,
        })
    }
}

#[cfg(test)]
#[path = "msgpack_tests.rs"]
mod tests;
