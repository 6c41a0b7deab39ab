//! JSON text with attachments, as the Socket.IO layer holds it.
//!
//! In come the steps of a message, out comes the text of a client's frame: placeholders where there was
//! binary data, times and numbers as JavaScript writes them. What is written is always JSON.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
};

use bytes::Bytes;

use super::{super::time, Malformed, Token};

/// More attachments than any client would take.
const ATTACHMENTS: usize = 10_000;

/// JSON text and its attachments, in the order of their placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Json {
    pub(crate) text: String,
    pub(crate) attachments: VecDeque<Bytes>,
}

impl Json {
    pub(super) fn comma(&mut self, n: usize) {
        if n > 0 {
            self.text.push(',');
        }
    }

    /// Keys are text in JSON, whatever they are in msgpack.
    pub(super) fn key(&mut self, key: &Token<'_>) -> Result<(), Malformed> {
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

    pub(super) fn scalar(&mut self, token: &Token<'_>) {
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

    pub(super) fn attach(&mut self, bytes: Bytes) -> Result<(), Malformed> {
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
    pub(super) fn extension(&mut self, kind: i8, bytes: Bytes) -> Result<(), Malformed> {
        match (kind, &bytes[..]) {
            (-1, _) => match time::read(&bytes) {
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
