//! Why a call did not end well, and what its sender is told of that.
//!
//! Reasons are for logs; clients get a code and a text that gives nothing away of what stands behind.

/// The longest code of an application that is passed on.
const CODE_CHARS: usize = 64;

/// Why a call did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The application said no.
    #[error("refused with {code}: {message}")]
    Refused {
        /// The application's code, as it gave it.
        code: String,
        /// The application's words for the client.
        message: String,
    },
    /// The application is down, or has no room.
    #[error("unavailable: {0}")]
    Unavailable(Reason),
    /// The application took too long.
    #[error("too late")]
    Timeout,
}

/// Why an application is not available.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// All slots and all places in line are taken, or the stream is at its cap.
    #[error("queue full")]
    QueueFull,
    /// It failed too often just now and is left alone.
    #[error("breaker open")]
    BreakerOpen,
    /// It cannot be reached, or broke off, or says itself that it is in trouble.
    #[error("{0}")]
    Down(String),
    /// What it answered cannot be understood.
    #[error("broken answer: {0}")]
    Broken(String),
}

impl Failure {
    /// The code on the wire. An application's own code is passed on where it looks like one.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } if is_code(code) => code,
            Self::Refused { .. } => "INTERNAL",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
        }
    }

    /// What the client is told. [`ToString`] is for logs.
    pub fn message(&self) -> &str {
        match self {
            Self::Refused { message, .. } => message,
            Self::Unavailable(Reason::QueueFull) => "too much work is waiting, try again later",
            Self::Unavailable(Reason::BreakerOpen | Reason::Down(_) | Reason::Broken(_)) => {
                "the service behind is not available"
            }
            Self::Timeout => "the service behind did not answer in time",
        }
    }

    /// Whether it is worth while to ask again.
    pub(super) fn is_down(&self) -> bool {
        matches!(self, Self::Unavailable(Reason::Down(_)))
    }

    pub(super) fn down(reason: impl Into<String>) -> Self {
        Self::Unavailable(Reason::Down(reason.into()))
    }

    pub(super) fn broken(reason: impl Into<String>) -> Self {
        Self::Unavailable(Reason::Broken(reason.into()))
    }
}

/// Whether this is a code that clients may be shown: capital letters and underscores.
fn is_code(code: &str) -> bool {
    let right_size = (1..=CODE_CHARS).contains(&code.len());
    right_size && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_passed_on_where_they_look_like_codes() {
        let long = "A".repeat(65);
        let cases = [
            ("listed", "FORBIDDEN", "FORBIDDEN"),
            ("own", "OUT_OF_PAPER", "OUT_OF_PAPER"),
            ("empty", "", "INTERNAL"),
            ("small letters", "forbidden", "INTERNAL"),
            ("digits", "E404", "INTERNAL"),
            ("too long", long.as_str(), "INTERNAL"),
        ];
        for (name, code, want) in cases {
            let failure = Failure::Refused { code: code.into(), message: String::new() };
            assert_eq!(failure.code(), want, "{name}");
        }
        assert_eq!(Failure::Timeout.code(), "TIMEOUT");
        assert_eq!(Failure::down("x").code(), "UNAVAILABLE");
    }
}
