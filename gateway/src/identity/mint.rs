//! Making tokens, for the command line: who it is for comes in, a signed HS256 token goes out.
//!
//! It writes exactly the claims that a [`Verifier`](super::Verifier) of the same configuration reads, and
//! never falls back to a secret of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::{AuthConfig, AuthError, install_provider};

/// A token for `sub` with these roles that is good for `ttl`, with the issuer and audience that the
/// configuration asks for.
pub fn mint(
    config: &AuthConfig,
    sub: &str,
    roles: &[String],
    ttl: Duration,
) -> Result<String, AuthError> {
    install_provider();
    let missing = AuthError::BadValue {
        key: "jwt_secret",
        reason: "tokens are signed with it, and none is set (GATEWAY_JWT_SECRET sets it too)",
    };
    let secret = config.secret()?.ok_or(missing)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut payload = Map::new();
    payload.insert("iat".into(), json!(now.as_secs()));
    payload.insert("exp".into(), json!(now.saturating_add(ttl).as_secs()));
    if let Some(issuer) = &config.issuer {
        payload.insert("iss".into(), json!(issuer));
    }
    if let Some(audience) = &config.audience {
        payload.insert("aud".into(), json!(audience));
    }
    write(&mut payload, &config.claims.user, json!(sub));
    if !roles.is_empty() {
        write(&mut payload, &config.claims.roles, json!(roles));
    }
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &payload, &key).map_err(AuthError::Signing)
}

/// Writes a claim at its path.
fn write(payload: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            payload.insert(name.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = payload.entry(first).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            if let Some(inner) = inner.as_object_mut() {
                write(inner, rest, value);
            }
        }
    }
}
