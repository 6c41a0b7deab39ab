//! Secrets: text comes in from the configuration or a file, and goes out only where it is asked for by name.
//!
//! It never shows itself: `Debug`, `Display` and `Serialize` print `***`.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// More than any key; a larger file is the wrong file.
const FILE_BYTES: u64 = 64 * 1024;

/// Text that must not be seen.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The text and the file are both set.
    #[error("set either this or the key with `_file`, not both")]
    Twice,
    /// Nothing is in it.
    #[error("it is empty")]
    Empty,
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Secret {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret that a pair of keys, `x` and `x_file`, means. A file's trailing white space is not part of it.
    pub fn resolve(text: Option<&Self>, file: Option<&Path>) -> Result<Option<Self>, SecretError> {
        let secret = match (text, file) {
            (Some(_), Some(_)) => return Err(SecretError::Twice),
            (None, None) => return Ok(None),
            (Some(text), None) => text.clone(),
            (None, Some(path)) => {
                let content = read_small(path)
                    .map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })?;
                Self(content.trim_end().to_owned())
            }
        };
        if secret.0.is_empty() { Err(SecretError::Empty) } else { Ok(Some(secret)) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Reads a file of at most 64 KiB.
pub(super) fn read_small(path: &Path) -> io::Result<String> {
    let mut content = String::new();
    File::open(path)?.take(FILE_BYTES + 1).read_to_string(&mut content)?;
    if content.len() as u64 > FILE_BYTES {
        return Err(io::Error::other("it is larger than 64 KiB"));
    }
    Ok(content)
}
