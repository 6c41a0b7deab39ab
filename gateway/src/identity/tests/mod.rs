//! Tokens of every kind against keys of every kind, with real keys made for the run.

mod config;
mod rotation;
mod tokens;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{EncodingKey, jwk::Jwk};
use prometheus::Registry;
use serde_json::json;

use super::*;

/// A private key, and its public half as a PEM file holds it.
struct Pair {
    alg: Algorithm,
    private: EncodingKey,
    public_pem: String,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

impl Pair {
    fn rsa(size: rsa::KeySize) -> Self {
        let pair = rsa::KeyPair::generate(size).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let private = pem("PRIVATE KEY", private.as_ref());
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self {
            alg: Algorithm::RS256,
            private: EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(),
            public_pem: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn ec() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let private = pair.to_pkcs8v1().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self {
            alg: Algorithm::ES256,
            private: EncodingKey::from_ec_der(private.as_ref()),
            public_pem: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn ed() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let private = pair.to_pkcs8v1().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Self {
            alg: Algorithm::EdDSA,
            private: EncodingKey::from_ed_der(private.as_ref()),
            public_pem: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn token(&self, kid: Option<&str>) -> String {
        self.token_as(self.alg, kid)
    }

    fn token_as(&self, alg: Algorithm, kid: Option<&str>) -> String {
        signed(alg, kid, &payload(), &self.private)
    }

    fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.private, self.alg).unwrap();
        jwk.common.key_id = kid.map(Into::into);
        serde_json::to_value(jwk).unwrap()
    }
}

fn signed(alg: Algorithm, kid: Option<&str>, payload: &Value, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(Into::into), ..Header::new(alg) };
    jsonwebtoken::encode(&header, payload, key).unwrap()
}

fn in_an_hour() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs() + 3600
}

fn payload() -> Value {
    json!({"sub": "u1", "name": "Ada", "roles": ["teacher"], "exp": in_an_hour()})
}

fn verifier(config: &AuthConfig) -> Verifier {
    Verifier::new(config, &Registry::new(), TaskTracker::new()).unwrap()
}

fn with_secret(secret: &str) -> AuthConfig {
    AuthConfig { jwt_secret: Some(Secret::new(secret)), ..AuthConfig::default() }
}

/// A file that is gone with the test.
struct TempFile(PathBuf);

impl TempFile {
    fn holding(content: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gateway-identity-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
