//! Who is it? A token comes in, the proven [`Claims`] go out.
//!
//! ```text
//! token ─▶ header: which alg, which kid ─▶ keys of that alg ─▶ signature ─▶ times, issuer, audience ─▶ Claims
//!                                             ▲
//!               secret · PEM files · JWKS ────┘ (refreshed when old, at once for an unknown kid)
//! ```
//!
//! What it never does: believe a token's own word on which algorithm a key is for, treat a bad token as
//! no token, log a token or a secret, or let a peer make it fetch keys more than once in ten seconds.
//! Where keys cannot be fetched it goes on with those it has; with none it says so.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

mod claims;
mod config;
mod jwks;
mod keys;
mod metrics;
mod mint;
mod secret;
#[cfg(test)]
mod tests;

pub use claims::{Claims, User};
pub use config::{AuthConfig, ClaimNames};
pub use mint::mint;
pub use secret::{Secret, SecretError};

use claims::Rules;
use jwks::Jwks;
use keys::Key;
use metrics::{Metrics, Outcome};

/// No identity provider's token comes near this; a longer one is refused unread.
const TOKEN_BYTES: usize = 8 * 1024;

/// Why a token is refused. The texts are those that a client's `connect_error` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Malformed, badly signed, of a wrong algorithm, issuer or audience, or not valid yet.
    #[error("Invalid or expired token")]
    Invalid,
    /// It was valid once.
    #[error("Invalid or expired token")]
    Expired,
    /// Good, but it names nobody.
    #[error("Invalid token payload")]
    NoSubject,
    /// It cannot be judged: the keys are not to be had.
    #[error("Invalid or expired token")]
    KeysUnavailable,
}

/// Why `[auth]` cannot be used as it stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// A secret is given twice, is empty, or its file cannot be read.
    #[error("auth.{key}: {source}")]
    Secret {
        /// The key inside `[auth]`.
        key: &'static str,
        /// What is wrong with it.
        source: SecretError,
    },
    /// A file of `public_keys` cannot be read.
    #[error("auth.public_keys: cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of `public_keys` holds no key that a token may be signed with.
    #[error("auth.public_keys: {}: {reason}", path.display())]
    BadKey {
        /// The file.
        path: std::path::PathBuf,
        /// What it holds, and what would be right.
        reason: &'static str,
    },
    /// `jwks_url` is not an address that keys can be fetched from.
    #[error("auth.jwks_url: {0}; it is an http:// or https:// address")]
    JwksUrl(String),
    /// A key has a value that makes no sense.
    #[error("auth.{key}: {reason}")]
    BadValue {
        /// The key inside `[auth]`.
        key: &'static str,
        /// What would be right.
        reason: &'static str,
    },
    /// The HTTP client for `jwks_url` cannot be made.
    #[error("auth.jwks_url: no HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// The metrics have been registered already.
    #[error("identity metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A token could not be signed.
    #[error("cannot sign the token: {0}")]
    Signing(#[source] jsonwebtoken::errors::Error),
}

/// Judges tokens. Clones are cheap and share their keys.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

struct Inner {
    live: ArcSwap<Live>,
    metrics: Metrics,
    tracker: TaskTracker,
}

/// All that a reload replaces at once.
struct Live {
    rules: Rules,
    keys: Vec<Key>,
    jwks: Option<Jwks>,
}

impl Verifier {
    /// Reads the secret and the key files; a JWKS is fetched when the first token needs it. Fetches run
    /// as tasks of `tracker`, so that a client that leaves does not stop one that others wait for.
    pub fn new(
        config: &AuthConfig,
        registry: &prometheus::Registry,
        tracker: TaskTracker,
    ) -> Result<Self, AuthError> {
        install_provider();
        let metrics = Metrics::new(registry)?;
        let live = ArcSwap::from_pointee(Live::new(config, None)?);
        Ok(Self { inner: Arc::new(Inner { live, metrics, tracker }) })
    }

