//! What `[auth]` may hold, and what its errors name.

use super::*;

#[test]
fn the_defaults_are_those_of_the_documents() {
    let config: AuthConfig = toml::from_str("").unwrap();
    assert_eq!(config.claims.user, "sub");
    assert_eq!(config.claims.name, "name");
    assert_eq!(config.claims.roles, "roles");
    assert_eq!(config.jwks_refresh, Duration::from_mins(5));
    assert_eq!(config.leeway, Duration::from_secs(5));
    assert_eq!(config.expiry_warning, Duration::from_mins(1));
    let dotted: AuthConfig = toml::from_str("claims.roles = \"realm_access.roles\"").unwrap();
    assert_eq!(
        (dotted.claims.roles.as_str(), dotted.claims.user.as_str()),
        ("realm_access.roles", "sub")
    );
    for unknown in ["jwt_secrets = \"x\"", "claims.role = \"x\"", "leeway = 5"] {
        assert!(toml::from_str::<AuthConfig>(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn the_schema_documents_every_key() {
    let schema = schemars::schema_for!(AuthConfig);
    let keys = schema.get("properties").and_then(Value::as_object).expect("an object's schema");
    for (key, of_key) in keys {
        assert!(of_key.get("description").is_some(), "{key}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let config = with_secret("hush");
    let verifier = verifier(&config);
    let json = serde_json::to_string(&config).unwrap();
    let shown = format!("{config:?} {json} {verifier:?} {}", Secret::new("hush"));
    assert!(!shown.contains("hush"), "{shown}");
    assert!(json.contains("***"), "{json}");
}

#[test]
fn a_secret_may_come_from_a_file() {
    let file = TempFile::holding("hush\n");
    let from_file =
        AuthConfig { jwt_secret_file: Some(file.path().to_owned()), ..AuthConfig::default() };
    let token = mint(&from_file, "u1", &[], Duration::from_mins(1)).unwrap();
    assert_eq!(token.split('.').count(), 3);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(verifier(&with_secret("hush")).verify(&token)).is_ok());
}

#[test]
fn bad_values_name_their_key_and_file() {
    install_provider();
    let pair = Pair::ec();
    let good = TempFile::holding(&pair.public_pem);
    let private = TempFile::holding(&pem("PRIVATE KEY", b"x"));
    let certificate = TempFile::holding(&pem("CERTIFICATE", b"x"));
    let garbage = TempFile::holding(&pem("PUBLIC KEY", b"garbage"));
    let two = TempFile::holding(&format!("{0}{0}", pair.public_pem));
    let empty = TempFile::holding("\n");
    let large = TempFile::holding(&"x".repeat(100_000));
    let p384 = {
        use aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        TempFile::holding(&pem("PUBLIC KEY", public.as_ref()))
    };
    let keys = |file: &TempFile| AuthConfig {
        public_keys: vec![good.path().to_owned(), file.path().to_owned()],
        ..AuthConfig::default()
    };
    let nowhere = PathBuf::from("/nowhere.pem");
    let default = AuthConfig::default;
    let cases = [
        (
            "no such file",
            AuthConfig { public_keys: vec![nowhere.clone()], ..default() },
            "auth.public_keys: cannot read /nowhere.pem",
        ),
        ("a private key", keys(&private), "private key"),
        ("a certificate", keys(&certificate), "certificate"),
        ("garbage", keys(&garbage), "PEM public key"),
        ("two keys", keys(&two), "exactly one"),
        ("nothing", keys(&empty), "exactly one"),
        ("large", keys(&large), "64 KiB"),
        ("another curve", keys(&p384), "P-256"),
        ("empty secret", with_secret(""), "auth.jwt_secret: it is empty"),
        (
            "secret twice",
            AuthConfig { jwt_secret_file: Some(nowhere.clone()), ..with_secret("x") },
            "auth.jwt_secret: set either",
        ),
        (
            "no secret file",
            AuthConfig { jwt_secret_file: Some(nowhere), ..default() },
            "auth.jwt_secret_file: cannot read /nowhere.pem",
        ),
        (
            "empty file",
            AuthConfig { jwt_secret_file: Some(empty.path().to_owned()), ..default() },
            "auth.jwt_secret_file: it is empty",
        ),
        (
            "address",
            AuthConfig { jwks_url: Some("keys.json".into()), ..default() },
            "auth.jwks_url",
        ),
        (
            "scheme",
            AuthConfig { jwks_url: Some("file:///keys".into()), ..default() },
            "auth.jwks_url",
        ),
        (
            "no refresh",
            AuthConfig {
                jwks_url: Some("http://x/".into()),
                jwks_refresh: Duration::ZERO,
                ..default()
            },
            "auth.jwks_refresh",
        ),
        (
            "no claim",
            AuthConfig {
                claims: ClaimNames { user: String::new(), ..ClaimNames::default() },
                ..default()
            },
            "auth.claims.user",
        ),
    ];
    for (name, config, needle) in cases {
        let made = Verifier::new(&config, &Registry::new(), TaskTracker::new());
        let error = made.expect_err(name).to_string();
        assert!(error.contains(needle), "{name}: {error}");
    }
}
