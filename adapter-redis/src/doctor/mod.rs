//! What an operator wants to know of Redis and of those who share it.
//!
//! In comes the configuration of a pod, out comes a report: who is in the cluster, who is silent or deaf,
//! who else writes under the same prefix, and which settings of Redis will bite, each with a sentence to
//! act on. It writes no key. It asks the pods one harmless question, and listens for a few seconds.
//!
//! ```text
//! configuration ── servers ── pods ── listeners ── traffic ── Report
//!                  settings   leases  a question   foreign formats
//! ```

mod ask;
mod servers;
mod settings;
mod sentinels;
mod readers;
mod pods;
mod listeners;
mod traffic;

use std::fmt;

use serde::Serialize;

use crate::{
    config::RedisConfig,
    connection::ConnectError,
    nodes::{At, Nodes},
};
use ask::Asker;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is as it should be, or a matter of taste.
    Note,
    /// It will bite.
    Warning,
    /// It bites now.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// One word for what it is about, the same in every version.
    pub about: &'static str,
    /// What is so, and what to do about it.
    pub text: String,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerReport {
    /// Where it is.
    pub address: String,
    /// `redis` or `valkey` and its version.
    pub version: String,
    /// `master` or `slave`.
    pub role: String,
    /// Clients that are connected to it.
    pub clients: u64,
}

/// One process of ours that shares the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodReport {
    /// Its name.
    pub pod: String,
    /// Connections of its clients that hold anything.
    pub connections: u64,
    /// For how long its lease is still good, in milliseconds; negative where it has lapsed.
    pub lease_ms: i64,
    /// Whether it answered in every namespace that anybody serves, if that was asked.
    pub answers: Option<bool>,
}

/// One Socket.IO namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamespaceReport {
    /// Its name.
    pub namespace: String,
    /// Servers that are counted upon to answer, Node's and ours.
    pub servers: usize,
    /// Names of those of ours that answered.
    pub ours: Vec<String>,
    /// How many others answered.
    pub others: usize,
    /// How many did not.
    pub silent: usize,
}

/// Who wrote to the shared channels while it was listened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WriterReport {
    /// Who writes like that.
    pub writer: String,
    /// On how many messages that is based.
    pub messages: u64,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where Redis is, without its password.
    pub redis: String,
    /// Its servers, masters first.
    pub servers: Vec<ServerReport>,
    /// The pods that share the state.
    pub pods: Vec<PodReport>,
    /// The namespaces that are served.
    pub namespaces: Vec<NamespaceReport>,
    /// Who wrote while it was listened.
    pub writers: Vec<WriterReport>,
    /// What an operator should know, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How bad the worst finding is, if there is any.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    fn note(&mut self, about: &'static str, text: String) {
        self.findings.push(Finding { severity: Severity::Note, about, text });
    }

    fn warn(&mut self, about: &'static str, text: String) {
        self.findings.push(Finding { severity: Severity::Warning, about, text });
    }

    fn error(&mut self, about: &'static str, text: String) {
        self.findings.push(Finding { severity: Severity::Error, about, text });
    }
}

/// Examines a Redis and those who share it. Takes some seconds, and is bounded in everything.
///
/// # Errors
/// Where the configuration cannot work. A Redis that is away is a finding.
pub async fn doctor(config: &RedisConfig) -> Result<Report, ConnectError> {
    let nodes = Nodes::open(config)?;
    let mut report = Report { redis: config.url.to_string(), ..Report::default() };
    let mut asker = Asker::new(nodes.clone(), config);
    if let Err(error) = asker.node(At::Anywhere).await {
        report.error("unreachable", format!("No Redis is found at {}: {error}.", config.url));
        return Ok(report);
    }
    let reached = servers::examine(&mut asker, &mut report).await;
    sentinels::examine(&mut asker, &mut report).await;
    if reached {
        readers::examine(&mut asker, &mut report).await;
        pods::examine(&mut asker, config, &mut report).await;
        listeners::examine(&mut asker, config, &mut report).await;
        traffic::examine(&mut asker, config, &mut report).await;
    }
    report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(report)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "redis {}", self.redis)?;
        for server in &self.servers {
            let ServerReport { address, version, role, clients } = server;
            writeln!(f, "  {role} {address}: {version}, {clients} clients")?;
        }
        writeln!(f, "pods whose connections hold anything: {}", self.pods.len())?;
        for pod in &self.pods {
            let lease = match pod.lease_ms {
                lapsed @ ..0 => format!("lease lapsed {} ms ago", lapsed.unsigned_abs()),
                left => format!("lease good for {left} ms"),
            };
            writeln!(f, "  {}: {} connections, {lease}", pod.pod, pod.connections)?;
        }
        writeln!(f, "socket.io namespaces: {}", self.namespaces.len())?;
        for namespace in &self.namespaces {
            let NamespaceReport { namespace, servers, ours, others, silent } = namespace;
            writeln!(
                f,
                "  {namespace}: {servers} counted; ours: {ours:?}, others: {others}, silent: {silent}"
            )?;
        }
        for WriterReport { writer, messages } in &self.writers {
            writeln!(f, "heard: {writer}, {messages} messages")?;
        }
        if self.findings.is_empty() {
            return writeln!(f, "nothing to complain of");
        }
        for Finding { severity, about, text } in &self.findings {
            writeln!(f, "{severity} {about}: {text}")?;
        }
        Ok(())
    }
}
