//! Event names, as the Socket.IO layer can read them.
//!
//! The layer refuses an event whose name is written with a JSON escape, or is a number, and closes the
//! connection. Here such a name is written anew: a number becomes its text; an escape that was not needed becomes its character, and what
//! JSON can only write with one (a quote, a backslash, a control character) becomes a character that
//! stands in for it, so that the name is refused as unknown, readably. Payloads are never touched. A
//! name without a backslash costs a look at its characters.

use std::borrow::Cow;

/// Stand in for the quote and the backslash: their full-width forms.
const QUOTE: char = '\u{ff02}';
const BACKSLASH: char = '\u{ff3c}';

/// The pictures of the control characters begin here.
const PICTURES: u32 = 0x2400;

/// A packet of Socket.IO with its event's name rewritten, if it has one that needs it.
pub(crate) fn readable(message: String) -> String {
    let Some(start) = first_argument(message.as_bytes()) else { return message };
    let rewritten = message.get(start..).and_then(|rest| match rest.as_bytes().first()? {
        b'"' => {
            let end = 1 + end_of_text(rest.get(1..)?)?;
            let name = rest.get(1..end).filter(|name| name.contains('\\'))?;
            Some(["\"", &unescape(name)?, rest.get(end..)?].concat())
        }
        b'-' | b'0'..=b'9' => {
            let (number, _) = rest.split_once([',', ']'])?;
            let behind = rest.get(number.len()..)?;
            let digits = number.trim_ascii_end();
            let good = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
            digits.bytes().all(good).then(|| ["\"", digits, "\"", behind].concat())
        }
        _ => None,
    });
    match (rewritten, message.get(..start)) {
        (Some(rest), Some(before)) => [before, &rest].concat(),
        (None, _) | (_, None) => message,
    }
}

/// Where the first argument of an event is; `None` where the packet is no event.
fn first_argument(bytes: &[u8]) -> Option<usize> {
    let mut at = match bytes.first()? {
        b'2' => 1,
        // A binary event says first how many attachments it has.
        b'5' => 1 + bytes.iter().position(|byte| *byte == b'-')?,
        _ => return None,
    };
    if bytes.get(at) == Some(&b'/') {
        at += 1 + bytes.get(at..)?.iter().position(|byte| *byte == b',')?;
    }
    // The number that an ack is asked for by.
    at += bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let white = |at: usize| {
        Some(at + bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_whitespace()).count())
    };
    let open = white(at)?;
    if bytes.get(open) != Some(&b'[') {
        return None;
    }
    white(open + 1)
}

/// Where the quote is that ends a text.
fn end_of_text(text: &str) -> Option<usize> {
    let mut end = 0;
    loop {
        match text.as_bytes().get(end)? {
            b'"' => return Some(end),
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
}

/// A name without its escapes; `None` where one of them is none.
fn unescape(name: &str) -> Option<Cow<'_, str>> {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        let (kind, behind) = (escape.chars().next()?, escape.get(1..));
        rest = behind.unwrap_or_default();
        let character = match kind {
            '"' => QUOTE,
            '\\' => BACKSLASH,
            '/' => '/',
            'b' => stand_in('\u{8}'),
            'f' => stand_in('\u{c}'),
            'n' => stand_in('\n'),
            'r' => stand_in('\r'),
            't' => stand_in('\t'),
            'u' => {
                let (character, behind) = unicode(rest)?;
                rest = behind;
                stand_in(character)
            }
            _ => return None,
        };
        plain.push(character);
    }
    plain.push_str(rest);
    Some(plain.into())
}

