//! Servers under test: started on a core of their own, ended with their guard.
//!
//! In comes what to start and how many of it; out goes where they listen, once they say so themselves: each prints
//! `ready public=ADDR …` as its first line. Several share one Redis, which is started beside them. Rivals that need
//! packages get them in a folder of their own, once. Nothing of it is left running.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::mpsc::sync_channel,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::{plan::Address, resources::Watched};

/// Longest that a server may take to listen.
const READY: Duration = Duration::from_secs(30);

/// What the gateway's tokens are signed with, and the key of its server API, where this tool starts it.
pub(crate) const SECRET: &str = "a secret of the load generator's, for servers it starts";
pub(crate) const KEY: &str = "loadtest-key";

/// Paces and counts would end a run that asks for all there is.
const LIMITS_OFF: [(&str, &str); 6] = [
    ("GATEWAY__LIMITS__CONNECTION__EVENTS_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__USER__EVENTS_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__IP__CONNECTS_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__CONNECTIONS_PER_IP", "0"),
    ("GATEWAY__LIMITS__CONNECTIONS_PER_POD", "0"),
    ("GATEWAY__LIMITS__CONNECTIONS_PER_USER", "0"),
];

/// The rivals' sources, which travel with the tool.
const NODE_FILES: [(&str, &str); 3] = [
    ("server.mjs", include_str!("../rivals/node/server.mjs")),
    ("package.json", include_str!("../rivals/node/package.json")),
    ("package-lock.json", include_str!("../rivals/node/package-lock.json")),
];
const PYTHON_FILES: [(&str, &str); 2] = [
    ("server.py", include_str!("../rivals/python/server.py")),
    ("requirements.txt", include_str!("../rivals/python/requirements.txt")),
];
const SOCKETIOXIDE_FILES: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("../rivals/socketioxide/Cargo.toml")),
    ("Cargo.lock", include_str!("../rivals/socketioxide/Cargo.lock")),
    ("src/main.rs", include_str!("../rivals/socketioxide/src/main.rs")),
];

/// A kind of server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The gateway, with one contract at `/`: the binary of this path, or the one beside this tool.
    Gateway(Option<PathBuf>),
    /// Node's socket.io.
    Node,
    /// python-socketio under uvicorn.
    Python,
    /// The library below the gateway, used as its documentation shows.
    Socketioxide,
    /// Any program that prints `ready public=ADDR`.
    Program(PathBuf),
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "gateway" => Self::Gateway(None),
            "node" => Self::Node,
            "python" => Self::Python,
            "socketioxide" => Self::Socketioxide,
            other => match other.split_once('=') {
                Some(("gateway", path)) => Self::Gateway(Some(path.into())),
                Some(("program", path)) => Self::Program(path.into()),
                Some(_) | None => bail!(
                    "{other}: one of gateway, gateway=BINARY, node, python, socketioxide, program=PATH"
                ),
            },
        })
    }
}

impl Kind {
    /// What it is called in reports.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Gateway(None) => "gateway".into(),
            Self::Gateway(Some(path)) | Self::Program(path) => path
                .file_name()
                .map_or_else(|| "program".into(), |name| name.to_string_lossy().into()),
            Self::Node => "node".into(),
            Self::Python => "python".into(),
            Self::Socketioxide => "socketioxide".into(),
        }
    }
}

/// How servers are started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The core of the servers, if they are bound to one.
    pub core: Option<usize>,
    /// The core of Redis.
    pub redis_core: Option<usize>,
    /// How many pods share one Redis; 1 for one without.
    pub pods: usize,
    /// Where rivals' packages are kept.
    pub folder: PathBuf,
}

/// A process that ends with its guard.
#[derive(Debug)]
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Servers that listen.
#[derive(Debug)]
pub(crate) struct Servers {
    /// What they are called.
    pub name: String,
    /// Where they listen.
    pub targets: Vec<Address>,
    /// Where their internal listeners are.
    pub internal: Vec<Address>,
    /// Their processes, and their Redis.
    pub watched: Watched,
    // Pods end before their Redis does.
    pods: Vec<Guarded>,
    _redis: Option<Guarded>,
}

impl Servers {
    /// Starts servers and waits until all listen.
    pub(crate) fn start(kind: &Kind, contract: &str, setup: &Setup) -> Result<Self> {
        ensure!(
            setup.pods == 1 || *kind != Kind::Socketioxide,
            "the plain socketioxide server has no adapter: its pods would share nothing"
        );
        let redis = if setup.pods > 1 { Some(start_redis(setup.redis_core)?) } else { None };
        let url = redis.as_ref().map(|(_, addr)| format!("redis://{addr}"));
        let mut servers = Self {
            name: kind.name(),
            targets: Vec::new(),
            internal: Vec::new(),
            watched: Watched { pids: Vec::new(), redis: redis.as_ref().map(|(_, addr)| *addr) },
            pods: Vec::new(),
            _redis: redis.map(|(guard, _)| guard),
        };
        for _ in 0..setup.pods {
            servers.add(kind, contract, setup, url.as_deref())?;
        }
        Ok(servers)
    }

