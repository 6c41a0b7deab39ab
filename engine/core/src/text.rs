//! Text that its receivers share: a clone or a part of it copies nothing.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    hash::{Hash, Hasher},
    ops::{Bound, Deref, RangeBounds},
};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Shared text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str(ByteString);

impl Str {
    /// A part of it, which shares its memory. A range that does not lie within it, or cuts a
    /// character, is the caller's mistake and gives an empty text.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&at) => at.saturating_add(1),
            Bound::Excluded(&at) => at,
            Bound::Unbounded => self.0.len(),
        };
        let part = self.0.get(start..end);
        debug_assert!(
            part.is_some(),
            "{start}..{end} is no part of {} bytes of text",
            self.0.len()
        );
        part.map_or_else(Self::default, |part| Self(self.0.slice_ref(part)))
    }

    /// As plain text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The byte at an index.
    pub fn get(&self, index: usize) -> Option<&u8> {
        self.as_bytes().get(index)
    }

    /// A copy of some text.
    pub fn copy_from_slice(text: &str) -> Self {
        Self(ByteString::from(text))
    }

    /// What an encoder wrote. The name is what the Socket.IO layer calls; its promise that the bytes
    /// are UTF-8 is checked here all the same, and bytes that are not become what the standard
    /// library makes of them.
    pub fn from_bytes_unchecked(bytes: Bytes) -> Self {
        Self::from(bytes)
    }
}

impl From<Bytes> for Str {
    fn from(bytes: Bytes) -> Self {
        match ByteString::try_from(bytes.clone()) {
            Ok(text) => Self(text),
            Err(_) => Self::from(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

/// As `str` hashes, since it is looked up by `str`.
impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&'static str> for Str {
    fn from(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(ByteString::from(text))
    }
}

impl From<Cow<'static, str>> for Str {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::from(text),
            Cow::Owned(text) => Self::from(text),
        }
    }
}

impl From<&Cow<'static, str>> for Str {
    fn from(text: &Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::from(*text),
            Cow::Owned(text) => Self::copy_from_slice(text),
        }
    }
}

impl From<Str> for Bytes {
    fn from(text: Str) -> Self {
        text.0.into_bytes()
    }
}

impl From<Str> for String {
    fn from(text: Str) -> Self {
        text.as_str().to_owned()
    }
}

impl From<Str> for Vec<u8> {
    fn from(text: Str) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<Str> for &str {
    fn eq(&self, other: &Str) -> bool {
        *self == other.as_str()
    }
}

impl Serialize for Str {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Str, E> {
        Ok(Str::copy_from_slice(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Str, E> {
        Ok(Str::from(text))
    }
}

impl<'de> Deserialize<'de> for Str {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_their_memory() {
        let text = Str::from("aé€".to_owned());
        let cases = [
            ("all", text.slice(..), "aé€"),
            ("the end", text.slice(1..), "é€"),
            ("the middle", text.slice(1..3), "é"),
            ("inclusive", text.slice(1..=2), "é"),
            ("nothing", text.slice(6..), ""),
        ];
        for (name, part, want) in cases {
            assert_eq!(part, want, "{name}");
        }
        assert_eq!(text.slice(3..).as_bytes().as_ptr(), text.as_bytes()[3..].as_ptr());
    }

    #[test]
    fn bytes_that_are_no_text() {
        assert_eq!(Str::from_bytes_unchecked(Bytes::from_static(b"a\xffb")), "a\u{fffd}b");
        assert_eq!(Str::from_bytes_unchecked(Bytes::from_static("é".as_bytes())), "é");
    }
}
