//! The public listener: Socket.IO, the status, the demo page. Nothing internal.

use std::sync::Arc;

use axum::{
    Router,
    extract::{ConnectInfo, Path, Query, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    accept::{Connection, Edge},
    cluster::{Answered, Numbers, Question, ask},
    core::Core,
    identity::{AuthConfig, mint},
};

/// The page and its parts, as they are served.
const PAGE: [(&str, &str, &str); 4] = [
    ("index.html", "text/html; charset=utf-8", include_str!("../page/index.html")),
    ("app.js", "text/javascript; charset=utf-8", include_str!("../page/app.js")),
    ("style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
    (
        "socket.io.min.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/socket.io.min.js"),
    ),
];

/// A token of the page lasts this long.
const TOKEN: std::time::Duration = std::time::Duration::from_hours(1);

/// What the public routes need.
#[derive(Clone, Debug)]
pub struct Public {
    /// The door of Socket.IO.
    pub edge: Edge,
    /// For the status.
    pub core: Arc<Core>,
    /// Places for questions of the status to the cluster.
    pub asking: Arc<Semaphore>,
    /// The first of Socket.IO's paths, as the status names it.
    pub path: String,
    /// The well-known secret of a trial, by which the page gets tokens; none where a real one is set.
    pub trial: Option<AuthConfig>,
}

impl Public {
    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(async || page("index.html")))
            .route("/page/{file}", get(async |Path(file): Path<String>| page(&file)))
            .route("/socketio/status", get(status))
            .route("/demo/token", get(token))
            .fallback(dispatch)
            .layer(middleware::from_fn_with_state(self.edge.clone(), doorkeeper))
            .with_state(self)
    }
}

/// Hosts and origins are checked for everything, Socket.IO or not.
async fn doorkeeper(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    if let Some(connection) = request.extensions().get::<ConnectInfo<Connection>>() {
        connection.0.control.begin();
    }
    if let Err(refusal) = edge.check(request.headers(), request.uri()) {
        return refusal;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    edge.share(origin.as_ref(), &mut response);
    response
}

async fn dispatch(
    State(public): State<Public>,
    connection: ConnectInfo<Connection>,
    request: Request,
) -> Response {
    if public.edge.is_socket_path(request.uri().path()) {
        return Edge::socket(State(public.edge), connection, request).await;
    }
    let body = json!({"message": "not found"}).to_string();
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn page(file: &str) -> Response {
    let found = PAGE.iter().find(|(name, ..)| *name == file);
    match found {
        Some((_, kind, text)) => (
            [
                (header::CONTENT_TYPE, *kind),
                (
                    header::CONTENT_SECURITY_POLICY,
                    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; frame-ancestors 'none'",
                ),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ],
            *text,
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `GET /socketio/status`.
async fn status(State(public): State<Public>) -> Response {
    // Nobody needs to be known to ask: few questions are under way at once.
    let Ok(_asking) = public.asking.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let Answered { all, missing } = ask::<Numbers>(&public.core, &Question::Numbers).await;
    let sum = |of: fn(&Numbers) -> u64| all.iter().map(of).sum::<u64>();
    let own = all.first().copied().unwrap_or_default();
    let mut body = json!({
        "connected": sum(|pod| pod.connected),
        "authenticated": sum(|pod| pod.authenticated),
        "acks_enabled": true,
        "path": public.path,
        "pod": own,
    });
    if !missing.is_empty() {
        body["missing"] = json!(missing);
    }
    axum::Json(body).into_response()
}

/// `GET /demo/token?sub=NAME&role=R`: only with the well-known secret, by which anybody can make one.
async fn token(
    State(public): State<Public>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Response {
    let Some(auth) = &public.trial else { return StatusCode::NOT_FOUND.into_response() };
    let values = |key: &str| -> Vec<String> {
        asked.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    };
    let sub =
        values("sub").pop().filter(|sub| !sub.is_empty()).unwrap_or_else(|| "guest".to_owned());
    match mint(auth, &sub, &values("role"), TOKEN) {
        Ok(token) => axum::Json(json!({"token": token})).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}
