//! Answers: the engine's own, and those of the service that it stands in front of.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use crate::{handshake::Refusal, payload::Payload};

pin_project! {
    /// The body of an answer: the engine's, or that of the service behind it.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        body: Either<B>,
    }
}

pin_project! {
    #[project = Projected]
    #[derive(Debug)]
    enum Either<B> {
        Own { #[pin] body: Full<Bytes> },
        Other { #[pin] body: B },
    }
}

impl<B> ResponseBody<B> {
    fn own(body: Bytes) -> Self {
        Self { body: Either::Own { body: Full::new(body) } }
    }

    /// The body of another service's answer.
    pub(crate) const fn other(body: B) -> Self {
        Self { body: Either::Other { body } }
    }
}

impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::own(Bytes::new())
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: std::error::Error + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().body.project() {
            Projected::Own { body } => body.poll_frame(context).map_err(|never| match never {}),
            Projected::Other { body } => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Either::Own { body } => body.is_end_stream(),
            Either::Other { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Either::Own { body } => body.size_hint(),
            Either::Other { body } => body.size_hint(),
        }
    }
}

/// An answer of the engine's own.
pub(crate) struct Answer {
    status: StatusCode,
    kind: Option<&'static str>,
    body: Bytes,
    /// What accepts a WebSocket.
    accept: Option<HeaderValue>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

const TEXT: &str = "text/plain; charset=UTF-8";

impl Answer {
    const fn new(status: StatusCode, kind: Option<&'static str>, body: Bytes) -> Self {
        Self { status, kind, body, accept: None }
    }

    /// To a poll, or to a handshake over polling.
    pub(crate) fn payload(payload: Payload) -> Self {
        let kind = if payload.binary { "application/octet-stream" } else { TEXT };
        Self::new(StatusCode::OK, Some(kind), payload.body)
    }

    /// To what a client sent.
    pub(crate) const fn ok() -> Self {
        Self::new(StatusCode::OK, Some(TEXT), Bytes::from_static(b"ok"))
    }

    /// To what is refused.
    pub(crate) fn refusal(refusal: Refusal) -> Self {
        Self::new(refusal.status(), Some("application/json"), refusal.body().into())
    }

    /// Without words.
    pub(crate) const fn empty(status: StatusCode) -> Self {
        Self::new(status, None, Bytes::new())
    }

    /// To a request that opens a WebSocket.
    pub(crate) fn websocket(accept: HeaderValue) -> Self {
        let accept = Some(accept);
        Self { accept, ..Self::new(StatusCode::SWITCHING_PROTOCOLS, None, Bytes::new()) }
    }

    /// As a response.
    pub(crate) fn response<B>(self) -> Response<ResponseBody<B>> {
        let mut response = Response::new(ResponseBody::own(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(kind) = self.kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if let Some(accept) = self.accept {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }
}
