//! Pods of a mixed cluster.
//!
//! In come pieces of JavaScript for the stock packages, and calls of ours; out come what clients heard.
//! Everything that is started here ends with its test.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adapter_redis::{
    RedisConfig,
    socketio::{AdapterConfig, Bus, Hooks, Profile, Reach, RedisAdapter, Reply},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use socketioxide::{
    SocketIo,
    adapter::Emitter,
    extract::{AckSender, Data, SocketRef},
    socket::Sid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::oneshot,
};

use crate::redis_server::{PATIENCE, Server};

pub(crate) type Adapter = RedisAdapter<Emitter>;

/// Where the tests' packages are.
fn tests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Waits as long as anything may take.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// A process with the stock packages.
pub(crate) struct Node {
    stdin: tokio::sync::Mutex<ChildStdin>,
    waiting: Waiting,
    next: AtomicU64,
    /// Ends with the test.
    _process: Child,
    redis: String,
}

impl Node {
    pub(crate) fn start(server: &Server) -> Self {
        Self::with(server.dir.join("redis.sock").display().to_string())
    }

    /// One for which `PATH` stands for this.
    pub(crate) fn with(redis: String) -> Self {
        let folder = tests().join("node");
        let packages = folder.join("node_modules/socket.io");
        assert!(packages.exists(), "run `npm ci` in {}", folder.display());
        let mut child = Command::new("node")
            .arg("pod.js")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let waiting = Waiting::default();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let answers = waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let answer: Value = serde_json::from_str(&line).unwrap();
                let sender = answers.lock().remove(&answer["id"].as_u64().unwrap());
                let _ = sender.unwrap().send(answer);
            }
            // Whoever waits learns that the process is gone.
            answers.lock().clear();
        });
        let stdin = tokio::sync::Mutex::new(child.stdin.take().unwrap());
        Self { stdin, waiting, next: AtomicU64::new(1), _process: child, redis }
    }

    /// Runs the body of an async function; `PATH` in it stands for the address of Redis.
    pub(crate) async fn run(&self, code: &str) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        let code = code.replace("PATH", &format!("'{}'", self.redis));
        let line = format!("{}\n", json!({ "id": id, "code": code }));
        self.stdin.lock().await.write_all(line.as_bytes()).await.unwrap();
        let answer = soon(&code, receiver).await.expect("node lives");
        assert!(answer.get("error").is_none(), "{code}: {}", answer["error"]);
        answer["value"].clone()
    }

    /// A stock server in the cluster; gives its port.
    pub(crate) async fn serve(&self, name: &str, options: &str) -> Value {
        self.run(&format!("return serve('{name}', PATH, {options})")).await
    }

    /// A stock client of a server; gives its id.
    pub(crate) async fn join(&self, name: &str, port: &Value) -> String {
        let id = self.run(&format!("return join('{name}', {port})")).await;
        id.as_str().unwrap().to_owned()
    }

    /// What a client has heard up to an event, without it.
    pub(crate) async fn until(&self, client: &str, event: &str) -> Vec<Value> {
        let heard = self.run(&format!("return until('{client}', '{event}')")).await;
        let mut heard = heard.as_array().unwrap().clone();
        heard.pop();
        heard
    }
}

/// What a pod of ours was told by others.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Value>>>);

impl Told {
    /// What there is to tell, once there is as much.
    pub(crate) async fn take(&self, count: usize) -> Vec<Value> {
        crate::redis_server::until("hooks are called", || async {
            (self.0.lock().len() >= count).then_some(())
        })
        .await;
        std::mem::take(&mut *self.0.lock())
    }
}

impl Hooks for Told {
    fn on_join(&self, namespace: &str, sid: Sid, room: &str) {
        self.0.lock().push(json!(["join", namespace, sid, room]));
    }

    fn on_leave(&self, namespace: &str, sid: Sid, room: &str) {
        self.0.lock().push(json!(["leave", namespace, sid, room]));
    }

    fn on_disconnect(&self, namespace: &str, sid: Sid, close: bool) {
        self.0.lock().push(json!(["disconnect", namespace, sid, close]));
    }

    fn on_server_side_emit(&self, namespace: &str, arguments: Vec<Value>, reply: Option<Reply>) {
        self.0.lock().push(json!(["emit", namespace, arguments]));
        if let Some(reply) = reply {
            reply.send(json!({ "pong": arguments }));
        }
    }

