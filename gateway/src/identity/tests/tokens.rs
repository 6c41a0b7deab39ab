//! Which tokens are good, with keys that the configuration holds.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

const SECRET: &str = "a secret of more than 32 bytes, as it ought to be";

/// Without a JWKS nothing is waited for.
fn judge(verifier: &Verifier, token: &str) -> Result<Claims, TokenError> {
    verifier.verify(token).now_or_never().expect("no fetch")
}

#[test]
fn a_token_is_good_for_the_key_that_signed_it_and_no_other() {
    install_provider();
    let (rsa, ec, ed) = (Pair::rsa(rsa::KeySize::Rsa2048), Pair::ec(), Pair::ed());
    let files = [&rsa, &ec, &ed].map(|pair| TempFile::holding(&pair.public_pem));
    let public_keys = files.iter().map(|file| file.path().to_owned()).collect();
    let verifier = verifier(&AuthConfig { public_keys, ..with_secret(SECRET) });
    assert!(verifier.has_keys());
    let hmac =
        |alg, secret: &[u8]| signed(alg, None, &payload(), &EncodingKey::from_secret(secret));
    let other = Pair::ec();
    let good = hmac(Algorithm::HS256, SECRET.as_bytes());
    let cut = good.rsplit_once('.').unwrap().0.to_owned();
    let der = STANDARD.decode(rsa.public_pem.lines().nth(1).unwrap()).unwrap();
    let cases = [
        ("HS256", good.clone(), true),
        ("RS256", rsa.token(None), true),
        ("ES256", ec.token(None), true),
        ("EdDSA", ed.token(None), true),
        ("an unknown kid, of a key that has none", ec.token(Some("k7")), true),
        ("another secret", hmac(Algorithm::HS256, b"another"), false),
        ("HS512 with the secret", hmac(Algorithm::HS512, SECRET.as_bytes()), false),
        (
            "HS256 with the public PEM as secret",
            hmac(Algorithm::HS256, rsa.public_pem.as_bytes()),
            false,
        ),
        ("HS256 with the public DER as secret", hmac(Algorithm::HS256, &der), false),
        ("RS512 with the RSA key", rsa.token_as(Algorithm::RS512, None), false),
        ("PS256 with the RSA key", rsa.token_as(Algorithm::PS256, None), false),
        ("another key", other.token(None), false),
        ("none", unsigned("none"), false),
        ("None", unsigned("None"), false),
        ("no signature", format!("{cut}."), false),
        ("two parts", cut, false),
        ("four parts", format!("{good}.x"), false),
        ("a space behind", format!("{good} "), false),
        ("empty", String::new(), false),
        ("dots", "..".into(), false),
        ("too long", format!("{}.{good}", "x".repeat(TOKEN_BYTES)), false),
    ];
    for (name, token, want) in cases {
        let judged = judge(&verifier, &token);
        if want {
            let user = User { id: "u1".into(), name: Some("Ada".into()) };
            let claims = judged.expect(name);
            assert_eq!((claims.user, claims.roles), (user, vec!["teacher".to_owned()]), "{name}");
        } else {
            assert_eq!(judged, Err(TokenError::Invalid), "{name}");
        }
    }
}

/// A token that claims to need no signature.
fn unsigned(alg: &str) -> String {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", encode(json!({"alg": alg, "typ": "JWT"})), encode(payload()))
}

