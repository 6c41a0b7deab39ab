//! The command line.

use std::{fmt, io::Write as _, net::SocketAddr, path::PathBuf, time::Duration};

use adapter_redis::doctor::Severity;
use clap::{Parser, Subcommand};
use gateway::{
    config::{self, Config, ConfigError, Mount, Source},
    contract::{self, BUILT_IN, Contract, ContractError},
    gateway::{Gateway, StartError, trial_auth},
    identity,
    mount::{self, MountError},
    telemetry::{Telemetry, TelemetryError},
};

/// A pod that does not answer within this time is not well.
const HEALTH: Duration = Duration::from_secs(2);

/// A realtime gateway for applications that speak Socket.IO.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (what is done without a command).
    Serve(Box<Serve>),
    /// Print a token signed with the configured secret.
    Token(Token),
    /// Say what is wrong with a configuration file.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Look at contracts.
    #[command(subcommand)]
    Contract(ContractCommand),
    /// Say who shares a Redis, and what of it and its settings will be trouble.
    Doctor(Doctor),
    /// Say whether the pod on this machine is well: for probes where there is no shell.
    Health(Health),
    /// Wait, and nothing else: for a `preStop` hook where there is no shell.
    Pause {
        /// How long.
        #[arg(value_name = "DURATION", value_parser = humantime::parse_duration)]
        time: Duration,
    },
    /// Print a configuration file with every key at its default.
    DefaultConfig {
        /// As a table in Markdown.
        #[arg(long)]
        markdown: bool,
    },
}

#[derive(Debug, Default, clap::Args)]
struct Serve {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve a contract, in a namespace (`/` if none is named). May be repeated.
    #[arg(long = "contract", value_name = "NAME[@/namespace]")]
    contracts: Vec<String>,
    /// A folder of contracts beside the built-in ones.
    #[arg(long = "contracts", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Address of the public listener.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Address of the internal listener.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    internal_listen: Option<SocketAddr>,
    /// Redis, such as <redis://127.0.0.1:6379>.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Token {
    /// Whose token.
    #[arg(long, value_name = "NAME")]
    sub: String,
    /// A role. May be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// How long it is good.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    ttl: Duration,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Doctor {
    /// Redis, such as <redis://127.0.0.1:6379>.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Configuration file, with `redis.url` and what else is under `redis`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Health {
    /// Whether it takes clients, rather than whether it lives.
    #[arg(long)]
    ready: bool,
    /// The internal listener, where the configuration does not say it.
    #[arg(long, value_name = "ADDR")]
    internal_listen: Option<SocketAddr>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ContractCommand {
    /// The contracts that there are.
    List {
        /// A folder of contracts beside the built-in ones.
        #[arg(long = "contracts", value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// A contract's file.
    Show {
        /// Its name.
        name: String,
    },
    /// Say what is wrong with a contract, or with all those of a folder.
    Check {
        /// The folder, or one file.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("{}", lines(.0))]
    Contracts(Vec<ContractError>),
    #[error("{0}")]
    Usage(String),
    #[error("redis.url: {0}")]
    Redis(#[from] adapter_redis::ConnectError),
    #[error("{0}")]
    Unwell(String),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn lines<T: fmt::Display>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Failure {
    /// 2 for what its caller can put right, 1 for the rest.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Io(_)
            | Self::Redis(_)
            | Self::Unwell(_)
            | Self::Start(StartError::Listen { .. } | StartError::Redis(_)) => 1,
            _ => 2,
        }
    }
}

/// An address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "written as IP:PORT, such as 127.0.0.1:3001 or 0.0.0.0:3001".to_owned())
}

/// How long a token is good.
fn lifetime(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a token that is good for no time is of no use".to_owned()),
        Ok(lifetime) => Ok(lifetime),
        Err(error) => Err(format!("{error}; written as 1h, 90s or 7d")),
    }
}

/// Does what the command line says.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command.unwrap_or_else(|| Command::Serve(Box::default())) {
        Command::Serve(serve) => serve_until_told(&serve),
        Command::Token(token) => token.print(),
        Command::CheckConfig { file } => {
            let config = config::load(&source(Some(file)))?;
            gateway::gateway::check(&config)?;
            say("the configuration is good")
        }
        Command::Doctor(doctor) => doctor.run(),
        Command::Health(health) => health.run(),
        Command::Pause { time } => {
            std::thread::sleep(time);
            Ok(())
        }
        Command::DefaultConfig { markdown: true } => say(config::markdown().trim_end()),
        Command::DefaultConfig { markdown: false } => say(config::default_file().trim_end()),
        Command::Contract(command) => command.run(),
    }
}

