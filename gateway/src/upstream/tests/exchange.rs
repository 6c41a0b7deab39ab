//! What goes over the wire, and what becomes of every kind of answer.

use std::{
    convert::Infallible,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::stream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

use super::*;
use crate::identity::Secret;

/// HMAC by its definition (RFC 2104), so that signatures are not checked with the code that makes them.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let inner: Vec<u8> = block.iter().map(|b| b ^ 0x36).chain(message.iter().copied()).collect();
    let inner = digest(&SHA256, &inner);
    let outer: Vec<u8> =
        block.iter().map(|b| b ^ 0x5c).chain(inner.as_ref().iter().copied()).collect();
    digest(&SHA256, &outer).as_ref().to_vec()
}

#[tokio::test]
async fn the_request_is_as_documented_and_signed() {
    let (url, mut received) = serve_in_turn(vec![(200, "application/json", "{}")]).await;
    let key = b"0123456789abcdef01234567";
    let secret = Secret::new(format!("whsec_{}", STANDARD.encode(key)));
    let upstream = upstream(UpstreamConfig { secret: Some(secret), ..config(&url) });
    let with_session =
        Call { session_id: Some("s".into()), state: Some(json!({"a": 1})), ..call("send_message") };
    assert_eq!(ending(upstream.call(with_session)).await, "ok");
    let request = received.recv().await.unwrap();
    let want = json!({
        "contract": "demo", "namespace": "/", "event": "send_message",
        "args": [{"message": "hello"}, [1, 2]],
        "connection": {"sid": "s1", "user": {"id": "u1"}, "roles": ["teacher"], "ip": "127.0.0.1"},
        "session_id": "s", "state": {"a": 1},
    });
    assert_eq!(request.json(), want);
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("traceparent").len(), 55);
    let (id, time) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    assert!(id.starts_with("msg_"), "{id}");
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
        - time.parse::<u64>().unwrap();
    assert!(age < 60, "signed {age} s ago");
    let signed = [format!("{id}.{time}.").as_bytes(), &request.body].concat();
    let signature = format!("v1,{}", STANDARD.encode(hmac_sha256(key, &signed)));
    assert_eq!(request.header("webhook-signature"), signature);
}

#[tokio::test]
async fn without_a_session_a_user_or_a_secret_their_keys_are_as_documented() {
    let (url, mut received) = serve_in_turn(vec![(204, "text/plain", "")]).await;
    let mut anonymous = call("ping");
    anonymous.connection.user = None;
    assert_eq!(ending(upstream(config(&url)).call(anonymous)).await, "nothing");
    let request = received.recv().await.unwrap();
    let body = request.json();
    assert_eq!(body["connection"]["user"], Value::Null);
    assert!(body["connection"].as_object().unwrap().contains_key("user"));
    assert!(!body.as_object().unwrap().contains_key("session_id"));
    assert!(!body.as_object().unwrap().contains_key("state"));
    assert_eq!(request.header("webhook-signature"), "");
}

