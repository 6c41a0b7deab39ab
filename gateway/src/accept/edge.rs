//! The public listener's door: host, origin, counts, ids; then the library, the page or the status.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use super::{
    engine::{Engine, Engines, Full},
    query,
    stream::Connection,
};
use crate::{
    metrics::EdgeMetrics,
    wire::{Arrival, SERVICE_PATH, Service},
};

/// A handshake's answer is small; more is not one.
const HANDSHAKE_BYTES: usize = 4096;

/// The request headers that are kept for the life of a session, since the library keeps the request.
const KEPT: [HeaderName; 14] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::ORIGIN,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::ACCEPT,
    header::USER_AGENT,
];

/// What the edge checks.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Paths of Socket.IO, without a trailing slash.
    pub socket_paths: Vec<String>,
    /// Origins, or `*`.
    pub origins: Vec<String>,
    /// Hosts; none: any.
    pub trusted_hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// What a handshake that comes while leaving is told to wait.
    pub retry_after: Duration,
}

/// The public door. Cheap to clone.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    config: EdgeConfig,
    any_origin: bool,
    engines: Engines,
    service: Service,
    leaving: AtomicBool,
    metrics: EdgeMetrics,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// A refusal by the edge, as the official clients read it.
fn refuse(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({"code": status.as_u16(), "message": message}).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn retry(status: StatusCode, message: &str, after: Duration) -> Response {
    let mut response = refuse(status, message);
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

impl Edge {
    /// A door to the library's service.
    pub fn new(
        config: EdgeConfig,
        engines: Engines,
        service: Service,
        metrics: EdgeMetrics,
    ) -> Self {
        Self(Arc::new(Inner {
            any_origin: config.origins.iter().any(|origin| origin == "*"),
            config,
            engines,
            service,
            leaving: AtomicBool::new(false),
            metrics,
        }))
    }

    /// No further handshakes.
    pub fn close(&self) {
        self.0.leaving.store(true, Ordering::Release);
    }

    /// Whether the request's host and origin are served; what is not is refused here.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Response> {
        let trusted = &self.0.config.trusted_hosts;
        if !trusted.is_empty() {
            let host = headers
                .get(header::HOST)
                .and_then(|value| value.to_str().ok())
                .filter(|host| !host.is_empty())
                .or_else(|| uri.authority().map(http::uri::Authority::as_str))
                .map(without_port);
            let known =
                host.is_some_and(|host| trusted.iter().any(|name| name.eq_ignore_ascii_case(host)));
            if !known {
                self.0.metrics.refused("host");
                return Err(refuse(StatusCode::BAD_REQUEST, "this host is not served here"));
            }
        }
        if let Some(origin) = headers.get(header::ORIGIN)
            && !self.may(origin)
        {
            self.0.metrics.refused("origin");
            return Err(refuse(StatusCode::FORBIDDEN, "this origin is not allowed"));
        }
        Ok(())
    }

    fn may(&self, origin: &HeaderValue) -> bool {
        self.0.any_origin
            || origin.to_str().is_ok_and(|origin| {
                self.0.config.origins.iter().any(|known| known.trim_end_matches('/') == origin)
            })
    }

    /// Lets a browser of another origin read the answer.
    pub fn share(&self, origin: Option<&HeaderValue>, response: &mut Response) {
        let Some(origin) = origin.filter(|origin| self.may(origin)) else { return };
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }

    /// Whether a path is one of Socket.IO's.
    pub fn is_socket_path(&self, path: &str) -> bool {
        let path = path.strip_suffix('/').unwrap_or(path);
        self.0.config.socket_paths.iter().any(|known| known.trim_end_matches('/') == path)
    }

    /// The peer's address: that of the stream, or what a trusted proxy says.
    fn client_ip(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let proxies = &self.0.config.trusted_proxies;
        if !proxies.contains(&peer) {
            return peer;
        }
        let hops =
            headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<IpAddr> = hops
            .flat_map(|value| value.split(','))
            .filter_map(|hop| hop.trim().parse().ok())
            .collect();
        hops.into_iter().rev().find(|hop| !proxies.contains(hop)).unwrap_or(peer)
    }

    /// A request to one of Socket.IO's paths.
    pub async fn socket(
        State(edge): State<Self>,
        ConnectInfo(connection): ConnectInfo<Connection>,
        request: Request,
    ) -> Response {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mut response = if request.method() == Method::OPTIONS {
            preflight(request.headers())
        } else {
            edge.pass(&connection, request).await
        };
        edge.share(origin.as_ref(), &mut response);
        response
    }

    async fn pass(&self, connection: &Connection, request: Request) -> Response {
        let text = request.uri().query().unwrap_or_default().to_owned();
        match query::find(&text, "sid") {
            Some(sid) => self.go_on(connection, request, &text, sid).await,
            None => self.handshake(connection, request, &text).await,
        }
    }

    /// A request of a session that there is.
    async fn go_on(
        &self,
        connection: &Connection,
        request: Request,
        text: &str,
        sid: &str,
    ) -> Response {
        let unknown = || {
            let body = r#"{"code":1,"message":"Session ID unknown"}"#;
            let json = [(header::CONTENT_TYPE, "application/json")];
            (StatusCode::BAD_REQUEST, json, body).into_response()
        };
        let Some(engine) = self.0.engines.find(sid) else { return unknown() };
        if engine.is_cut() {
            return unknown();
        }
        let upgrade = is_upgrade(request.headers());
        let ip = self.client_ip(connection.addr.ip(), request.headers());
        let request =
            prepare(request, text, Arrival { ip, traceparent: None, engine: engine.clone() });
        if upgrade {
            engine.carried_by(connection.control.clone());
            return self.0.service.answer(request).await;
        }
        let response = tokio::select! {
            response = self.0.service.answer(request) => response,
            () = engine.until_cut() => unknown(),
        };
        // What the library had ready by then may say that the server disconnects, after which clients
        // do not come back.
        if engine.is_cut() && !engine.has_stream() { unknown() } else { response }
    }

    /// A request that begins a session.
    async fn handshake(&self, connection: &Connection, request: Request, text: &str) -> Response {
        if self.0.leaving.load(Ordering::Acquire) {
            self.0.metrics.refused("leaving");
            return retry(StatusCode::SERVICE_UNAVAILABLE, "leaving", self.0.config.retry_after);
        }
        let begun = Instant::now();
        let ip = self.client_ip(connection.addr.ip(), request.headers());
        let engine = match self.0.engines.admit(ip, begun) {
            Ok(engine) => engine,
            Err(Full::Address(after)) => {
                self.0.metrics.refused("address");
                return retry(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many connections of this address",
                    after,
                );
            }
            Err(Full::Pod) => {
                self.0.metrics.refused("pod");
                return retry(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "this pod has as many connections as it may",
                    self.0.config.retry_after,
                );
            }
        };
        let upgrade = is_upgrade(request.headers());
        if upgrade {
            engine.carried_by(connection.control.clone());
        }
        let traceparent = request.headers().get("traceparent");
        let traceparent = traceparent.and_then(|value| value.to_str().ok()).map(Box::from);
        let request = prepare(request, text, Arrival { ip, traceparent, engine: engine.clone() });
        let response = self.0.service.answer(request).await;
        let response = if upgrade { response } else { self.name(response, &engine).await };
        self.0.metrics.handshake(begun.elapsed());
        response
    }

    /// Notes the id in a polling client's handshake.
    async fn name(&self, response: Response, engine: &Arc<Engine>) -> Response {
        if response.status() != StatusCode::OK {
            return response;
        }
        let (parts, body) = response.into_parts();
        let Ok(body) = to_bytes(body, HANDSHAKE_BYTES).await else {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "no handshake");
        };
        if let Some(sid) = session_id(&body) {
            self.0.engines.name(engine, sid);
        }
        Response::from_parts(parts, Body::from(body))
    }
}

