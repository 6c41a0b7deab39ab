//! `kind = "http"`: a call goes out as one signed POST, its answer comes back whole or line by line.
//!
//! It never follows a redirect, reads more than its limits, or sends a call twice that is not idempotent. One
//! that is, is sent up to three times under one `webhook-id` for as long as no part of an answer has come.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{Span, debug};

use super::{
    Answer, Call, Failure, UpstreamConfig, UpstreamError,
    backend::Parts,
    client::{self, ReadError, by},
    lines::Lines,
    sign::Signer,
    trace,
};
use crate::identity::Secret;

/// Times that an idempotent call is sent again.
const RETRIES: u32 = 2;

/// The pause before the first repetition; it doubles, and up to as much again is added at random, so that pods
/// do not come back all at once.
const BACKOFF: Duration = Duration::from_millis(100);

/// A line is one part of an answer; more than this is no part.
const LINE_BYTES: usize = 1024 * 1024;

/// An error object is a code and a sentence.
const ERROR_BYTES: usize = 64 * 1024;

/// What a client is told is a sentence.
const MESSAGE_CHARS: usize = 1000;

/// What a log is told of a broken answer: enough for the key's name, too little for a payload.
const REASON_CHARS: usize = 200;

pub(super) struct Http {
    client: Client,
    url: Url,
    timeout: Duration,
    max_answer: usize,
    signer: Option<Signer>,
}

/// What is the same however often a call is sent.
struct Request {
    body: Bytes,
    id: String,
    traceparent: String,
}

impl Http {
    pub(super) fn new(name: &str, config: &UpstreamConfig) -> Result<Self, UpstreamError> {
        let bad = |key, reason| UpstreamError::BadValue { name: name.to_owned(), key, reason };
        let url = config.url.as_deref();
        let url = url.ok_or_else(|| bad("url", "kind = \"http\" needs the address to post to"))?;
        let url = client::parse_url(url).map_err(|reason| bad("url", reason))?;
        let key = if config.secret.is_some() { "secret" } else { "secret_file" };
        let secret = Secret::resolve(config.secret.as_ref(), config.secret_file.as_deref())
            .map_err(|source| UpstreamError::Secret { name: name.to_owned(), key, source })?;
        let signer = secret.as_ref().map(Signer::new).transpose();
        let signer = signer.map_err(|reason| bad(key, reason))?;
        let idle = usize::try_from(config.max_in_flight.get()).unwrap_or(usize::MAX);
        let client = client::build(idle, config.timeout)
            .map_err(|source| UpstreamError::Client { name: name.to_owned(), source })?;
        let max_answer = config.max_answer.get();
        Ok(Self { client, url, timeout: config.timeout, max_answer, signer })
    }

    /// Sends the call, again if it may be, until a part of an answer has come or it is known that none does.
    pub(super) async fn open(&self, call: &Call, span: &Span) -> Result<Parts, Failure> {
        let body = serde_json::to_vec(call).map_err(|error| Failure::down(error.to_string()))?;
        let request = Request {
            body: body.into(),
            id: format!("msg_{:032x}", rand::random::<u128>()),
            traceparent: trace::traceparent(trace::inherited(span)),
        };
        let deadline = Instant::now() + self.timeout;
        let mut repeated = 0;
        loop {
            let failure = match self.attempt(&request, deadline).await {
                Ok(parts) => return Ok(parts),
                Err(failure) => failure,
            };
            let pause = pause(repeated);
            let may_repeat = call.idempotent && failure.is_down() && repeated < RETRIES;
            if !may_repeat || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            repeated += 1;
            debug!(reason = %failure, repeated, "sending an idempotent call again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, request: &Request, deadline: Instant) -> Result<Parts, Failure> {
        let mut response = by(deadline, self.request(request).send()).await?;
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Ok(Parts::Nothing);
        }
        if status.is_success() && is_streamed(&response) {
            return Streamed::open(response, self.max_answer, self.timeout, deadline).await;
        }
        if status.is_success() {
            let body = client::read_whole(&mut response, self.max_answer, deadline).await?;
            return Ok(Parts::One(Box::new(parse(&body)?)));
        }
        if status.is_client_error() {
            let body = client::read_whole(&mut response, ERROR_BYTES, deadline).await?;
            let without =
                || Failure::broken(format!("status {} without an error", status.as_u16()));
            return Err(refusal(&body).unwrap_or_else(without));
        }
        if status.is_server_error() {
            return Err(Failure::down(format!("status {}", status.as_u16())));
        }
        Err(Failure::broken(format!("status {}", status.as_u16())))
    }

    fn request(&self, request: &Request) -> reqwest::RequestBuilder {
        let mut builder = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, application/x-ndjson")
            .header("traceparent", &request.traceparent)
            .header("webhook-id", &request.id);
        if let Some(signer) = &self.signer {
            // Of this sending, not of the first: receivers refuse what was signed minutes ago.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            builder = builder
                .header("webhook-timestamp", now)
                .header("webhook-signature", signer.sign(&request.id, now, &request.body));
        }
        builder.body(request.body.clone())
    }
}

/// An answer that comes line by line.
pub(super) struct Streamed {
    response: Response,
    lines: Lines,
    timeout: Duration,
    /// The first line, which was waited for before the answer counted as begun.
    first: Option<Answer>,
    ended: bool,
}

impl Streamed {
    async fn open(
        response: Response,
        max_answer: usize,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<Parts, Failure> {
        let lines = Lines::new(LINE_BYTES.min(max_answer));
        let mut streamed = Self { response, lines, timeout, first: None, ended: false };
        streamed.first = streamed.read(deadline).await?;
        if streamed.first.is_none() {
            return Ok(Parts::Nothing);
        }
        Ok(Parts::Streamed(Box::new(streamed)))
    }

    pub(super) async fn next(&mut self) -> Result<Option<Answer>, Failure> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.read(Instant::now() + self.timeout).await,
        }
    }

    async fn read(&mut self, deadline: Instant) -> Result<Option<Answer>, Failure> {
        while !self.ended {
            let too_long = |_| Failure::broken("a line is too long");
            if let Some(line) = self.lines.next().map_err(too_long)? {
                return parse(&line).map(Some);
            }
            match by(deadline, self.response.chunk()).await? {
                Some(chunk) => self.lines.push(&chunk),
                None => self.ended = true,
            }
        }
        self.lines.rest().map(|line| parse(&line)).transpose()
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLate => Self::Timeout,
            ReadError::TooLarge(_) => Self::broken(error.to_string()),
            ReadError::Http(_) => Self::down(error.to_string()),
        }
    }
}

fn parse(json: &[u8]) -> Result<Answer, Failure> {
    Answer::parse(json)
        .map_err(|reason| Failure::broken(reason.chars().take(REASON_CHARS).collect::<String>()))
}

/// The refusal that a body holds: `{"error": {"code", "message"?}}`. Frameworks add keys of their own to it.
fn refusal(body: &[u8]) -> Option<Failure> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error")?;
    let code = error.get("code")?.as_str()?.to_owned();
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
    Some(Failure::Refused { code, message: message.chars().take(MESSAGE_CHARS).collect() })
}

fn is_streamed(response: &Response) -> bool {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
}

fn pause(repeated: u32) -> Duration {
    let whole = BACKOFF.saturating_mul(1 << repeated.min(RETRIES));
    whole + whole.mul_f64(rand::random::<f64>())
}
