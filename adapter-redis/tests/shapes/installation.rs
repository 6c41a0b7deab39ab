//! Installations of several servers.
//!
//! In come how many servers there are and how they are set, out come masters with replicas, sentinels and
//! clusters that really fail over. Every server listens on a loopback address of its own, so that no port
//! is picked; all are gone with their test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use adapter_redis::RedisConfig;
use redis::Value;

use crate::redis_server::{PATIENCE, program, until};

const PORT: u16 = 24_000;

/// One server, with or without keys of its own.
pub(crate) struct Instance {
    pub(crate) host: String,
    pub(crate) dir: PathBuf,
    arguments: Vec<String>,
    /// By which this test logs in.
    password: Option<String>,
    child: Option<Child>,
}

impl Instance {
    /// Starts a server and waits until it answers.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::prepared(arguments, |_, _| ()).await
    }

    /// The same, once its directory was prepared for its address.
    pub(crate) async fn prepared(arguments: &[&str], prepare: impl FnOnce(&Path, &str)) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (number, process) = (NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
        // Process ids have up to 22 bits, and a process has fewer than a thousand servers: both fit.
        let [_, high, middle, low] = (process & 0x3fff).to_be_bytes();
        assert_eq!(high, 0, "fourteen bits");
        let host = format!("127.{}.{low}.{number}", 64 + middle);
        let dir = std::env::temp_dir().join(format!("gw-shape-{process}-{number}"));
        fs::create_dir_all(&dir).unwrap();
        prepare(&dir, &host);
        let given = |name| arguments.iter().position(|argument| *argument == name);
        let password = given("--requirepass").map(|at| arguments[at + 1].to_owned());
        // Its connections to others may begin at another loopback address: it says which one is its own.
        let has = |argument| arguments.contains(&argument);
        let announce: &[&str] = match () {
            () if has("--cluster-enabled") => &["--cluster-announce-ip", &host],
            () if has("--replicaof") => &["--replica-announce-ip", &host],
            () => &[],
        };
        let arguments = arguments.iter().chain(announce).map(ToString::to_string).collect();
        let mut instance = Self { host, dir, arguments, password, child: None };
        instance.start_again().await;
        instance
    }

    /// Starts it where it was before, with what it wrote down then.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs");
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let port = PORT.to_string();
        let child = Command::new(program())
            .args(&self.arguments)
            .args(["--bind", &self.host, "--port", &port, "--protected-mode", "no"])
            .current_dir(&self.dir)
            .stdout(Stdio::from(log))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("redis answers", || async { self.try_ask("PING").await.ok() }).await;
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{PORT}", self.host)
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

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

    /// Asks something; the words stand apart by spaces.
    pub(crate) async fn ask(&self, words: &str) -> Value {
        self.try_ask(words).await.unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    pub(crate) async fn text(&self, words: &str) -> String {
        redis::from_redis_value(self.ask(words).await).unwrap()
    }

    pub(crate) async fn try_ask(&self, words: &str) -> redis::RedisResult<Value> {
        let login = self.password.as_ref().map(|password| format!(":{password}@"));
        let login = login.unwrap_or_default();
        let client = redis::Client::open(format!("redis://{login}{}", self.address()))?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut words = words.split_whitespace();
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>()).query_async(&mut connection).await
    }

    async fn until_text(&self, words: &str, fits: impl Fn(&str) -> bool) {
        let what = format!("{words} at {}", self.host);
        until(&what, || async { self.try_text(words).await.filter(|text| fits(text)) }).await;
    }

    pub(crate) async fn try_text(&self, words: &str) -> Option<String> {
        redis::from_redis_value(self.try_ask(words).await.ok()?).ok()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGKILL ends a frozen server too.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Nothing on disk, and replicas that follow at once.
const PLAIN: [&str; 6] = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];

async fn replicates(replica: &Instance) {
    replica.until_text("INFO replication", |text| text.contains("master_link_status:up")).await;
}

/// A master, a replica, and three sentinels that watch them under the name `main`. Servers and sentinels
/// have a password each.
pub(crate) struct Sentinels {
    pub(crate) servers: [Instance; 2],
    pub(crate) sentinels: Vec<Instance>,
    pub(crate) config: RedisConfig,
}