fn source(file: Option<PathBuf>) -> Source {
    Source { file, env: std::env::vars().collect() }
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

impl Serve {
    /// The configuration, with the command line over it.
    fn config(&self) -> Result<Config, Failure> {
        let mut source = source(self.config.clone());
        if let Some(url) = &self.redis {
            source.env.remove("REDIS_URL_FILE");
            source.env.insert("REDIS_URL".to_owned(), url.clone());
        }
        let mut config = config::load(&source)?;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(listen) = self.internal_listen {
            config.internal_listen = listen;
        }
        if let Some(dir) = &self.dir {
            config.contracts.dir = Some(dir.clone());
        }
        if !self.contracts.is_empty() {
            config.mount =
                self.contracts.iter().map(|text| mounting(text)).collect::<Result<_, _>>()?;
        }
        Ok(config)
    }
}

/// `NAME` or `NAME@/namespace`.
fn mounting(text: &str) -> Result<Mount, Failure> {
    let (contract, namespace) = text.split_once('@').unwrap_or((text, "/"));
    if contract.is_empty() || !namespace.starts_with('/') {
        let text = format!("--contract {text}: written as NAME or NAME@/namespace");
        return Err(Failure::Usage(text));
    }
    Ok(Mount {
        contract: contract.to_owned(),
        namespace: namespace.to_owned(),
        auth: None,
        upstream: None,
    })
}

impl Token {
    fn print(&self) -> Result<(), Failure> {
        let config = config::load(&source(self.config.clone()))?;
        let auth = trial_auth(&config).unwrap_or(config.auth);
        let token = identity::mint(&auth, &self.sub, &self.roles, self.ttl)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        say(&token)
    }
}

impl Doctor {
    fn run(self) -> Result<(), Failure> {
        let mut source = source(self.config);
        if let Some(url) = self.redis {
            source.env.remove("REDIS_URL_FILE");
            source.env.insert("REDIS_URL".to_owned(), url);
        }
        let config = config::load(&source)?;
        if !config.redis.url.is_set() {
            let text = "which Redis? give --redis redis://HOST:PORT, --config FILE or REDIS_URL";
            return Err(Failure::Usage(text.to_owned()));
        }
        let report = small_runtime()?.block_on(adapter_redis::doctor(&config.redis))?;
        let text = if self.json {
            serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?
        } else {
            report.to_string()
        };
        say(text.trim_end())?;
        match report.worst() {
            Some(Severity::Error) => Err(Failure::Unwell("there is trouble: see above".to_owned())),
            Some(_) | None => Ok(()),
        }
    }
}

impl Health {
    fn run(self) -> Result<(), Failure> {
        let mut addr = match self.internal_listen {
            Some(addr) => addr,
            None => config::load(&source(self.config))?.internal_listen,
        };
        if addr.ip().is_unspecified() {
            addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let path = if self.ready { "ready" } else { "live" };
        let url = format!("http://{addr}/health/{path}");
        let unwell = |error: reqwest::Error| Failure::Unwell(format!("{url}: {error}"));
        let asked = async {
            let client = reqwest::Client::builder().no_proxy().timeout(HEALTH);
            let answer = client.build()?.get(&url).send().await?;
            Ok((answer.status(), answer.text().await?))
        };
        let (status, body) = small_runtime()?.block_on(asked).map_err(unwell)?;
        say(&body)?;
        if status.is_success() { Ok(()) } else { Err(Failure::Unwell(format!("{url}: {status}"))) }
    }
}

/// For a command that waits for a few answers.
fn small_runtime() -> Result<tokio::runtime::Runtime, std::io::Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

impl ContractCommand {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::List { dir } => {
                let mut config = Config::default();
                config.contracts.dir = dir;
                let contracts = mount::contracts(&config)?;
                let width = contracts.keys().map(String::len).max().unwrap_or_default();
                let list: Vec<String> = contracts
                    .values()
                    .map(|contract| format!("{:width$}  {}", contract.name, contract.about))
                    .collect();
                say(&list.join("\n"))
            }
            Self::Show { name } => {
                let file = format!("{name}.toml");
                let found = BUILT_IN.files.iter().find(|(known, _)| *known == file);
                let known: Vec<&str> =
                    BUILT_IN.files.iter().map(|(f, _)| f.trim_end_matches(".toml")).collect();
                let unknown = || {
                    Failure::Usage(format!(
                        "there is no contract `{name}`; there are {}",
                        known.join(", ")
                    ))
                };
                let (_, text) = found.ok_or_else(unknown)?;
                say(text.trim_end())
            }
            Self::Check { dir } => {
                let contracts = contract::load_dir(&dir).map_err(Failure::Contracts)?;
                say(&lines(&contracts.iter().map(summary).collect::<Vec<_>>()))
            }
        }
    }
}