    fn on_gap(&self, lost: Duration) {
        assert!(!lost.is_zero());
        self.0.lock().push(json!(["gap"]));
    }
}

/// Bounds that a busy machine does not reach: what is slow here is not broken.
pub(crate) fn patient() -> AdapterConfig {
    AdapterConfig {
        hang_timeout: PATIENCE,
        join_timeout: PATIENCE,
        outgoing_age: PATIENCE,
        request_timeout: PATIENCE,
        ..AdapterConfig::default()
    }
}

/// A pod of ours: an application of one namespace.
pub(crate) struct Pod {
    pub(crate) bus: Bus<Emitter>,
    pub(crate) io: SocketIo<Adapter>,
    pub(crate) adapter: Arc<Adapter>,
    pub(crate) told: Told,
    pub(crate) port: Value,
    serving: tokio::task::JoinHandle<()>,
}

impl Pod {
    pub(crate) async fn start(server: &Server, name: &str) -> Self {
        Self::configured(server, name, patient()).await
    }

    pub(crate) async fn configured(server: &Server, name: &str, config: AdapterConfig) -> Self {
        let redis = RedisConfig {
            connect_timeout: PATIENCE,
            response_timeout: PATIENCE,
            ..server.config.clone()
        };
        Self::of(&redis, name, config).await
    }

    pub(crate) async fn of(redis: &RedisConfig, name: &str, config: AdapterConfig) -> Self {
        let told = Told::default();
        let bus = Bus::<Emitter>::connect(redis, config, name, told.clone()).unwrap();
        // A client of a busy machine is behind for a while: what is slow here is not broken.
        let builder = SocketIo::builder().max_buffer_size(8192);
        let (layer, io) = builder.with_adapter::<Adapter>(bus.clone()).build_layer();
        let of_connections = bus.clone();
        io.ns("/", async move |socket: SocketRef<Adapter>| {
            connected(of_connections, socket).await;
        });
        let adapter = bus.adapter("/").unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().into();
        let app = axum::Router::new().layer(layer);
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { bus, io, adapter, told, port, serving }
    }

    /// The same, once it is in the cluster.
    pub(crate) async fn ready(server: &Server, name: &str) -> Self {
        let pod = Self::start(server, name).await;
        assert!(pod.bus.ready(PATIENCE).await, "redis is there");
        pod
    }

    /// Puts one of its clients into a room.
    pub(crate) async fn put(&self, sid: &str, room: &str) {
        let reach = self.adapter.join(sid.parse().unwrap(), room).await;
        assert_eq!(reach, Reach::Cluster, "{sid} in {room}");
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn connected(bus: Bus<Emitter>, socket: SocketRef<Adapter>) {
    let adapter = bus.adapter("/").unwrap();
    let leaving = adapter.clone();
    socket.on_disconnect(async move |socket: SocketRef<Adapter>| leaving.leave_all(socket.id));
    let joining = adapter.clone();
    socket.on(
        "join",
        async move |socket: SocketRef<Adapter>,
                    Data(room): Data<String>,
                    ack: AckSender<Adapter>| {
            let reach = joining.join(socket.id, &room).await;
            ack.send(&format!("{reach:?}")).unwrap();
        },
    );
    let data = json!({ "server": "ours" });
    let profile = Profile { address: "127.0.0.1".to_owned(), data, ..Profile::default() };
    adapter.attach(socket.id, profile).await;
    // The connection is in the cluster: its client may be told so.
    socket.emit("attached", &()).unwrap();
}

/// Runs a piece of Python in which `manager` is a stock manager of the Redis at `address`.
pub(crate) async fn python(server: &Server, code: &str) {
    let folder = tests().join("python");
    let python = folder.join(".venv/bin/python");
    assert!(
        python.exists(),
        "run `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in {}",
        folder.display()
    );
    let socket = server.dir.join("redis.sock");
    let code = format!(
        "import asyncio, socketio\n\
         address = 'unix://{}'\n\
         manager = socketio.RedisManager(address, write_only=True)\n\
         {code}",
        socket.display()
    );
    let output = Command::new(python).arg("-c").arg(code).kill_on_drop(true).output();
    let output = soon("python", output).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