impl Sentinels {
    pub(crate) async fn start() -> Self {
        let arguments = [&PLAIN[..], &["--requirepass", "one", "--masterauth", "one"]].concat();
        let master = Instance::start(&arguments).await;
        let port = PORT.to_string();
        let follows = ["--replicaof", &master.host, &port];
        let replica = Instance::start(&[&arguments[..], &follows].concat()).await;
        replicates(&replica).await;
        let lines = format!(
            "sentinel monitor main {} {PORT} 2\n\
             sentinel auth-pass main one\n\
             sentinel sentinel-pass two\n\
             sentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 5000\n",
            master.host
        );
        let arguments = ["sentinel.conf", "--sentinel", "--requirepass", "two"];
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            // A sentinel writes its own file, so each has one.
            let write = |dir: &Path, host: &str| {
                let lines = format!("{lines}sentinel announce-ip {host}\n");
                fs::write(dir.join("sentinel.conf"), lines).unwrap();
            };
            sentinels.push(Instance::prepared(&arguments, write).await);
        }
        for sentinel in &sentinels {
            let knows_all = |text: &str| text.contains("slaves=1,sentinels=3");
            sentinel.until_text("INFO sentinel", knows_all).await;
        }
        let hosts: Vec<String> = sentinels.iter().map(Instance::address).collect();
        let hosts = hosts.join(",");
        let url = format!("redis+sentinel://:one@{hosts}/main/2?sentinel_password=two");
        let config = RedisConfig { url: url.into(), ..RedisConfig::default() };
        Self { servers: [master, replica], sentinels, config }
    }
}

/// Three masters, and as many replicas for each as were asked for.
pub(crate) struct Shards {
    pub(crate) masters: Vec<Instance>,
    /// They end with the test.
    _replicas: Vec<Instance>,
    pub(crate) config: RedisConfig,
}

/// The slots of each of the three masters.
pub(crate) const RANGES: [(u16, u16); 3] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];

impl Shards {
    pub(crate) async fn start(replicas: usize) -> Self {
        Self::prepared(replicas, &[], &|_, _| ()).await
    }

    pub(crate) async fn prepared(
        replicas: usize,
        arguments: &[&str],
        prepare: &dyn Fn(&Path, &str),
    ) -> Self {
        let cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"];
        let arguments = [&PLAIN[..], &cluster, arguments].concat();
        let (mut masters, mut followers) = (Vec::new(), Vec::new());
        for (first, last) in RANGES {
            let master = Instance::prepared(&arguments, prepare).await;
            let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
            master.ask(&format!("CLUSTER ADDSLOTS {}", slots.join(" "))).await;
            masters.push(master);
        }
        for _ in 0..replicas * masters.len() {
            followers.push(Instance::prepared(&arguments, prepare).await);
        }
        for (number, instance) in masters.iter().chain(&followers).enumerate() {
            let epoch = format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1);
            instance.ask(&epoch).await;
            if number > 0 {
                // Over TLS nodes talk on the port that belongs to that one.
                let port = PORT + u16::from(arguments.contains(&"--tls-cluster"));
                instance.ask(&format!("CLUSTER MEET {} {port}", masters[0].host)).await;
            }
        }
        let all = format!("cluster_known_nodes:{}", masters.len() + followers.len());
        for instance in masters.iter().chain(&followers) {
            instance.until_text("CLUSTER INFO", |text| text.contains(&all)).await;
        }
        for (number, follower) in followers.iter().enumerate() {
            let id = masters[number % masters.len()].text("CLUSTER MYID").await;
            follower.ask(&format!("CLUSTER REPLICATE {id}")).await;
            replicates(follower).await;
        }
        let is_well = |text: &str| text.contains("cluster_state:ok");
        for instance in masters.iter().chain(&followers) {
            instance.until_text("CLUSTER INFO", is_well).await;
        }
        let url = format!("redis+cluster://{},{}", masters[0].address(), masters[1].address());
        let config = RedisConfig { url: url.into(), ..RedisConfig::default() };
        Self { masters, _replicas: followers, config }
    }

    /// The master that a slot had at first.
    pub(crate) fn home(slot: u16) -> usize {
        RANGES.iter().position(|(_, last)| slot <= *last).unwrap()
    }

    /// Begins to move a slot: from here on both servers have a part of it.
    pub(crate) async fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let (source, target) = (&self.masters[from], &self.masters[to]);
        let (source_id, target_id) =
            (source.text("CLUSTER MYID").await, target.text("CLUSTER MYID").await);
        target.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {source_id}")).await;
        source.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {target_id}")).await;
    }

    /// Moves keys of a slot; how many there were.
    pub(crate) async fn move_keys(&self, slot: u16, from: usize, to: usize, count: usize) -> usize {
        let source = &self.masters[from];
        let keys = source.ask(&format!("CLUSTER GETKEYSINSLOT {slot} {count}")).await;
        let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
        for key in &keys {
            let host = &self.masters[to].host;
            source.ask(&format!("MIGRATE {host} {PORT} {key} 0 5000")).await;
        }
        keys.len()
    }

    /// Ends the move of a slot, the new owner first.
    pub(crate) async fn end_move(&self, slot: u16, to: usize) {
        let id = self.masters[to].text("CLUSTER MYID").await;
        self.masters[to].ask(&format!("CLUSTER SETSLOT {slot} NODE {id}")).await;
        for instance in self.masters.iter().filter(|instance| instance.runs()) {
            instance.ask(&format!("CLUSTER SETSLOT {slot} NODE {id}")).await;
        }
    }
}
