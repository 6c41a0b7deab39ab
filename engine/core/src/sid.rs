//! The public id of a connection.
//!
//! It is what other clients, the server API and the adapter see. It is no credential: the id by which
//! a client polls and upgrades is another one, which only that client knows.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Characters of an id: those of Node's server, whose cluster adapter tells ids by their length.
const LENGTH: usize = 20;

/// Random bytes of an id.
const RANDOM: usize = 12;

/// Bytes behind them, by which an id is told from other names. With these, base64 writes exactly
/// [`LENGTH`] characters.
const MARK: usize = 3;

/// A connection's public id: 20 characters that are safe in a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sid([u8; LENGTH]);

/// By eight of its characters: all of them are random, and a broadcast hashes the id of each receiver.
impl Hash for Sid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let eight = self.0.first_chunk().copied().unwrap_or_default();
        state.write_u64(u64::from_ne_bytes(eight));
    }
}

impl Sid {
    /// The id of nobody.
    pub const ZERO: Self = Self([b'0'; LENGTH]);

    /// A new one, of 96 random bits.
    pub fn new() -> Self {
        let random: [u8; RANDOM] = rand::random();
        let mut bytes = [0; RANDOM + MARK];
        bytes[..RANDOM].copy_from_slice(&random);
        bytes[RANDOM..].copy_from_slice(&mark(&random));
        let mut id = [b'0'; LENGTH];
        let written = BASE64_URL_SAFE_NO_PAD.encode_slice(bytes, &mut id);
        debug_assert_eq!(written, Ok(LENGTH), "15 bytes are 20 characters");
        Self(id)
    }

    /// Whether [`Sid::new`] makes such ids, on whatever pod: of other names one in sixteen million looks
    /// like it.
    pub fn is_minted(&self) -> bool {
        let mut bytes = [0; RANDOM + MARK];
        let read = BASE64_URL_SAFE_NO_PAD.decode_slice(self.0, &mut bytes);
        match bytes.split_first_chunk::<RANDOM>() {
            Some((random, own)) => read.is_ok() && *own == mark(random),
            None => false,
        }
    }

    /// As text.
    pub const fn as_str(&self) -> &str {
        match std::str::from_utf8(&self.0) {
            Ok(text) => text,
            // Only characters of base64 are ever put in.
            Err(_) => "",
        }
    }
}

/// What stands behind these random bytes: it is no secret, and proves nothing.
fn mark(random: &[u8; RANDOM]) -> [u8; MARK] {
    // FNV-1a, folded.
    let hash = random.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let folded = hash >> 40 ^ hash >> 16;
    let [_, _, _, _, _, mark @ ..] = folded.to_be_bytes();
    mark
}

impl Default for Sid {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SidDecodeError {
    /// It has a character that no id has.
    InvalidBase64String,
    /// It is too short or too long.
    InvalidLength,
}

impl fmt::Display for SidDecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidBase64String => "an id has letters, digits, - and _ only",
            Self::InvalidLength => "an id has 20 characters",
        })
    }
}

impl std::error::Error for SidDecodeError {}

impl FromStr for Sid {
    type Err = SidDecodeError;

    fn from_str(text: &str) -> Result<Self, SidDecodeError> {
        let id: [u8; LENGTH] =
            text.as_bytes().try_into().map_err(|_| SidDecodeError::InvalidLength)?;
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !id.iter().all(good) {
            return Err(SidDecodeError::InvalidBase64String);
        }
        Ok(Self(id))
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Sid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Sid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id of 20 characters")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Sid, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Sid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_as_written() {
        for _ in 0..100 {
            let id = Sid::new();
            assert_eq!(id.as_str().len(), LENGTH);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert!(id.is_minted(), "{id}");
        }
        assert_ne!(Sid::new(), Sid::new());
        assert_eq!(Sid::ZERO.as_str().parse(), Ok(Sid::ZERO));
        for name in ["00000000000000000000", "a-room-of-twenty-cha", "PmxQRgUX4A0JiFz_AAAB"] {
            let other: Sid = name.parse().expect(name);
            assert!(!other.is_minted(), "{name}");
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        let cases = [
            ("empty", "", SidDecodeError::InvalidLength),
            ("16 characters", "AA9AAA0AAzAAAAHs", SidDecodeError::InvalidLength),
            ("21 characters", "AA9AAA0AAzAAAAHsAAAAA", SidDecodeError::InvalidLength),
            ("a slash", "AA9AAA0AAzAAAAHsAAA/", SidDecodeError::InvalidBase64String),
            ("20 bytes, not ascii", "ääääääääää", SidDecodeError::InvalidBase64String),
        ];
        for (name, text, want) in cases {
            assert_eq!(text.parse::<Sid>(), Err(want), "{name}");
        }
    }
}
