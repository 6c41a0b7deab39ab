//! Published keys: fetched when needed, replaced when they rotate, kept when the provider is down.

use std::sync::Arc;

use axum::{Router, http::StatusCode, routing::get};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use super::*;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// An identity provider on a loopback port.
struct Provider {
    url: String,
    published: Arc<Mutex<(StatusCode, String)>>,
    asked: mpsc::Receiver<()>,
    gate: Arc<Semaphore>,
}

impl Provider {
    /// Publishes these keys, and answers as often as the gate lets it.
    async fn gated(keys: &[Value], answers: usize) -> Self {
        let published = Arc::new(Mutex::new((StatusCode::OK, set(keys))));
        let (ask, asked) = mpsc::channel(1000);
        let gate = Arc::new(Semaphore::new(answers));
        let (shared, opener) = (Arc::clone(&published), Arc::clone(&gate));
        let answer = move || {
            let (shared, ask, gate) = (Arc::clone(&shared), ask.clone(), Arc::clone(&gate));
            async move {
                ask.send(()).await.expect("the test looks on");
                gate.acquire().await.expect("the gate is there").forget();
                shared.lock().clone()
            }
        };
        let router = Router::new().route("/keys", get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, published, asked, gate: opener }
    }

    async fn new(keys: &[Value]) -> Self {
        Self::gated(keys, 1000).await
    }

    fn config(&self) -> AuthConfig {
        AuthConfig { jwks_url: Some(self.url.clone()), ..AuthConfig::default() }
    }

    fn publish(&self, keys: &[Value]) {
        *self.published.lock() = (StatusCode::OK, set(keys));
    }

    fn fail(&self, status: StatusCode, body: &str) {
        *self.published.lock() = (status, body.into());
    }

    /// How often it was asked since the last time.
    fn asked(&mut self) -> usize {
        std::iter::from_fn(|| self.asked.try_recv().ok()).count()
    }
}

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// A verifier that need not wait for ten seconds between fetches.
fn eager(config: &AuthConfig) -> Verifier {
    let verifier = verifier(config);
    let mut live = Live::new(config, None).unwrap();
    live.jwks = live.jwks.map(|jwks| jwks.with_pause(Duration::ZERO));
    verifier.inner.live.store(Arc::new(live));
    verifier
}

async fn judge(verifier: &Verifier, token: &str) -> Result<(), TokenError> {
    let judged = tokio::time::timeout(SOON, verifier.verify(token)).await;
    judged.expect("judged in time").map(|claims| assert_eq!(claims.user.id, "u1"))
}

