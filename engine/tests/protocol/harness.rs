//! A server with a handler that tells what it is told, and clients that speak byte by byte.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use engineioxide::{
    DisconnectReason, Socket, Str, Tuning,
    config::{EngineIoConfig, EngineIoConfigBuilder},
    handler::EngineIoHandler,
    service::EngineIoService,
};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

/// Nothing that is waited for takes this long.
const LONG: Duration = Duration::from_secs(20);

/// Waits for something that must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let come = tokio::time::timeout(LONG, future).await;
    come.unwrap_or_else(|_late| panic!("{what} did not come"))
}

/// What the handler was told.
#[derive(Debug)]
pub(crate) enum Told {
    Connected(Arc<Socket<()>>),
    Message(String),
    Binary(Bytes),
    Disconnected(DisconnectReason),
}

/// Tells what it is told, and answers `echo:` with what follows.
#[derive(Debug)]
struct Handler(mpsc::Sender<Told>);

impl Handler {
    fn tell(&self, told: Told) {
        self.0.try_send(told).expect("the test listens");
    }
}

impl EngineIoHandler for Handler {
    type Data = ();

    fn on_connect(self: Arc<Self>, socket: Arc<Socket<()>>) {
        self.tell(Told::Connected(socket));
    }

    fn on_disconnect(&self, _: Arc<Socket<()>>, reason: DisconnectReason) {
        self.tell(Told::Disconnected(reason));
    }

    fn on_message(self: &Arc<Self>, message: Str, socket: Arc<Socket<()>>) {
        assert!(message != "panic", "a handler that panics, as this test wants");
        if let Some(text) = message.strip_prefix("echo:") {
            socket.emit(text.to_owned()).ok();
        } else {
            self.tell(Told::Message(message.to_string()));
        }
    }

    fn on_binary(self: &Arc<Self>, data: Bytes, _: Arc<Socket<()>>) {
        self.tell(Told::Binary(data));
    }
}

/// A server that listens.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    told: Mutex<mpsc::Receiver<Told>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Tuning::default(), |config| config).await
    }

    pub(crate) async fn with(
        tuning: Tuning,
        set: impl FnOnce(EngineIoConfigBuilder) -> EngineIoConfigBuilder,
    ) -> Self {
        let config = tuning.apply(|| set(EngineIoConfig::builder()).build());
        let (tell, told) = mpsc::channel(100_000);
        let service = EngineIoService::with_config(Arc::new(Handler(tell)), config);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let router = axum::Router::new().fallback_service(service);
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { addr, told: Mutex::new(told), task }
    }

    pub(crate) async fn told(&self) -> Told {
        let mut told = self.told.lock().await;
        within("what the handler is told", told.recv()).await.expect("the handler lives")
    }

    pub(crate) async fn connected(&self) -> Arc<Socket<()>> {
        match self.told().await {
            Told::Connected(socket) => socket,
            other => panic!("{other:?} instead of a connect"),
        }
    }

    pub(crate) async fn message(&self) -> String {
        match self.told().await {
            Told::Message(text) => text,
            other => panic!("{other:?} instead of a message"),
        }
    }

    pub(crate) async fn binary(&self) -> Bytes {
        match self.told().await {
            Told::Binary(data) => data,
            other => panic!("{other:?} instead of bytes"),
        }
    }

    pub(crate) async fn disconnected(&self) -> DisconnectReason {
        match self.told().await {
            Told::Disconnected(reason) => reason,
            other => panic!("{other:?} instead of an end"),
        }
    }

    /// Sends a request, to be answered later.
    pub(crate) async fn ask(&self, method: &str, query: &str, kind: &str, body: &[u8]) -> Asked {
        let mut stream = TcpStream::connect(self.addr).await.expect("it listens");
        let length = body.len();
        let head = format!(
            "{method} /engine.io/?{query} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await.expect("it reads");
        Asked(stream)
    }

    pub(crate) async fn get(&self, query: &str) -> Response {
        self.ask("GET", query, "text/plain", b"").await.answer().await
    }

    pub(crate) async fn post(&self, query: &str, body: &[u8]) -> Response {
        self.ask("POST", query, "text/plain;charset=UTF-8", body).await.answer().await
    }

    /// A WebSocket to a query.
    pub(crate) async fn websocket(&self, query: &str) -> Web {
        let request = format!("ws://{}/engine.io/?{query}", self.addr);
        let stream = TcpStream::connect(self.addr).await.expect("it listens");
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let request = request.into_client_request().expect("a request");
        let opened =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
        Web(opened.expect("a WebSocket").0)
    }

    /// The status of a refused WebSocket, and its body.
    pub(crate) async fn refused_websocket(&self, query: &str) -> Response {
        let mut stream = TcpStream::connect(self.addr).await.expect("it listens");
        let request = format!(
            "GET /engine.io/?{query} HTTP/1.1\r\nhost: test\r\nconnection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("it reads");
        Asked(stream).answer().await
    }
}

/// A request that is on its way.
pub(crate) struct Asked(TcpStream);

impl Asked {
    pub(crate) async fn answer(mut self) -> Response {
        let mut all = Vec::new();
        within("an answer", self.0.read_to_end(&mut all)).await.expect("an answer");
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(all[..end].to_vec()).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Response { status, head: head.to_lowercase(), body: all[end..].to_vec() }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// A WebSocket client.
pub(crate) struct Web(pub(crate) WebSocketStream<TcpStream>);

impl Web {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("it is sent");
    }

    pub(crate) async fn send_binary(&mut self, data: &[u8]) {
        self.0.send(Message::binary(data.to_vec())).await.expect("it is sent");
    }

    /// The next message of any kind.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        within("a frame", self.0.next()).await.and_then(Result::ok)
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("{other:?} instead of text"),
        }
    }

    /// The code of the close frame that must come next.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.next().await {
                Some(Message::Close(frame)) => {
                    return frame.map_or(1005, |frame| frame.code.into());
                }
                Some(Message::Text(text)) if text.as_str() == "1" => {}
                other => panic!("{other:?} instead of a close"),
            }
        }
    }
}

/// The session id in an open packet.
pub(crate) fn session_id(open: &str) -> String {
    let (_, json) = open.split_once('0').expect("an open packet");
    let open: serde_json::Value = serde_json::from_str(json).expect("JSON");
    open["sid"].as_str().expect("an id").to_owned()
}

/// Begins a session over polling: the query of its further requests, and what the handler got.
pub(crate) async fn open_polling(server: &Server) -> (String, Arc<Socket<()>>) {
    let response = server.get("EIO=4&transport=polling").await;
    let id = session_id(response.text());
    (format!("EIO=4&transport=polling&sid={id}"), server.connected().await)
}

/// Begins a session over a WebSocket.
pub(crate) async fn open_websocket(server: &Server) -> (Web, Arc<Socket<()>>) {
    let mut web = server.websocket("EIO=4&transport=websocket").await;
    assert!(web.text().await.starts_with("0{"));
    (web, server.connected().await)
}
