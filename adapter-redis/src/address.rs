//! What a URL says about where Redis is.
//!
//! In comes the configuration, out comes the shape of the installation with everything that is needed to
//! dial: one server, a master that sentinels know, or the first nodes of a cluster. It reads the files of
//! certificates, and connects to nothing. An error never repeats what the URL holds.

use std::{fs, path::Path};

use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, RedisError, TlsCertificates};

use crate::{config::RedisConfig, connection::ConnectError};

/// The ports that are meant where a list of hosts names none.
const SENTINEL_PORT: u16 = 26_379;
const NODE_PORT: u16 = 6379;

/// Where Redis is.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// One server, or something that stands for it.
    Single(Box<ConnectionInfo>),
    /// A master whose address changes.
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        /// What they call the master.
        name: String,
        /// How it is logged in to, whatever its address is.
        master: Box<ConnectionInfo>,
    },
    /// A cluster, by some of its nodes.
    Cluster(Vec<ConnectionInfo>),
}

impl Address {
    /// Reads the URL, and the files that go with it.
    pub(crate) fn of(config: &RedisConfig) -> Result<Self, ConnectError> {
        let certificates = certificates(config)?;
        let url = config.url.reveal();
        let encrypted = url.starts_with("rediss") || url.starts_with("valkeys");
        if encrypted && rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another part of the process may have installed one meanwhile, which then stands.
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        }
        let refuse = |cause: &str| ConnectError::Url {
            url: config.url.to_string(),
            cause: cause.to_owned(),
        };
        match url.split_once("://") {
            Some(("redis+sentinel" | "rediss+sentinel", rest)) => {
                sentinel(&Parts::of(encrypted, rest), certificates.as_ref()).map_err(refuse)
            }
            Some(("redis+cluster" | "rediss+cluster", rest)) => {
                cluster(&Parts::of(encrypted, rest), certificates.as_ref()).map_err(refuse)
            }
            _ => match information(url, certificates.as_ref()) {
                Ok(information) => Ok(Self::Single(Box::new(information))),
                Err(error) => Err(refuse(error.category())),
            },
        }
    }
}

/// How another server of the same installation is reached.
pub(crate) fn elsewhere(known: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let host = host.to_owned();
    let address = match known.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    known.clone().set_addr(address)
}

/// A URL that lists hosts.
struct Parts<'a> {
    encrypted: bool,
    /// User and password with the `@` behind them, or nothing.
    login: &'a str,
    hosts: Vec<&'a str>,
    path: Vec<&'a str>,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(encrypted: bool, rest: &'a str) -> Self {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold a slash that nobody encoded.
        let begins = rest.rfind('@').map_or(0, |at| at + 1);
        let (login, rest) = rest.split_at(begins);
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = hosts.split(',').filter(|host| !host.is_empty()).collect();
        let path = path.split('/').filter(|part| !part.is_empty()).collect();
        Self { encrypted, login, hosts, path, query }
    }

    /// The URL of one of the hosts, as a single server has it.
    fn url(&self, login: &str, host: &str, port: u16, database: &str) -> String {
        let scheme = if self.encrypted { "rediss" } else { "redis" };
        // The last colon is that of the port, unless it is one of an address in brackets.
        let has_port = host.rfind(':').is_some_and(|colon| colon > host.rfind(']').unwrap_or(0));
        let host = if has_port { host.to_owned() } else { format!("{host}:{port}") };
        format!("{scheme}://{login}{host}/{database}")
    }

    fn field(&self, name: &str) -> &'a str {
        let fields = self.query.split('&').filter_map(|field| field.split_once('='));
        fields.into_iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }
}

fn sentinel(
    parts: &Parts<'_>,
    certificates: Option<&TlsCertificates>,
) -> Result<Address, &'static str> {
    let (name, database) = match parts.path.as_slice() {
        [name] => (*name, ""),
        [name, database] => (*name, *database),
        _ => {
            return Err("the master's name must follow the sentinels, as in …,host:26379/mymaster");
        }
    };
    let login = match (parts.field("sentinel_user"), parts.field("sentinel_password")) {
        (_, "") => String::new(),
        (user, password) => format!("{user}:{password}@"),
    };
    let ask = |host: &&str| information(&parts.url(&login, host, SENTINEL_PORT, ""), certificates);
    let sentinels = all(parts.hosts.iter().map(ask))?;
    // The host is a placeholder: which it is, the sentinels say.
    let master = parts.url(parts.login, "master", NODE_PORT, database);
    let master = information(&master, certificates).map_err(|_| "it is none of Redis")?;
    Ok(Address::Sentinel { sentinels, name: name.to_owned(), master: Box::new(master) })
}

