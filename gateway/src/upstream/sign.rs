//! Standard Webhooks signatures: a secret comes in once, then an id, a time and a body; a header's value goes out.
//!
//! The key is never shown. See <https://www.standardwebhooks.com>.

use aws_lc_rs::hmac;
use base64::{
    Engine,
    alphabet::STANDARD as ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};

use crate::identity::Secret;

/// Secrets are pasted with and without their padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Signs bodies with one secret.
pub(super) struct Signer {
    key: hmac::Key,
}

impl Signer {
    /// `whsec_` and the key in base64.
    pub(super) fn new(secret: &Secret) -> Result<Self, &'static str> {
        let encoded = secret.expose().strip_prefix("whsec_");
        let encoded = encoded.ok_or("it begins with `whsec_`, followed by base64")?;
        let key = LENIENT.decode(encoded).map_err(|_| "what follows `whsec_` is not base64")?;
        if key.is_empty() {
            return Err("nothing follows `whsec_`");
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_published_example() {
        // The example of the specification's reference libraries.
        let signer = Signer::new(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let signature =
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn bad_secrets_are_refused() {
        let cases = [
            ("no prefix", "MfKQ9r8GKYqr", "whsec_"),
            ("not base64", "whsec_***", "base64"),
            ("nothing", "whsec_", "nothing"),
        ];
        for (name, secret, needle) in cases {
            let error = Signer::new(&Secret::new(secret)).err().expect(name);
            assert!(error.contains(needle), "{name}: {error}");
        }
    }
}