#[tokio::test]
async fn keys_of_every_kind_are_fetched_once() {
    install_provider();
    let (rsa, ec, ed) = (Pair::rsa(rsa::KeySize::Rsa2048), Pair::ec(), Pair::ed());
    let keys = [rsa.jwk(Some("r")), ec.jwk(Some("c")), ed.jwk(Some("d"))];
    let mut provider = Provider::new(&keys).await;
    let verifier = verifier(&provider.config());
    assert!(verifier.has_keys());
    for (name, token, want) in [
        ("RSA", rsa.token(Some("r")), Ok(())),
        ("EC", ec.token(Some("c")), Ok(())),
        ("Ed", ed.token(Some("d")), Ok(())),
        ("no kid", ed.token(None), Ok(())),
        ("the kid of another", ec.token(Some("r")), Err(TokenError::Invalid)),
        ("not the provider's", Pair::ec().token(Some("c")), Err(TokenError::Invalid)),
        ("another algorithm", rsa.token_as(Algorithm::RS512, Some("r")), Err(TokenError::Invalid)),
    ] {
        assert_eq!(judge(&verifier, &token).await, want, "{name}");
    }
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn rotated_keys_are_fetched_at_once_and_the_old_ones_are_gone() {
    install_provider();
    let (old, new) = (Pair::ec(), Pair::ed());
    let provider = Provider::new(&[old.jwk(Some("k1"))]).await;
    let verifier = eager(&provider.config());
    assert_eq!(judge(&verifier, &old.token(Some("k1"))).await, Ok(()));
    provider.publish(&[new.jwk(Some("k2"))]);
    assert_eq!(judge(&verifier, &old.token(Some("k1"))).await, Ok(()), "nobody has asked yet");
    assert_eq!(judge(&verifier, &new.token(Some("k2"))).await, Ok(()));
    assert_eq!(judge(&verifier, &old.token(Some("k1"))).await, Err(TokenError::Invalid));
}

#[tokio::test]
async fn invented_kids_do_not_make_us_ask_again_and_again() {
    install_provider();
    let key = Pair::ec();
    let mut provider = Provider::new(&[key.jwk(Some("k1"))]).await;
    let verifier = verifier(&provider.config());
    for number in 0..50 {
        let token = key.token(Some(&format!("invented-{number}")));
        assert_eq!(judge(&verifier, &token).await, Err(TokenError::Invalid));
    }
    assert_eq!(judge(&verifier, &key.token(Some("k1"))).await, Ok(()));
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn many_who_ask_at_once_share_one_fetch_and_one_who_leaves_does_not_stop_it() {
    install_provider();
    let key = Pair::ec();
    let mut provider = Provider::gated(&[key.jwk(Some("k1"))], 0).await;
    let verifier = verifier(&provider.config());
    let token = key.token(Some("k1"));
    let leaver = tokio::spawn({
        let (verifier, token) = (verifier.clone(), token.clone());
        async move { verifier.verify(&token).await }
    });
    tokio::time::timeout(SOON, provider.asked.recv()).await.unwrap().unwrap();
    leaver.abort();
    assert!(leaver.await.unwrap_err().is_cancelled());
    let mut waiting: Vec<_> = (0..20).map(|_| Box::pin(judge(&verifier, &token))).collect();
    for one in &mut waiting {
        assert!(futures_util::poll!(one.as_mut()).is_pending());
    }
    provider.gate.add_permits(1);
    for one in waiting {
        assert_eq!(one.await, Ok(()));
    }
    assert_eq!(provider.asked(), 0, "the leaver's fetch served them all");
}

#[tokio::test]
async fn a_provider_that_is_down_leaves_the_old_keys() {
    install_provider();
    let key = Pair::ec();
    let provider = Provider::new(&[key.jwk(Some("k1"))]).await;
    let verifier = eager(&provider.config());
    assert_eq!(judge(&verifier, &key.token(Some("k1"))).await, Ok(()));
    let failures = [
        (StatusCode::SERVICE_UNAVAILABLE, set(&[])),
        (StatusCode::OK, "<html>".into()),
        (StatusCode::OK, set(&[])),
        (StatusCode::OK, "x".repeat(2 * 1024 * 1024)),
    ];
    for (status, body) in failures {
        provider.fail(status, &body);
        assert_eq!(judge(&verifier, &key.token(Some("other"))).await, Err(TokenError::Invalid));
        assert_eq!(judge(&verifier, &key.token(Some("k1"))).await, Ok(()), "{status}");
    }
}

#[tokio::test]
async fn without_any_keys_a_token_cannot_be_judged() {
    install_provider();
    let key = Pair::ec();
    let provider = Provider::new(&[]).await;
    provider.fail(StatusCode::INTERNAL_SERVER_ERROR, "");
    let verifier = eager(&provider.config());
    let error = judge(&verifier, &key.token(Some("k1"))).await.unwrap_err();
    assert_eq!(error, TokenError::KeysUnavailable);
    assert_eq!(error.to_string(), "Invalid or expired token");
    let of_a_secret = mint(&with_secret("x"), "u1", &[], Duration::from_mins(1)).unwrap();
    assert_eq!(
        judge(&verifier, &of_a_secret).await,
        Err(TokenError::Invalid),
        "no fetch helps that"
    );
    provider.publish(&[key.jwk(Some("k1"))]);
    assert_eq!(judge(&verifier, &key.token(Some("k1"))).await, Ok(()));
}

#[tokio::test]
async fn old_keys_are_used_while_they_are_fetched_anew() {
    install_provider();
    let (old, new) = (Pair::ec(), Pair::ec());
    let mut provider = Provider::gated(&[old.jwk(Some("k1"))], 1).await;
    let config = AuthConfig { jwks_refresh: Duration::from_nanos(1), ..provider.config() };
    let verifier = eager(&config);
    assert_eq!(judge(&verifier, &old.token(Some("k1"))).await, Ok(()));
    assert_eq!(provider.asked(), 1);
    provider.publish(&[new.jwk(Some("k2"))]);
    // The gate is shut, so these are judged while the fetch is under way.
    for _ in 0..3 {
        assert_eq!(judge(&verifier, &old.token(Some("k1"))).await, Ok(()));
    }
    let fetch = tokio::time::timeout(SOON, provider.asked.recv()).await;
    assert_eq!(fetch, Ok(Some(())), "it was started by a token that did not wait for it");
    provider.gate.add_permits(1);
    assert_eq!(judge(&verifier, &new.token(Some("k2"))).await, Ok(()), "waits for that fetch");
    assert_eq!(provider.asked(), 0, "one fetch for all of them");
}

#[tokio::test]
async fn a_reload_keeps_fetched_keys_where_the_address_stays() {
    install_provider();
    let key = Pair::ec();
    let mut provider = Provider::new(&[key.jwk(Some("k1"))]).await;
    let verifier = verifier(&provider.config());
    assert_eq!(judge(&verifier, &key.token(Some("k1"))).await, Ok(()));
    let stricter = AuthConfig { issuer: Some("us".into()), ..provider.config() };
    verifier.reload(&stricter).unwrap();
    assert_eq!(judge(&verifier, &key.token(Some("k1"))).await, Err(TokenError::Invalid));
    verifier.reload(&provider.config()).unwrap();
    assert_eq!(judge(&verifier, &key.token(Some("k1"))).await, Ok(()));
    assert_eq!(provider.asked(), 1);
}

#[test]
fn what_is_no_signing_key_is_left_out_of_a_set() {
    install_provider();
    let ec = || Pair::ec().jwk(Some("k"));
    let with = |change: Value| {
        let mut key = ec();
        key.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        key
    };
    let cases = [
        ("good", ec(), 1),
        ("for signatures", with(json!({"use": "sig", "key_ops": ["verify"]})), 1),
        ("for encryption", with(json!({"use": "enc"})), 0),
        ("not for verifying", with(json!({"key_ops": ["wrapKey"]})), 0),
        ("of another algorithm", with(json!({"alg": "ES384"})), 0),
        ("of an unknown algorithm", with(json!({"alg": "X1"})), 0),
        ("damaged", with(json!({"x": "AAAA"})), 0),
        ("symmetric", json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}), 0),
        ("small", json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), 0),
        ("to come", json!({"kty": "AKP", "pub": "x"}), 0),
        ("no object", json!("x"), 0),
    ];
    for (name, entry, want) in cases {
        let read = keys::from_set(&json!({"keys": [entry]})).expect(name);
        assert_eq!(read.len(), want, "{name}");
    }
    for no_set in [json!([]), json!({}), json!({"keys": {}})] {
        assert!(keys::from_set(&no_set).is_none(), "{no_set}");
    }
}
