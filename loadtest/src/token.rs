//! Tokens by which clients prove who they are: JWT signed with HS256.
//!
//! In come a user, roles and a secret; out goes a token that is good for an hour. It never reads or checks one.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

/// How long a token is good, in seconds: longer than a run.
const GOOD_FOR: u64 = 24 * 3600;

/// A token for a user.
pub(crate) fn mint(user: &str, roles: &[String], secret: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let head = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string());
    let claims =
        json!({"sub": user, "name": user, "roles": roles, "iat": now, "exp": now + GOOD_FOR});
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let tag = sign(&Key::new(HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_and_says_who() {
        let token = mint("u1", &["teacher".into()], "a secret of at least thirty-two bytes");
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["sub"], &claims["roles"][0]), (&json!("u1"), &json!("teacher")));
        let key = Key::new(HMAC_SHA256, b"a secret of at least thirty-two bytes");
        let tag = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        let signed = format!("{}.{}", parts[0], parts[1]);
        aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &tag).expect("the signature is good");
    }
}