/// The session id in a polling client's handshake.
fn session_id(body: &[u8]) -> Option<&str> {
    let (_, behind) = std::str::from_utf8(body).ok()?.split_once("\"sid\":\"")?;
    behind.split_once('"').map(|(sid, _)| sid)
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => &host[..at],
        Some(_) | None => host,
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// The request as the library gets it: its path, an opened id, and copies of the few headers that
/// matter, since slices of the connection's read buffer would keep all of it in memory.
fn prepare(request: Request, query: &str, arrival: Arrival) -> Request {
    let (mut parts, body) = request.into_parts();
    let mut headers = HeaderMap::with_capacity(8);
    for name in KEPT {
        if let Some(value) = parts.headers.get(&name)
            && let Ok(copy) = HeaderValue::from_bytes(value.as_bytes())
        {
            headers.insert(name, copy);
        }
    }
    parts.headers = headers;
    // A query that is no URI any more cannot be: it came in one.
    parts.uri = format!("{SERVICE_PATH}/?{query}").parse().unwrap_or_default();
    parts.extensions.insert(arrival);
    Request::from_parts(parts, body)
}

fn preflight(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let answer = response.headers_mut();
    answer.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, OPTIONS"),
    );
    answer.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        asked.unwrap_or(HeaderValue::from_static("Authorization, Content-Type")),
    );
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn hosts() {
        let cases = [
            ("a.example", "a.example"),
            ("a.example:3001", "a.example"),
            ("[::1]:3001", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ];
        for (host, want) in cases {
            assert_eq!(without_port(host), want, "{host}");
        }
    }
}
