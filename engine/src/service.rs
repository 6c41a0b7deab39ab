//! The service: requests in, answers out; requests to other paths go on to the service behind.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use engineioxide_core::{ProtocolVersion, TransportType};
use http::{Request, Response, StatusCode, request::Parts};
use http_body::Body;
use http_body_util::Empty;
use hyper::service::Service as HyperService;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service as TowerService;

use crate::{
    body::Answer,
    config::EngineIoConfig,
    engine::Engine,
    handler::EngineIoHandler,
    handshake::{self, Wanted},
    packet::Packet,
    socket::Socket,
    websocket::WebSocket,
};
pub use crate::{body::ResponseBody, handshake::Refusal};

/// The engine as a service, in front of another.
pub struct EngineIoService<H: EngineIoHandler, S = NotFoundService> {
    inner: S,
    engine: Arc<Engine<H>>,
}

impl<H: EngineIoHandler> EngineIoService<H, NotFoundService> {
    /// With the default configuration; other paths are not found.
    pub fn new(handler: Arc<H>) -> Self {
        Self::with_config(handler, EngineIoConfig::default())
    }

    /// With a configuration; other paths are not found.
    pub fn with_config(handler: Arc<H>, config: EngineIoConfig) -> Self {
        Self::with_config_inner(NotFoundService, handler, config)
    }
}

impl<H: EngineIoHandler, S: Clone> EngineIoService<H, S> {
    /// With the default configuration, in front of a service.
    pub fn with_inner(inner: S, handler: Arc<H>) -> Self {
        Self::with_config_inner(inner, handler, EngineIoConfig::default())
    }

    /// With a configuration, in front of a service.
    pub fn with_config_inner(inner: S, handler: Arc<H>, config: EngineIoConfig) -> Self {
        Self { inner, engine: Engine::new(handler, config) }
    }

    /// As a service that makes services.
    pub const fn into_make_service(self) -> MakeEngineIoService<H, S> {
        MakeEngineIoService::new(self)
    }
}

impl<H: EngineIoHandler, S: Clone> Clone for EngineIoService<H, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), engine: self.engine.clone() }
    }
}

impl<H: EngineIoHandler, S> fmt::Debug for EngineIoService<H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineIoService").field("engine", &self.engine).finish_non_exhaustive()
    }
}

type Waiting = Pin<Box<dyn Future<Output = Answer> + Send>>;

pin_project! {
    /// An answer on its way.
    pub struct ResponseFuture<F, B> {
        #[pin]
        answer: Coming<F, B>,
    }
}

pin_project! {
    /// It is there; or a poll or a body is waited for; or the service behind answers.
    #[project = Projected]
    enum Coming<F, B> {
        Ready { response: Option<Response<ResponseBody<B>>> },
        Waiting { answer: Waiting },
        Inner { #[pin] future: F },
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().answer.project() {
            Projected::Ready { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending,
            },
            Projected::Waiting { answer } => {
                answer.as_mut().poll(context).map(|answer| Ok(answer.response()))
            }
            Projected::Inner { future } => {
                future.poll(context).map_ok(|response| response.map(ResponseBody::other))
            }
        }
    }
}

impl<F, B> ResponseFuture<F, B> {
    fn ready(answer: Answer) -> Self {
        Self { answer: Coming::Ready { response: Some(answer.response()) } }
    }

    fn waiting(answer: Waiting) -> Self {
        Self { answer: Coming::Waiting { answer } }
    }

    fn inner(future: F) -> Self {
        Self { answer: Coming::Inner { future } }
    }
}

/// Whether a path is the engine's: its own or one below, not one that only begins like it.
fn is_engines(path: &str, own: &str) -> bool {
    let rest = path.strip_prefix(own);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || own.ends_with('/'))
}