    /// Takes over changed settings and keys. Fetched keys are kept where the address stays; where
    /// anything is wrong, everything stays as it was.
    pub fn reload(&self, config: &AuthConfig) -> Result<(), AuthError> {
        let old = self.inner.live.load_full();
        let live = Live::new(config, old.jwks.as_ref())?;
        self.inner.live.store(Arc::new(live));
        Ok(())
    }

    /// Whether any token could be good: a secret, a key file or a JWKS address is set.
    pub fn has_keys(&self) -> bool {
        let live = self.inner.live.load();
        !live.keys.is_empty() || live.jwks.is_some()
    }

    /// Judges one token. It waits only where keys have to be fetched first, and then a few seconds at most.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let judged = self.judge(token).await;
        let outcome = match &judged {
            Ok(_) => Outcome::Accepted,
            Err(TokenError::Invalid) => Outcome::Invalid,
            Err(TokenError::Expired) => Outcome::Expired,
            Err(TokenError::NoSubject) => Outcome::NoSubject,
            Err(TokenError::KeysUnavailable) => Outcome::KeysUnavailable,
        };
        self.inner.metrics.judged(outcome);
        judged
    }

    async fn judge(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        if header.crit.is_some() {
            // RFC 7515 §4.1.11: an extension that must be understood and is not makes the token invalid.
            return Err(TokenError::Invalid);
        }
        let live = self.inner.live.load_full();
        let payload = match signed_by_any(token, &header, live.keys.iter()) {
            Some(payload) => payload,
            None => self.signed_by_fetched(token, &header, &live).await?,
        };
        live.rules.apply(&payload, SystemTime::now())
    }

    /// Tries the fetched keys, fetching them first where there are none or the token names an unknown one.
    async fn signed_by_fetched(
        &self,
        token: &str,
        header: &Header,
        live: &Live,
    ) -> Result<Map<String, Value>, TokenError> {
        let Some(jwks) = live.jwks.as_ref().filter(|_| keys::is_public(header.alg)) else {
            return Err(TokenError::Invalid);
        };
        if jwks.lacks(header.kid.as_deref()) {
            jwks.refresh(&self.inner.tracker, &self.inner.metrics).await;
        } else if jwks.is_old() {
            jwks.refresh_behind(&self.inner.tracker, &self.inner.metrics);
        }
        let fetched = jwks.keys().ok_or(TokenError::KeysUnavailable)?;
        let named = fetched.iter().filter(|key| key.may_be(header.kid.as_deref()));
        signed_by_any(token, header, named).ok_or(TokenError::Invalid)
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("has_keys", &self.has_keys()).finish_non_exhaustive()
    }
}

impl Live {
    fn new(config: &AuthConfig, before: Option<&Jwks>) -> Result<Self, AuthError> {
        let rules = Rules::new(config)?;
        let keys = keys::configured(config)?;
        let jwks =
            config.jwks_url.as_deref().map(|url| Jwks::new(url, config.jwks_refresh, before));
        Ok(Self { rules, keys, jwks: jwks.transpose()? })
    }
}

/// The payload, if one of the keys signed it. A key is only ever tried with its own algorithm, so a public
/// key cannot be passed off as an HMAC secret.
fn signed_by_any<'a>(
    token: &str,
    header: &Header,
    keys: impl Iterator<Item = &'a Key>,
) -> Option<Map<String, Value>> {
    keys.filter(|key| key.alg == header.alg).find_map(|key| {
        let signature_only = signature_only(key.alg);
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &signature_only);
        decoded.ok().map(|token| token.claims)
    })
}

/// The library checks the signature and nothing else: its own checks let an issuer or audience of a wrong
/// type pass, and its arithmetic on times can overflow. [`Rules`] does them.
fn signature_only(alg: Algorithm) -> Validation {
    let mut validation = Validation::new(alg);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.leeway = 0;
    validation
}

/// The JWT library panics at first use where it cannot tell which provider is meant, so it is told. A second
/// call changes nothing.
fn install_provider() {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
