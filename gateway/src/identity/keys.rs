//! Keys: the secret, the PEM files and JSON Web Keys come in, [`Key`]s of one algorithm each go out.
//!
//! A key that this version cannot use is an error where an operator named it, and left out where it stands
//! in a fetched set. A symmetric key is never taken from a fetched set.

use std::path::Path;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde_json::Value;

use super::{AuthConfig, AuthError, secret::read_small};

/// An identity provider has a few; each may cost a signature check per token.
const SET_KEYS: usize = 32;

/// The smallest RSA modulus that the signature check takes, in bytes.
const RSA_BYTES: usize = 2048 / 8;

/// A key, and the only algorithm that it is for.
pub(super) struct Key {
    kid: Option<String>,
    pub(super) alg: Algorithm,
    pub(super) key: DecodingKey,
}

impl Key {
    /// Whether a token that names this key id may be signed with it.
    pub(super) fn may_be(&self, kid: Option<&str>) -> bool {
        match (self.kid.as_deref(), kid) {
            (Some(own), Some(named)) => own == named,
            (None, _) | (_, None) => true,
        }
    }

    /// Whether this is the very key that the id names.
    pub(super) fn is(&self, kid: &str) -> bool {
        self.kid.as_deref() == Some(kid)
    }

    /// The algorithm is that of the key's kind, whatever a token says.
    fn public(kid: Option<String>, key: DecodingKey) -> Result<Self, &'static str> {
        let alg = match key.family() {
            AlgorithmFamily::Rsa => Algorithm::RS256,
            AlgorithmFamily::Ec => Algorithm::ES256,
            AlgorithmFamily::Ed => Algorithm::EdDSA,
            AlgorithmFamily::Hmac => return Err("a symmetric key is not a public key"),
        };
        // Taking the key apart proves that it is whole, and shows its curve or size.
        let parts = Jwk::from_decoding_key(&key, Some(alg)).map_err(|_| "the key is damaged")?;
        match &parts.algorithm {
            AlgorithmParameters::RSA(_) if modulus_bytes(&parts) < RSA_BYTES => {
                Err("an RSA key has at least 2048 bits")
            }
            AlgorithmParameters::EllipticCurve(ec) if ec.curve != EllipticCurve::P256 => {
                Err("of elliptic curve keys only P-256 (ES256) is known")
            }
            _ => Ok(Self { kid, alg, key }),
        }
    }
}

/// Whether tokens of this algorithm are checked with public keys.
pub(super) fn is_public(alg: Algorithm) -> bool {
    matches!(alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA)
}

/// The keys that the configuration holds or names.
pub(super) fn configured(config: &AuthConfig) -> Result<Vec<Key>, AuthError> {
    let mut keys = Vec::with_capacity(1 + config.public_keys.len());
    if let Some(secret) = config.secret()? {
        let key = DecodingKey::from_secret(secret.expose().as_bytes());
        keys.push(Key { kid: None, alg: Algorithm::HS256, key });
    }
    for path in &config.public_keys {
        keys.push(from_file(path)?);
    }
    Ok(keys)
}

fn from_file(path: &Path) -> Result<Key, AuthError> {
    let pem = read_small(path)
        .map_err(|source| AuthError::Unreadable { path: path.to_owned(), source })?;
    from_pem(&pem).map_err(|reason| AuthError::BadKey { path: path.to_owned(), reason })
}

fn from_pem(pem: &str) -> Result<Key, &'static str> {
    if pem.contains("PRIVATE KEY-----") {
        return Err("it holds a private key; only the public key belongs here");
    }
    if pem.contains("BEGIN CERTIFICATE-----") {
        return Err("it holds a certificate; `openssl x509 -pubkey -noout` prints its public key");
    }
    if pem.matches("-----BEGIN ").count() != 1 {
        return Err("it does not hold exactly one PEM public key");
    }
    let bytes = pem.as_bytes();
    let key = DecodingKey::from_rsa_pem(bytes)
        .or_else(|_| DecodingKey::from_ec_pem(bytes))
        .or_else(|_| DecodingKey::from_ed_pem(bytes))
        .map_err(|_| "it does not hold a PEM public key of RSA, P-256 or Ed25519")?;
    Key::public(None, key)
}

/// The usable keys of a JWK set. `None` where it is no JWK set.
pub(super) fn from_set(document: &Value) -> Option<Vec<Key>> {
    let entries = document.get("keys")?.as_array()?;
    // Key by key, so that one of a kind yet to be invented does not take the others along.
    let usable = entries.iter().filter_map(from_entry).take(SET_KEYS);
    Some(usable.collect())
}

fn from_entry(entry: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(entry.clone()).ok()?;
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let operations = jwk.common.key_operations.as_ref();
    let for_verifying = operations.is_none_or(|list| list.contains(&KeyOperations::Verify));
    if !for_signatures || !for_verifying {
        return None;
    }
    let key = Key::public(jwk.common.key_id.clone(), DecodingKey::from_jwk(&jwk).ok()?).ok()?;
    let said = jwk.common.key_algorithm;
    said.is_none_or(|said| said == KeyAlgorithm::from(key.alg)).then_some(key)
}

/// How large an RSA key is: the length of its modulus, leading zeros not counted.
fn modulus_bytes(jwk: &Jwk) -> usize {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let AlgorithmParameters::RSA(rsa) = &jwk.algorithm else { return 0 };
    let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).unwrap_or_default();
    modulus.iter().skip_while(|byte| **byte == 0).count()
}
