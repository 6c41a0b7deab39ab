//! Payloads with blanks: `{n}`, `{room}`, `{mark}` and so on.
//!
//! In comes a text of a scenario, once; out goes the text that one client sends, for every message. A blank is a word of
//! small letters, digits and `_` in braces, which JSON itself never has. An unknown word is a value that the client has
//! captured from an answer.

use std::fmt::Write as _;

use crate::wire::mark::Mark;

/// A text with blanks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Blank(Blank),
}

/// What stands in a blank.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Blank {
    Number,
    User,
    Room,
    Run,
    Mark,
    Seq,
    Token,
    Key,
    Pad,
    Now,
    Captured(Box<str>),
}

/// What a template is filled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling<'f> {
    /// `{n}`: the client's number; `{user}` is made of it.
    pub number: u32,
    /// `{room}`: the number of the client's room, unique to the run.
    pub room: u32,
    /// `{run}`
    pub run: u32,
    /// `{mark}` and `{seq}`
    pub mark: Option<Mark>,
    /// `{token}`
    pub token: &'f str,
    /// `{key}`: the key of the server API.
    pub key: &'f str,
    /// How long `{pad}` is.
    pub pad: usize,
    /// What the client has captured.
    pub captured: &'f [(Box<str>, Box<str>)],
}

impl Template {
    /// Reads a text. It cannot fail: braces that hold no word stay as they are.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            let word = after.split_once('}').filter(|(word, _)| is_word(word));
            if let Some((word, after)) = word {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain).into()));
                }
                parts.push(Part::Blank(Blank::of(word)));
                rest = after;
            } else {
                plain.push('{');
                rest = after;
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Self { parts }
    }

    /// Writes the text with its blanks filled.
    pub(crate) fn fill(&self, with: &Filling<'_>, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Blank(blank) => blank.fill(with, out),
            }
        }
    }

    /// A message that is to be counted needs its mark.
    pub(crate) fn has_mark(&self) -> bool {
        self.parts.contains(&Part::Blank(Blank::Mark))
    }

    /// Somebody has to prove who it is.
    pub(crate) fn has_token(&self) -> bool {
        self.parts.contains(&Part::Blank(Blank::Token))
    }

    /// The words that a client must have captured.
    pub(crate) fn captured(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Blank(Blank::Captured(name)) => Some(&**name),
            Part::Blank(_) | Part::Text(_) => None,
        })
    }
}

fn is_word(word: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !word.is_empty() && word.bytes().all(letter)
}

impl Blank {
    fn of(word: &str) -> Self {
        match word {
            "n" => Self::Number,
            "user" => Self::User,
            "room" => Self::Room,
            "run" => Self::Run,
            "mark" => Self::Mark,
            "seq" => Self::Seq,
            "token" => Self::Token,
            "key" => Self::Key,
            "pad" => Self::Pad,
            "now" => Self::Now,
            other => Self::Captured(other.into()),
        }
    }

    fn fill(&self, with: &Filling<'_>, out: &mut String) {
        // Writing to a string does not fail.
        let written = match self {
            Self::Number => write!(out, "{}", with.number),
            Self::User => write!(out, "u{}-{}", with.run, with.number),
            Self::Room => write!(out, "r{}-{}", with.run, with.room),
            Self::Run => write!(out, "{}", with.run),
            Self::Mark => with.mark.map_or(Ok(()), |mark| write!(out, "{mark}")),
            Self::Seq => with.mark.map_or(Ok(()), |mark| write!(out, "{}", mark.seq)),
            Self::Token => out.write_str(with.token),
            Self::Key => out.write_str(with.key),
            Self::Now => {
                write!(out, "{}", humantime::format_rfc3339_millis(std::time::SystemTime::now()))
            }
            Self::Pad => {
                out.extend(std::iter::repeat_n('x', with.pad));
                Ok(())
            }
            Self::Captured(name) => {
                let found = with.captured.iter().find(|(key, _)| key == name);
                found.map_or(Ok(()), |(_, value)| out.write_str(value))
            }
        };
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_filled_and_all_else_stays() {
        let captured = [("session".into(), "s-9".into())];
        let filling = Filling {
            number: 4,
            room: 2,
            run: 77,
            mark: Some(Mark { run: 77, sender: 4, send: 0, seq: 5, due: 6 }),
            token: "t",
            key: "k",
            pad: 3,
            captured: &captured,
        };
        let cases = [
            ("plain", r#"{"a":{}}"#, r#"{"a":{}}"#),
            (
                "all",
                r#"{"n":"{n} {user} {room} {run} {seq} {token} {key} {pad}"}"#,
                r#"{"n":"4 u77-4 r77-2 77 5 t k xxx"}"#,
            ),
            ("mark", r#"["{mark}"]"#, r#"["~77.4.0.5.6~"]"#),
            ("captured", "{session}{absent}", "s-9"),
            ("no word", "{A}{ }{", "{A}{ }{"),
        ];
        for (name, text, want) in cases {
            let mut out = String::new();
            Template::parse(text).fill(&filling, &mut out);
            assert_eq!(out, want, "{name}");
        }
    }
}