fn cluster(
    parts: &Parts<'_>,
    certificates: Option<&TlsCertificates>,
) -> Result<Address, &'static str> {
    if !matches!(parts.path.as_slice(), [] | ["0"]) {
        return Err("a Redis Cluster has no other database than 0");
    }
    let node =
        |host: &&str| information(&parts.url(parts.login, host, NODE_PORT, ""), certificates);
    Ok(Address::Cluster(all(parts.hosts.iter().map(node))?))
}

fn all(
    hosts: impl Iterator<Item = Result<ConnectionInfo, RedisError>>,
) -> Result<Vec<ConnectionInfo>, &'static str> {
    let hosts: Vec<ConnectionInfo> =
        hosts.collect::<Result<_, _>>().map_err(|_| "it is none of Redis")?;
    if hosts.is_empty() { Err("it names no host") } else { Ok(hosts) }
}

fn information(
    url: &str,
    certificates: Option<&TlsCertificates>,
) -> Result<ConnectionInfo, RedisError> {
    let client = match certificates {
        Some(certificates) => Client::build_with_tls(url, certificates.clone())?,
        None => Client::open(url)?,
    };
    Ok(client.get_connection_info().clone())
}

fn certificates(config: &RedisConfig) -> Result<Option<TlsCertificates>, ConnectError> {
    let root_cert = config.tls_ca.as_deref().map(|path| read("tls_ca", path)).transpose()?;
    let client_tls = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read("tls_cert", certificate)?,
            client_key: read("tls_key", key)?,
        }),
        (None, None) => None,
        _ => return Err(ConnectError::Pair),
    };
    let wanted = root_cert.is_some() || client_tls.is_some();
    Ok(wanted.then_some(TlsCertificates { client_tls, root_cert }))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    let path_text = || path.display().to_string();
    fs::read(path).map_err(|source| ConnectError::Certificates { key, path: path_text(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_url(url: &str) -> Result<Address, String> {
        let config = RedisConfig { url: url.into(), ..RedisConfig::default() };
        Address::of(&config).map_err(|error| error.to_string())
    }

    fn told(information: &ConnectionInfo) -> String {
        let settings = information.redis_settings();
        let login = (settings.username().unwrap_or(""), settings.password().unwrap_or(""));
        format!("{} {}:{} {}", information.addr(), login.0, login.1, settings.db())
    }

    #[test]
    fn every_shape_is_read() {
        let list = |nodes: &[ConnectionInfo]| nodes.iter().map(told).collect::<Vec<_>>().join(", ");
        let cases = [
            ("redis://u:p@h:1/3", "single h:1 u:p 3"),
            ("redis+cluster://h1:1,h2", "cluster h1:1 : 0, h2:6379 : 0"),
            ("redis+cluster://u:p%2F@h1:1,[::1]:2/0", "cluster h1:1 u:p/ 0, ::1:2 u:p/ 0"),
            ("redis+sentinel://h1,h2:5/main", "sentinel main h1:26379 : 0, h2:5 : 0; :"),
            (
                "redis+sentinel://u:p@h1/main/2?sentinel_password=q&sentinel_user=s",
                "sentinel main h1:26379 s:q 0; u:p 2",
            ),
        ];
        for (url, want) in cases {
            let shown = match read_url(url).unwrap() {
                Address::Single(node) => format!("single {}", told(&node)),
                Address::Cluster(nodes) => format!("cluster {}", list(&nodes)),
                Address::Sentinel { sentinels, name, master } => {
                    let master = told(&master).replace("master:6379 ", "").replace(": 0", ":");
                    format!("sentinel {name} {}; {master}", list(&sentinels))
                }
            };
            assert_eq!(shown, want, "{url}");
        }
    }

    #[test]
    fn what_is_none_is_refused_without_its_password() {
        let cases = [
            ("http://u:hush@h", "none"),
            ("redis+cluster://u:hush@", "no host"),
            ("redis+cluster://u:hush@h/1", "no other database"),
            ("redis+sentinel://u:hush@h", "master's name"),
            ("redis+sentinel://u:hush@h/main/one", "none of Redis"),
        ];
        for (url, want) in cases {
            let error = read_url(url).unwrap_err();
            assert!(!error.contains("hush"), "{url}: {error}");
            assert!(want == "none" || error.contains(want), "{url}: {error}");
        }
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let config = RedisConfig {
            url: "rediss://h".into(),
            tls_cert: Some("/nowhere.pem".into()),
            ..RedisConfig::default()
        };
        assert!(matches!(Address::of(&config), Err(ConnectError::Pair)));
        let config = RedisConfig { tls_key: Some("/nowhere.key".into()), ..config };
        let error = Address::of(&config).unwrap_err();
        assert!(error.to_string().contains("tls_cert /nowhere.pem"), "{error}");
    }
}
