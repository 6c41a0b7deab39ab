//! `[auth]`: how tokens are checked.
//!
//! In comes the section as written; out go its defaults and its meaning. It reads no file but that of the secret, when asked.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AuthError, Secret};

/// How tokens are checked. With no secret, no key and no address, no token is good.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The secret of HS256 tokens. `GATEWAY_JWT_SECRET` sets it too.
    pub jwt_secret: Option<Secret>,
    /// A file that holds the secret of HS256 tokens, instead of `jwt_secret`.
    pub jwt_secret_file: Option<PathBuf>,
    /// PEM files of public keys, one key each: RSA (RS256), P-256 (ES256) or Ed25519 (`EdDSA`).
    pub public_keys: Vec<PathBuf>,
    /// Where the identity provider publishes its keys as a JWK set.
    pub jwks_url: Option<String>,
    /// How long fetched keys are used before they are fetched again. An unknown `kid` fetches at once,
    /// though not within 10 s of the last fetch.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub jwks_refresh: Duration,
    /// The `iss` that a token must have, where set.
    pub issuer: Option<String>,
    /// The `aud` that a token must have or list, where set.
    pub audience: Option<String>,
    /// Which claims say what.
    pub claims: ClaimNames,
    /// How far clocks may differ: a token is good this long after its expiry and before its start.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub leeway: Duration,
    /// How long before its token expires a client is told with `auth:expiring`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub expiry_warning: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwt_secret_file: None,
            public_keys: Vec::new(),
            jwks_url: None,
            jwks_refresh: Duration::from_mins(5),
            issuer: None,
            audience: None,
            claims: ClaimNames::default(),
            leeway: Duration::from_secs(5),
            expiry_warning: Duration::from_mins(1),
        }
    }
}

impl AuthConfig {
    /// Whether there is a secret that can be guessed.
    pub fn has_short_secret(&self) -> bool {
        self.jwt_secret.as_ref().is_some_and(|secret| secret.expose().len() < 32)
    }

    /// The HS256 secret, wherever it stands.
    pub fn secret(&self) -> Result<Option<Secret>, AuthError> {
        let key = if self.jwt_secret.is_some() { "jwt_secret" } else { "jwt_secret_file" };
        Secret::resolve(self.jwt_secret.as_ref(), self.jwt_secret_file.as_deref())
            .map_err(|source| AuthError::Secret { key, source })
    }
}

/// Which claims say what. A name is that of a claim, or a path into one with dots: `realm_access.roles`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimNames {
    /// The user's id. A token without it is refused.
    pub user: String,
    /// The user's name.
    pub name: String,
    /// The user's roles: a list of strings, or one string with spaces between them.
    pub roles: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { user: "sub".into(), name: "name".into(), roles: "roles".into() }
    }
}