#[test]
fn every_refusal_has_its_text_and_is_counted() {
    let registry = Registry::new();
    let verifier = Verifier::new(&with_secret(SECRET), &registry, TaskTracker::new()).unwrap();
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = |payload: Value| signed(Algorithm::HS256, None, &payload, &key);
    let cases = [
        (
            "expired",
            token(json!({"sub": "u", "exp": 1000})),
            TokenError::Expired,
            "Invalid or expired token",
        ),
        (
            "no subject",
            token(json!({"exp": in_an_hour()})),
            TokenError::NoSubject,
            "Invalid token payload",
        ),
        (
            "empty subject",
            token(json!({"sub": ""})),
            TokenError::NoSubject,
            "Invalid token payload",
        ),
        (
            "not yet",
            token(json!({"sub": "u", "nbf": in_an_hour()})),
            TokenError::Invalid,
            "Invalid or expired token",
        ),
        ("a list", token(json!([1])), TokenError::Invalid, "Invalid or expired token"),
        ("garbage", "garbage".into(), TokenError::Invalid, "Invalid or expired token"),
    ];
    for (name, token, want, text) in cases {
        let error = judge(&verifier, &token).expect_err(name);
        assert_eq!((error, error.to_string().as_str()), (want, text), "{name}");
    }
    assert!(judge(&verifier, &token(json!({"sub": "u"}))).is_ok());
    let families = registry.gather();
    let tokens = families.iter().find(|f| f.name() == "gateway_identity_tokens_total").unwrap();
    let mut counts: Vec<_> = tokens
        .get_metric()
        .iter()
        .map(|metric| (metric.get_label()[0].value().to_owned(), metric.get_counter().get_value()))
        .collect();
    counts.sort_by(|a, b| a.0.cmp(&b.0));
    let want = [
        ("accepted", 1.0),
        ("expired", 1.0),
        ("invalid", 3.0),
        ("keys_unavailable", 0.0),
        ("no_subject", 2.0),
    ];
    assert_eq!(counts, want.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn an_extension_that_must_be_understood_is_not() {
    let verifier = verifier(&with_secret(SECRET));
    let header = Header { crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&header, &payload(), &key).unwrap();
    assert_eq!(judge(&verifier, &token), Err(TokenError::Invalid));
}

#[test]
fn minted_tokens_are_good_where_they_are_checked() {
    let cases = [
        ("plain", with_secret(SECRET)),
        (
            "issuer and audience",
            AuthConfig {
                issuer: Some("us".into()),
                audience: Some("gateway".into()),
                ..with_secret(SECRET)
            },
        ),
        (
            "paths",
            AuthConfig {
                claims: ClaimNames {
                    user: "who.id".into(),
                    name: "who.name".into(),
                    roles: "realm_access.roles".into(),
                },
                ..with_secret(SECRET)
            },
        ),
    ];
    for (name, config) in cases {
        let roles = ["a".to_owned(), "b c".to_owned()];
        let token = mint(&config, "u1", &roles, Duration::from_mins(10)).expect(name);
        let claims = judge(&verifier(&config), &token).expect(name);
        assert_eq!(
            (claims.user.id.as_str(), claims.roles.as_slice()),
            ("u1", &roles[..]),
            "{name}"
        );
        let left = claims.expires_at.unwrap().duration_since(SystemTime::now()).unwrap();
        assert!((590..=600).contains(&left.as_secs()), "{name}: {left:?}");
    }
    let error = mint(&AuthConfig::default(), "u1", &[], Duration::from_mins(1)).unwrap_err();
    assert!(error.to_string().contains("auth.jwt_secret"), "{error}");
}

#[test]
fn a_reload_takes_over_whole_or_not_at_all() {
    let verifier = verifier(&with_secret("old"));
    let token = |secret| mint(&with_secret(secret), "u1", &[], Duration::from_mins(1)).unwrap();
    assert!(judge(&verifier, &token("old")).is_ok());
    let clone = verifier.clone();
    verifier.reload(&with_secret("new")).unwrap();
    assert_eq!(judge(&clone, &token("old")), Err(TokenError::Invalid));
    assert!(judge(&clone, &token("new")).is_ok());
    let bad = AuthConfig { public_keys: vec!["/nowhere.pem".into()], ..with_secret("newer") };
    assert!(verifier.reload(&bad).is_err());
    assert!(judge(&clone, &token("new")).is_ok());
    verifier.reload(&AuthConfig::default()).unwrap();
    assert!(!verifier.has_keys());
    assert_eq!(judge(&clone, &token("new")), Err(TokenError::Invalid));
}

proptest! {
    #[test]
    fn no_text_is_a_token(text in any::<String>()) {
        prop_assert!(judge(&verifier(&with_secret(SECRET)), &text).is_err());
    }

    #[test]
    fn nothing_like_a_token_is_one(header in r#"\{"alg":"[A-Za-z0-9]{0,6}"(,"kid":.{0,5})?\}"#, rest in r"[A-Za-z0-9_.-]{0,80}") {
        let text = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
        prop_assert!(judge(&verifier(&with_secret(SECRET)), &text).is_err());
    }

    #[test]
    fn a_token_with_one_letter_changed_is_none(at in 0usize..1000, to in "[A-Za-z0-9_.=-]") {
        let config = with_secret(SECRET);
        let token = mint(&config, "u1", &["teacher".to_owned()], Duration::from_mins(10)).unwrap();
        let at = at % token.len();
        prop_assume!(token[at..=at] != to);
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        prop_assert!(judge(&verifier(&config), &changed).is_err(), "{}", changed);
    }
}
