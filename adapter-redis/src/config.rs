//! What an operator can set about Redis.
//!
//! In comes a section of the configuration, out come its values with a default for each. The URL may
//! carry a password: it is never shown, logged or written out again.

use std::{fmt, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Where Redis is, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// The server: `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, or
    /// `unix:///path/to/socket`. Behind Sentinel: `redis+sentinel://[user:password@]host[:port],…/name[/db]`,
    /// of the sentinels and the master's name; sentinels that want a login have it as
    /// `?sentinel_user=…&sentinel_password=…`. A Redis Cluster: `redis+cluster://[user:password@]host[:port],…`,
    /// of some of its nodes. Both with `rediss+…` for TLS.
    pub url: RedisUrl,
    /// What every key of the gateway begins with, up to a colon. An ACL user needs `~<prefix>:*`.
    pub prefix: String,
    /// What the channels shared with Node's `@socket.io/redis-adapter` begin with.
    pub channel_prefix: String,
    /// A file of PEM certificates to trust for `rediss://`, instead of the public authorities.
    pub tls_ca: Option<PathBuf>,
    /// A file with the PEM certificate by which this pod shows who it is, where the server wants one.
    pub tls_cert: Option<PathBuf>,
    /// The file with the key of `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// How long a connection may take to be made.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// How long an answer may take. Together with `connect_timeout` it bounds every call.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub response_timeout: Duration,
    /// How long a pod that no longer answers keeps what its connections hold. It is renewed about once a
    /// second; with 6 seconds, what a dead pod held is gone within 10.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub lease: Duration,
    /// How long a dead pod keeps a turn that it had.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub turn_lease: Duration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: RedisUrl::default(),
            prefix: "gateway".to_owned(),
            channel_prefix: "socket.io".to_owned(),
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            connect_timeout: Duration::from_millis(500),
            response_timeout: Duration::from_millis(500),
            lease: Duration::from_secs(6),
            turn_lease: Duration::from_secs(8),
        }
    }
}

/// The address of a Redis server, with its password if it has one. Whatever prints it hides the
/// password; only [`RedisUrl::reveal`] gives it.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The URL as it was written, password included.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    fn redacted(&self) -> String {
        if !self.is_set() {
            return String::new();
        }
        let (address, query) = match self.0.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (self.0.as_str(), None),
        };
        let mut shown = match (address.split_once("://"), address.rfind('@')) {
            (Some((scheme, _)), Some(at)) => {
                let begins = scheme.len() + 3;
                let user = address.get(begins..at).unwrap_or("");
                let name = user.split_once(':').map_or("", |(name, _)| name);
                format!("{scheme}://{name}:***{}", address.get(at..).unwrap_or(""))
            }
            (Some(_), None) => address.to_owned(),
            // What is no URL may be a password in the wrong place.
            (None, _) => "***".to_owned(),
        };
        if let Some(query) = query {
            let secret = query.contains("pass");
            shown.push('?');
            shown.push_str(if secret { "***" } else { query });
        }
        shown
    }
}

impl Default for RedisUrl {
    /// None.
    fn default() -> Self {
        Self(String::new())
    }
}

impl From<String> for RedisUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl From<&str> for RedisUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.redacted(), f)
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        let cases = [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:secret@host", "redis://:***@host"),
            ("redis://user:secret@host:6379/2", "redis://user:***@host:6379/2"),
            ("rediss://user:sec@ret:/x@host", "rediss://user:***@host"),
            ("redis://secret@host", "redis://:***@host"),
            ("unix:///tmp/r.sock?db=1", "unix:///tmp/r.sock?db=1"),
            ("unix:///tmp/r.sock?db=1&pass=secret", "unix:///tmp/r.sock?***"),
            ("secret", "***"),
            ("redis+cluster://user:secret@h1:1,h2", "redis+cluster://user:***@h1:1,h2"),
            (
                "rediss+sentinel://u:sec@h1,h2/main/2?sentinel_password=secret",
                "rediss+sentinel://u:***@h1,h2/main/2?***",
            ),
        ];
        for (url, want) in cases {
            let config = RedisConfig { url: url.into(), ..RedisConfig::default() };
            assert_eq!(config.url.to_string(), want, "{url}");
            assert!(!format!("{config:?}").contains("sec"), "{url}: {config:?}");
            assert!(!serde_json::to_string(&config).unwrap().contains("sec"), "{url}");
            assert_eq!(config.url.reveal(), url);
        }
    }

    #[test]
    fn keys_are_read_and_unknown_ones_refused() {
        let text = r#"{"url": "redis://h", "lease": "2s 500ms", "tls_ca": "/ca.pem"}"#;
        let config: RedisConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.lease, Duration::from_millis(2500));
        assert_eq!(config.prefix, "gateway");
        assert!(serde_json::from_str::<RedisConfig>(r#"{"urll": "redis://h"}"#).is_err());
        let default = serde_json::to_string(&RedisConfig::default()).unwrap();
        assert_eq!(serde_json::from_str::<RedisConfig>(&default).unwrap(), RedisConfig::default());
    }
}