/// What a contract has, in one line.
fn summary(contract: &Contract) -> String {
    let (events, outs) = (contract.event.len(), contract.out.len());
    format!("{}: good; {events} events in, {outs} declared events out", contract.name)
}

fn serve_until_told(command: &Serve) -> Result<(), Failure> {
    let config = command.config()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(command, &config));
    // What is left has had its time.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn serve(command: &Serve, config: &Config) -> Result<(), Failure> {
    let _telemetry = Telemetry::start(&config.log, &config.trace)?;
    let mut told = Told::listen()?;
    let gateway = Gateway::start(config).await?;
    say(&format!("ready public={} internal={}", gateway.public(), gateway.internal()))?;
    tracing::info!(public = %gateway.public(), internal = %gateway.internal(), "ready");
    for stranger in config::strangers(&std::env::vars().collect()) {
        tracing::warn!("{stranger}");
    }
    if config.auth.has_short_secret() {
        tracing::warn!(
            "auth.jwt_secret has fewer than 32 bytes and can be guessed; production refuses it"
        );
    }
    if gateway.is_demo() && !config.production {
        tracing::info!("the demo is at http://{}/ : open it in two tabs", gateway.public());
    }
    if gateway.is_trial() {
        tracing::warn!(
            "tokens are checked with a secret that everybody knows: set GATEWAY_JWT_SECRET"
        );
    }
    while told.wait().await == Wish::Reload {
        reload(&gateway, command);
    }
    tracing::info!("leaving");
    tokio::select! {
        () = gateway.leave() => tracing::info!("left"),
        () = told.leaving() => tracing::warn!("told twice, leaving at once"),
    }
    Ok(())
}

/// Reads the configuration again; what is wrong with it is logged, and everything stays as it was.
fn reload(gateway: &Gateway, command: &Serve) {
    let reloaded = match command.config() {
        Ok(config) => gateway.reload(&config).map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    gateway.core().metrics.reloaded(reloaded.is_ok());
    if let Err(failure) = reloaded {
        tracing::error!(%failure, "the new configuration is refused, the old one stays");
    }
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Leave,
    Reload,
}

/// The signals that the gateway listens to.
struct Told {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Told {
    fn listen() -> Result<Self, std::io::Error> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Leave,
            _ = self.terminate.recv() => Wish::Leave,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }

    /// A pod that leaves has no use for another configuration.
    async fn leaving(&mut self) {
        while self.wait().await == Wish::Reload {}
    }
}