#[tokio::test]
async fn every_kind_of_answer_has_its_outcome() {
    let huge = Box::leak(format!(r#"{{"ack": "{}"}}"#, "x".repeat(5000)).into_boxed_str());
    let json = "application/json";
    let lines = "application/x-ndjson; charset=utf-8";
    let cases: [(&str, u16, &str, &'static str, &str); 20] = [
        ("one answer", 200, json, r#"{"ack": 1}"#, "ok"),
        ("no content type that is known", 200, "text/html", r#"{"ack": 1}"#, "ok"),
        ("lines", 200, lines, "{}\n{\"ack\": 1}\n", "ok"),
        ("no lines", 200, lines, "\n\n", "nothing"),
        ("nothing to do", 204, json, "", "nothing"),
        ("empty", 200, json, "", "UNAVAILABLE"),
        ("bad JSON", 200, json, "{\"ack\": ", "UNAVAILABLE"),
        ("a page", 200, json, "<html>", "UNAVAILABLE"),
        ("unknown key", 200, json, r#"{"acks": 1}"#, "UNAVAILABLE"),
        ("too large", 200, json, huge, "UNAVAILABLE"),
        ("huge line", 200, lines, huge, "UNAVAILABLE"),
        ("bad line", 200, lines, "{}\nnot json\n{}\n", "UNAVAILABLE"),
        ("cut line", 200, lines, "{}\n{\"ack\": ", "UNAVAILABLE"),
        ("refusal", 403, json, r#"{"error": {"code": "FORBIDDEN", "message": "no"}}"#, "FORBIDDEN"),
        (
            "refusal with more",
            422,
            json,
            r#"{"error": {"code": "TOO_LARGE", "x": 1}, "y": 2}"#,
            "TOO_LARGE",
        ),
        ("refusal with an odd code", 400, json, r#"{"error": {"code": "e-1"}}"#, "INTERNAL"),
        ("no error object", 404, json, r#"{"detail": "Not Found"}"#, "UNAVAILABLE"),
        ("not JSON", 404, "text/plain", "nope", "UNAVAILABLE"),
        ("broken", 500, json, r#"{"error": {"code": "FORBIDDEN"}}"#, "UNAVAILABLE"),
        ("redirect", 307, json, "{}", "UNAVAILABLE"),
    ];
    for (name, status, kind, body, want) in cases {
        let kind = Box::leak(kind.to_owned().into_boxed_str());
        let (url, _received) = serve_in_turn(vec![(status, kind, body)]).await;
        let max_answer = std::num::NonZeroUsize::new(4096).unwrap();
        let upstream = upstream(UpstreamConfig { max_answer, ..config(&url) });
        assert_eq!(ending(upstream.call(call("e"))).await, want, "{name}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (elsewhere, mut visited) = serve_in_turn(vec![(200, "application/json", "{}")]).await;
    let url = serve(move |_| {
        let elsewhere = elsewhere.clone();
        async move {
            let response = Response::builder().status(307).header("location", elsewhere);
            response.body(Body::empty()).unwrap()
        }
    })
    .await;
    assert_eq!(ending(upstream(config(&url)).call(call("e"))).await, "UNAVAILABLE");
    assert!(visited.try_recv().is_err(), "the signed body went elsewhere");
}

#[tokio::test]
async fn parts_before_a_failure_stand() {
    let body = "{\"ack\": 1}\n{\"ack\": 2}\n{\"oops\": 3}\n{\"ack\": 4}\n";
    let (url, _received) = serve_in_turn(vec![(200, "application/x-ndjson", body)]).await;
    let parts = all(upstream(config(&url)).call(call("e"))).await;
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[0], Ok(answer(&json!({"ack": 1}))));
    assert_eq!(parts[1], Ok(answer(&json!({"ack": 2}))));
    let failure = parts[2].as_ref().expect_err("the third line is broken");
    assert!(failure.to_string().contains("oops"), "the unknown key is named: {failure}");
    assert!(!failure.message().contains("oops"), "but not to the client");
}

/// A streamed body that is fed by the test.
fn fed() -> (mpsc::Sender<Result<Bytes, std::io::Error>>, Body) {
    let (feed, parts) = mpsc::channel(1);
    let body = stream::unfold(parts, async |mut parts: mpsc::Receiver<_>| {
        let part: Result<Bytes, std::io::Error> = parts.recv().await?;
        Some((part, parts))
    });
    (feed, Body::from_stream(body))
}

/// A server that answers once, with this body.
async fn serve_once(kind: &'static str, body: Body) -> String {
    let body = Arc::new(parking_lot::Mutex::new(Some(body)));
    serve(move |_| {
        let body = body.lock().take().unwrap_or_default();
        async move { reply(200, kind, body) }
    })
    .await
}

#[tokio::test]
async fn streamed_parts_are_handed_out_as_they_arrive() {
    let (feed, body) = fed();
    let url = serve_once("application/x-ndjson", body).await;
    let mut answers = upstream(config(&url)).call(call("e"));
    // The line's end comes with the first part, and the second part is not sent before the first was received.
    feed.send(Ok("{\"ack\": 1}\n".into())).await.unwrap();
    assert_eq!(next(&mut answers).await, Some(Ok(answer(&json!({"ack": 1})))));
    feed.send(Ok("{\"ack\"".into())).await.unwrap();
    feed.send(Ok(": 2}\n{\"ack\": 3}".into())).await.unwrap();
    assert_eq!(next(&mut answers).await, Some(Ok(answer(&json!({"ack": 2})))));
    drop(feed);
    assert_eq!(next(&mut answers).await, Some(Ok(answer(&json!({"ack": 3})))));
    assert_eq!(next(&mut answers).await, None);
    assert_eq!(next(&mut answers).await, None, "and stays so");
}

#[tokio::test]
async fn a_next_that_is_given_up_loses_nothing() {
    let (feed, body) = fed();
    let url = serve_once("application/x-ndjson", body).await;
    let mut answers = upstream(config(&url)).call(call("e"));
    feed.send(Ok("{\"ack\": 1}\n".into())).await.unwrap();
    assert!(next(&mut answers).await.is_some());
    {
        let mut given_up = Box::pin(answers.next());
        assert!(futures_util::poll!(given_up.as_mut()).is_pending());
    }
    feed.send(Ok("{\"ack\": 2}\n".into())).await.unwrap();
    assert_eq!(next(&mut answers).await, Some(Ok(answer(&json!({"ack": 2})))));
}

#[tokio::test]
async fn a_connection_that_breaks_is_unavailable() {
    for kind in ["application/json", "application/x-ndjson"] {
        let broken = || Err(std::io::Error::other("the server breaks off"));
        let parts = [Ok(Bytes::from("{\"ack\": 1}\n{")), broken()];
        let url = serve_once(kind, Body::from_stream(stream::iter(parts))).await;
        assert_eq!(ending(upstream(config(&url)).call(call("e"))).await, "UNAVAILABLE", "{kind}");
    }
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    assert_eq!(ending(upstream(config(&url)).call(call("e"))).await, "UNAVAILABLE", "refused");
}

#[tokio::test]
async fn stalls_are_timed_out_wherever_they_happen() {
    let short = |url: &str| UpstreamConfig { timeout: Duration::from_millis(150), ..config(url) };

    let silent = serve(|_| std::future::pending()).await;
    assert_eq!(ending(upstream(short(&silent)).call(call("e"))).await, "TIMEOUT", "no head");

    let (feed, body) = fed();
    let url = serve_once("application/json", body).await;
    feed.send(Ok("{".into())).await.unwrap();
    assert_eq!(ending(upstream(short(&url)).call(call("e"))).await, "TIMEOUT", "half a body");

    let (_feed, body) = fed();
    let url = serve_once("application/x-ndjson", body).await;
    assert_eq!(ending(upstream(short(&url)).call(call("e"))).await, "TIMEOUT", "no first line");

    let (feed, body) = fed();
    let url = serve_once("application/x-ndjson", body).await;
    // Time enough for the first line even on a machine that is busy.
    let patient = UpstreamConfig { timeout: Duration::from_secs(2), ..config(&url) };
    let mut answers = upstream(patient).call(call("e"));
    feed.send(Ok("{}\n".into())).await.unwrap();
    assert_eq!(next(&mut answers).await, Some(Ok(Answer::default())));
    assert_eq!(next(&mut answers).await, Some(Err(Failure::Timeout)), "no second line");
    assert_eq!(next(&mut answers).await, None);
}

#[tokio::test]
async fn a_stream_may_last_longer_than_its_timeout_but_blank_lines_do_not_feed_it() {
    let quick = Duration::from_secs(1);
    let lines = stream::unfold(0, async |sent| {
        // The pause is what is tested: each is within the timeout, and together they are beyond it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let line = if sent < 12 { "{}\n" } else { "\n" };
        Some((Ok::<_, Infallible>(Bytes::from(line)), sent + 1))
    });
    let url = serve_once("application/x-ndjson", Body::from_stream(lines)).await;
    let parts =
        all(upstream(UpstreamConfig { timeout: quick, ..config(&url) }).call(call("e"))).await;
    assert_eq!(parts.len(), 13);
    assert_eq!(parts.last(), Some(&Err(Failure::Timeout)));
}

#[tokio::test]
async fn only_idempotent_calls_are_repeated_and_under_one_id() {
    let broken = (503, "text/plain", "");
    let good = (200, "application/json", r#"{"ack": 1}"#);
    let bad_json = (200, "application/json", "{");
    let cases = [
        ("not idempotent", call("e"), vec![broken, good], "UNAVAILABLE", 1),
        ("once", idempotent("e"), vec![broken, good], "ok", 2),
        ("twice", idempotent("e"), vec![broken, broken, good], "ok", 3),
        ("no more", idempotent("e"), vec![broken, broken, broken, good], "UNAVAILABLE", 3),
        ("a broken answer", idempotent("e"), vec![bad_json, good], "UNAVAILABLE", 1),
    ];
    for (name, call, answers, want, sent) in cases {
        let (url, mut received) = serve_in_turn(answers).await;
        assert_eq!(ending(upstream(config(&url)).call(call)).await, want, "{name}");
        let mut ids = Vec::new();
        while let Ok(request) = received.try_recv() {
            ids.push(request.header("webhook-id").to_owned());
        }
        assert_eq!(ids.len(), sent, "{name}");
        assert!(ids.iter().all(|id| *id == ids[0]), "{name}: {ids:?}");
    }
}

/// A server that writes these bytes, one connection each, and closes. Written by hand, because the head has to
/// arrive before the break.
async fn serve_bytes(answers: [&'static str; 2]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // A request ends with its body, which is a JSON object.
            while !request.ends_with(b"}") {
                connection.read_buf(&mut request).await.unwrap();
            }
            connection.write_all(answer.as_bytes()).await.unwrap();
            connection.shutdown().await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_line_is_repeated() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n";
    let broken = format!("{head}content-length: 100\r\n\r\n{{");
    let good = format!("{head}content-length: 11\r\n\r\n{{\"ack\": 1}}\n");
    let url = serve_bytes([broken, good].map(|answer| &*answer.leak())).await;
    let parts = all(upstream(config(&url)).call(idempotent("e"))).await;
    assert_eq!(parts, [Ok(answer(&json!({"ack": 1})))]);
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off_by_its_size() {
    for kind in ["application/json", "application/x-ndjson"] {
        let endless =
            stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'['; 16 * 1024])));
        let url = serve_once(kind, Body::from_stream(endless)).await;
        let parts = all(upstream(config(&url)).call(call("e"))).await;
        let Some(Err(Failure::Unavailable(Reason::Broken(reason)))) = parts.first() else {
            panic!("{kind}: {parts:?}");
        };
        assert!(reason.contains("larger") || reason.contains("long"), "{kind}: {reason}");
    }
}

#[tokio::test]
async fn a_stream_that_has_begun_is_not_repeated() {
    let (feed, body) = fed();
    let url = serve_once("application/x-ndjson", body).await;
    let mut answers = upstream(config(&url)).call(idempotent("e"));
    feed.send(Ok("{}\n".into())).await.unwrap();
    assert_eq!(next(&mut answers).await, Some(Ok(Answer::default())));
    feed.send(Err(std::io::Error::other("the server breaks off"))).await.unwrap();
    // A second request would get an empty body, hence no part and no failure.
    let failure = next(&mut answers).await.expect("a failure").expect_err("not a part");
    assert_eq!(failure.code(), "UNAVAILABLE");
    assert_eq!(next(&mut answers).await, None);
}

#[tokio::test]
async fn dropping_the_answers_ends_the_request() {
    let (begun, mut requests) = mpsc::channel(1);
    let url = serve(move |_| {
        let begun = begun.clone();
        async move {
            let (alive, ended) = oneshot::channel::<()>();
            begun.send(ended).await.unwrap();
            std::future::pending::<()>().await;
            drop(alive);
            ok()
        }
    })
    .await;
    let mut answers = upstream(config(&url)).call(call("e"));
    let ended = tokio::select! {
        _ = answers.next() => panic!("the server does not answer"),
        ended = requests.recv() => ended.unwrap(),
    };
    drop(answers);
    let ended = timeout(SOON, ended).await.expect("the server sees it");
    assert!(ended.is_err(), "the handler was dropped");
}
