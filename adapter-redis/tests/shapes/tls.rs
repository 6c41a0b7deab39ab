//! Encrypted connections, with certificates of both sides.

use std::{path::Path, process::Command};

use adapter::{Kind, State};
use adapter_redis::{RedisConfig, connect};
use serde_json::json;

use crate::{
    installation::{Instance, Shards},
    redis_server::PATIENCE,
    two::{Two, hold},
};

const TLS: &[&str] = &[
    "--tls-port",
    "24001",
    "--tls-cert-file",
    "cert.pem",
    "--tls-key-file",
    "key.pem",
    "--tls-ca-cert-file",
    "ca.pem",
];

/// An authority that signs certificates for addresses and for clients.
struct Authority(tempfile::Dir);

mod tempfile {
    //! A directory that is gone with its test.

    use std::path::PathBuf;

    pub(super) struct Dir(pub(super) PathBuf);

    impl Dir {
        pub(super) fn make() -> Self {
            let dir = std::env::temp_dir().join(format!("gw-{:032x}", rand::random::<u128>()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn openssl(dir: &Path, arguments: &[&[&str]]) {
    let key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"];
    let mut command = Command::new("openssl");
    command.args(["req", "-x509"]).args(key).args(arguments.concat()).current_dir(dir);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

impl Authority {
    fn make() -> Self {
        let dir = tempfile::Dir::make();
        openssl(&dir.0, &[&["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority"]]);
        Self(dir)
    }

    /// Writes a certificate for an address to a directory.
    fn sign(&self, dir: &Path, host: &str) {
        let name = format!("subjectAltName=IP:{host}");
        for file in ["ca.pem", "ca.key"].into_iter().filter(|_| dir != self.0.0) {
            std::fs::copy(self.0.0.join(file), dir.join(file)).unwrap();
        }
        openssl(
            dir,
            &[
                &["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=leaf"],
                &["-CA", "ca.pem", "-CAkey", "ca.key"],
                &["-addext", "basicConstraints=critical,CA:FALSE", "-addext", &name],
            ],
        );
    }

    fn config(&self, scheme: &str, hosts: &str) -> RedisConfig {
        let file = |name: &str| Some(self.0.0.join(name));
        RedisConfig {
            url: format!("{scheme}://{hosts}").into(),
            tls_ca: file("ca.pem"),
            tls_cert: file("cert.pem"),
            tls_key: file("key.pem"),
            ..RedisConfig::default()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_checks_both_sides() {
    let authority = Authority::make();
    authority.sign(&authority.0.0, "127.0.0.1");
    let arguments = [TLS, &["--tls-auth-clients", "yes"]].concat();
    let prepare = |dir: &Path, host: &str| authority.sign(dir, host);
    let server = Instance::prepared(&arguments, prepare).await;
    let config = authority.config("rediss", &format!("{}:24001", server.host));

    let two = Two::start(&config).await;
    hold(&two.states[0], Kind::Roster, "room", "s1").await;
    two.members("room", &["s1"]).await;
    two.messages_flow("over tls").await;

    let strangers = [
        ("no certificate", RedisConfig { tls_cert: None, tls_key: None, ..config.clone() }),
        ("unknown authority", RedisConfig { tls_ca: None, ..config.clone() }),
        (
            "no tls",
            RedisConfig {
                url: format!("redis://{}:24001", server.host).into(),
                ..RedisConfig::default()
            },
        ),
    ];
    for (name, config) in strangers {
        let stranger = connect(config, "stranger").await.unwrap();
        assert!(!stranger.available(), "{name} is refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_reaches_every_node_of_a_cluster() {
    let authority = Authority::make();
    authority.sign(&authority.0.0, "127.0.0.1");
    let arguments = [TLS, &["--tls-auth-clients", "yes", "--tls-cluster", "yes"]].concat();
    let prepare = |dir: &Path, host: &str| authority.sign(dir, host);
    let cluster = Shards::prepared(0, &arguments, &prepare).await;
    let config = authority.config("rediss+cluster", &format!("{}:24001", cluster.masters[0].host));
    let two = Two::start(&config).await;
    hold(&two.states[0], Kind::Roster, "room", "s1").await;
    two.members("room", &["s1"]).await;
    for n in 0..20 {
        two.states[0].write("c", &n.to_string(), json!(n), PATIENCE).await.unwrap();
        two.states[1].write(&format!("c{n}"), "1", json!(n), PATIENCE).await.unwrap();
    }
    two.messages_flow("over tls").await;
}