impl<H: EngineIoHandler> Engine<H> {
    /// Answers a request to the engine's path.
    fn serve<ReqBody, F, ResBody>(
        self: &Arc<Self>,
        request: Request<ReqBody>,
    ) -> ResponseFuture<F, ResBody>
    where
        ReqBody: Body + Send + Unpin + 'static,
        ReqBody::Data: Send,
    {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let wanted = match handshake::read(method, uri, headers, &self.shared().config) {
            Ok(wanted) => wanted,
            Err(refusal) => return ResponseFuture::ready(self.refuse(refusal)),
        };
        let (Wanted::Poll { id } | Wanted::Post { id } | Wanted::Upgrade { id }) = &wanted else {
            let Wanted::Open { protocol, transport, text_only } = wanted else {
                return ResponseFuture::ready(self.refuse(Refusal::BadRequest));
            };
            return ResponseFuture::ready(match transport {
                TransportType::Polling => {
                    self.open_polling(request.into_parts().0, protocol, text_only)
                }
                TransportType::Websocket => self.open_websocket(request, protocol),
            });
        };
        let Some(socket) = self.find(id) else {
            return ResponseFuture::ready(self.refuse(Refusal::UnknownSession));
        };
        let engine = self.clone();
        match wanted {
            Wanted::Post { .. } => {
                let (parts, body) = request.into_parts();
                let answer =
                    Box::pin(async move { engine.post(socket, &parts.headers, body).await });
                ResponseFuture::waiting(answer)
            }
            Wanted::Upgrade { .. } => ResponseFuture::ready(self.upgrade(request, socket)),
            Wanted::Poll { .. } | Wanted::Open { .. } => {
                let answer = Box::pin(async move { engine.poll(socket).await });
                ResponseFuture::waiting(answer)
            }
        }
    }

    fn open_polling(
        self: &Arc<Self>,
        parts: Parts,
        protocol: ProtocolVersion,
        text_only: bool,
    ) -> Answer {
        let socket = self.begin(parts, protocol, TransportType::Polling, text_only);
        let config = &self.shared().config;
        let open = handshake::open_packet(&self.id(&socket), TransportType::Polling, config);
        self.handler().clone().on_connect(socket);
        Self::opened(open, protocol)
    }

    fn open_websocket<B: Send + 'static>(
        self: &Arc<Self>,
        mut request: Request<B>,
        protocol: ProtocolVersion,
    ) -> Answer {
        let Some(accept) = handshake::accept_key(request.headers()) else {
            return self.refuse(Refusal::BadRequest);
        };
        let upgraded = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let engine = self.clone();
        tokio::spawn(async move {
            if let Ok(stream) = upgraded.await {
                engine.carry(TokioIo::new(stream), parts, protocol).run().await;
            }
        });
        Answer::websocket(accept)
    }

    /// Begins a session that a WebSocket carries from the start.
    fn carry<I>(
        self: Arc<Self>,
        stream: I,
        parts: Parts,
        protocol: ProtocolVersion,
    ) -> WebSocket<H, I>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let socket = self.begin(parts, protocol, TransportType::Websocket, false);
        let config = &self.shared().config;
        let open = handshake::open_packet(&self.id(&socket), TransportType::Websocket, config);
        // It is the first that leaves, since nobody else knows of the session yet.
        socket.session().send([Packet::Open(open)]).ok();
        self.handler().clone().on_connect(socket.clone());
        WebSocket::carrying(self, socket, stream)
    }

    fn upgrade<B: Send + 'static>(
        self: &Arc<Self>,
        mut request: Request<B>,
        socket: Arc<Socket<H::Data>>,
    ) -> Answer {
        let accept = handshake::accept_key(request.headers());
        let (Some(accept), true) = (accept, socket.session().begin_upgrade()) else {
            return self.refuse(Refusal::BadRequest);
        };
        let upgraded = hyper::upgrade::on(&mut request);
        let engine = self.clone();
        tokio::spawn(async move {
            match upgraded.await {
                Ok(stream) => {
                    WebSocket::upgrading(engine, socket, TokioIo::new(stream)).run().await;
                }
                Err(_lost) => socket.session().give_up_upgrade(),
            }
        });
        Answer::websocket(accept)
    }
}

impl<H, ReqBody, ResBody, S> TowerService<Request<ReqBody>> for EngineIoService<H, S>
where
    H: EngineIoHandler,
    ReqBody: Body + Send + Unpin + 'static + fmt::Debug,
    ReqBody::Error: fmt::Debug,
    ReqBody::Data: Send,
    ResBody: Body + Send + 'static,
    S: TowerService<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if is_engines(request.uri().path(), &self.engine.shared().config.req_path) {
            return self.engine.serve(request);
        }
        ResponseFuture::inner(self.inner.call(request))
    }
}

