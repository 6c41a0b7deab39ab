//! Servers under test: started on a core of their own, ended with their guard.
//!
//! In comes a program; out goes where it listens, once it says so itself: both kinds print
//! `ready public=ADDR …` as their first line. Nothing of it is left running.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Longest that a server may take to listen.
const READY: Duration = Duration::from_secs(20);

/// Paces and counts would end a run that asks for all there is.
const LIMITS_OFF: [(&str, &str); 5] = [
    ("GATEWAY__LIMITS__CONNECTION__EVENTS_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__USER__EVENTS_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__IP__CONNECTS_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__CONNECTIONS_PER_IP", "0"),
    ("GATEWAY__LIMITS__CONNECTIONS_PER_POD", "0"),
];

/// A kind of server.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// The gateway, with one contract at `/`.
    Gateway(PathBuf),
    /// The plain server of the library below the gateway.
    Plain(PathBuf),
}

impl Program {
    /// What it is called in the report.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Gateway(_) => "gateway",
            Self::Plain(_) => "plain socketioxide",
        }
    }

    const fn path(&self) -> &PathBuf {
        match self {
            Self::Gateway(path) | Self::Plain(path) => path,
        }
    }

    fn command(&self, core: usize) -> Command {
        let mut command = pinned(core, self.path());
        if let Self::Gateway(_) = self {
            command
                .args(["serve", "--contract", "toolbox"])
                .args(["--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"])
                .envs(LIMITS_OFF)
                .env("GATEWAY__LOG__LEVEL", "error");
        }
        command
    }
}

/// A command that runs on one core.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program).kill_on_drop(true);
    command
}

/// A server that listens; ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Its process.
    pub pid: u32,
    /// Where it listens, as `http://…`.
    pub url: String,
    // Held open: a server that prints into a closed pipe ends.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts a program on a core and waits until it listens.
    pub(crate) async fn start(program: &Program, core: usize) -> Result<Self> {
        let name = program.name();
        let mut command = program.command(core);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child =
            child.with_context(|| format!("starting {} with taskset", program.path().display()))?;
        let pid = child.id().ok_or_else(|| anyhow!("{name} ended at once"))?;
        let out = child.stdout.take().ok_or_else(|| anyhow!("{name} has no output"))?;
        let mut lines = BufReader::new(out).lines();
        let url = timeout(READY, ready(&mut lines))
            .await
            .map_err(|_| anyhow!("{name} does not listen after {READY:?}"))?
            .with_context(|| format!("{name} ({})", program.path().display()))?;
        Ok(Self { child, pid, url, _lines: lines })
    }

    /// Ends it and waits until it is gone, so that the next has the core for itself.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

async fn ready(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    while let Some(line) = lines.next_line().await? {
        let public = line.split(' ').find_map(|word| word.strip_prefix("public="));
        if let Some(addr) = public.filter(|_| line.starts_with("ready ")) {
            return Ok(format!("http://{addr}"));
        }
    }
    bail!("ended before it listened")
}