/// The character of `\u`, whose digits are in front; a pair of surrogates is one character, and a
/// lonely one is none.
fn unicode(text: &str) -> Option<(char, &str)> {
    let (first, rest) = four_digits(text)?;
    if (0xd800..0xdc00).contains(&first)
        && let Some((second, behind)) = rest.strip_prefix("\\u").and_then(four_digits)
        && (0xdc00..0xe000).contains(&second)
    {
        let both = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return Some((char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER), behind));
    }
    Some((char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

fn four_digits(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    let number = digits.chars().try_fold(0, |sum, digit| Some(sum * 16 + digit.to_digit(16)?))?;
    Some((number, rest))
}

/// What stands for a character that JSON can only write with an escape; else the character.
fn stand_in(character: char) -> char {
    match character {
        '"' => QUOTE,
        '\\' => BACKSLASH,
        '\0'..' ' => char::from_u32(PICTURES + u32::from(character)).unwrap_or(character),
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_rewritten_and_nothing_else_is() {
        let cases = [
            ("plain", r#"2["a",{"b":"\n"}]"#, r#"2["a",{"b":"\n"}]"#),
            ("newline", r#"2["\n","\n"]"#, "2[\"\u{240a}\",\"\\n\"]"),
            ("quote", r#"27["say \"it\""]"#, "27[\"say \u{ff02}it\u{ff02}\"]"),
            ("backslash", r#"2["a\\",1]"#, "2[\"a\u{ff3c}\",1]"),
            ("slash", r#"2["a\/b"]"#, r#"2["a/b"]"#),
            ("unicode", r#"2["\u0061\u00e9"]"#, r#"2["aé"]"#),
            ("quote by number", r#"2["\u0022"]"#, "2[\"\u{ff02}\"]"),
            ("null", r#"2["\u0000"]"#, "2[\"\u{2400}\"]"),
            ("a pair", r#"2["\ud83d\ude80!"]"#, r#"2["🚀!"]"#),
            ("half a pair", r#"2["\ud83d!"]"#, "2[\"\u{fffd}!\"]"),
            ("two halves", r#"2["\ud83d\ud83d"]"#, "2[\"\u{fffd}\u{fffd}\"]"),
            ("namespace and ack", r#"2/a,12["\t"]"#, "2/a,12[\"\u{2409}\"]"),
            ("attachments", r#"51-/a,["\t",{}]"#, "51-/a,[\"\u{2409}\",{}]"),
            ("white space", "2[ \"\\/\" ]", "2[ \"/\" ]"),
            ("an ack", r#"31["\n"]"#, r#"31["\n"]"#),
            ("a connect", r#"0{"a":"\n"}"#, r#"0{"a":"\n"}"#),
            ("no escape", r#"2["\x"]"#, r#"2["\x"]"#),
            ("cut", r#"2["\"#, r#"2["\"#),
            ("cut digits", r#"2["\u12"]"#, r#"2["\u12"]"#),
            ("not ascii behind", "2[\"\\é\"]", "2[\"\\é\"]"),
            ("a number", "2[5,\"\\n\"]", "2[\"5\",\"\\n\"]"),
            ("a number alone", "2/a,7[ -1.5e3 ]", "2/a,7[ \"-1.5e3\"]"),
            ("no number", "2[5x,1]", "2[5x,1]"),
            ("no name", "2[null,\"\\n\"]", "2[null,\"\\n\"]"),
            ("empty", "", ""),
        ];
        for (name, message, want) in cases {
            assert_eq!(readable(message.to_owned()), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_becomes_readable(name: String, payload: String) {
            let json = serde_json::to_string(&(&name, &payload)).expect("text is JSON");
            let message = readable(format!("2{json}"));
            let start = 1 + first_argument(message.as_bytes()).expect("there is a name");
            let end = start + end_of_text(&message[start..]).expect("it ends");
            prop_assert!(!message[start..end].contains('\\'));
            let back: (String, String) = serde_json::from_str(&message[1..]).expect("it is JSON");
            prop_assert_eq!(back.1, payload);
            if !name.contains(|character: char| character < ' ' || "\"\\".contains(character)) {
                prop_assert_eq!(back.0, name);
            }
        }

        #[test]
        fn any_message_is_taken(message in "[25]?[0-9/,\\[\"\\\\u-]{0,30}\\PC{0,10}") {
            let _ = readable(message);
        }
    }
}