impl<H, ReqBody, ResBody, S> HyperService<Request<ReqBody>> for EngineIoService<H, S>
where
    H: EngineIoHandler,
    ReqBody: Body + Send + Unpin + 'static + fmt::Debug,
    ReqBody::Error: fmt::Debug,
    ReqBody::Data: Send,
    ResBody: Body + Send + 'static,
    S: HyperService<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn call(&self, request: Request<ReqBody>) -> Self::Future {
        if is_engines(request.uri().path(), &self.engine.shared().config.req_path) {
            return self.engine.serve(request);
        }
        ResponseFuture::inner(self.inner.call(request))
    }
}

impl<H: EngineIoHandler, S> EngineIoService<H, S> {
    /// Carries a session over a stream that speaks WebSocket already.
    fn carry_stream<I>(&self, stream: I, request: Request<()>) -> Result<(), Refusal>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let query = request.uri().query().unwrap_or_default();
        let version = query.split('&').find_map(|pair| pair.strip_prefix("EIO="));
        let protocol = version.and_then(|version| version.parse().ok());
        let protocol = protocol.ok_or(Refusal::UnsupportedVersion)?;
        let (parts, ()) = request.into_parts();
        tokio::spawn(self.engine.clone().carry(stream, parts, protocol).run());
        Ok(())
    }
}

/// A stream that speaks WebSocket already begins a session of its own.
impl<I, H, S> TowerService<(I, Request<()>)> for EngineIoService<H, S>
where
    H: EngineIoHandler,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = ();
    type Error = Refusal;
    type Future = Ready<Result<(), Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (stream, request): (I, Request<()>)) -> Self::Future {
        ready(self.carry_stream(stream, request))
    }
}

impl<I, H, S> HyperService<(I, Request<()>)> for EngineIoService<H, S>
where
    H: EngineIoHandler,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = ();
    type Error = Refusal;
    type Future = Ready<Result<(), Refusal>>;

    fn call(&self, (stream, request): (I, Request<()>)) -> Self::Future {
        ready(self.carry_stream(stream, request))
    }
}

/// Makes a service for each connection: a share of one engine.
pub struct MakeEngineIoService<H: EngineIoHandler, S> {
    service: EngineIoService<H, S>,
}

impl<H: EngineIoHandler, S> MakeEngineIoService<H, S> {
    /// Of a service.
    pub const fn new(service: EngineIoService<H, S>) -> Self {
        Self { service }
    }
}

impl<H: EngineIoHandler, S> fmt::Debug for MakeEngineIoService<H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MakeEngineIoService").field(&self.service).finish()
    }
}

impl<H: EngineIoHandler, S: Clone, T> TowerService<T> for MakeEngineIoService<H, S> {
    type Response = EngineIoService<H, S>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: T) -> Self::Future {
        ready(Ok(self.service.clone()))
    }
}

/// Finds nothing.
#[derive(Clone, Copy, Debug)]
pub struct NotFoundService;

type NotFound = Ready<Result<Response<ResponseBody<Empty<Bytes>>>, Infallible>>;

fn not_found() -> NotFound {
    ready(Ok(Answer::empty(StatusCode::NOT_FOUND).response()))
}

impl<ReqBody> TowerService<Request<ReqBody>> for NotFoundService {
    type Response = Response<ResponseBody<Empty<Bytes>>>;
    type Error = Infallible;
    type Future = NotFound;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<ReqBody>) -> NotFound {
        not_found()
    }
}

impl<ReqBody> HyperService<Request<ReqBody>> for NotFoundService {
    type Response = Response<ResponseBody<Empty<Bytes>>>;
    type Error = Infallible;
    type Future = NotFound;

    fn call(&self, _: Request<ReqBody>) -> NotFound {
        not_found()
    }
}

#[cfg(test)]
mod tests {
    use super::is_engines;

    #[test]
    fn paths() {
        let cases = [
            ("/engine.io", true),
            ("/engine.io/", true),
            ("/engine.io/x", true),
            ("/engine.io-admin", false),
            ("/", false),
        ];
        for (path, want) in cases {
            assert_eq!(is_engines(path, "/engine.io"), want, "{path}");
        }
        assert!(is_engines("/socket", "/"));
    }
}
