//! Writing msgpack.
//!
//! In come values, or JSON text with attachments, out come the bytes that Node's parser would write. The
//! text is read once, and written as it is read. It never writes half a placeholder.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::Malformed;

/// Writes msgpack as Node's parser does: everything in its shortest form.
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

    /// What is msgpack already.
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
    pub(crate) fn json(
        &mut self,
        text: &str,
        attachments: &VecDeque<Bytes>,
    ) -> Result<(), Malformed> {
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
