//! A real Redis for each test.
//!
//! In comes nothing, out comes a server that listens on a socket of its own in a directory of its own,
//! can be killed, frozen and started again, and is gone with the test.

use std::{
    fs,
    future::Future,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adapter::{
    SharedState,
    conformance::{Cluster, Failure},
};
use adapter_redis::{RedisConfig, RedisState, connect};
use async_trait::async_trait;

/// How long anything may take that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The server under test: `redis-server`, or the one that the environment names.
pub(crate) fn program() -> String {
    std::env::var("GATEWAY_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned())
}

pub(crate) struct Server {
    pub(crate) dir: PathBuf,
    child: Option<Child>,
    /// Further arguments, for the next start.
    pub(crate) arguments: Vec<String>,
    pub(crate) config: RedisConfig,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub(crate) async fn start() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("gw-redis-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let url = format!("unix://{}", dir.join("redis.sock").display());
        let mut server = Self {
            dir,
            child: None,
            arguments: Vec::new(),
            config: RedisConfig { url: url.into(), ..RedisConfig::default() },
        };
        server.start_again().await;
        server
    }

    /// Starts the server, empty, where it was before.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs");
        let log = fs::File::create(self.dir.join("redis.log")).unwrap();
        let child = Command::new(program())
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "redis.sock"])
            .args(&self.arguments)
            .current_dir(&self.dir)
            .stdout(Stdio::from(log))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("redis answers", || async { self.try_redis("PING", &[]).await.ok() }).await;
    }

    /// Kills the server; what it knew is gone.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops the server in its tracks: it neither answers nor closes anything.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// A pod as configured here.
    pub(crate) async fn pod(&self, name: &str) -> RedisState {
        connect(self.config.clone(), name).await.unwrap()
    }

    /// A command of the test itself.
    pub(crate) async fn redis(&self, command: &str, arguments: &[&str]) -> redis::Value {
        self.try_redis(command, arguments).await.unwrap()
    }

    async fn try_redis(
        &self,
        command: &str,
        arguments: &[&str],
    ) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.config.url.reveal())?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd(command).arg(arguments).query_async(&mut connection).await
    }

    /// The names of all keys, sorted.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let keys = self.redis("KEYS", &["*"]).await;
        let mut keys: Vec<String> = redis::from_redis_value(keys).unwrap();
        keys.sort();
        keys
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGKILL ends a frozen server too.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[async_trait]
impl Cluster for Server {
    async fn pod(&self, name: &str) -> Result<SharedState, Failure> {
        let state = connect(self.config.clone(), name).await;
        Ok(Arc::new(state.map_err(|error| Failure::new(error.to_string()))?))
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