    fn add(
        &mut self,
        kind: &Kind,
        contract: &str,
        setup: &Setup,
        redis: Option<&str>,
    ) -> Result<()> {
        let mut command = command(kind, contract, setup)?;
        if let Some(url) = redis {
            command.env("REDIS_URL", url);
        } else {
            command.env_remove("REDIS_URL");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let name = kind.name();
        let mut child =
            Guarded(command.spawn().with_context(|| format!("starting {name}: {command:?}"))?);
        let out = child.0.stdout.take().ok_or_else(|| anyhow!("{name} has no output"))?;
        let (said, heard) = sync_channel(1);
        // The pipe is read to its end: a server that prints into a full one stands still.
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if line.starts_with("ready ") {
                    said.try_send(line).ok();
                }
            }
        });
        let line = heard
            .recv_timeout(READY)
            .with_context(|| format!("{name} ended, or does not listen after {READY:?}"))?;
        let found = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key));
        let public = found("public=").ok_or_else(|| anyhow!("{name} says: {line}"))?;
        self.targets.push(Address::find(&format!("http://{public}"))?);
        if let Some(internal) = found("internal=") {
            self.internal.push(Address::find(&format!("http://{internal}"))?);
        }
        self.watched.pids.push(child.0.id());
        self.pods.push(child);
        Ok(())
    }
}

/// How a server is started.
fn command(kind: &Kind, contract: &str, setup: &Setup) -> Result<Command> {
    let beside = |name: &str| -> Result<PathBuf> {
        let path = std::env::current_exe()?.with_file_name(name);
        ensure!(path.exists(), "{} is not there: build it, or name one", path.display());
        Ok(path)
    };
    Ok(match kind {
        Kind::Gateway(path) => {
            let path = path.clone().map_or_else(|| beside("gateway"), Ok)?;
            let mut command = pinned(setup.core, &path);
            command
                .args(["serve", "--contract", contract])
                .args(["--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"])
                .envs(LIMITS_OFF)
                .env("GATEWAY_JWT_SECRET", SECRET)
                .env("GATEWAY_API_KEY", KEY)
                .env("GATEWAY__LOG__LEVEL", "error");
            command
        }
        Kind::Socketioxide => {
            let folder = unpack(&setup.folder, "socketioxide", &SOCKETIOXIDE_FILES, |folder| {
                let mut cargo = Command::new("cargo");
                cargo.args(["build", "--release", "--locked", "--quiet"]).current_dir(folder);
                cargo.env_remove("CARGO_TARGET_DIR");
                vec![cargo]
            })?;
            pinned(setup.core, &folder.join("target/release/rival-socketioxide"))
        }
        Kind::Program(path) => pinned(setup.core, path),
        Kind::Node => {
            let folder = unpack(&setup.folder, "node", &NODE_FILES, |folder| {
                let mut npm = Command::new("npm");
                npm.args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(folder);
                vec![npm]
            })?;
            let mut command = pinned(setup.core, Path::new("node"));
            command.arg(folder.join("server.mjs"));
            command
        }
        Kind::Python => {
            let folder = unpack(&setup.folder, "python", &PYTHON_FILES, |folder| {
                let mut venv = Command::new("python3");
                venv.args(["-m", "venv"]).arg(folder.join("venv"));
                let mut pip = Command::new(folder.join("venv/bin/python"));
                pip.args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--requirement",
                ]);
                pip.arg(folder.join("requirements.txt"));
                vec![venv, pip]
            })?;
            let mut command = pinned(setup.core, &folder.join("venv/bin/python"));
            command.arg(folder.join("server.py"));
            command
        }
    })
}

/// Writes a rival's sources and installs what they need, where that was not done before.
fn unpack(
    into: &Path,
    name: &str,
    files: &[(&str, &str)],
    install: impl Fn(&Path) -> Vec<Command>,
) -> Result<PathBuf> {
    let folder = into.join(name);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let stamp = folder.join("installed");
    let wanted: String = files.iter().map(|(_, text)| *text).collect();
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs::write(path, text)?;
    }
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    eprintln!("installing what the rival {name} needs, in {}", folder.display());
    for mut command in install(&folder) {
        let status =
            command.stdout(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
        ensure!(status.success(), "{command:?}: {status}");
    }
    fs::write(&stamp, wanted)?;
    Ok(folder)
}

/// A command that runs on one core, and ends with this tool however that ends: a guard is not dropped by a signal.
fn pinned(core: Option<usize>, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    if let Some(core) = core {
        command.args(["taskset", "-c", &core.to_string()]);
    }
    command.arg(program);
    command
}

/// Starts a Redis that keeps nothing.
fn start_redis(core: Option<usize>) -> Result<(Guarded, SocketAddr)> {
    // Redis cannot be asked to pick a port; one that was free a moment ago most likely still is, and if not it says so.
    let addr = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let mut command = pinned(core, Path::new("redis-server"));
    command
        .args(["--bind", "127.0.0.1", "--port", &addr.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", "/tmp"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut child = Guarded(command.spawn().context("starting redis-server")?);
    let deadline = Instant::now() + READY;
    while TcpStream::connect(addr).is_err() {
        ensure!(child.0.try_wait()?.is_none(), "redis-server ended at once");
        ensure!(Instant::now() < deadline, "redis-server does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    Ok((child, addr))
}
