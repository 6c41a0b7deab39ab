//! Upstreams against real servers on a loopback port that misbehave on purpose.

mod calls;
mod exchange;
mod setup;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use adapter::memory::MemoryState;
use axum::{Router, body::Bytes, http::HeaderMap, response::Response};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::identity::User;

/// Longer than anything here takes; a test that waits for so long has failed.
const SOON: Duration = Duration::from_secs(20);

/// What a server was sent.
#[derive(Clone, Debug)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("plain text"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// A server whose every answer is the given function's; dies with the test's runtime.
async fn serve<F, A>(answer: F) -> String
where
    F: Fn(Received) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send,
{
    let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
        answer.clone()(Received { headers, body })
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/events", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// A server that answers with these one after the other, the last of them for ever, and shows what it got.
async fn serve_in_turn(
    answers: Vec<(u16, &'static str, &'static str)>,
) -> (String, mpsc::Receiver<Received>) {
    let (seen, received) = mpsc::channel(100);
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let url = serve(move |request| {
        let turn = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (status, kind, body) = answers[turn.min(answers.len() - 1)];
        let seen = seen.clone();
        async move {
            seen.send(request).await.expect("the test looks on");
            reply(status, kind, body)
        }
    })
    .await;
    (url, received)
}

fn reply(status: u16, kind: &str, body: impl Into<axum::body::Body>) -> Response {
    let response = Response::builder().status(status).header("content-type", kind);
    response.body(body.into()).expect("a response")
}

fn ok() -> Response {
    reply(200, "application/json", "{}")
}

fn config(url: &str) -> UpstreamConfig {
    UpstreamConfig { url: Some(url.into()), ..UpstreamConfig::default() }
}

struct NoScript;

impl DemoScript for NoScript {
    fn answers(&self, _: &Call) -> Vec<Answer> {
        Vec::new()
    }
}

/// Upstreams of which `app` is the one given, with what they count in.
fn build(app: UpstreamConfig) -> Result<(Upstreams, Registry), UpstreamError> {
    let registry = Registry::new();
    let state: SharedState = Arc::new(MemoryState::new("pod"));
    let demo: Arc<dyn DemoScript> = Arc::new(NoScript);
    let configs = BTreeMap::from([(APP.to_owned(), app)]);
    Upstreams::new(&configs, "gateway", &state, &demo, &registry).map(|built| (built, registry))
}

fn upstream(app: UpstreamConfig) -> Upstream {
    let (upstreams, _) = build(app).expect("a good configuration");
    upstreams.get(APP).expect("app is always there").clone()
}

fn call(event: &str) -> Call {
    Call {
        contract: "demo".into(),
        namespace: "/".into(),
        event: event.into(),
        args: vec![json!({"message": "hello"}), json!([1, 2])],
        connection: Caller {
            sid: "s1".into(),
            user: Some(User { id: "u1".into(), name: None }),
            roles: vec!["teacher".into()],
            ip: std::net::IpAddr::from([127, 0, 0, 1]),
        },
        session_id: None,
        state: None,
        idempotent: false,
    }
}

fn idempotent(event: &str) -> Call {
    Call { idempotent: true, ..call(event) }
}

async fn next(answers: &mut Answers) -> Option<Result<Answer, Failure>> {
    timeout(SOON, answers.next()).await.expect("an answer in time")
}

/// All parts, the failure included.
async fn all(mut answers: Answers) -> Vec<Result<Answer, Failure>> {
    let mut parts = Vec::new();
    while let Some(part) = next(&mut answers).await {
        parts.push(part);
    }
    parts
}

/// How a call ended, in a word.
async fn ending(answers: Answers) -> String {
    match all(answers).await.pop() {
        None => "nothing".into(),
        Some(Ok(_)) => "ok".into(),
        Some(Err(failure)) => failure.code().into(),
    }
}

/// The value of a series, by its name and some of its labels' values.
fn counted(registry: &Registry, name: &str, labels: &[&str]) -> String {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name).expect("a known series");
    let of_labels = family.get_metric().iter().filter(|metric| {
        labels.iter().all(|label| metric.get_label().iter().any(|pair| pair.value() == *label))
    });
    of_labels
        .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
        .sum::<f64>()
        .to_string()
}

fn answer(value: &Value) -> Answer {
    Answer::parse(value.to_string().as_bytes()).expect("a good answer")
}
